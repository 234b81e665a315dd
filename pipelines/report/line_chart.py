"""Lines over steps as SVG, small enough to be read on a telephone, and told in words for those who cannot see them."""

import math
from collections.abc import Iterable, Mapping, Sequence

from pipelines.report.charts import drawing
from pipelines.report.markup import Html, tag
from pipelines.report.scales import Scale, tick_labels, ticks
from pipelines.trainer.run_records import Points

WIDTH, HEIGHT = 340, 210
"""In the SVG's own units: shown at this size, letters are as large as those around it."""
MOST_POINTS = 240
"""Of a line; longer ones are averaged, since there are no more pixels."""
COLOURS = 6
"""So many the style sheet has, near to those of Okabe and Ito (2008), which the colour-blind tell apart too."""

ROW_HEIGHT = 12
"""Of a legend."""
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 10, 32, 36
MOST_TICKS = 5
_LOG_FROM = 20.0
"""A line whose largest value is so many times its least is drawn on a logarithmic scale, if all are positive."""
_LETTER = 5.6
"""Width of a letter of a legend, about."""
_SPARSE = 40
"""A line of fewer points has a dot at each, with its number."""


def line_chart(title: str, lines: Mapping[str, Points], kept_step: int | None = None) -> Html | None:
    """Draw lines over training steps.

    Args:
        title: what the values are, with their unit.
        lines: by name, each with steps rising; one without points is left out.
        kept_step: where a mark stands: the step whose weights were kept.

    Returns:
        An `<svg>` element; None where no line has a point.
    """
    lines = {name: points for name, points in lines.items() if points}
    if not lines:
        return None
    thinned = {name: _thinned(points) for name, points in lines.items()}
    values = [value for points in thinned.values() for _, value in points]
    log = min(values) > 0.0 and max(values) > _LOG_FROM * min(values)
    steps = [step for points in lines.values() for step, _ in points]
    across = _Axis(float(min(0, *steps)), float(max(1, *steps)), _LEFT, WIDTH - _RIGHT, log=False)
    names, rows = legend(list(lines), _LEFT) if len(lines) > 1 else ([], 1)
    top = _TOP + ROW_HEIGHT * (rows - 1)
    up = _Axis(min(values), max(values), HEIGHT - _BOTTOM, top, log)
    kept = across.place(kept_step) if kept_step is not None else None
    return drawing(
        WIDTH,
        HEIGHT,
        _told(title, lines, kept_step),
        tag("text", title, class_="title", x=_LEFT, y=12),
        names,
        _grid(across, up),
        _rule(kept, kept, top, HEIGHT - _BOTTOM, "kept") if kept is not None else None,
        [_line(name, points, place, across, up) for place, (name, points) in enumerate(thinned.items())],
    )


class _Axis:
    """From values to places in the picture."""

    def __init__(self, low: float, high: float, begin: float, end: float, log: bool) -> None:
        if high <= low:
            margin = abs(low) / 10.0 or 0.5
            low, high = low - margin, high + margin
        self._low, self._high, self._log = low, high, log
        self._scale = Scale(self._inner(low), self._inner(high), begin, end)

    def place(self, value: float) -> float:
        """Return where a value stands."""
        return self._scale(self._inner(value))

    def ticks(self) -> list[float]:
        """Return round values within the axis."""
        if not self._log:
            return ticks(self._low, self._high)
        decades = range(math.floor(math.log10(self._low)), math.ceil(math.log10(self._high)) + 1)
        inside = [f * 10.0**d for d in decades for f in (1, 2, 5) if self._low <= f * 10.0**d <= self._high]
        return inside[:: max(1, -(-len(inside) // MOST_TICKS))]

    def _inner(self, value: float) -> float:
        return math.log(value) if self._log else value


def _thinned(points: Points) -> Points:
    """Average neighbours until a line has at most `MOST_POINTS` points; its last point stays."""
    if len(points) <= MOST_POINTS:
        return points
    each = -(-len(points) // (MOST_POINTS - 1))
    groups = [points[first : first + each] for first in range(0, len(points) - 1, each)]
    means = [(group[-1][0], sum(value for _, value in group) / len(group)) for group in groups]
    return (*(point for point in means if point[0] < points[-1][0]), points[-1])


def legend(names: Sequence[str], left: float, styles: Sequence[str] = ()) -> tuple[list[Html], int]:
    """Return the names of lines or dots beside their colours, from `left` on, as SVG; and how many rows.

    Args:
        names: to be told apart.
        left: where rows begin.
        styles: class of each; colours in their order if not given.
    """
    parts: list[Html] = []
    x, row = left, 0
    for place, name in enumerate(names):
        width = _LETTER * len(name) + 24
        if x > left and x + width > WIDTH:
            x, row = left, row + 1
        y = 25 + row * ROW_HEIGHT
        parts.append(
            tag(
                "rect",
                x=f"{x:.0f}",
                y=y - 6,
                width=9,
                height=4,
                class_=styles[place] if styles else f"f{place % COLOURS}",
            )
        )
        parts.append(tag("text", name, x=f"{x + 12:.0f}", y=y))
        x += width
    return parts, row + 1


def _grid(across: _Axis, up: _Axis) -> list[Html]:
    parts = []
    for value, label in _labelled(up.ticks()):
        y = up.place(value)
        parts.append(_rule(_LEFT, WIDTH - _RIGHT, y, y, "rule"))
        parts.append(tag("text", label, x=_LEFT - 5, y=f"{y + 3.5:.1f}", text_anchor="end"))
    # There is no half a step.
    for value, label in _labelled([value for value in across.ticks() if value == round(value)]):
        x = f"{across.place(value):.1f}"
        parts.append(tag("text", label, x=x, y=HEIGHT - _BOTTOM + 14, text_anchor="middle"))
    parts.append(tag("text", "step", x=(_LEFT + WIDTH - _RIGHT) / 2, y=HEIGHT - 6, text_anchor="middle"))
    return parts


def _labelled(values: Sequence[float]) -> Iterable[tuple[float, str]]:
    return zip(values, tick_labels(values), strict=True)


def _rule(x1: float, x2: float, y1: float, y2: float, kind: str) -> Html:
    return tag("line", x1=f"{x1:.1f}", x2=f"{x2:.1f}", y1=f"{y1:.1f}", y2=f"{y2:.1f}", class_=kind)


def _line(name: str, points: Points, place: int, across: _Axis, up: _Axis) -> list[Html]:
    places = [(f"{across.place(step):.1f}", f"{up.place(value):.1f}") for step, value in points]
    path = " ".join(f"{x},{y}" for x, y in places)
    colour = place % COLOURS
    parts = [tag("polyline", class_=f"line s{colour}", points=path)]
    if len(points) < _SPARSE:
        parts += [
            tag(
                "circle",
                tag("title", f"{name}, step {step}: {value:.4g}"),
                cx=x,
                cy=y,
                r=2.5,
                class_=f"f{colour}",
            )
            for (x, y), (step, value) in zip(places, points, strict=True)
        ]
    return parts


def _told(title: str, lines: Mapping[str, Points], kept_step: int | None) -> str:
    told = [
        f"{name} from {points[0][1]:.4g} at step {points[0][0]} to {points[-1][1]:.4g} at step {points[-1][0]}, "
        f"least {min(value for _, value in points):.4g}, most {max(value for _, value in points):.4g}"
        for name, points in lines.items()
    ]
    kept = [f"the weights of step {kept_step} were kept"] if kept_step is not None else []
    return f"{title}: {'; '.join([*told, *kept])}"
