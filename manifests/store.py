"""Where a corpus lies: a folder, or a prefix in an object store. Files in it are whole or absent in both.

A folder takes a finished file by renaming it; an object store has no rename and needs none, since an object appears
when its last byte was sent. Names are relative, with `/` between their parts.
"""

import errno
import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, TypeVar

from manifests.canonical import file_sha256
from manifests.errors import UserError
from manifests.files import scratch_file, sync_folder, temporary_beside, write_atomically

Place = str | Path
"""A folder or a URI, as users write it."""

_T = TypeVar("_T")

ATTEMPTS = 6
"""Of a request to an object store, beside those that its own client makes: together about half a minute."""
FIRST_PAUSE_S = 0.25
"""Between two attempts; doubled each time."""
_BLOCK_BYTES = 1 << 22
_NOBODY = ".nobody"

EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gs", "gcs": "gs", "az": "az", "abfs": "az", "abfss": "az"}
"""Which extra of this package installs the client for a scheme."""


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

    def new_file(self, name: str) -> Any:
        """Context manager: a local path to write to, which becomes the file unless the block raises."""
        ...

    def local_copy(self, name: str) -> Any:
        """Context manager: a local path with a file's content, to read within the block."""
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


@dataclass(frozen=True)
class ObjectStore:
    """A prefix in whatever store fsspec knows. Requests that fail for a passing reason are repeated."""

    url: str

    @property
    def folder(self) -> None:
        """There is no local folder."""
        return None

    @cached_property
    def _remote(self) -> tuple[Any, str]:
        import fsspec

        filesystem, root = fsspec.core.url_to_fs(self.url, use_listings_cache=False)
        return filesystem, root.rstrip("/")

    def connect(self) -> None:
        """Load the store's client.

        Raises:
            UserError: when the scheme is unknown, or its client is not installed.
        """
        scheme = self.url.partition("://")[0]
        try:
            _ = self._remote
        except ImportError as error:
            extra = EXTRAS.get(scheme)
            hint = f"pip install 'ssiforge[{extra}]'" if extra else str(error)
            raise UserError(f"{self.url}: the client for {scheme}:// is not installed; {hint}") from error
        except ValueError as error:
            raise UserError(f"{self.url}: cannot be used ({error})") from error

    def __getstate__(self) -> dict[str, Any]:
        return {"url": self.url}  # a client belongs to the process that made it

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

    def where(self, name: str) -> str:
        """URI of an object."""
        return f"{self.url}/{name}"

    def names(self, below: str = "") -> dict[str, int]:
        """Sizes of all objects below a prefix, as the store lists them now."""
        filesystem, root = self._remote
        base = f"{root}/{below}" if below else root

        def listed() -> dict[str, int]:
            filesystem.invalidate_cache()
            found = filesystem.find(base, detail=True)
            return {path[len(root) + 1 :]: int(info["size"] or 0) for path, info in found.items()}

        try:
            return self._asked(below, listed)
        except FileNotFoundError:
            return {}

    def size(self, name: str) -> int | None:
        """Size of an object."""
        filesystem, root = self._remote
        try:
            info = self._asked(name, lambda: filesystem.info(f"{root}/{name}"))
        except FileNotFoundError:
            return None
        return int(info["size"]) if info["type"] == "file" else None

    def read(self, name: str, start: int = 0, count: int | None = None) -> bytes:
        """Read an object or a stretch of it; a stretch beyond its end is empty."""
        filesystem, root = self._remote
        end = None if count is None else start + count

        def fetched() -> bytes:
            try:
                content: bytes = filesystem.cat_file(f"{root}/{name}", start=start or None, end=end)
            except FileNotFoundError:
                raise
            except (
                OSError
            ):  # S3 calls a stretch beyond the end an invalid range, and so any of an empty object
                held = None if count is None else self.size(name)
                if held is not None and start >= held:
                    return b""
                raise
            return content

        return self._asked(name, fetched)

    def write(self, name: str, content: bytes | memoryview) -> None:
        """Put an object; it appears when all of it has arrived."""
        filesystem, root = self._remote
        data = bytes(content)
        self._asked(name, lambda: filesystem.pipe_file(f"{root}/{name}", data))

    def create(self, name: str, content: bytes) -> bool:
        """Put an object unless there is one; return whether this call made it. Atomic where the store is."""
        filesystem, root = self._remote

        def put() -> bool:
            try:
                filesystem.pipe_file(f"{root}/{name}", content, mode="create")
            except FileExistsError:
                return False
            return True

        return self._asked(name, put)

    @contextmanager
    def new_file(self, name: str) -> Iterator[Path]:
        """Lend a file on this machine's disk; upload it at the end."""
        filesystem, root = self._remote
        with scratch_file() as path:
            yield path
            self._asked(name, lambda: filesystem.put_file(str(path), f"{root}/{name}"))
            held, sent = self.size(name), path.stat().st_size
        if held != sent:
            raise OSError(None, f"holds {held} bytes after {sent} were sent", self.where(name))

    @contextmanager
    def local_copy(self, name: str) -> Iterator[Path]:
        """Download to a file on this machine's disk, removed at the end of the block."""
        with scratch_file() as path:
            self.fetch(name, path)
            yield path

    def fetch(self, name: str, path: Path) -> None:
        """Download an object, block by block."""
        with path.open("wb") as stream:
            for block in self._blocks(name):
                stream.write(block)

    def _blocks(self, name: str) -> Iterator[bytes]:
        at = 0
        while True:
            block = self.read(name, at, _BLOCK_BYTES)
            yield block
            at += len(block)
            if len(block) < _BLOCK_BYTES:
                return

    def sha256(self, name: str) -> str:
        """Hash an object while reading it once."""
        sha = hashlib.sha256()
        for block in self._blocks(name):
            sha.update(block)
        return sha.hexdigest()

    def remove(self, name: str) -> None:
        """Remove an object."""
        filesystem, root = self._remote
        with suppress(FileNotFoundError):
            self._asked(name, lambda: filesystem.rm_file(f"{root}/{name}"))

    def knock(self) -> None:
        """Ask the store for anything, without patience: a place that cannot be used should be said at once.

        Raises:
            OSError: with the reason.
        """
        filesystem, root = self._remote
        self._asked("", lambda: filesystem.find(f"{root}/{_NOBODY}"), attempts=1)

    def _asked(self, name: str, request: Callable[[], _T], attempts: int = ATTEMPTS) -> _T:
        """Make a request, again after a pause where it failed for a reason that may pass.

        Raises:
            OSError: with the last reason and the place, whatever class the store's client chose.
        """
        for attempt in range(attempts):
            try:
                return request()
            except (FileExistsError, IsADirectoryError):
                raise
            except Exception as error:
                reason = " ".join(str(error).split()) or type(error).__name__
                place = self.where(name) if name else self.url
                if isinstance(error, FileNotFoundError):
                    raise FileNotFoundError(errno.ENOENT, reason, place) from error
                if isinstance(error, PermissionError):
                    raise PermissionError(errno.EACCES, reason, place) from error
                if attempt == attempts - 1 or _is_final(error):
                    raise OSError(None, reason, place) from error
                time.sleep(FIRST_PAUSE_S * 2**attempt)
        raise AssertionError("unreachable")


_FINAL = (
    "NoCredentials",
    "PartialCredentials",
    "NoSuchBucket",
    "InvalidBucketName",
    "AccessDenied",
    "ParamValidation",
)
"""What no patience mends, as clients name it in their exceptions' classes or texts."""


def _is_final(error: BaseException) -> bool:
    described = f"{type(error).__name__} {type(error.__cause__).__name__} {error}"
    return any(word in described for word in _FINAL)
