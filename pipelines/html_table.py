"""Tables of a page: wide ones scroll by themselves, also by keyboard, and the page around them does not."""

from collections.abc import Iterable, Sequence
from html import escape


def table(caption: str, heads: Sequence[str], rows: Iterable[str]) -> str:
    """Return a table as HTML.

    Args:
        caption: what it holds; seen, and read aloud.
        heads: of the columns, as text; none for a table without.
        rows: `<tr>` elements, whose texts are escaped already.
    """
    head = "".join(f'<th scope="col">{escape(text)}</th>' for text in heads)
    lead = f"<thead><tr>{head}</tr></thead>" if heads else ""
    name = escape(caption)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{name}"><table><caption>{name}</caption>'
        f"{lead}<tbody>{''.join(rows)}</tbody></table></div>"
    )


def number_cell(text: str, kind: str = "") -> str:
    """Return a cell of a number that is written already; `kind` is `good`, `bad` or nothing."""
    return f'<td class="{" ".join(filter(None, ("number", kind)))}">{escape(text)}</td>'
