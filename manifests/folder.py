"""A corpus in a folder: a finished file takes its name by being renamed."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from manifests.canonical import file_sha256
from manifests.files import sync_folder, temporary_beside, write_atomically


@dataclass(frozen=True)
class Folder:
    """A folder of this machine or of a file system that all workers mount."""

    root: Path

    @property
    def url(self) -> str:
        """The folder's path as it was given."""
        return str(self.root)

    @property
    def folder(self) -> Path:
        """The folder."""
        return self.root

    def where(self, name: str) -> str:
        """Path of a file."""
        return str(self.root / name)

    def names(self, below: str = "") -> dict[str, int]:
        """Sizes of all files below a folder."""
        return dict(self._walk(below))

    def _walk(self, below: str) -> Iterator[tuple[str, int]]:
        try:
            entries = os.scandir(self.root / below)
        except (FileNotFoundError, NotADirectoryError):
            return
        with entries:
            for entry in entries:
                name = f"{below}/{entry.name}" if below else entry.name
                if entry.is_dir(follow_symlinks=False):
                    yield from self._walk(name)
                else:
                    with suppress(FileNotFoundError):  # another process's temporary, gone since it was listed
                        yield name, entry.stat().st_size

    def size(self, name: str) -> int | None:
        """Size of a file."""
        path = self.root / name
        return path.stat().st_size if path.is_file() else None

    def read(self, name: str, start: int = 0, count: int | None = None) -> bytes:
        """Read a file or a stretch of it."""
        descriptor = os.open(self.root / name, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        try:
            wanted = max(0, os.fstat(descriptor).st_size - start) if count is None else count
            return os.pread(descriptor, wanted, start)
        finally:
            os.close(descriptor)

    def write(self, name: str, content: bytes | memoryview) -> None:
        """Write under a temporary name, flush to the disk, then take the final name."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content)

    @contextmanager
    def new_file(self, name: str) -> Iterator[Path]:
        """Lend a temporary name beside the final one; flush and rename at the end."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = temporary_beside(path)
        try:
            yield temporary
            with temporary.open("rb") as stream:
                os.fsync(stream.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        sync_folder(path.parent)

    @contextmanager
    def local_copy(self, name: str) -> Iterator[Path]:
        """Lend the file itself."""
        yield self.root / name

    def fetch(self, name: str, path: Path) -> None:
        """Copy a file."""
        shutil.copyfile(self.root / name, path)

    def sha256(self, name: str) -> str:
        """Hash a file."""
        return file_sha256(self.root / name)

    def remove(self, name: str) -> None:
        """Remove a file."""
        (self.root / name).unlink(missing_ok=True)
