"""Scores by condition: how reverberant, how noisy, which codec, which stage; a row a condition, a column a system."""

from collections.abc import Mapping, Sequence
from typing import Any

from pipelines.evaluation.records import EvaluationRecords
from pipelines.quality.scores import DEGRADED, Column
from pipelines.quality.summary import best_mean
from pipelines.report.comparisons import SIGNS
from pipelines.report.forest_chart import forest_chart
from pipelines.report.markup import Html, join, tag
from pipelines.report.page import table
from pipelines.report.words import NAMES, stage_title

CHARTED = ("dnsmos_ovrl", "si_sdr_db")
"""Scores that are shown by condition: what listeners would say, and how near the target is."""
STAGE = "stage "
"""How conditions begin that are stages."""
MOST_DRAWN = 12
"""Conditions beyond these are in the table alone: a chart of them would be as long as the page."""
HOW_TO_READ = (
    "Below a mean stands its difference from the input's: ▲ better, ▼ worse, where the 95 % intervals of the two do "
    "not overlap. Conditions of fewer than 10 samples (n!) have no sign. The best mean is bold."
)


def conditions(found: EvaluationRecords, numbers: Html) -> Html:
    """Return charts with intervals, and a table a score.

    Args:
        found: of an evaluation that has conditions.
        numbers: a table of all scores.
    """
    systems = list(found.summary)
    columns = [column for column in found.columns if column.name in CHARTED] or list(found.columns[:1])
    named = {condition_title(name): summary for name, summary in found.by_condition.items()}
    drawn = dict(
        [
            (condition_title(name), summary)
            for name, summary in found.by_condition.items()
            if not name.startswith(STAGE)
        ][:MOST_DRAWN]
    ) or dict(list(named.items())[:MOST_DRAWN])
    charts = [forest_chart(column, drawn, systems, DEGRADED) for column in columns]
    first, *rest = [_table(column, named, systems) for column in columns]
    return join(
        tag("h3", "By condition"),
        tag(
            "div", [tag("div", chart, class_="card") for chart in charts if chart is not None], class_="grid"
        ),
        tag("h4", columns[0].heading),
        tag("p", HOW_TO_READ, class_="note"),
        first,
        [
            tag("details", tag("summary", f"{column.heading} by condition"), content)
            for column, content in zip(columns[1:], rest, strict=True)
        ],
        tag("details", tag("summary", f"All scores of {len(named)} conditions, with intervals"), numbers),
    )


def condition_title(name: str) -> str:
    """Return a condition as people write it: `codec amr_nb` -> `codec AMR-NB`, `RT60 >= 0.6 s` -> `RT60 ≥ 0.6 s`."""
    if name.startswith(STAGE):
        return stage_title(name.removeprefix(STAGE))
    kind, _, value = name.partition(" ")
    return f"{kind} {NAMES.get(value, value).replace('>=', '≥').replace('<=', '≤')}".strip()


def _table(column: Column, named: Mapping[str, Mapping[str, Any]], systems: Sequence[str]) -> Html:
    rows = []
    for condition, summary in named.items():
        base, best = summary[DEGRADED][column.name], best_mean(summary, column)
        n = summary[DEGRADED]["samples"]
        cells = [
            _mean(summary[name], column, None if name == DEGRADED else base, best) if name in summary else "–"
            for name in systems
        ]
        rows.append([condition, f"{n}{'!' if summary[DEGRADED]['small'] else ''}", *cells])
    head = ("condition", "n", *systems)
    return table(head, rows, range(1, len(head)), f"{column.heading} by condition")


def _mean(
    entries: Mapping[str, Any], column: Column, base: Mapping[str, Any] | None, best: float | None
) -> object:
    entry = entries[column.name]
    if entry["mean"] is None:
        return "–"
    text = f"{entry['mean']:.{column.digits}f}"
    shown = tag("strong", text) if entry["mean"] == best else text
    if base is None or base["mean"] is None:
        return shown
    style, sign = (None, "") if entries["small"] else _verdict(entry, base, column)
    apart = round(entry["mean"] - base["mean"], column.digits)
    return [shown, tag("small", f"{apart:+.{column.digits}f}{sign}", class_=style)]


def _verdict(
    entry: Mapping[str, Any], base: Mapping[str, Any], column: Column
) -> tuple[str, str] | tuple[None, str]:
    """Return style and sign of a difference: none where intervals overlap, or where zero is best."""
    ends = (entry["low"], entry["high"], base["low"], base["high"])
    if column.higher_is_better is None or None in ends:
        return None, ""
    low, high, base_low, base_high = ends
    if base_low <= high and low <= base_high:
        return None, ""
    return SIGNS["better" if (low > base_high) == column.higher_is_better else "worse"]
