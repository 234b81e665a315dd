"""Whose voice, which recording, which room, under which licence: from folder names, tables and LICENSE files.

In order of precedence, for each of speaker, recording, room and licence:

1. the table given on the command line;
2. the nearest `sources.tsv` in the file's folder or above, up to the scanned folder: tab-separated columns `path`
   (a glob relative to the table's folder), and any of `licence`, `speaker`, `recording`, `room`; the first row that
   matches and is filled in counts;
3. for the licence: a table `PREFIX-LICENSE.tsv` of two columns (path, licence) beside folders whose names begin with
   PREFIX, then the nearest LICENSE file, then the default of the run;
4. for the rest: names of folders and files.
"""

import csv
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

from datagen.licence import recognised_licence
from manifests.errors import UserError
from manifests.source import Kind

TABLE_NAME = "sources.tsv"
COLUMNS = ("path", "licence", "speaker", "recording", "room")
LICENCE_NAMES = ("license", "licence", "copying")
LICENCE_TABLE_END = "-LICENSE.tsv"
UNKNOWN_LICENCE = "unknown"

_TAKE = re.compile(
    r"(?:[-_ ](?:take|chunk|part|seg|segment|aug|channel|ch|mic)[-_ ]?\d+|(?<=\d)-[A-Z])$", re.IGNORECASE
)
"""What tells takes of one recording apart, at the end of a name: `_chunk83`, `_aug2`, ESC-50's `1-17742-A`."""

GROUP_OF_KIND: dict[Kind, str] = {"speech": "speaker", "noise": "recording", "rir": "room"}


@dataclass(frozen=True)
class Table:
    """Rows of a `sources.tsv`."""

    rows: tuple[dict[str, str], ...]

    def value(self, column: str, *paths: str) -> str | None:
        """Look up a column for a file that is known by one of `paths`."""
        for row in self.rows:
            if row.get(column) and any(fnmatchcase(path, row["path"]) for path in paths):
                return row[column]
        return None


@dataclass(frozen=True)
class Found:
    """A file met on the walk."""

    path: str
    """Absolute path or URI."""
    root: str
    """The scanned folder it was found in."""
    relative: str
    """Its path below that folder, with forward slashes."""


@dataclass(frozen=True)
class Provenance:
    """How a run names groups and licences."""

    licence: str = UNKNOWN_LICENCE
    speaker_from: str = "folder"
    """`folder`, `file`, or a regular expression with one group for the relative path."""
    table: Table | None = None

    def facts(self, found: Found, kind: Kind) -> dict[str, Any]:
        """Return the file's licence and group as fields of `Source`.

        Raises:
            UserError: for a table that cannot be read.
        """
        group = GROUP_OF_KIND[kind]
        facts = {"licence": self._licence(found), "speaker": None, "recording": None, "room": None}
        facts[group] = self._from_tables(group, found) or self._named(found, kind)
        return facts

    def _from_tables(self, column: str, found: Found) -> str | None:
        if self.table and (value := self.table.value(column, found.relative, found.path)):
            return value
        for folder, below in _folders(found):
            path = folder / TABLE_NAME
            if (table := _table_or_none(str(path))) and (value := table.value(column, below)):
                return value
        return None

    def _licence(self, found: Found) -> str:
        return (
            self._from_tables("licence", found)
            or _from_licence_table(found)
            or _from_licence_file(found)
            or self.licence
        )

    def _named(self, found: Found, kind: Kind) -> str:
        relative = PurePosixPath(found.relative)
        folder = relative.parent.name or PurePosixPath(found.root).name
        if kind == "noise":
            return str(relative.parent / recording_name(relative.stem))
        if kind == "rir":
            # One folder, one room, also for the scanned folder itself: file names do not tell which responses are of
            # the same room, and taking each for a room of its own would let one room into several splits.
            return folder
        if self.speaker_from == "folder":
            return folder
        if self.speaker_from == "file":
            return f"{folder}/{relative.stem}"
        match = re.search(self.speaker_from, found.relative)
        if not match or not match.group(1):
            raise UserError(
                f"{found.path}: --speaker-from {self.speaker_from!r} finds no speaker in {found.relative!r}"
            )
        return match.group(1)


