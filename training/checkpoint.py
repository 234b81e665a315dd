"""Checkpoints: whole or absent, tensors and plain values only, and never of another run.

A folder holds the newest few `step-*.pt`, from which a run goes on, and `best.pt`, the weights that did
best in validation. All is read with `weights_only`, after every zip entry's CRC was checked (torch itself
does not check).

What is damaged and what is foreign are told apart. Writing is atomic, so a damaged newest checkpoint is
the disk's fault and not a run's: resuming warns and goes back to the one before, which holds a complete
state and costs only the steps between. A foreign one is the user's mistake and is always refused.
"""

import io
import logging
import pickle
import struct
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from manifests.errors import UserError
from manifests.experiment import StageName
from manifests.files import write_atomically

FORMAT = 3
"""Of the state and of the networks whose weights are in it: 2 is of those with bundles of format 3."""
BEST_FILE = "best.pt"

State = dict[str, Any]

_FIELDS = {"format": int, "identity": dict, "step": int}
"""What every checkpoint of this program holds."""
_MALFORMED = (
    *(zipfile.BadZipFile, pickle.UnpicklingError, struct.error, EOFError),
    *(ValueError, TypeError, LookupError, AttributeError, ArithmeticError, AssertionError),
)
"""What unpickling raises where a file has the form of a checkpoint and other content: it checks little itself."""

log = logging.getLogger(__name__)


class DamagedCheckpointError(UserError):
    """A checkpoint that cannot be read."""


@dataclass(frozen=True)
class Identity:
    """What a checkpoint belongs to; it is of use to nothing else."""

    stage: StageName
    stage_digest: str
    """Of the settings."""
    corpus_id: str
    parents: dict[StageName, str]
    """Ids of the models that the stage builds on."""
    selection: str = ""
    """Digest of the selection of samples; empty for all."""


_WHAT: dict[str, str] = {
    "stage": "another stage",
    "stage_digest": "other settings",
    "corpus_id": "another corpus, or one that changed since",
    "parents": "other parent models",
    "selection": "another selection of samples (--keep), or scores that changed since",
}


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints of one stage of one run."""

    folder: Path
    identity: Identity
    keep: int = 2
    """How many `step-*.pt` stay."""
    writes: bool = True
    """Whether this process writes them: of several ranks one does, and all read."""

    def save(self, step: int, state: State) -> None:
        """Write the state after `step` steps, then remove the oldest ones."""
        if not self.writes:
            return
        self._write(self._path(step), {"step": step, **state})
        for old in self._paths()[: -self.keep]:
            old.unlink()

    def save_best(self, step: int, state: State) -> None:
        """Write what did best in validation so far."""
        if self.writes:
            self._write(self.folder / BEST_FILE, {"step": step, **state})

    def newest(self) -> State | None:
        """Read the newest readable checkpoint; None where there is none.

        Raises:
            UserError: when one is foreign, or all are damaged.
        """
        paths = self._paths()
        for path in reversed(paths):
            try:
                return self._read(path)
            except DamagedCheckpointError as error:
                if path == paths[0]:
                    raise
                log.warning("%s; going back to the checkpoint before it", error)
        return None

    def best(self) -> State:
        """Read what did best in validation.

        Raises:
            UserError: when it is missing, damaged or foreign.
        """
        return self._read(self.folder / BEST_FILE)

    def any(self) -> bool:
        """Say whether there is something to go on from."""
        return bool(self._paths())

    def _path(self, step: int) -> Path:
        return self.folder / f"step-{step:09d}.pt"

    def _paths(self) -> list[Path]:
        return sorted(self.folder.glob("step-*.pt"))

    def _write(self, path: Path, state: State) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        buffer = io.BytesIO()
        torch.save({"format": FORMAT, "identity": asdict(self.identity), **state}, buffer)
        write_atomically(path, buffer.getbuffer())

    def _read(self, path: Path) -> State:
        state = read_checkpoint(path)
        if state["format"] != FORMAT:
            raise UserError(f"{path}: is of format {state['format']}; this version reads format {FORMAT}")
        for name, ours in asdict(self.identity).items():
            if state["identity"].get(name, "") != ours:
                raise UserError(
                    f"{path}: belongs to a run with {_WHAT[name]}; resume with what it was started with, or start "
                    f"anew in another folder"
                )
        return state


def read_checkpoint(path: Path) -> State:
    """Read a checkpoint file without asking whose it is.

    Raises:
        DamagedCheckpointError: when it is missing, truncated, altered, or not a checkpoint.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()
        if broken is not None:
            raise DamagedCheckpointError(f"{path}: damaged, the checksum of its part {broken} does not fit")
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise DamagedCheckpointError(f"{path}: no such checkpoint") from error
    except (OSError, RuntimeError, *_MALFORMED) as error:
        raise DamagedCheckpointError(f"{path}: damaged or truncated, not a checkpoint") from error
    if not isinstance(state, dict) or not all(
        isinstance(state.get(name), kind) for name, kind in _FIELDS.items()
    ):
        raise DamagedCheckpointError(f"{path}: not a checkpoint of this program")
    return state
