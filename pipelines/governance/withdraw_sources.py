"""Which sources of a corpus a user means to withdraw.

SOURCE is a path as the catalogue has it or the end of one, a file (by its content), a SHA-256 or its beginning, its
letters small or not, or `speaker:NAME`, `recording:NAME`, `room:NAME` for all sources of a group.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from manifests.canonical import file_sha256
from manifests.catalogue import Catalogue
from manifests.errors import UserError
from manifests.source import Source

MIN_PREFIX = 8
"""Digits of a SHA-256 that are enough where only one source begins so."""
GROUPS: dict[str, Callable[[Source], str | None]] = {
    "speaker": lambda source: source.speaker,
    "recording": lambda source: source.recording,
    "room": lambda source: source.room,
}
_HEX = re.compile(rf"[0-9a-f]{{{MIN_PREFIX},64}}")
_TOO_SHORT = re.compile(rf"(?=[0-9a-f]*[0-9])[0-9a-f]{{4,{MIN_PREFIX - 1}}}")
"""What looks like the beginning of a hash; a word of letters alone is none."""


def sources_meant(references: Iterable[str], catalogue: Catalogue, where: str) -> list[Source]:
    """Find the usable sources that are meant, by content hash, each once.

    Args:
        references: as above.
        catalogue: of the corpus.
        where: what to call the corpus in messages.

    Raises:
        UserError: when a reference means no source of the corpus, or several files by accident.
    """
    found: dict[str, Source] = {}
    for reference in references:
        try:
            meant = _meant(reference, catalogue.usable, where)
        except UserError:
            _refuse_what_went(reference, catalogue.withdrawn, where)
            raise
        found |= {source.sha256: source for source in meant}
    return [found[sha256] for sha256 in sorted(found)]


def _refuse_what_went(reference: str, rows: Sequence[Source], where: str) -> None:
    """Say that a reference means what was withdrawn before, if it does.

    Raises:
        UserError: saying so.
    """
    try:
        _meant(reference, rows, where)
    except UserError:
        return
    raise UserError(f"{reference}: was withdrawn from {where} already")


def _meant(reference: str, rows: Sequence[Source], where: str) -> list[Source]:
    word, _, name = reference.partition(":")
    if word in GROUPS and name:
        return _some([row for row in rows if GROUPS[word](row) == name], reference, where)
    if exact := [row for row in rows if row.path == reference]:
        return exact
    if Path(reference).is_file():
        sha256 = file_sha256(Path(reference))
        return _some([row for row in rows if row.sha256 == sha256], reference, where)
    digits = reference.lower()
    if _HEX.fullmatch(digits) and (alike := [row for row in rows if row.sha256.startswith(digits)]):
        return _one(alike, reference)
    tail = "/" + reference.lstrip("/")
    return _one(_some([row for row in rows if row.path.endswith(tail)], reference, where), reference)


def _some(found: list[Source], reference: str, where: str) -> list[Source]:
    if not found:
        more = (
            f"; of a hash, {MIN_PREFIX} digits are needed" if _TOO_SHORT.fullmatch(reference.lower()) else ""
        )
        raise UserError(f"{reference}: no source of {where} that could be withdrawn{more}")
    return found


def _one(found: list[Source], reference: str) -> list[Source]:
    if len({row.sha256 for row in found}) > 1:
        paths = ", ".join(sorted(row.path for row in found)[:4])
        raise UserError(f"{reference}: {len(found)} sources are meant by it; give more of it: {paths}")
    return found