def provenance(licence: str | None, speaker_from: str, table: Path | None) -> Provenance:
    """Check the options of a run.

    Raises:
        UserError: for an expression without one group, or a table that cannot be read.
    """
    for cached in (_table_or_none, _licence_in, _licence_tables):
        cached.cache_clear()  # tables may have been edited since the last run in this process
    if speaker_from not in ("folder", "file"):
        try:
            groups = re.compile(speaker_from).groups
        except re.error as error:
            raise UserError(f"--speaker-from {speaker_from!r}: not a regular expression ({error})") from error
        if groups != 1:
            raise UserError(
                f"--speaker-from {speaker_from!r}: write 'folder', 'file', or a regular expression with one group"
            )
    return Provenance(licence or UNKNOWN_LICENCE, speaker_from, read_table(table) if table else None)


def recording_name(stem: str) -> str:
    """Strip what tells takes of one recording apart: `1-17742-A` -> `1-17742`, `rub_channel0_chunk83` -> `rub`."""
    while (shorter := _TAKE.sub("", stem)) != stem and shorter:
        stem = shorter
    return stem


def read_table(path: Path) -> Table:
    """Read a `sources.tsv`.

    Raises:
        UserError: when it cannot be read, has no column `path`, or a column of another name.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE)
            columns = [column.strip() for column in reader.fieldnames or ()]
            reader.fieldnames = columns
            rows = [{name: (value or "").strip() for name, value in row.items() if name} for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: cannot be read as a tab-separated table ({error})") from error
    strange = [column for column in columns if column not in COLUMNS]
    if "path" not in columns or strange:
        problem = f"column {strange[0]!r} is not known" if strange else "there is no column 'path'"
        raise UserError(f"{path}: {problem}; the columns are {', '.join(COLUMNS)}, separated by tabs")
    return Table(tuple(row for row in rows if row["path"]))


def _folders(found: Found) -> Iterable[tuple[Path, str]]:
    """The file's folder and those above it up to the scanned one, each with the file's path below it."""
    if "://" in found.path:
        return
    parts = PurePosixPath(found.relative).parts
    for depth in range(len(parts) - 1, -1, -1):
        yield Path(found.root, *parts[:depth]), "/".join(parts[depth:])


@cache
def _table_or_none(path: str) -> Table | None:
    return read_table(Path(path)) if Path(path).is_file() else None


@cache
def _licence_in(folder: str) -> str | None:
    try:
        entries = sorted(Path(folder).iterdir())
    except OSError:
        return None
    for entry in entries:
        if entry.name.lower().split(".")[0] in LICENCE_NAMES and entry.suffix.lower() in ("", ".txt", ".md"):
            try:
                return recognised_licence(entry.read_text(encoding="utf-8", errors="replace"))
            except OSError:
                continue
    return None


def _from_licence_file(found: Found) -> str | None:
    return next((licence for folder, _ in _folders(found) if (licence := _licence_in(str(folder)))), None)


@cache
def _licence_tables(folder: str) -> tuple[tuple[str, dict[str, list[tuple[tuple[str, ...], str]]]], ...]:
    """Tables `PREFIX-LICENSE.tsv` of a folder: the prefix, and rows by the last part of their path."""
    tables = []
    for path in sorted(Path(folder).glob(f"*{LICENCE_TABLE_END}")):
        rows: dict[str, list[tuple[tuple[str, ...], str]]] = {}
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            name, _, licence = line.partition("\t")
            if parts := _parts(name):
                rows.setdefault(parts[-1], []).append((parts, licence.strip()))
        tables.append((path.name.removesuffix(LICENCE_TABLE_END), rows))
    return tuple(tables)


def _parts(path: str) -> tuple[str, ...]:
    """Parts of a path; archives are often unpacked with `-` for the folders of their path."""
    return tuple(part for part in re.split(r"[/\\-]", path.strip()) if part)


def _from_licence_table(found: Found) -> str | None:
    """Find the row whose path ends like the file's; among several, the one that shares most of the other parts."""
    for folder, below in _folders(found):
        for prefix, rows in _licence_tables(str(folder)):
            if not below.startswith(prefix):
                continue
            own = _parts(below)
            scored = [(_likeness(own, parts), licence) for parts, licence in rows.get(own[-1], ())]
            best = max((score for score, _ in scored), default=None)
            licences = {licence for score, licence in scored if score == best}
            if len(licences) == 1:
                return licences.pop()
    return None


def _likeness(own: Sequence[str], row: Sequence[str]) -> tuple[int, int]:
    """Length of the common end, and how many of the row's other parts the file's path has too."""
    common = 0
    while common < min(len(own), len(row)) and own[-1 - common] == row[-1 - common]:
        common += 1
    return common, len(set(row[: len(row) - common]) & set(own[: len(own) - common]))
