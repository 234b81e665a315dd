"""Where things are kept that can be made again."""

import os
from pathlib import Path


def cache_directory() -> Path:
    """Return `$SSIFORGE_CACHE`, `$XDG_CACHE_HOME/ssiforge` or `~/.cache/ssiforge`."""
    if own := os.environ.get("SSIFORGE_CACHE"):
        return Path(own)
    if shared := os.environ.get("XDG_CACHE_HOME"):
        return Path(shared) / "ssiforge"
    return Path.home() / ".cache" / "ssiforge"
