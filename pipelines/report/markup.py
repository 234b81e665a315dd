"""HTML and SVG that strangers' names cannot break out of: text is escaped unless it was made here.

Every page is built of `tag` and `join`; nothing else makes `Html`, and only literals of this package may be wrapped.
"""

import html
import re
from collections.abc import Iterable

_VOID = frozenset(("br", "col", "hr", "img", "input", "link", "meta"))
_UNSEEN = re.compile(
    r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)
"""Control characters, those that turn the direction of writing, and halves of surrogate pairs."""


class Html(str):
    """Markup: every name in it was escaped."""

    __slots__ = ()


def escaped(text: object) -> Html:
    """Return text as markup that shows it, in elements and in quoted attributes; what cannot be seen becomes `�`."""
    return Html(html.escape(_UNSEEN.sub("�", str(text)), quote=True))


def join(*parts: object) -> Html:
    """Return parts one after the other: markup as it is, lists in order, None as nothing, all else escaped."""
    return Html("".join(_pieces(parts)))


def _pieces(parts: Iterable[object]) -> Iterable[str]:
    for part in parts:
        if isinstance(part, Html):
            yield part
        elif isinstance(part, str):
            yield escaped(part)
        elif isinstance(part, Iterable):
            yield from _pieces(part)
        elif part is not None:
            yield escaped(part)


def tag(name: str, /, *children: object, **attributes: object) -> Html:
    """Return an element.

    Args:
        name: of the element.
        children: as of `join`.
        attributes: by name, `_` for `-`, with a trailing `_` where Python has the word; None and False leave one out,
            True writes it without a value.
    """
    written = "".join(_attribute(key, value) for key, value in attributes.items())
    if name in _VOID:
        return Html(f"<{name}{written}>")
    return Html(f"<{name}{written}>{join(*children)}</{name}>")


def _attribute(key: str, value: object) -> str:
    if value is None or value is False:
        return ""
    name = key.removesuffix("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{escaped(value)}"'
