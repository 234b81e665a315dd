"""Where things are kept that can be made again: simulated rooms, catalogues made ready for look-ups."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path


def cache_directory() -> Path:
    """Return where rendered things are kept: `$SSIFORGE_CACHE`, `$XDG_CACHE_HOME/ssiforge` or `~/.cache/ssiforge`."""
    if own := os.environ.get("SSIFORGE_CACHE"):
        return Path(own)
    if shared := os.environ.get("XDG_CACHE_HOME"):
        return Path(shared) / "ssiforge"
    return Path.home() / ".cache" / "ssiforge"


def cache_directories() -> Iterator[Path]:
    """Yield the cache, and for whoever cannot write there a folder of this user's among the temporary files."""
    with suppress(RuntimeError):  # a user without a home
        yield cache_directory()
    fallback = Path(tempfile.gettempdir()) / f"ssiforge-{os.getuid()}"
    with suppress(OSError):
        fallback.mkdir(mode=0o700, exist_ok=True)
        status = fallback.lstat()
        if fallback.is_dir() and not fallback.is_symlink() and status.st_uid == os.getuid():
            yield fallback
