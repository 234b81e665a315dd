"""An evaluation as tables on a terminal: means, with the number of failures beside each mean that lacks some."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipelines.evaluate import Evaluation
from pipelines.scores import DEGRADED, Column

PLAIN_WIDTH = 120
"""Columns where the output is no terminal and nobody says how wide it is."""
LEGEND = (
    "OVRL, SIG, BAK (P.835) and P808: predicted by DNSMOS, 1 to 5. SI-SDR, log-spectral distance (LSD) and error of "
    "the active level in dB. Bold is best. [k]: k samples have no such score and are not in the mean."
)


def print_evaluation(
    evaluation: Evaluation, console: Console | None = None, by_condition: bool = True
) -> None:
    """Print the overall table, one for the conditions unless they are left out, and the notes."""
    console = console or Console()
    if not console.is_terminal:
        console = Console(width=PLAIN_WIDTH)
    result = evaluation.result
    console.print(_table("all samples", {"": result["summary"]}, evaluation.columns))
    if by_condition and result["by_condition"]:
        console.print(_table("by degradation", result["by_condition"], evaluation.columns))
    console.print(Text(LEGEND, style="dim"))
    for failure, count in result["failures"].items():
        console.print(Text(f"not measured {count} times - {failure}"))
    for note in result["notes"]:
        console.print(Text(f"note: {note}"))


def _table(title: str, summaries: Mapping[str, Mapping[str, Any]], shown: Sequence[Column]) -> Table:
    table = Table(title=title, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), title_justify="left")
    by_condition = set(summaries) != {""}
    if by_condition:
        table.add_column("condition", no_wrap=True)
    table.add_column("system", no_wrap=True)
    table.add_column("n", justify="right")
    for column in shown:
        arrow = {True: "↑", False: "↓", None: "→0"}[column.higher_is_better]
        table.add_column(column.title + arrow, justify="right", no_wrap=True)
    for condition, summary in summaries.items():
        best = {column.name: _best(summary, column) for column in shown}
        for position, (system, means) in enumerate(summary.items()):
            cells = [_cell(means[column.name], column, best[column.name]) for column in shown]
            name = Text(system, style="dim" if system == DEGRADED else "")
            lead = [Text(condition if position == 0 else "")] if by_condition else []
            last = by_condition and position == len(summary) - 1
            table.add_row(*lead, name, str(means["samples"]), *cells, end_section=last)
    return table


def _best(summary: Mapping[str, Any], column: Column) -> float | None:
    means = [m[column.name]["mean"] for m in summary.values() if m[column.name]["mean"] is not None]
    if not means:
        return None
    if column.higher_is_better is None:
        return float(min(means, key=abs))
    return float(max(means) if column.higher_is_better else min(means))


def _cell(entry: Mapping[str, Any], column: Column, best: float | None) -> Text:
    mean, failures = entry["mean"], entry["failures"]
    text = Text("-" if mean is None else f"{mean:.{column.digits}f}")
    if mean is not None and mean == best:
        text.stylize("bold")
    if failures:
        text.append(f" [{failures}]", style="yellow")
    return text
