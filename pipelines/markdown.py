"""Markdown from values that strangers chose: names in it stay names."""

import re
from collections.abc import Sequence

_SPECIAL = re.compile(r"([\\`*_\[\]<>|~&@$]|:(?=//)|(?<=www)\.)")
_UNPRINTABLE = re.compile(r"[\s\x00-\x1f\x7f-\x9f\u2028\u2029\u200b-\u200f\u202a-\u202e\u2066-\u2069]+")
NUMBER = "---:"
TEXT = "---"


def escaped(text: object) -> str:
    """Return text that Markdown shows as it is, on one line, anywhere but at the beginning of a line.

    Links, HTML, emphasis, table borders and addresses that some renderers turn into links lose their meaning.
    """
    return _SPECIAL.sub(r"\\\1", one_line(text))


def one_line(text: object) -> str:
    """Return text without line breaks, control characters and those that turn the direction of writing."""
    return _UNPRINTABLE.sub(" ", str(text)).strip()


def table(head: Sequence[str], rows: Sequence[Sequence[object]], align: Sequence[str] = ()) -> str:
    """Return a table; every cell and heading is escaped.

    Args:
        head: headings; empty ones are allowed.
        rows: as many cells each.
        align: `TEXT` or `NUMBER` for each column; all text without.
    """
    lines = [[escaped(cell) for cell in row] for row in (head, *rows)]
    lines.insert(1, list(align) or [TEXT] * len(head))
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
