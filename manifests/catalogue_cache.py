"""Catalogues made ready for look-ups: one file of arrays a catalogue below the cache, made once on each machine.

```
CACHE/catalogues/3b0c....arrays     named by the content of the Parquet file
                 .lock              held by whoever makes one, so that others wait instead of making it too
```
Whoever maps a file holds a shared lock on it. Files that have not been opened for the longest time are removed when
there are too many, or they take too much space, but none that somebody holds.
"""

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from manifests.cache import cache_directories
from manifests.canonical import digest
from manifests.catalogue_file import FORMAT, map_tables
from manifests.catalogue_parquet import convert
from manifests.errors import UserError
from manifests.files import TEMPORARY_SUFFIX, whole_file
from manifests.source_table import Table

FOLDER = "catalogues"
SUFFIX = ".arrays"
LOCK_NAME = ".lock"
MOST_KEPT = 16
MOST_KEPT_BYTES = 32 << 30
HASHED_BYTES = 16 << 20
"""Of a larger Parquet file its end is hashed, which holds the places and limits of all columns, with its size and time
of change: hashing ten million rows would take a worker longer than everything else that it does before it renders."""


def mapped_tables(path: Path) -> list[Table]:
    """Return the tables of a catalogue in Parquet, mapped.

    Raises:
        UserError: when it is not a catalogue, or nothing can be written anywhere.
    """
    try:
        name = f"{_key(path)}{SUFFIX}"
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    reason = "there is no cache folder"
    for directory in cache_directories():
        folder = directory / FOLDER
        try:
            tables = _held(folder / name)
            return _made(path, folder / name) if tables is None else tables
        except OSError as error:
            reason = f"{folder}: the cache cannot be written ({error.strerror})"
    raise UserError(f"{reason}; set SSIFORGE_CACHE to a folder with room for {path.name}")


def _key(path: Path) -> str:
    """Return what names the content of a file."""
    status = path.stat()
    hashed_bytes = min(status.st_size, HASHED_BYTES)
    with path.open("rb") as stream:
        stream.seek(-hashed_bytes, os.SEEK_END)
        end = hashlib.sha256(stream.read()).hexdigest()
    changed = status.st_mtime_ns if status.st_size > hashed_bytes else 0
    return digest([FORMAT, status.st_size, changed, end])


def _held(path: Path) -> list[Table] | None:
    """Map a file that is there; None when it is not, or is damaged."""
    try:
        with path.open("rb") as stream:
            with suppress(OSError):  # without locks it may be removed while it is mapped, which does no harm
                # The lock belongs to the open file, of which the mapping keeps a duplicate.
                fcntl.flock(stream, fcntl.LOCK_SH)
            tables = map_tables(stream)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    with suppress(OSError):  # of a cache that may be read only
        os.utime(path)
    return tables


def _made(source: Path, path: Path) -> list[Table]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with _lock(path.parent):
        tables = _held(path)  # made while this process waited
        if tables is None:
            for stale in path.parent.glob(f".*{TEMPORARY_SUFFIX}"):
                stale.unlink(missing_ok=True)
            with whole_file(path) as stream:
                convert(source, stream)
            with path.open("rb") as stream:
                fcntl.flock(stream, fcntl.LOCK_SH)
                tables = map_tables(stream)
            _remove_old(path.parent)
    return tables


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    with (folder / LOCK_NAME).open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _remove_old(folder: Path) -> None:
    """Remove what has not been opened for the longest time, beyond what is kept."""
    files = sorted(
        ((file.stat(), file) for file in folder.glob(f"*{SUFFIX}")), key=lambda f: -f[0].st_mtime_ns
    )
    kept_bytes = 0
    for number, (status, file) in enumerate(files):
        kept_bytes += status.st_size
        if number >= MOST_KEPT or kept_bytes > MOST_KEPT_BYTES:
            with suppress(BlockingIOError), file.open("rb") as stream:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                file.unlink(missing_ok=True)
