"""A trained model as a folder: `weights.safetensors` and `model.json`, which describes it.

`model.json` is written last and is the only sign of a finished model. A denoiser's and a joint bundle hold
the whole chain, repairing net included, so that each bundle enhances audio by itself.
"""

import hashlib
import platform
import stat
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor

from manifests.canonical import digest, rounded
from manifests.corpus_summary import CorpusSummary
from manifests.errors import UserError
from manifests.experiment import StageName
from manifests.files import write_atomically
from manifests.online import OnlineRecord
from manifests.selection import SelectionRecord
from training.models.chain import Chain
from training.models.denoiser import Denoiser, DenoiserConfig
from training.models.repair import RepairConfig, RepairNet
from training.models.stft import analyse, synthesise
from training.safetensors_file import SafetensorsError, packed, unpacked

FORMAT = 3
"""1 kept its weights in a zip archive of torch's own, `weights.pt`; the repairing nets of 2 had no mask."""
WEIGHTS_FILE = "weights.safetensors"
MODEL_FILE = "model.json"

WEIGHTS_LIMIT_BYTES = 2**30
MODEL_FILE_LIMIT_BYTES = 2**22
SIZE_LIMIT = 1024
"""Of a network's sizes: what a stranger's model.json may ask for, before its weights are compared with it."""

Network = RepairNet | Chain
"""What a bundle holds: a repairing net alone, or with a denoiser behind it."""


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

    @property
    def identity(self) -> str:
        """Digest of what makes it this model and no other: its weights and all that shaped them."""
        content = self.model_dump(
            mode="json",
            exclude={"id", "experiment", "steps", "metrics", "code_version", "environment", "corpus"},
        )
        # A model of the whole corpus has no selection: what came to be recorded later changes no earlier id.
        return digest(
            {name: said for name, said in content.items() if said is not None or name == "denoiser"}
        )


class _Format(BaseModel):
    """What every format of `model.json` begins with."""

    format: int


@dataclass(frozen=True)
class Origin:
    """Where a model comes from, as its bundle records it."""

    stage: StageName
    preset: str
    corpus_id: str
    stage_digest: str
    experiment: Mapping[str, Any]
    parents: Mapping[StageName, str]
    selection: SelectionRecord | None = None
    corpus: CorpusSummary | None = None
    online: OnlineRecord | None = None


@dataclass(frozen=True)
class Bundle:
    """A model read back, ready to enhance."""

    model: Network
    """In evaluation mode."""
    info: BundleInfo
    path: Path

    @torch.inference_mode()
    def enhance(self, wave: Tensor) -> Tensor:
        """Enhance waves (B, N) at 48 kHz, full scale 1.0, on any device; (B, N) comes back on the model's."""
        device = next(self.model.parameters()).device
        return output_wave(self.model, wave.to(device))


def output_wave(model: Network, wave: Tensor) -> Tensor:
    """Return what a model puts out in use, (B, N), for waves (B, N)."""
    return synthesise(model.enhance_spectrum(analyse(wave)), wave.shape[1])


def save_bundle(
    directory: Path,
    model: Network,
    origin: Origin,
    steps: int,
    metrics: Mapping[str, float],
    stopped_after_step: int | None = None,
) -> BundleInfo:
    """Write a model to `directory`; what was there before ceases to be a model before its weights change.

    Args:
        directory: made if missing.
        model: weights are moved to the CPU.
        origin: where it comes from.
        steps: training steps behind these weights.
        metrics: validation results; what is not finite becomes null.
        stopped_after_step: given where the stage was stopped early.
    """
    directory.mkdir(parents=True, exist_ok=True)
    weights = packed(model.state_dict(), {"format": "pt"})
    repair = model.repair if isinstance(model, Chain) else model
    info = BundleInfo(
        id="",
        stage=origin.stage,
        preset=origin.preset,
        repair=asdict(repair.config),
        causal=repair.causal,
        denoiser=asdict(model.denoiser.config) if isinstance(model, Chain) else None,
        corpus_id=origin.corpus_id,
        selection=origin.selection,
        online=origin.online,
        stage_digest=origin.stage_digest,
        experiment=dict(origin.experiment),
        parents=dict(origin.parents),
        steps=steps,
        stopped_after_step=stopped_after_step,
        metrics={name: rounded(value, 6) for name, value in metrics.items()},
        code_version=_code_version(),
        environment={"python": platform.python_version(), "torch": str(torch.__version__)},
        weights_sha256=hashlib.sha256(weights).hexdigest(),
        corpus=origin.corpus,
    )
    info = info.model_copy(update={"id": info.identity})
    (directory / MODEL_FILE).unlink(missing_ok=True)
    write_atomically(directory / WEIGHTS_FILE, weights)
    write_atomically(directory / MODEL_FILE, info.model_dump_json(indent=2).encode())
    return read_info(directory)


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
    content = _content(path, MODEL_FILE_LIMIT_BYTES)
    try:
        written_as = _Format.model_validate_json(content).format
        if written_as != FORMAT:
            raise UserError(f"{path}: is of format {written_as}; this version reads format {FORMAT}")
        info = BundleInfo.model_validate_json(content)
    except ValidationError as error:
        raise UserError(f"{path}: not the description of a model of this format") from error
    if info.id != info.identity:
        raise UserError(f"{path}: was altered, its id is not that of what it says")
    return info


