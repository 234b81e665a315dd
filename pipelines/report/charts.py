"""Charts as SVG that is part of the page: it follows its colours, light and dark, and is read aloud by its label.

Lengths are in units of the drawing, about a pixel each on a phone; the page scales drawings to its columns.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipelines.report.markup import Html, tag
from pipelines.report.scales import Scale, Values, figure, percent, tick_labels, ticks, ticks_around
from pipelines.report.scales import coordinate as at

WIDTH, HEIGHT = 340, 190
_LEFT, _RIGHT, _TOP, _BOTTOM = 34, 8, 20, 36
_BAR_WIDTH, _BAR_HEIGHT = 144, 14
_CELL = 14
Span = tuple[float, float, float]
"""Its beginning, its middle and its end."""
_LEAST_MARGIN = 0.02
"""Around spans, of their largest value."""
_MARK_HEIGHT = 26
FEW = 20
"""Values: fewer of a second array are not a distribution, but are shown one by one."""
_LABEL_WIDTH, _LABEL_HEIGHT = 130, 116


def drawing(width: float, height: float, label: str, *content: object) -> Html:
    """Return an SVG drawing that says what it shows."""
    return tag(
        "svg",
        *content,
        viewBox=f"0 0 {at(width)} {at(height)}",
        role="img",
        aria_label=label,
        width=at(width),
    )


def histogram(edges: Values, samples: Sequence[Values], axis: str, label: str, of: str) -> Html:
    """Draw how values are distributed: bars for one array, a line or, of few values, marks for a second.

    Args:
        edges: of the bins, shape (bins + 1,).
        samples: one or two arrays of values; heights are shares of each.
        axis: what the values are, with their unit.
        label: what the chart shows, in words.
        of: what heights are shares of.
    """
    counts = bool((edges % 1.0 == 0.5).all())
    shares = [np.histogram(values, edges)[0] / max(len(values), 1) for values in samples]
    drawn = shares if len(samples[-1]) >= FEW else shares[:1]
    highest = max(float(share.max()) for share in drawn) or 1.0
    x = Scale(float(edges[0]), float(edges[-1]), _LEFT, WIDTH - _RIGHT)
    marks = ticks_around(100.0 * highest, 4)
    y = Scale(0.0, marks[-1] / 100.0, HEIGHT - _BOTTOM, _TOP)
    along = [m for m in ticks(float(edges[0]), float(edges[-1]), 6) if not counts or m % 1.0 == 0.0]
    parts: list[object] = [
        [
            tag("line", class_="rule", x1=_LEFT, x2=WIDTH - _RIGHT, y1=at(y(m / 100)), y2=at(y(m / 100)))
            for m in marks
        ],
        [tag("text", figure(m), x=_LEFT - 5, y=at(y(m / 100.0) + 4), text_anchor="end") for m in marks],
        tag("text", f"% of {of}", x=0, y=10),
        [
            _bin(x, y, edges[n], edges[n + 1], share, counts)
            for n, share in enumerate(shares[0])
            if share > 0.0
        ],
    ]
    if len(shares) > 1 and len(samples[1]) >= FEW:
        parts.append(_outline(x, y, edges, shares[1]))
    elif len(shares) > 1:
        parts.append([_mark(x(float(value)), y(0.0)) for value in samples[1]])
    parts.append(
        tag("line", class_="axis", x1=_LEFT, x2=WIDTH - _RIGHT, y1=HEIGHT - _BOTTOM, y2=HEIGHT - _BOTTOM)
    )
    parts.append(
        [
            tag("text", said, x=at(x(m)), y=HEIGHT - _BOTTOM + 14, text_anchor="middle")
            for m, said in zip(along, tick_labels(along), strict=True)
        ]
    )
    parts.append(tag("text", axis, x=at((_LEFT + WIDTH - _RIGHT) / 2), y=HEIGHT - 5, text_anchor="middle"))
    return drawing(WIDTH, HEIGHT, label, parts)


def _bin(x: Scale, y: Scale, low: float, high: float, share: float, counts: bool) -> Html:
    left, right = x(low) + 0.5, x(high) - 0.5
    top = y(share)
    if counts:  # a bin lies around the whole numbers in it
        low, high = low + 0.5, high - 0.5
    held = figure(low) if low == high else f"{figure(low)} to {figure(high)}"
    title = tag("title", f"{held}: {percent(share)}")
    box = {"x": at(left), "y": at(top), "width": at(max(right - left, 0.8)), "height": at(y(0.0) - top)}
    return tag("rect", title, class_="a", **box)


def _outline(x: Scale, y: Scale, edges: Values, shares: Values) -> Html:
    steps = [f"M{at(x(edges[0]))} {at(y(0.0))}"]
    for n, share in enumerate(shares):
        steps.append(f"V{at(y(share))}H{at(x(edges[n + 1]))}")
    return tag("path", class_="line-b", d="".join([*steps, f"V{at(y(0.0))}"]))


def _mark(x: float, bottom: float) -> Html:
    return tag("line", class_="each-b", x1=at(x), x2=at(x), y1=at(bottom - _MARK_HEIGHT), y2=at(bottom + 4))


def bar(share: float, mark: float | None = None, second: float | None = None, of: float = 1.0) -> Html:
    """Draw a bar for a table whose other cells say the same in numbers, so that it is hidden from readers.

    Args:
        share: its length, from 0 to `of`.
        mark: where a line crosses it, likewise.
        second: length of a second bar below it.
        of: value of the full width.
    """
    scale = Scale(0.0, of or 1.0, 0.0, _BAR_WIDTH)
    lanes = [(share, "a")] + ([(second, "b")] if second is not None else [])
    height = _BAR_HEIGHT / len(lanes)
    parts = [
        tag("rect", class_="rule", fill="none", x=0, y=0, width=_BAR_WIDTH, height=_BAR_HEIGHT),
        *(
            tag(
                "rect",
                class_=name,
                x=0,
                y=at(n * height),
                width=at(max(scale(value), 0.0)),
                height=at(height),
            )
            for n, (value, name) in enumerate(lanes)
        ),
    ]
    if mark is not None:
        parts.append(
            tag("line", class_="mark", x1=at(scale(mark)), x2=at(scale(mark)), y1=-2, y2=_BAR_HEIGHT + 2)
        )
    return tag(
        "svg",
        parts,
        viewBox=f"-1 -2 {_BAR_WIDTH + 2} {_BAR_HEIGHT + 4}",
        width=_BAR_WIDTH,
        aria_hidden="true",
    )


def spans(of: Sequence[tuple[Span, str]]) -> Html:
    """Draw spans below one another on one scale, each with a mark at its middle, hidden from readers as `bar` is.

    Args:
        of: spans with the class of the style that each has.
    """
    low, high = min(span[0] for span, _ in of), max(span[2] for span, _ in of)
    # What differs by a rounding alone stands in one place.
    margin = max(0.04 * (high - low), _LEAST_MARGIN * max(abs(low), abs(high))) or 0.5
    scale = Scale(low - margin, high + margin, 0.0, _BAR_WIDTH)
    lane = _BAR_HEIGHT / len(of)
    parts = []
    for place, ((begin, middle, end), name) in enumerate(of):
        y, x = place * lane, scale(begin)
        box = {"y": at(y + 1), "height": at(lane - 2), "rx": 1}
        parts.append(tag("rect", class_=name, x=at(x), width=at(max(scale(end) - x, 1.5)), **box))
        parts.append(tag("rect", class_="middle", x=at(scale(middle) - 1), width=2, y=at(y), height=at(lane)))
    return tag(
        "svg",
        parts,
        viewBox=f"-1 -2 {_BAR_WIDTH + 2} {_BAR_HEIGHT + 4}",
        width=_BAR_WIDTH,
        aria_hidden="true",
    )


def shades(low: str, high: str) -> Html:
    """Explain the shades of a matrix."""
    steps = [
        tag(
            "rect", class_="heat", x=at(2.4 * n), y=1, width=2.4, height=10, opacity=f"{0.06 + 0.094 * n:.2f}"
        )
        for n in range(10)
    ]
    swatch = tag("svg", steps, viewBox="0 0 24 12", width=24, aria_hidden="true")
    return tag("div", tag("span", low, swatch, high), class_="legend")


def key(*names: tuple[str, str]) -> Html:
    """Explain colours: pairs of a class of the style (`a`, `line-b`, `each-b`, `mark`) and what it stands for."""

    def swatch(style: str) -> Html:
        if style in ("mark", "each-b"):
            shape = tag("line", class_=style, x1=12, x2=12, y1=0, y2=12)
        elif style.startswith("dot"):
            shape = tag("circle", class_=style, cx=12, cy=6, r=4)
        elif style.startswith("line"):
            shape = tag("path", class_=style, d="M1 11V4H12V8H23")
        else:
            shape = tag("rect", class_=style, x=0, y=1, width=24, height=10)
        return tag("svg", shape, viewBox="0 0 24 12", width=24, aria_hidden="true")

    return tag(
        "div", [tag("span", swatch(style), tag("span", name)) for style, name in names], class_="legend"
    )


def matrix(names: Sequence[str], shares: NDArray[np.float64], label: str) -> Html:
    """Draw a square table of shares as shades.

    Args:
        names: of rows and columns.
        shares: shape (len(names), len(names)), each 0 to 1: of what a row stands for, the share with its column.
        label: what the chart shows, in words.
    """
    size = len(names) * _CELL
    parts: list[object] = []
    for n, name in enumerate(names):
        middle = n * _CELL + _CELL / 2
        column_x, row_y = _LABEL_WIDTH + middle + 4, _LABEL_HEIGHT + middle + 4
        parts.append(tag("text", name, x=_LABEL_WIDTH - 4, y=at(row_y), text_anchor="end"))
        turned = f"translate({at(column_x)} {_LABEL_HEIGHT - 4}) rotate(-60)"
        parts.append(tag("text", name, transform=turned))
    for row, column in np.argwhere(shares > 0.0).tolist():
        share = float(shares[row, column])
        if row == column:
            said = f"{names[row]}: {percent(share)} of all samples"
        else:
            said = f"of samples with {names[row]}, {percent(share)} have {names[column]}"
        parts.append(
            tag(
                "rect",
                tag("title", said),
                class_="heat",
                opacity=f"{0.06 + 0.94 * share:.2f}",
                x=_LABEL_WIDTH + column * _CELL,
                y=_LABEL_HEIGHT + row * _CELL,
                width=_CELL - 1,
                height=_CELL - 1,
            )
        )
    return drawing(_LABEL_WIDTH + size + 60, _LABEL_HEIGHT + size, label, parts)
