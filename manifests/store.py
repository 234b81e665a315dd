"""Where a corpus lies: a folder, or a prefix in an object store. Files in it are whole or absent in both.

A folder takes a finished file by renaming it; an object store has no rename and needs none, since an object appears
when its last byte was sent. Names are relative, with `/` between their parts.
"""

import os
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from manifests.folder import Folder
from manifests.object_store import ObjectStore

Place = str | Path
"""A folder or a URI, as users write it."""


class Store(Protocol):
    """Files by relative name. Every method raises OSError, with a reason, when the place cannot be reached."""

    @property
    def url(self) -> str:
        """The place as a user would write it."""
        ...

    @property
    def folder(self) -> Path | None:
        """The local folder; None for an object store."""
        ...

    def where(self, name: str) -> str:
        """Full path or URI of a file, for messages and other programs."""
        ...

    def names(self, below: str = "") -> dict[str, int]:
        """Size in bytes of every file below a folder, hidden ones too; empty where there is none."""
        ...

    def size(self, name: str) -> int | None:
        """Size in bytes of a file; None when there is none."""
        ...

    def read(self, name: str, start: int = 0, count: int | None = None) -> bytes:
        """Read a file, or at most `count` bytes of it from `start` on.

        Raises:
            FileNotFoundError: when there is none.
        """
        ...

    def write(self, name: str, content: bytes | memoryview) -> None:
        """Write a file, whole or not at all."""
        ...

    def new_file(self, name: str) -> AbstractContextManager[Path]:
        """Lend a local path to write to, which becomes the file unless the block raises."""
        ...

    def local_copy(self, name: str) -> AbstractContextManager[Path]:
        """Lend a local path with a file's content, to read within the block."""
        ...

    def sha256(self, name: str) -> str:
        """Hash a file: 64 hex digits.

        Raises:
            FileNotFoundError: when there is none.
        """
        ...

    def fetch(self, name: str, path: Path) -> None:
        """Copy a file's content to a local path.

        Raises:
            FileNotFoundError: when there is none.
        """
        ...

    def remove(self, name: str) -> None:
        """Remove a file, if there is one."""
        ...


def open_store(place: Place) -> Store:
    """Return the store at a place: `file://` and plain paths are folders, every other URI is an object store.

    Raises:
        UserError: when the scheme is unknown, or its client is not installed.
    """
    text = str(place)
    if text.startswith("file://"):
        text = text.removeprefix("file://")
    if "://" not in text:
        return Folder(Path(text))
    store = ObjectStore(text.rstrip("/"))
    store.connect()
    return store


def absolute(place: Place) -> str:
    """Return a place as other processes, in other folders, can use it; links are not followed."""
    text = str(place).removeprefix("file://")
    return text if "://" in text else os.path.abspath(text)  # noqa: PTH100 - resolve() would follow them


def is_remote(place: Place) -> bool:
    """Whether a place is in an object store."""
    return "://" in str(place) and not str(place).startswith("file://")
