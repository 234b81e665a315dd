"""The software that decides bytes: recorded in every shard, and pinned to one thread in every worker."""

import os
import platform
import sys
from functools import cache
from importlib import metadata

from manifests.packages import SOURCE, source_digest

THREAD_PINS = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "NUMEXPR_NUM_THREADS": "1",
    "PRA_NUM_THREADS": "1",
}
"""Several workers share a machine, and the number of threads changes the bytes of simulated rooms."""

_AUDIO_PACKAGES = ("numpy", "scipy", "soxr", "soundfile", "av", "pyroomacoustics", "audiomentations")


def pin_threads() -> None:
    """Pin maths libraries to one thread. Call before numpy is imported to take full effect."""
    os.environ.update(THREAD_PINS)


def package_version(name: str) -> str:
    """Return the installed version of a distribution, or `absent`."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "absent"


@cache
def code_version() -> str:
    """Version of ssiforge."""
    return package_version("ssiforge")


@cache
def _environment() -> tuple[tuple[str, str], ...]:
    rows = {
        "ssiforge": code_version(),
        SOURCE: source_digest("manifests", "datagen"),
        "python": platform.python_version(),
        "platform": sys.platform,
        "machine": platform.machine(),
        **{name: package_version(name) for name in _AUDIO_PACKAGES},
    }
    return tuple(sorted(rows.items()))


def environment() -> dict[str, str]:
    """Return what may change the bytes of a rendered sample: interpreter, platform, libraries."""
    return dict(_environment())
