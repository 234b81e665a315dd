"""Is a file still what was scanned? Told by size and time of change; where only the time differs, by content."""

from functools import lru_cache
from pathlib import Path

from manifests.canonical import file_sha256
from manifests.source import Source

UNKNOWN = (0, 0)


def identity_of_file(path: str) -> tuple[int, int]:
    """Return size in bytes and time of last change in ns; `UNKNOWN` where there is no file or a store does not say."""
    try:
        if "://" not in path:
            status = Path(path).stat()
            return status.st_size, status.st_mtime_ns
        import fsspec

        filesystem, inner = fsspec.core.url_to_fs(path)
        return int(filesystem.size(inner) or 0), int(filesystem.modified(inner).timestamp() * 1e9)
    except (OSError, NotImplementedError, ValueError):
        return UNKNOWN


def is_as_scanned(source: Source) -> bool:
    """Whether a source's local file still has the content of its catalogue row.

    True as well for a file that is gone: reading it says what is wrong. A file that was only copied or touched is
    hashed, once in each process.
    """
    now = identity_of_file(source.path)
    if now in (UNKNOWN, (source.bytes, source.mtime_ns)):
        return True
    return now[0] == source.bytes and _sha256(source.path, *now) == source.sha256


@lru_cache(maxsize=1 << 16)
def _sha256(path: str, _size: int, _mtime_ns: int) -> str | None:
    try:
        return file_sha256(Path(path))
    except OSError:
        return None
