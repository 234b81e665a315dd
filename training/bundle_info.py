"""What a model's folder says of it: `model.json`, read without torch by whoever asks where a model comes from."""

import stat
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from manifests.canonical import digest
from manifests.corpus_summary import CorpusSummary
from manifests.errors import UserError
from manifests.experiment import StageName
from manifests.online import OnlineRecord
from manifests.selection import SelectionRecord

FORMAT = 4
"""1 kept its weights in a zip archive of torch's own, `weights.pt`; the repairing nets of 2 had no mask, those of 3 one
without a bound."""
MODEL_FILE = "model.json"
MODEL_FOLDER = "model"
"""Where a stage of a run keeps its bundle."""
MODEL_FILE_LIMIT_BYTES = 2**22


class BundleInfo(BaseModel):
    """The content of `model.json`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: int = FORMAT
    id: str
    """Identity of the model: digest of its weights, architecture, stage, corpus, settings and parents."""
    stage: StageName
    preset: str
    repair: dict[str, Any]
    """Sizes of the repairing net."""
    causal: bool
    """Whether the repairing net, and with it the whole model, looks at past frames only."""
    denoiser: dict[str, Any] | None
    """Sizes of the denoiser; None for a repairing net alone."""
    corpus_id: str
    """Id of the corpus that it was trained on, or that of `online`."""
    selection: SelectionRecord | None = None
    """Which of the corpus's samples it heard; None for all."""
    online: OnlineRecord | None = None
    """What decided the fresh samples that it heard; None for none."""
    stage_digest: str
    """Identity of the settings that it was trained with."""
    experiment: dict[str, Any]
    """The experiment as it was used."""
    parents: dict[StageName, str]
    """Ids of the models it was made from: a student's teacher, a denoiser's student and so on."""
    steps: int
    """Training steps behind these weights."""
    stopped_after_step: int | None = None
    """The step after which the stage was stopped early; None where it did all its steps."""
    metrics: dict[str, float | None]
    """Validation results of the kept weights."""
    code_version: str
    environment: dict[str, str]
    weights_sha256: str
    corpus: CorpusSummary | None = None
    """What the corpus is made of; its id is above."""
    description_digest: str | None = None
    """Digest of everything here but itself, so that what is no part of the id is checked too; None in models that were
    written before there was one."""

    def sealed(self) -> "BundleInfo":
        """Return it with the id and digest of what it says."""
        named = self.model_copy(update={"id": self.identity})
        return named.model_copy(update={"description_digest": named.described})

    @property
    def described(self) -> str:
        """Digest of all that it says."""
        return digest(self.model_dump(mode="json", exclude={"description_digest"}))

    @property
    def identity(self) -> str:
        """Digest of what makes it this model and no other: its weights and all that shaped them."""
        content = self.model_dump(
            mode="json",
            exclude={
                "id",
                "experiment",
                "steps",
                "metrics",
                "code_version",
                "environment",
                "corpus",
                "description_digest",
            },
        )
        # A model of the whole corpus has no selection: what came to be recorded later changes no earlier id.
        return digest(
            {name: said for name, said in content.items() if said is not None or name == "denoiser"}
        )


class _Format(BaseModel):
    """What every format of `model.json` begins with."""

    format: int


def is_bundle(directory: Path) -> bool:
    """Say whether a finished model lies in `directory`."""
    return (directory / MODEL_FILE).is_file()


def read_info(directory: Path) -> BundleInfo:
    """Read `model.json` alone.

    Raises:
        UserError: when there is no model, one of another format, or one whose description was altered.
    """
    path = directory / MODEL_FILE
    if not path.is_file():
        raise UserError(f"{directory}: holds no {MODEL_FILE}, so it is not a finished model")
    content = bounded_content(path, MODEL_FILE_LIMIT_BYTES)
    try:
        written_as = _Format.model_validate_json(content).format
        if written_as != FORMAT:
            raise UserError(f"{path}: is of format {written_as}; this version reads format {FORMAT}")
        info = BundleInfo.model_validate_json(content)
    except ValidationError as error:
        raise UserError(f"{path}: not the description of a model of this format") from error
    if info.id != info.identity:
        raise UserError(f"{path}: was altered, its id is not that of what it says")
    if info.description_digest not in (None, info.described):
        raise UserError(f"{path}: was altered, it does not say what was written")
    return info


def bounded_content(path: Path, limit_bytes: int) -> bytes:
    """Read a file that should be small; what a stranger sends may not fill the memory."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise UserError(f"{path}: is not a file")
        if path.stat().st_size > limit_bytes:
            raise UserError(f"{path}: is larger than a model's can be ({limit_bytes:,} bytes)")
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
