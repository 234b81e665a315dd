"""A corpus in an object store: an object appears when its last byte has arrived, so nothing has to be renamed.

Requests that fail for a reason that may pass are repeated; whatever a store's client raises, callers see OSError.
"""

import errno
import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from manifests.errors import UserError
from manifests.files import scratch_file

ATTEMPTS = 6
"""Of a request to an object store, beside those that its own client makes: together about half a minute."""
FIRST_PAUSE_S = 0.25
"""Between two attempts; doubled each time."""
_BLOCK_BYTES = 1 << 22
_NOBODY = ".nobody"
EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gs", "gcs": "gs", "az": "az", "abfs": "az", "abfss": "az"}
"""Which extra of this package installs the client for a scheme."""

_T = TypeVar("_T")


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
