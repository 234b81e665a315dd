"""What lies in folders: corpora, models, the records of runs, evaluations. Looked for in one bounded walk."""

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from manifests.corpus import CORPUS_FILE
from manifests.errors import UserError
from manifests.experiment import STAGES
from manifests.run_record import RUN_FILE
from training.bundle_info import MODEL_FILE, MODEL_FOLDER, is_bundle

EVALUATION_FILE = "evaluation.json"
EXPORT_FILE = "parity.json"
"""The report of `ssiforge export`, beside the exported files."""
SEARCH_DEPTH = 5
"""Folders below the first: `runs/NAME/STAGE/model` is four, and may itself have been put into one."""
SEARCH_MAX_FOLDERS = 20_000
_SKIPPED = (".", "mlartifacts")
"""Beginnings of the names of folders that are not looked into."""


@dataclass
class Found:
    """Folders by what they hold, in the order of their names."""

    corpora: list[Path] = field(default_factory=list)
    bundles: list[Path] = field(default_factory=list)
    runs: list[Path] = field(default_factory=list)
    """Folders of stages, each with a `run.json`."""
    evaluations: list[Path] = field(default_factory=list)
    exports: list[Path] = field(default_factory=list)
    not_read: list[str] = field(default_factory=list)
    """What whoever read them could not read, and why: an answer that rests on the others says so."""


def found_below(roots: Iterable[Path], depth: int = SEARCH_DEPTH) -> Found:
    """Look below some folders, each once; links and hidden folders are not followed.

    Args:
        roots: in this order.
        depth: no deeper than this.
    """
    found = Found()
    seen: dict[str, int] = {}
    for root in roots:
        _walk(root, depth, found, seen)
    return found


def _walk(folder: Path, depth: int, found: Found, seen: dict[str, int]) -> None:
    """Look into a folder; `seen` says how deep was looked below those that were looked into."""
    place = os.path.realpath(folder)
    before = seen.get(place, -1)
    if before >= depth or len(seen) >= SEARCH_MAX_FOLDERS:
        return
    seen[place] = depth
    try:
        with os.scandir(folder) as listing:
            entries = list(listing)
    except OSError:  # not ours to read
        return
    names = {entry.name for entry in entries}
    if before < 0:
        for name, folders in (
            (CORPUS_FILE, found.corpora),
            (MODEL_FILE, found.bundles),
            (RUN_FILE, found.runs),
            (EVALUATION_FILE, found.evaluations),
            (EXPORT_FILE, found.exports),
        ):
            if name in names:
                folders.append(folder)
    if CORPUS_FILE in names:
        return  # a shard's folder holds many thousand files
    if depth > 0:
        below = (entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
        for name in sorted(name for name in below if not name.startswith(_SKIPPED)):
            _walk(folder / name, depth - 1, found, seen)


def bundle_in(folder: Path) -> Path:
    """Return the model folder that a folder means: itself, or the last finished stage of a run.

    Raises:
        UserError: when there is none.
    """
    stages = (folder / stage / MODEL_FOLDER for stage in reversed(STAGES))
    for place in (folder, folder / MODEL_FOLDER, *stages):
        if is_bundle(place):
            return place
    raise UserError(f"{folder}: neither a model nor a run folder with a finished stage")
