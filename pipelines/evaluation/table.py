"""An evaluation as tables on a terminal: means with what is sure of them, conditions, files, and comparisons."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from manifests.wording import how_many
from pipelines.evaluation.evaluate import Evaluation
from pipelines.quality.scores import DEGRADED, Column
from pipelines.quality.summary import best_mean, summarised

PLAIN_WIDTH = 120
"""Columns where the output is no terminal and nobody says how wide it is."""
MOST_FILES = 30
"""Recordings that are shown one by one; all of them are in `samples.csv`."""
MOST_PAIRS_IN_FULL = 3
"""Comparisons that get a table of their own; of more, only the differences are shown."""
MOST_SYSTEMS_WITH_INTERVALS = 4
LEGEND = (
    "OVRL, SIG, BAK (P.835) and P808: predicted by DNSMOS, 1 to 5; σ: by SIGMOS. SI-SDR, log-spectral distance "
    "(LSD) and error of the active level in dB; lost %: what an estimate lacks of its target. Bold is best. "
    "[k]: k samples have no such score and are not in the mean. "
    "Brackets with two numbers: 95 % interval, by bootstrap over "
)
SMALL_LEGEND = "n!: fewer than 10 of these, so intervals are too narrow to be trusted."
PAIR_LEGEND = (
    "Mean differences, sample by sample; where zero is best, of the distances from zero. *: the 95 % interval does "
    "not hold 0, and there are 10 or more. p is not corrected for the number of comparisons."
)


def print_evaluation(
    evaluation: Evaluation, console: Console | None = None, by_condition: bool = True
) -> None:
    """Print the means, those of conditions (unless they are left out) or files, the comparisons, and the notes."""
    console = console or Console()
    if not console.is_terminal:
        console = Console(width=PLAIN_WIDTH)
    result, shown = evaluation.result, evaluation.columns
    console.print(_means(result["summary"], shown))
    if by_condition and result["by_condition"]:
        console.print(_table("by degradation", "condition", result["by_condition"], _few(shown)))
    if by_condition and result["corpus_id"] is None:
        console.print(_table("by file", "file", _by_file(evaluation), _few(shown)))
    for table in _comparisons(result["comparisons"], shown):
        console.print(table)
    unit = result["summary"][DEGRADED]["unit"]
    console.print(Text(f"{LEGEND}{unit}s. {SMALL_LEGEND} {PAIR_LEGEND}", style="dim"))
    for failure, count in result["failures"].items():
        console.print(Text(f"not measured {how_many(count, 'time')} - {failure}"))
    for note in result["notes"]:
        console.print(Text(f"note: {note}"))


def _means(summary: Mapping[str, Mapping[str, Any]], shown: Sequence[Column]) -> Table:
    """A row a score, a column a system: there is room for intervals."""
    table = _empty(f"all samples: {_samples(summary[DEGRADED])}", "score")
    with_intervals = len(summary) <= MOST_SYSTEMS_WITH_INTERVALS
    for system in summary:
        table.add_column(system, justify="right")
    for column in shown:
        best = best_mean(summary, column)
        cells = []
        for entries in summary.values():
            entry = entries[column.name]
            text = _cell(entry, column, best)
            if with_intervals and entry["low"] is not None:
                ends = f"{entry['low']:.{column.digits}f}, {entry['high']:.{column.digits}f}"
                text.append(f" ({ends})", style="dim")
            cells.append(text)
        table.add_row(column.heading, *cells)
    return table


def _samples(entries: Mapping[str, Any]) -> str:
    speakers = f" of {entries['units']} speakers" if entries["unit"] == "speaker" else ""
    return f"n = {entries['samples']}{'!' if entries['small'] else ''}{speakers}"


def _table(
    title: str, what: str, summaries: Mapping[str, Mapping[str, Any]], shown: Sequence[Column]
) -> Table:
    """A row a condition or file and system, a column a score."""
    table = _empty(title, what)
    counted = what == "condition"
    table.add_column("system", no_wrap=True)
    if counted:
        table.add_column("n", justify="right")
    for column in shown:
        table.add_column(column.heading, justify="right")
    for name, summary in summaries.items():
        best = {column.name: best_mean(summary, column) for column in shown}
        for position, (system, entries) in enumerate(summary.items()):
            cells = [_cell(entries[column.name], column, best[column.name]) for column in shown]
            lead = Text(system, style="dim" if system == DEGRADED else "")
            count = [f"{entries['samples']}{'!' if entries['small'] else ''}"] if counted else []
            last = position == len(summary) - 1
            table.add_row(Text(name if position == 0 else ""), lead, *count, *cells, end_section=last)
    return table


def _by_file(evaluation: Evaluation) -> dict[str, dict[str, dict[str, Any]]]:
    keys = list(dict.fromkeys(row.key for row in evaluation.rows))[:MOST_FILES]
    return {
        key: summarised((row for row in evaluation.rows if row.key == key), evaluation.columns)
        for key in keys
    }


def _comparisons(pairs: Sequence[Mapping[str, Any]], shown: Sequence[Column]) -> Iterable[Table]:
    judged = [column for column in shown if not column.describes]
    if len(pairs) <= MOST_PAIRS_IN_FULL:
        return [_pair(pair, judged) for pair in pairs]
    few = _few(judged)
    table = _empty("mean differences", "systems")
    for column in few:
        table.add_column(column.heading, justify="right")
    for pair in pairs:
        entries = [pair["scores"][column.name] for column in few]
        cells = [_change(entry, column) for entry, column in zip(entries, few, strict=True)]
        table.add_row(Text(f"{pair['system']} - {pair['with']}"), *cells)
    return [table]


def _pair(pair: Mapping[str, Any], judged: Sequence[Column]) -> Table:
    table = _empty(f"{pair['system']} compared with {pair['with']}", "score")
    for heading in ("difference", "95 % interval", "better on", "p", "n", "by"):
        table.add_column(heading, justify="right")
    table.add_column(pair["system"] + " is")
    for column in judged:
        entry = pair["scores"][column.name]
        if entry["mean"] is None:
            table.add_row(column.heading, "-", "", "", "", "0", "", entry["verdict"])
            continue
        sure = entry["low"] is not None
        ends = f"{entry['low']:+.{column.digits}f}, {entry['high']:+.{column.digits}f}" if sure else "-"
        p = f"{entry['p']:.3f}" if sure else "-"
        by = f"{entry['units']} {entry['unit']}s"
        share = f"{100 * entry['better']:.0f} %"
        table.add_row(
            column.heading, _change(entry, column), ends, share, p, str(entry["n"]), by, entry["verdict"]
        )
    return table


def _change(entry: Mapping[str, Any], column: Column) -> Text:
    if entry["mean"] is None:
        return Text("-")
    style = {"better": "green", "worse": "red"}.get(entry["verdict"], "")
    mark = "*" if style else ""
    return Text(f"{entry['mean']:+.{column.digits}f}{mark}", style=style)


def _empty(title: str, first: str) -> Table:
    table = Table(title=title, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), title_justify="left")
    table.add_column(first)
    return table


def _few(shown: Sequence[Column]) -> list[Column]:
    """Leave out the dimensions of SIGMOS, for which a line has no room."""
    return [c for c in shown if not c.name.startswith("sigmos_") or c.name == "sigmos_ovrl"]


def _cell(entry: Mapping[str, Any], column: Column, best: float | None) -> Text:
    mean, failures = entry["mean"], entry["failures"]
    text = Text("-" if mean is None else f"{mean:.{column.digits}f}")
    if mean is not None and mean == best:
        text.stylize("bold")
    if failures:
        text.append(f" [{failures}]", style="yellow")
    return text
