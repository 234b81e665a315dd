"""Parts of a page as a tree: the cells of its tables, and its drawings with what their axes say."""

import re
from collections.abc import Callable, Sequence
from xml.etree import ElementTree as Tree

import numpy as np


def section(content: bytes, name: str) -> Tree.Element:
    """A section of a page, by its id; one without players and pictures, which are not well-formed as XML."""
    found = re.search(rf'<section id="{name}".*?</section>', content.decode(), re.DOTALL)
    assert found is not None, f"no section {name}"
    return Tree.fromstring(found[0])


def part(markup: str) -> Tree.Element:
    """What a function returned that makes a part of a page."""
    return Tree.fromstring(f"<div>{markup}</div>")


def words(element: Tree.Element) -> str:
    """All that can be read in an element; titles of dots and bars are not."""
    pieces = [element.text or ""] if element.tag != "title" else []
    for child in element:
        pieces += [words(child), child.tail or ""]
    return " ".join("".join(pieces).split())


def rows(tree: Tree.Element, label: str) -> list[list[Tree.Element]]:
    """The cells of a table, by what it is called for those who cannot see it."""
    (frame,) = (e for e in tree.iter("div") if e.get("aria-label") == label)
    (body,) = frame.iter("tbody")
    return [list(row) for row in body.iter("tr")]


def drawing(tree: Tree.Element, begins: str) -> Tree.Element:
    """A drawing, by how the words begin that stand for it."""
    (found,) = (e for e in tree.iter("svg") if (e.get("aria-label") or "").startswith(begins))
    return found


def of_class(drawn: Tree.Element, tag: str, name: str) -> list[Tree.Element]:
    return [e for e in drawn.iter(tag) if name in (e.get("class") or "").split()]


def number(element: Tree.Element, attribute: str) -> float:
    return float(element.get(attribute) or "nan")


def title(element: Tree.Element) -> str:
    return element.findtext("title") or ""


def ruler(
    drawn: Tree.Element, along: str, anchor: str, scale: Callable[[float], float] = float
) -> Callable[[float], float]:
    """From values to places, as the numbers beside an axis promise.

    Args:
        drawn: the drawing.
        along: `x` or `y`.
        anchor: how the numbers are set: `end` beside an upright axis, `middle` below a level one.
        scale: of the axis, as `math.log10`.
    """
    labels = [
        (scale(float((text.text or "").replace(" ", ""))), number(text, along))
        for text in drawn.iter("text")
        if text.get("text-anchor") == anchor and re.fullmatch(r"-?[\d .]+", text.text or "")
    ]
    assert len(labels) >= 2
    values, places = np.array(labels).T
    slope, start = np.polyfit(values, places, 1)
    assert np.abs(slope * values + start - places).max() < 0.3, "the numbers of an axis are not evenly placed"
    return lambda value: float(slope * scale(value) + start)


def in_proportion(lengths: Sequence[float], values: Sequence[float], within: float) -> bool:
    """Whether lengths are to one another as values are."""
    a, b = np.asarray(lengths), np.asarray(values)
    return bool(np.abs(a * b.sum() / a.sum() - b).max() <= within * b.max())
