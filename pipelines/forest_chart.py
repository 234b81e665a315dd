"""A score by condition as SVG: a dot for each system's mean, and a line for its 95 % interval."""

import html
from collections.abc import Mapping, Sequence
from typing import Any

from pipelines.line_chart import colours, legend
from pipelines.scores import Column

WIDTH = 340
_LABEL, _RIGHT, _TOP, _BOTTOM = 128, 12, 46, 20
_SYSTEM_HEIGHT, _GAP = 9, 7
_TICKS = 4
_LABEL_LETTERS = 22


def forest_chart(
    column: Column, summaries: Mapping[str, Mapping[str, Any]], systems: Sequence[str], base: str
) -> str:
    """Draw one score's means and intervals.

    Args:
        column: the score.
        summaries: by condition, what `pipelines.summary.summarised` returns.
        systems: those to draw, in their order.
        base: the system whose means get hollow dots: the input.

    Returns:
        An `<svg>` element, or nothing where no condition has a mean.
    """
    rows = [
        (condition, [(name, summary[name][column.name]) for name in systems if name in summary])
        for condition, summary in summaries.items()
    ]
    rows = [
        (condition, [(name, entry) for name, entry in entries if entry["mean"] is not None])
        for condition, entries in rows
    ]
    rows = [row for row in rows if row[1]]
    ends = [
        float(entry[end])
        for _, entries in rows
        for _, entry in entries
        for end in ("mean", "low", "high")
        if entry[end] is not None
    ]
    if not ends:
        return ""
    low, high = min(ends), max(ends)
    margin = (high - low) / 20.0 or 0.5
    low, high = low - margin, high + margin

    def across(value: float) -> float:
        return _LABEL + (WIDTH - _RIGHT - _LABEL) * (value - low) / (high - low)

    heights = [_GAP + _SYSTEM_HEIGHT * len(entries) for _, entries in rows]
    height = _TOP + sum(heights) + _BOTTOM
    told = f"{column.heading} by condition, with 95 % intervals; the table below has the numbers"
    parts = [
        f'<svg class="chart" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{html.escape(told)}">',
        f'<text class="chart-title" x="4" y="12">{html.escape(column.heading)}</text>',
    ]
    parts += legend(systems, 4.0)
    colour_of = dict(zip(systems, colours(len(systems)), strict=True))
    for number in range(_TICKS + 1):
        value = low + (high - low) * number / _TICKS
        parts.append(
            f'<line class="chart-grid" x1="{across(value):.1f}" x2="{across(value):.1f}" y1="{_TOP - 8}" '
            f'y2="{height - _BOTTOM}"/><text class="chart-tick" x="{across(value):.1f}" y="{height - 6}" '
            f'text-anchor="middle">{value:.{column.digits}f}</text>'
        )
    top = float(_TOP)
    for (condition, entries), row_height in zip(rows, heights, strict=True):
        label = condition if len(condition) <= _LABEL_LETTERS else condition[: _LABEL_LETTERS - 1] + "…"
        middle = top + (row_height - _GAP) / 2.0
        parts.append(
            f'<text class="chart-tick" x="{_LABEL - 6}" y="{middle + 3:.1f}" text-anchor="end">'
            f"{html.escape(label)}</text>"
        )
        for place, (name, entry) in enumerate(entries):
            y = top + _SYSTEM_HEIGHT * (place + 0.5)
            colour = colour_of[name]
            if entry["low"] is not None and entry["high"] is not None:
                parts.append(
                    f'<line x1="{across(entry["low"]):.1f}" x2="{across(entry["high"]):.1f}" y1="{y:.1f}" '
                    f'y2="{y:.1f}" stroke="{colour}" stroke-width="1.5"/>'
                )
            fill = "none" if name == base else colour
            said = f"{condition}, {name}: {entry['mean']:.{column.digits}f}"
            parts.append(
                f'<circle cx="{across(entry["mean"]):.1f}" cy="{y:.1f}" r="3" fill="{fill}" stroke="{colour}">'
                f"<title>{html.escape(said)}</title></circle>"
            )
        top += row_height
    return "".join([*parts, "</svg>"])
