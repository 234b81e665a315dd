"""An evaluation as parts of a page: means with intervals, comparisons, a table by condition, and what must be known."""

from collections.abc import Mapping
from typing import Any

from manifests.wording import how_many
from pipelines.evaluation.records import EvaluationRecords
from pipelines.quality.scores import DEGRADED, Column
from pipelines.quality.summary import best_mean
from pipelines.report.comparisons import comparisons
from pipelines.report.conditions import condition_title, conditions
from pipelines.report.markup import Html, join, tag
from pipelines.report.page import table

SCORES = (
    "OVRL, SIG, BAK (P.835) and P808 are predicted by DNSMOS, 1 to 5. SI-SDR, log-spectral distance (LSD) and error of "
    "the active level are in dB. Arrows point to where better values lie; the best mean is bold. [k]: k samples have "
    "no such score. Below a mean stands its 95 % interval, by bootstrap over "
)
SMALL = "n!: fewer than 10 of these; such intervals are too narrow to be trusted."


def evaluation(found: EvaluationRecords) -> Html:
    """Return all of it."""
    unit = found.summary[DEGRADED].get("unit")
    judged = [column for column in found.columns if not column.describes]
    said = [
        *found.notes,
        *(f"not measured {how_many(count, 'time')}: {reason}" for reason, count in found.failures.items()),
    ]
    return join(
        tag("p", f"{found.samples} samples, {found.heard}."),
        _means(found),
        tag("p", f"{SCORES}{unit}s. {SMALL}", class_="note"),
        comparisons(found, judged) if found.comparisons and judged else None,
        conditions(found, _all_conditions(found)) if found.by_condition else None,
        [tag("h3", "To be known"), tag("ul", [tag("li", text) for text in said], class_="note")]
        if said
        else None,
    )


def _means(found: EvaluationRecords) -> Html:
    systems = list(found.summary)
    rows: list[list[object]] = []
    for column in found.columns:
        best = best_mean(found.summary, column)
        cells = [_mean(found.summary[name][column.name], column, best) for name in systems]
        rows.append([column.heading, *cells])
    rows.append(["n", *(_count(found.summary[name]) for name in systems)])
    return table(("score", *systems), rows, range(1, len(systems) + 1), "Means of all samples")


def _all_conditions(found: EvaluationRecords) -> Html:
    rows = []
    for condition, summary in found.by_condition.items():
        best = {column.name: best_mean(summary, column) for column in found.columns}
        for system, entries in summary.items():
            cells = [_mean(entries[column.name], column, best[column.name]) for column in found.columns]
            rows.append([condition_title(condition), system, _count(entries), *cells])
    head = ("condition", "system", "n", *(column.heading for column in found.columns))
    return table(head, rows, range(2, len(head)), "Means by condition, with 95 % intervals")


def _mean(entry: Mapping[str, Any], column: Column, best: float | None) -> list[object]:
    mean, digits = entry["mean"], column.digits
    text: object = "–" if mean is None else f"{mean:.{digits}f}"
    sure = entry["low"] is not None and entry["high"] is not None
    return [
        tag("strong", text) if mean is not None and mean == best else text,
        tag("span", f" [{entry['failures']}]", class_="missing") if entry["failures"] else None,
        tag("small", f"{entry['low']:.{digits}f} to {entry['high']:.{digits}f}") if sure else None,
    ]


def _count(entries: Mapping[str, Any]) -> str:
    return f"{entries['samples']}{'!' if entries['small'] else ''}"
