"""An evaluation as parts of a page: means with intervals, comparisons, a table by condition, and what must be known."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pipelines.evaluation_records import Compared, EvaluationRecords
from pipelines.report.forest_chart import forest_chart
from pipelines.report.markup import Html, join, tag
from pipelines.report.page import table
from pipelines.scores import DEGRADED, Column
from pipelines.summary import best_mean

CHARTED = ("dnsmos_ovrl", "si_sdr_db")
"""Scores that are drawn by condition: what listeners would say, and how near the target is."""
MOST_OPEN = 12
"""The table of more conditions than these is folded up."""
SCORES = (
    "OVRL, SIG, BAK (P.835) and P808 are predicted by DNSMOS, 1 to 5. SI-SDR, log-spectral distance (LSD) and error of "
    "the active level are in dB. Arrows point to where better values lie; the best mean is bold. [k]: k samples have "
    "no such score. Below a mean stands its 95 % interval, by bootstrap over "
)
SMALL = "n!: fewer than 10 of these; such intervals are too narrow to be trusted."
PAIRS = (
    "Differences are taken sample by sample; where zero is best, of the distances from zero. p is not corrected for "
    "the number of comparisons."
)


def evaluation(found: EvaluationRecords) -> Html:
    """Return all of it."""
    unit = found.summary[DEGRADED].get("unit")
    judged = [column for column in found.columns if not column.describes]
    said = [
        *found.notes,
        *(f"not measured {times} times: {reason}" for reason, times in found.failures.items()),
    ]
    return join(
        tag("p", f"{found.samples} samples, {found.heard}."),
        _means(found),
        tag("p", f"{SCORES}{unit}s. {SMALL}", class_="note"),
        _comparisons(found, judged) if found.comparisons and judged else None,
        _conditions(found) if found.by_condition else None,
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


def _comparisons(found: EvaluationRecords, judged: Sequence[Column]) -> list[Html]:
    rows = [
        [f"{pair.system} – {pair.against}", column.heading, *_compared(pair.scores[column.name], column)]
        for pair in found.comparisons
        for column in judged
        if column.name in pair.scores
    ]
    head = ("systems", "score", "difference", "95 % interval", "better on", "p", "n", "verdict")
    return [
        tag("h3", "Compared"),
        table(head, rows, range(2, 7), "Differences of systems, with 95 % intervals"),
        tag("p", PAIRS, class_="note"),
    ]


def _compared(entry: Compared, column: Column) -> Iterator[object]:
    digits = column.digits
    sure = entry.low is not None and entry.high is not None
    yield "–" if entry.mean is None else f"{entry.mean:+.{digits}f}"
    yield f"{entry.low:+.{digits}f} to {entry.high:+.{digits}f}" if sure else "–"
    yield "–" if entry.better is None else f"{100 * entry.better:.0f} %"
    yield "–" if entry.p is None else f"{entry.p:.3f}"
    yield entry.n
    yield tag("span", entry.verdict, class_={"better": "good", "worse": "bad"}.get(entry.verdict))


def _conditions(found: EvaluationRecords) -> list[Html]:
    charts = [
        forest_chart(column, found.by_condition, list(found.summary), DEGRADED)
        for column in found.columns
        if column.name in CHARTED
    ]
    rows = []
    for condition, summary in found.by_condition.items():
        best = {column.name: best_mean(summary, column) for column in found.columns}
        for system, entries in summary.items():
            cells = [_mean(entries[column.name], column, best[column.name]) for column in found.columns]
            rows.append([condition, system, _count(entries), *cells])
    head = ("condition", "system", "n", *(column.heading for column in found.columns))
    numbers = table(head, rows, range(2, len(head)), "Means by condition, with 95 % intervals")
    many = len(found.by_condition) > MOST_OPEN
    return [
        tag("h3", "By condition"),
        tag(
            "div", [tag("div", chart, class_="card") for chart in charts if chart is not None], class_="grid"
        ),
        tag(
            "details",
            tag("summary", f"All {len(found.by_condition)} conditions in numbers"),
            numbers,
            open=not many,
        ),
    ]


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