def load_bundle(directory: Path, device: str | torch.device = "cpu") -> Bundle:
    """Read a model, check its weights against their hash, and put it in evaluation mode on `device`.

    Raises:
        UserError: when there is no model, its weights are damaged, or they do not fit its description.
    """
    info = read_info(directory)
    path = directory / WEIGHTS_FILE
    content = _content(path, WEIGHTS_LIMIT_BYTES)
    if hashlib.sha256(content).hexdigest() != info.weights_sha256:
        raise UserError(f"{path}: damaged, its SHA-256 is not the one in {MODEL_FILE}")
    try:
        weights = unpacked(content)
    except SafetensorsError as error:
        raise UserError(f"{path}: {error}") from error
    if _forms(weights) != _described_forms(info, directory / MODEL_FILE):
        raise UserError(f"{path}: does not fit the network that {MODEL_FILE} describes")
    model = build_network(info.repair, info.causal, info.denoiser)
    model.load_state_dict(weights)
    return Bundle(model.to(device).eval(), info, directory)


def _content(path: Path, limit_bytes: int) -> bytes:
    """Read a file that should be small; what a stranger sends may not fill the memory."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise UserError(f"{path}: is not a file")
        if path.stat().st_size > limit_bytes:
            raise UserError(f"{path}: is larger than a model's can be ({limit_bytes:,} bytes)")
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error


_Forms = dict[str, tuple[torch.dtype, torch.Size]]


def _forms(weights: Mapping[str, Tensor]) -> _Forms:
    return {name: (weight.dtype, weight.shape) for name, weight in weights.items()}


def _described_forms(info: BundleInfo, path: Path) -> _Forms:
    """Return the type and shape of every weight of the network that `info` describes, allocating none.

    Raises:
        UserError: when there can be no such network.
    """
    try:
        for sizes in (info.repair, info.denoiser or {}):
            _check_sizes(sizes)
        with torch.device("meta"):
            return _forms(build_network(info.repair, info.causal, info.denoiser).state_dict())
    except (TypeError, ValueError, ArithmeticError, LookupError, RuntimeError) as error:
        raise UserError(f"{path}: describes no network that this version can build ({error})") from error


def _check_sizes(sizes: Mapping[str, Any]) -> None:
    for name, value in sizes.items():
        numbers = value if isinstance(value, list) else [value]
        if len(numbers) > SIZE_LIMIT:
            raise ValueError(f"{name} is too long")
        for number in numbers:
            if isinstance(number, int | float) and not 0 <= number <= SIZE_LIMIT:
                raise ValueError(f"{name} is not between 0 and {SIZE_LIMIT}")


def build_network(repair: Mapping[str, Any], causal: bool, denoiser: Mapping[str, Any] | None) -> Network:
    """Build an untrained network from its sizes as JSON gives them (lists stand for tuples)."""
    net = RepairNet(RepairConfig(**_tuples(repair)), causal)
    return net if denoiser is None else Chain(net, Denoiser(DenoiserConfig(**_tuples(denoiser))))


def _tuples(sizes: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in sizes.items()}


def _code_version() -> str:
    try:
        return version("ssiforge")
    except PackageNotFoundError:  # run from a source tree that is not installed
        return "unknown"
