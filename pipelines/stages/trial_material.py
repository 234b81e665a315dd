"""What a single stage may draw from when it is tried out: given recordings, or built-in voices, noises and rooms."""

import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

from datagen.examine import examine
from datagen.folders import audio_files
from datagen.provenance import Found, provenance
from datagen.rooms import bank_sources
from datagen.split import without_duplicates
from manifests.cache import cache_directory
from manifests.canonical import digest, file_sha256
from manifests.errors import UserError
from manifests.files import temporary_beside
from manifests.keyed import generator
from manifests.ranges import Span
from manifests.recipe import RoomBank
from manifests.source import Kind, Source

MOST_FILES = 64
"""Of a large folder, so many files are drawn and examined: enough to hear a stage."""
ROOMS = 6
SHORTEST_ROOM_S, LONGEST_ROOM_S = 0.05, 3.0
DEMO_LICENCE = "CC0-1.0 (synthetic)"


def trial_sources(
    given: Mapping[Kind, Path], seed: int, rt60_s: Span | None, say: Callable[[str], None]
) -> Callable[[Kind], tuple[Source, ...]]:
    """Return what looks up usable sources of a kind; files are examined, and rooms simulated, when first asked for.

    Args:
        given: a file or folder for some kinds; others are built in.
        seed: draws the files of a large folder.
        rt60_s: reverberation times that simulated rooms shall have; None for the usual ones.
        say: told of files that are left out.
    """

    @cache
    def look_up(kind: Kind) -> tuple[Source, ...]:
        if kind in given:
            return _examined_files(given[kind], kind, seed, say)
        return _simulated_rooms(rt60_s) if kind == "rir" else demo_sources(kind)

    return look_up


def demo_sources(kind: Kind) -> tuple[Source, ...]:
    """Return the demo's voices or noises, written into the cache on first use."""
    folder = _demo_folder() / kind
    return tuple(s for s in _examined(audio_files(str(folder)), kind, DEMO_LICENCE) if not s.refused)


def _examined_files(path: Path, kind: Kind, seed: int, say: Callable[[str], None]) -> tuple[Source, ...]:
    if path.is_dir():
        found = audio_files(str(path))
        if not found:
            raise UserError(f"{path}: holds no audio files")
    elif path.exists():
        where = path.absolute()
        found = [Found(str(where), str(where.parent), where.name)]
    else:
        raise UserError(f"{path}: no such file or folder")
    if len(found) > MOST_FILES:
        say(f"{path}: {MOST_FILES} of {len(found)} files are drawn to choose from")
        chosen = generator("trial files", kind, seed).choice(len(found), MOST_FILES, replace=False)
        found = [found[number] for number in sorted(chosen)]
    rows = _examined(found, kind, None)
    refused = [row for row in rows if row.refused]
    if len(refused) == len(rows):
        raise UserError(f"{refused[0].path}: cannot be used as {kind}: {refused[0].refused}")
    for row in refused:
        say(f"{row.path}: left out: {row.refused}")
    return tuple(row for row in rows if not row.refused)


def _examined(found: Iterable[Found], kind: Kind, licence: str | None) -> tuple[Source, ...]:
    rules = provenance(licence, "folder", None)
    rows = (replace(examine(file.path, kind), **rules.facts(file, kind)) for file in found)
    return without_duplicates(rows)


def _simulated_rooms(rt60_s: Span | None) -> tuple[Source, ...]:
    if rt60_s is None or rt60_s[1] < SHORTEST_ROOM_S or rt60_s[0] > LONGEST_ROOM_S:
        return bank_sources(RoomBank(count=ROOMS), cache_directory())
    within = (max(rt60_s[0], SHORTEST_ROOM_S), min(rt60_s[1], LONGEST_ROOM_S))
    return bank_sources(RoomBank(count=ROOMS, rt60_s=within), cache_directory())


def _demo_folder() -> Path:
    """Return the cached folder with `speech` and `noise`; its name changes with the code that makes them."""
    from pipelines.built_in import noises, voices

    code = [file_sha256(Path(module.__file__ or "")) for module in (voices, noises)]
    folder = cache_directory() / f"demo-{digest(code)}"
    if folder.is_dir():
        return folder
    temporary = temporary_beside(folder)
    try:
        temporary.mkdir(parents=True)
        list(voices.write_voices(temporary / "speech"))
        list(noises.write_noises(temporary / "noise"))
        temporary.rename(folder)
    except OSError as error:
        if not folder.is_dir():  # otherwise another process was faster
            raise UserError(f"{folder}: the cache cannot be written ({error.strerror})") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder
