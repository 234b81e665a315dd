"""What a training run says of itself in a file, `RUN_DIR/STAGE/run.json`, so that its lineage needs no server.

A run that is killed and resumed, moved or copied keeps its id: it is the digest of what decides the run, and names no
place, clock or host.
"""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from manifests.canonical import digest
from manifests.errors import UserError
from manifests.experiment import StageName
from manifests.files import write_atomically
from manifests.online import OnlineRecord
from manifests.selection import SelectionRecord

FORMAT = 1
RUN_FILE = "run.json"
SIZE_LIMIT_BYTES = 2**22

RunStatus = Literal["running", "finished", "failed", "stopped"]
"""`running` is also what a killed run says; `stopped` is Ctrl-C."""


class StageRun(BaseModel):
    """The content of `run.json`: the training of one stage."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: int = FORMAT
    experiment: str
    """Name of the experiment."""
    experiment_digest: str
    """Of all its settings."""
    stage: StageName
    stage_digest: str
    """Of the settings that decide this stage."""
    corpus_id: str
    """Id of the data: of the corpus, or of `online`."""
    selection: SelectionRecord | None = None
    online: OnlineRecord | None = None
    parents: dict[StageName, str]
    """Bundle ids of what it starts from or learns from."""
    steps: int
    """That it is to do."""
    code_version: str
    """Of the last start or resumption, as is the next one."""
    packages: dict[str, str]
    """Versions of Python and of every package that took part."""
    status: RunStatus = "running"
    ended_because: str = ""
    model_id: str = ""
    """Id of the bundle that it made; empty until then."""

    @property
    def id(self) -> str:
        """Identity: digest of what decides the run. The same training done twice is the same run."""
        content = self.model_dump(
            mode="json",
            exclude={"format", "code_version", "packages", "status", "ended_because", "model_id"},
        )
        return digest({name: said for name, said in content.items() if said is not None})

    @property
    def packages_digest(self) -> str:
        """One digest for all versions."""
        return digest(self.packages)


def write_run(stage_dir: Path, run: StageRun) -> None:
    """Write the record of a stage's run.

    Raises:
        OSError: when it cannot be written.
    """
    write_atomically(stage_dir / RUN_FILE, run.model_dump_json(indent=2).encode() + b"\n")


def read_run(stage_dir: Path) -> StageRun | None:
    """Read the record of a stage's run; None where there is none.

    Raises:
        UserError: when what lies there is none of this format.
    """
    path = stage_dir / RUN_FILE
    try:
        if path.stat().st_size > SIZE_LIMIT_BYTES:
            raise UserError(f"{path}: is larger than a run's record can be ({SIZE_LIMIT_BYTES:,} bytes)")
        return StageRun.model_validate_json(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    except ValidationError as error:
        raise UserError(f"{path}: not the record of a run of this format") from error
