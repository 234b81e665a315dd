"""A trained model as a folder: `weights.safetensors` and `model.json`, which describes it.

`model.json` is written last and is the only sign of a finished model. A denoiser's and a joint bundle hold
the whole chain, repairing net included, so that each bundle enhances audio by itself.
"""

import hashlib
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from manifests.canonical import rounded
from manifests.corpus_summary import CorpusSummary
from manifests.errors import UserError
from manifests.experiment import StageName
from manifests.files import write_atomically
from manifests.online import OnlineRecord
from manifests.packages import code_version, packages_digest
from manifests.selection import SelectionRecord
from training.bundle_info import (
    FORMAT,
    MODEL_FILE,
    MODEL_FILE_LIMIT_BYTES,
    BundleInfo,
    bounded_content,
    is_bundle,
    read_info,
)
from training.models.chain import Chain
from training.models.denoiser import Denoiser, DenoiserConfig
from training.models.repair import RepairConfig, RepairNet
from training.models.stft import analyse, synthesise
from training.safetensors_file import SafetensorsError, packed, unpacked

__all__ = [
    "FORMAT",
    "MODEL_FILE",
    "MODEL_FILE_LIMIT_BYTES",
    "WEIGHTS_FILE",
    "Bundle",
    "BundleInfo",
    "Network",
    "Origin",
    "build_network",
    "is_bundle",
    "load_bundle",
    "output_wave",
    "read_info",
    "save_bundle",
]

WEIGHTS_FILE = "weights.safetensors"
WEIGHTS_LIMIT_BYTES = 2**30
SIZE_LIMIT = 1024
"""Of a network's sizes: what a stranger's model.json may ask for, before its weights are compared with it."""

Network = RepairNet | Chain
"""What a bundle holds: a repairing net alone, or with a denoiser behind it."""


def repairing(network: Network) -> RepairNet:
    """Return the repairing net of a network, which is all of it or its first stage."""
    return network.repair if isinstance(network, Chain) else network


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
    repair = repairing(model)
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
        code_version=code_version(),
        environment={
            "python": platform.python_version(),
            "torch": str(torch.__version__),
            "packages_digest": packages_digest(),
        },
        weights_sha256=hashlib.sha256(weights).hexdigest(),
        corpus=origin.corpus,
    )
    info = info.sealed()
    (directory / MODEL_FILE).unlink(missing_ok=True)
    write_atomically(directory / WEIGHTS_FILE, weights)
    write_atomically(directory / MODEL_FILE, info.model_dump_json(indent=2).encode())
    return read_info(directory)


def load_bundle(directory: Path, device: str | torch.device = "cpu") -> Bundle:
    """Read a model, check its weights against their hash, and put it in evaluation mode on `device`.

    Raises:
        UserError: when there is no model, its weights are damaged, or they do not fit its description.
    """
    info = read_info(directory)
    path = directory / WEIGHTS_FILE
    content = bounded_content(path, WEIGHTS_LIMIT_BYTES)
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
