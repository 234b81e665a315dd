"""Files that are either whole or absent."""

import fcntl
import os
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

TEMPORARY_SUFFIX = ".tmp"
LONGEST_NAME_BYTES = 255
SCRATCH_PREFIX = "ssiforge-scratch-"
SCRATCH_STALE_S = 60.0
"""A scratch file of this age that nobody has locked was left by a killed process."""


def temporary_beside(path: Path) -> Path:
    """Return a hidden name beside `path` that no other writer uses; of a long name, its beginning is in it."""
    end = f".{uuid.uuid4().hex}{TEMPORARY_SUFFIX}"
    name = path.name.encode()[: LONGEST_NAME_BYTES - 1 - len(end)].decode(errors="ignore")
    return path.with_name(f".{name}{end}")


def write_atomically(path: Path, content: bytes | memoryview) -> None:
    """Write under a temporary name, flush to the disk, then take the final name."""
    temporary = temporary_beside(path)
    try:
        with temporary.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Open a file for writing under a temporary name; it takes its final name when all went well."""
    temporary = temporary_beside(path)
    try:
        with temporary.open("wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries to the disk, so that a rename survives a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def scratch_file(suffix: str = TEMPORARY_SUFFIX) -> Iterator[Path]:
    """Lend an empty file on this machine's disk (`TMPDIR`), removed at the end of the block.

    What killed processes left there is removed first: a file that nobody holds a lock on has no user.
    """
    folder = Path(tempfile.gettempdir()) / f"{SCRATCH_PREFIX}{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    _sweep_scratch(folder)
    path = folder / f"{uuid.uuid4().hex}{suffix}"
    with path.open("wb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)


def _sweep_scratch(folder: Path) -> None:
    for path in folder.iterdir():
        with suppress(OSError), path.open("rb") as stream:
            if time.time() - path.stat().st_mtime > SCRATCH_STALE_S:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink(missing_ok=True)
