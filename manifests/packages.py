"""Which versions of which packages a job ran with: recorded with runs, models and evaluations."""

import platform
import re
import sys
from functools import cache
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from manifests.canonical import digest, file_sha256

PROJECT = "ssiforge"
SOURCE = f"{PROJECT}-source"
"""Stands among the versions for the state of our own code: between two releases it changes and its version does not."""
OUR_PACKAGES = ("manifests", "datagen", "training", "pipelines")
SOURCE_DIGITS = 12
VENDORED_BY_RAY = "thirdparty_files"
"""A folder that Ray puts before all others on the path of its workers: what a run needs is the same there."""
_NAME = re.compile(r"[A-Za-z0-9._-]+")
_DEVELOPMENT = re.compile(r"extra\s*==\s*['\"]dev['\"]")
_EXTRA = re.compile(r"\bextra\s*==")


@cache
def _packages() -> tuple[tuple[str, str], ...]:
    found: dict[str, str] = {}
    waiting = [PROJECT]
    places = [place for place in sys.path if VENDORED_BY_RAY not in place]
    for name in waiting:
        try:
            held = next(iter(metadata.distributions(name=name, path=places)))
        except StopIteration:  # an extra that is not installed, or a source tree that is not
            continue
        found[name] = held.version
        for required in held.requires or ():
            ours = name == PROJECT and not _DEVELOPMENT.search(required)
            match = _NAME.match(required)
            if match and (ours or not _EXTRA.search(required)):
                needed = re.sub(r"[-_.]+", "-", match[0]).lower()
                if needed not in waiting:
                    waiting.append(needed)
    return tuple(sorted(found.items()))


def locked_packages() -> dict[str, str]:
    """Return name and version of Python and of every installed package that ssiforge needs, directly or not."""
    return {"python": platform.python_version(), SOURCE: source_digest(*OUR_PACKAGES), **dict(_packages())}


@cache
def source_digest(*packages: str) -> str:
    """Return a digest of the Python files of some of our packages, the same in a clone and where they are installed.

    Packages that are not there are passed over: a machine that trains may have some of them alone.
    """
    files: dict[str, str] = {}
    for package in packages:
        spec = find_spec(package)
        for root in map(Path, spec.submodule_search_locations or () if spec else ()):
            files |= {
                f"{package}/{path.relative_to(root).as_posix()}": file_sha256(path)
                for path in root.rglob("*.py")
            }
    return digest(files)[:SOURCE_DIGITS]


def packages_digest() -> str:
    """Return one digest for all those versions."""
    return digest(locked_packages())


def code_version() -> str:
    """Version of ssiforge; `unknown` in a source tree that is not installed."""
    return dict(_packages()).get(PROJECT, "unknown")
