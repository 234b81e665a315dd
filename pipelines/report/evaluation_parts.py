"""An evaluation as parts of a page: means with intervals, comparisons, a table by condition, and what must be known."""

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from pipelines.evaluation_records import Compared, EvaluationRecords
from pipelines.forest_chart import forest_chart
from pipelines.html_table import number_cell, table
from pipelines.scores import DEGRADED, Column
from pipelines.summary import best_mean

CHARTED = ("dnsmos_ovrl", "si_sdr_db")
"""Scores that are drawn by condition: what listeners would say, and how near the target is."""
LEGEND = (
    "OVRL, SIG, BAK (P.835) and P808 are predicted by DNSMOS, 1 to 5. SI-SDR, log-spectral distance (LSD) and error of "
    "the active level are in dB. Arrows point to where better values lie; the best mean is bold. Below a mean stands its "
    "95 % interval, by bootstrap over "
)
SMALL = "n!: fewer than 10 of these; such intervals are too narrow to be trusted."
PAIRS = (
    "Differences are taken sample by sample; where zero is best, of the distances from zero. p is not corrected for "
    "the number of comparisons."
)


def evaluation_section(found: EvaluationRecords) -> str:
    """Return all of it as HTML; names are escaped."""
    unit = found.summary[DEGRADED].get("unit")
    parts = [
        f"<p>{found.samples} samples, {escape(found.heard)}.</p>",
        _means(found),
        f'<p class="note">{LEGEND}{escape(str(unit))}s. {SMALL}</p>',
    ]
    judged = [column for column in found.columns if not column.describes]
    if found.comparisons and judged:
        parts += ["<h3>Compared</h3>", _comparisons(found, judged), f'<p class="note">{PAIRS}</p>']
    if found.by_condition:
        parts += ["<h3>By condition</h3>", _charts(found), _by_condition(found)]
    said = [f"not measured {count} times: {reason}" for reason, count in found.failures.items()]
    if said or found.notes:
        items = "".join(f"<li>{escape(text)}</li>" for text in (*found.notes, *said))
        parts.append(f'<h3>To be known</h3><ul class="notes">{items}</ul>')
    return "\n".join(parts)


def _means(found: EvaluationRecords) -> str:
    systems = list(found.summary)
    rows = []
    for column in found.columns:
        best = best_mean(found.summary, column)
        cells = "".join(_cell(found.summary[name][column.name], column, best) for name in systems)
        rows.append(f'<tr><th scope="row">{escape(column.heading)}</th>{cells}</tr>')
    count = "".join(number_cell(_count(found.summary[name])) for name in systems)
    rows.append(f'<tr><th scope="row">n</th>{count}</tr>')
    return table("Means of all samples", ("score", *systems), rows)


def _by_condition(found: EvaluationRecords) -> str:
    rows = []
    for condition, summary in found.by_condition.items():
        best = {column.name: best_mean(summary, column) for column in found.columns}
        for place, (system, entries) in enumerate(summary.items()):
            name = (
                f'<th scope="rowgroup" rowspan="{len(summary)}">{escape(condition)}</th>' if not place else ""
            )
            cells = "".join(
                _cell(entries[column.name], column, best[column.name]) for column in found.columns
            )
            first = ' class="first"' if not place else ""
            rows.append(
                f'<tr{first}>{name}<th scope="row">{escape(system)}</th>{number_cell(_count(entries))}{cells}</tr>'
            )
    heads = ("condition", "system", "n", *(column.heading for column in found.columns))
    return table("Means by condition, with 95 % intervals", heads, rows)


def _charts(found: EvaluationRecords) -> str:
    drawn = [
        forest_chart(column, found.by_condition, list(found.summary), DEGRADED)
        for column in found.columns
        if column.name in CHARTED
    ]
    return f'<div class="charts">{"".join(drawn)}</div>'


def _comparisons(found: EvaluationRecords, judged: Sequence[Column]) -> str:
    rows = []
    for pair in found.comparisons:
        shown = [column for column in judged if column.name in pair.scores]
        for place, column in enumerate(shown):
            entry = pair.scores[column.name]
            name = (
                f'<th scope="rowgroup" rowspan="{len(shown)}">{escape(pair.system)} and {escape(pair.against)}</th>'
                if not place
                else ""
            )
            first = ' class="first"' if not place else ""
            rows.append(
                f'<tr{first}>{name}<th scope="row">{escape(column.heading)}</th>{"".join(_compared(entry, column))}</tr>'
            )
    heads = ("systems", "score", "difference", "95 % interval", "better on", "p", "n", "verdict")
    return table("Differences of systems, with 95 % intervals", heads, rows)


def _compared(entry: Compared, column: Column) -> Iterator[str]:
    digits = column.digits
    sure = entry.low is not None and entry.high is not None
    yield number_cell("-" if entry.mean is None else f"{entry.mean:+.{digits}f}")
    yield number_cell(f"{entry.low:+.{digits}f} to {entry.high:+.{digits}f}" if sure else "-")
    yield number_cell("-" if entry.better is None else f"{100 * entry.better:.0f} %")
    yield number_cell("-" if entry.p is None else f"{entry.p:.3f}")
    yield number_cell(str(entry.n))
    kind = {"better": "good", "worse": "bad"}.get(entry.verdict, "")
    yield f'<td class="{kind}">{escape(entry.verdict)}</td>'


def _cell(entry: Mapping[str, Any], column: Column, best: float | None) -> str:
    mean, digits = entry["mean"], column.digits
    text = "-" if mean is None else f"{mean:.{digits}f}"
    if mean is not None and mean == best:
        text = f"<strong>{text}</strong>"
    if entry["failures"]:
        text += f' <span class="missing" title="samples that have no such score">[{entry["failures"]}]</span>'
    if entry["low"] is not None and entry["high"] is not None:
        text += f"<small>{entry['low']:.{digits}f} to {entry['high']:.{digits}f}</small>"
    return f'<td class="number">{text}</td>'


def _count(entries: Mapping[str, Any]) -> str:
    return f"{entries['samples']}{'!' if entries['small'] else ''}"
