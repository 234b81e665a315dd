"""A trained model as a folder: `weights.pt` (tensors, no pickled code) and `model.json`, which describes it.

`model.json` is written last and is the only sign of a finished model. A denoiser's and a joint bundle hold
the whole chain, repairing net included, so that each bundle enhances audio by itself.
"""

import hashlib
import io
import pickle
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor

from manifests.canonical import digest, rounded
from manifests.errors import UserError
from manifests.experiment import StageName
from manifests.files import write_atomically
from manifests.online import OnlineRecord
from manifests.selection import SelectionRecord
from training.models.chain import Chain
from training.models.denoiser import Denoiser, DenoiserConfig
from training.models.repair import RepairConfig, RepairNet

FORMAT = 1
WEIGHTS_FILE = "weights.pt"
MODEL_FILE = "model.json"

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
    metrics: dict[str, float | None]
    """Validation results of the kept weights."""
    code_version: str
    environment: dict[str, str]
    weights_sha256: str


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
    """Return the final output (B, N) of a repairing net or a chain for waves (B, N)."""
    output: Tensor = model(wave).denoised if isinstance(model, Chain) else model(wave).wave
    return output


def output_spectrum(model: Network, spectrum: Tensor) -> Tensor:
    """Return the final linear spectrum (B, 2, 481, T) of a repairing net or a chain for degraded ones."""
    if isinstance(model, Chain):
        enhanced: Tensor = model.denoiser(model.repair.map_spectrum(spectrum)[0])
        return enhanced
    return model.map_spectrum(spectrum)[0]


def save_bundle(
    directory: Path, model: Network, origin: Origin, steps: int, metrics: Mapping[str, float]
) -> BundleInfo:
    """Write a model to `directory`; what was there before ceases to be a model before its weights change.

    Args:
        directory: made if missing.
        model: weights are moved to the CPU.
        origin: where it comes from.
        steps: training steps behind these weights.
        metrics: validation results; what is not finite becomes null.
    """
    directory.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    torch.save({name: tensor.detach().cpu() for name, tensor in model.state_dict().items()}, buffer)
    repair = model.repair if isinstance(model, Chain) else model
    content: dict[str, Any] = {
        "format": FORMAT,
        "stage": origin.stage,
        "preset": origin.preset,
        "repair": asdict(repair.config),
        "causal": repair.causal,
        "denoiser": asdict(model.denoiser.config) if isinstance(model, Chain) else None,
        "corpus_id": origin.corpus_id,
        "stage_digest": origin.stage_digest,
        "parents": dict(origin.parents),
        "weights_sha256": hashlib.sha256(buffer.getvalue()).hexdigest(),
    }
    if origin.selection is not None:  # a model of the whole corpus keeps the id that it has always had
        content["selection"] = asdict(origin.selection)
    if origin.online is not None:
        content["online"] = origin.online.model_dump(mode="json")
    info = BundleInfo(
        **content,
        id=digest(content),
        experiment=dict(origin.experiment),
        steps=steps,
        metrics={name: rounded(value, 6) for name, value in metrics.items()},
        code_version=_code_version(),
        environment={"python": platform.python_version(), "torch": str(torch.__version__)},
    )
    (directory / MODEL_FILE).unlink(missing_ok=True)
    write_atomically(directory / WEIGHTS_FILE, buffer.getbuffer())
    write_atomically(directory / MODEL_FILE, info.model_dump_json(indent=2).encode())
    return info


def is_bundle(directory: Path) -> bool:
    """Say whether a finished model lies in `directory`."""
    return (directory / MODEL_FILE).is_file()


def read_info(directory: Path) -> BundleInfo:
    """Read `model.json` alone.

    Raises:
        UserError: when there is no model, or one of another format.
    """
    path = directory / MODEL_FILE
    if not path.is_file():
        raise UserError(f"{directory}: holds no {MODEL_FILE}, so it is not a finished model")
    try:
        info = BundleInfo.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise UserError(f"{path}: not the description of a model of this format") from error
    if info.format != FORMAT:
        raise UserError(f"{path}: is of format {info.format}; this version reads format {FORMAT}")
    return info


def load_bundle(directory: Path, device: str | torch.device = "cpu") -> Bundle:
    """Read a model, check its weights against their hash, and put it in evaluation mode on `device`.

    Raises:
        UserError: when there is no model, its weights are damaged, or they do not fit its description.
    """
    info = read_info(directory)
    path = directory / WEIGHTS_FILE
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    if hashlib.sha256(content).hexdigest() != info.weights_sha256:
        raise UserError(f"{path}: damaged, its SHA-256 is not the one in {MODEL_FILE}")
    try:
        model = build_network(info.repair, info.causal, info.denoiser)
        model.load_state_dict(torch.load(io.BytesIO(content), map_location="cpu", weights_only=True))
    except (TypeError, ValueError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise UserError(f"{path}: does not fit the network that {MODEL_FILE} describes") from error
    return Bundle(model.to(device).eval(), info, directory)


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
