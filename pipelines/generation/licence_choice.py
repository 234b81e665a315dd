"""Which sources a user's list of licences leaves to be drawn."""

from collections import Counter
from collections.abc import Callable, Iterator

from manifests.catalogue import Catalogue
from manifests.licence_names import UNRECOGNISED, AllowedLicences, is_unrecognised, spdx_of
from manifests.source import Source
from pipelines.markdown import one_line

MOST_SAID = 20
"""Licences, and texts that are none, that are named among those that were refused."""


def of_allowed_licences(
    catalogue: Catalogue, allowed: AllowedLicences, say: Callable[[str], None] = lambda line: None
) -> Catalogue:
    """Refuse the sources of all licences that are not allowed, and say how many that were.

    What is left decides the catalogue's digest, and with it the identity of whatever is drawn from it.
    """
    refused: Counter[str] = Counter()

    def reason(source: Source) -> str | None:
        if source.licence in allowed:
            return None
        refused[source.licence] += 1
        return f"its licence is not among the allowed ones: {source.licence}"

    left = catalogue.refusing(reason)
    for line in _refused_in_words(refused, len(catalogue.usable)):
        say(line)
    return left


def _refused_in_words(refused: Counter[str], sources: int) -> Iterator[str]:
    if not refused:
        return
    texts, known = Counter[str](), Counter[str]()
    for text, count in refused.items():
        if is_unrecognised(text):
            texts[text] += count
        else:
            known[spdx_of(text)] += count
    words = _first([f"{one_line(licence)} {count}" for licence, count in known.most_common()])
    listed = f" ({', '.join(words)})" if words else ""
    yield (
        f"licences: {refused.total()} of {sources} sources are not drawn, their licences are not allowed{listed}"
    )
    if texts:
        yield (
            f"licences: {texts.total()} of these say what is no licence known here; to draw them, name these texts, or "
            f"'{UNRECOGNISED}' for all of them:"
        )
        yield from _first([f"  {count:6}  {_as_named(text)}" for text, count in texts.most_common()])


def _as_named(text: str) -> str:
    """Return a text as it is named in a list: between quotes where it has a comma in it."""
    line = one_line(text)
    quoted = line.replace('"', '""')
    return f'"{quoted}"' if set(line) & set(',"') else line


def _first(words: list[str]) -> list[str]:
    more = len(words) - MOST_SAID
    return [*words[:MOST_SAID], f"and {more} more"] if more > 0 else words
