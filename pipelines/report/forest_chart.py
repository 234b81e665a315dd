"""A score by condition as SVG: a dot for each system's mean, and a line for its 95 % interval."""

from collections.abc import Mapping, Sequence
from typing import Any

from pipelines.quality.scores import Column
from pipelines.report.charts import drawing
from pipelines.report.line_chart import COLOURS, ROW_HEIGHT, legend
from pipelines.report.markup import Html, tag
from pipelines.report.scales import Scale, tick_labels, ticks
from pipelines.report.scales import coordinate as at

WIDTH = 340
_LABEL, _RIGHT, _TOP, _BOTTOM = 138, 16, 46, 20
_SYSTEM_HEIGHT, _GAP = 9, 7
MOST_TICKS = 4
_LABEL_LETTERS = 24

_Entries = list[tuple[int, str, Mapping[str, Any]]]
"""Place among the systems, name and mean of those that have one."""


def forest_chart(
    column: Column, summaries: Mapping[str, Mapping[str, Any]], systems: Sequence[str], base: str
) -> Html | None:
    """Draw one score's means and intervals.

    Args:
        column: the score.
        summaries: by condition, what `pipelines.quality.summary.summarised` returns.
        systems: those to draw, in their order.
        base: the system whose means get hollow dots: the input.

    Returns:
        An `<svg>` element; None where no condition has a mean.
    """
    rows: list[tuple[str, _Entries]] = []
    for condition, summary in summaries.items():
        there = [
            (place, name, summary[name][column.name]) for place, name in enumerate(systems) if name in summary
        ]
        if entries := [entry for entry in there if entry[2]["mean"] is not None]:
            rows.append((condition, entries))
    ends = [
        float(entry[end])
        for _, entries in rows
        for _, _, entry in entries
        for end in ("mean", "low", "high")
        if entry[end] is not None
    ]
    if not ends:
        return None
    margin = (max(ends) - min(ends)) / 20.0 or 0.5
    low, high = min(ends) - margin, max(ends) + margin
    scale = Scale(low, high, _LABEL, WIDTH - _RIGHT)
    colours = _colours(systems, base)
    names, lines = legend(systems, 4.0, [f"f{colour}" for colour in colours])
    parts: list[object] = []
    above = _TOP + ROW_HEIGHT * (lines - 1)
    top = float(above)
    for condition, entries in rows:
        parts.append(_condition(condition, entries, top, scale, column, base, colours))
        top += _GAP + _SYSTEM_HEIGHT * len(entries)
    height = round(top) + _BOTTOM
    values = ticks(low, high, MOST_TICKS)
    return drawing(
        WIDTH,
        height,
        f"{column.heading} by condition, with 95 % intervals; the table below has the numbers",
        tag("text", column.heading, class_="title", x=4, y=12),
        names,
        [
            _tick(value, label, scale, above - 8, height)
            for value, label in zip(values, tick_labels(values), strict=True)
        ],
        parts,
    )


def _colours(systems: Sequence[str], base: str) -> list[str]:
    """Return the colour of each system: the input is grey, so that six others differ."""
    others = [name for name in systems if name != base]
    return ["base" if name == base else str(others.index(name) % COLOURS) for name in systems]


def _tick(value: float, label: str, scale: Scale, top: int, height: int) -> list[Html]:
    x = at(scale(value))
    return [
        tag("line", x1=x, x2=x, y1=top, y2=height - _BOTTOM, class_="rule"),
        tag("text", label, x=x, y=height - 6, text_anchor="middle"),
    ]


def _condition(
    condition: str,
    entries: _Entries,
    top: float,
    scale: Scale,
    column: Column,
    base: str,
    colours: Sequence[str],
) -> list[Html]:
    label = condition if len(condition) <= _LABEL_LETTERS else condition[: _LABEL_LETTERS - 1] + "…"
    middle = top + _SYSTEM_HEIGHT * len(entries) / 2.0
    parts = [tag("text", label, x=_LABEL - 6, y=f"{middle + 3:.1f}", text_anchor="end")]
    for row, (place, name, entry) in enumerate(entries):
        y, colour = f"{top + _SYSTEM_HEIGHT * (row + 0.5):.1f}", colours[place]
        if entry["low"] is not None and entry["high"] is not None:
            low, high = at(scale(entry["low"])), at(scale(entry["high"]))
            parts.append(tag("line", x1=low, x2=high, y1=y, y2=y, class_=f"reach s{colour}"))
        said = tag("title", f"{condition}, {name}: {entry['mean']:.{column.digits}f}")
        kind = f"hollow s{colour}" if name == base else f"s{colour} f{colour}"
        parts.append(tag("circle", said, cx=at(scale(entry["mean"])), cy=y, r=3, class_=kind))
    return parts
