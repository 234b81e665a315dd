"""Two measures of each clip as a dot: what is common one by one may be rare together."""

from collections.abc import Sequence

from pipelines.report.charts import drawing
from pipelines.report.markup import Html, tag
from pipelines.report.recordings import Clip
from pipelines.report.scales import Scale, figure, tick_labels, ticks
from pipelines.report.scales import coordinate as at
from pipelines.report.summary import Measure

WIDTH, HEIGHT = 340, 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 34, 10, 20, 36
_MARGIN = 0.04
"""Of the range of the values, left free around them."""


def scatter_chart(x: Measure, y: Measure, a: Sequence[Clip], b: Sequence[Clip]) -> Html | None:
    """Draw clips of A as small dots and recordings of B as rings, each with its name.

    Args:
        x: what lies across.
        y: what lies up.
        a: clips.
        b: recordings.

    Returns:
        An `<svg>` element; None where no clip has both measures.
    """
    dots = [(clip, "dot-a", 2.5) for clip in a] + [(clip, "dot-b", 4.5) for clip in b]
    placed = [
        (clip.values[x.column], clip.values[y.column], clip, kind, radius)
        for clip, kind, radius in dots
        if x.column in clip.values and y.column in clip.values
    ]
    if not placed:
        return None
    across = _axis([dot[0] for dot in placed], _LEFT, WIDTH - _RIGHT)
    up = _axis([dot[1] for dot in placed], HEIGHT - _BOTTOM, _TOP)
    said = f"{y.axis}, over {x.axis}: {len(a)} clips of A and {len(b)} recordings of B; a table below has the numbers"
    parts: list[object] = [tag("text", y.axis, x=0, y=10)]
    values = ticks(up.low, up.high, 5)
    for value, label in zip(values, tick_labels(values), strict=True):
        y_at = at(up(value))
        parts.append(tag("line", class_="rule", x1=_LEFT, x2=WIDTH - _RIGHT, y1=y_at, y2=y_at))
        parts.append(tag("text", label, x=_LEFT - 5, y=at(up(value) + 4), text_anchor="end"))
    values = ticks(across.low, across.high, 6)
    for value, label in zip(values, tick_labels(values), strict=True):
        parts.append(tag("text", label, x=at(across(value)), y=HEIGHT - _BOTTOM + 14, text_anchor="middle"))
    parts.append(tag("text", x.axis, x=at((_LEFT + WIDTH - _RIGHT) / 2), y=HEIGHT - 5, text_anchor="middle"))
    for x_value, y_value, clip, kind, radius in placed:
        title = tag("title", f"{clip.name}: {figure(x_value)}, {figure(y_value)}")
        parts.append(tag("circle", title, class_=kind, cx=at(across(x_value)), cy=at(up(y_value)), r=radius))
    return drawing(WIDTH, HEIGHT, said, parts)


def _axis(values: Sequence[float], start: float, end: float) -> Scale:
    low, high = min(values), max(values)
    margin = _MARGIN * (high - low) or 0.5
    return Scale(low - margin, high + margin, start, end)
