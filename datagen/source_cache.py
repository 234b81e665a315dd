"""Sources in an object store, as files on the worker's disk: fetched once a node, shared by its workers, bounded.

Noise and room responses serve many samples and are kept; an utterance is used once or twice, so speech passes through
a small share of its own and never drives them out. What was fetched is checked against the catalogue's hash: a source
that changed in the store is noticed, and nothing else needs to be asked of the store.
"""

import os
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path, PurePosixPath

from datagen.audio import AudioError
from manifests.cache import cache_directory
from manifests.canonical import file_sha256
from manifests.errors import UserError
from manifests.files import TEMPORARY_SUFFIX, temporary_beside
from manifests.source import Source
from manifests.store import is_remote, open_store

SIZE_VARIABLE = "SSIFORGE_SOURCE_CACHE_GB"
DEFAULT_GB = 20.0
SPEECH_SHARE = 0.05
"""Of the cache, for utterances on their way."""
LOOKED_AFTER_SHARE = 0.02
"""After so much of its bound was fetched, a process looks at what all have fetched together."""


class SourceChanged(AudioError):
    """What lies at a source's URI is not what was scanned."""


def local_file(source: Source) -> str:
    """Return the path at which a source can be opened here.

    Raises:
        SourceChanged: when its content is not that of the catalogue's row.
        AudioError: when there is nothing at its URI.
        OSError: when the store cannot be reached; another try may succeed.
    """
    if not is_remote(source.path):
        return source.path.removeprefix("file://")
    return str(_share("speech" if source.kind == "speech" else "material").file(source))


@dataclass
class Share:
    """A part of the cache with a bound of its own; any number of processes may use it at once."""

    folder: Path
    bytes: int
    _fetched: int = field(default=0)
    """Since this process last looked at the whole folder."""

    def file(self, source: Source) -> Path:
        """Return a source's file, fetched if need be, and note that it was used."""
        suffix = PurePosixPath(source.path).suffix.lower()
        path = self.folder / source.sha256[:2] / f"{source.sha256}{suffix}"
        try:
            os.utime(path)
        except FileNotFoundError:
            self._fetch(source, path)
        return path

    def _fetch(self, source: Source, path: Path) -> None:
        place, _, name = source.path.rpartition("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = temporary_beside(path)
        try:
            try:
                open_store(place).fetch(name, temporary)
            except FileNotFoundError as error:
                raise AudioError("cannot be opened") from error
            if file_sha256(temporary) != source.sha256:
                raise SourceChanged("has changed since it was scanned")
            self._fetched += temporary.stat().st_size
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        if self._fetched > LOOKED_AFTER_SHARE * self.bytes:
            self._fetched = 0
            self._shrink(path)

    def _shrink(self, newest: Path) -> None:
        """Remove what was not used for longest until the bound is kept; readers that have a file open keep it."""
        found = []
        for path in self.folder.rglob("*"):
            with suppress(FileNotFoundError):  # another process is doing the same
                if path.is_file() and not path.name.endswith(TEMPORARY_SUFFIX):
                    status = path.stat()
                    found.append((status.st_mtime_ns, status.st_size, path))
        total = sum(size for _, size, _ in found)
        for _, size, path in sorted(found):
            if total <= self.bytes:
                return
            if path != newest:
                path.unlink(missing_ok=True)
                total -= size


@cache
def _share(name: str) -> Share:
    total = _cache_bytes()
    return Share(
        cache_directory() / "sources" / name, round(total * SPEECH_SHARE) if name == "speech" else total
    )


def _cache_bytes() -> int:
    text = os.environ.get(SIZE_VARIABLE, str(DEFAULT_GB))
    try:
        size_gb = float(text)
    except ValueError:
        size_gb = -1.0
    if not 0.0 < size_gb < 1e6:
        raise UserError(f"{SIZE_VARIABLE}={text}: must be a number of gigabytes above 0")
    return round(size_gb * 1e9)
