"""Tiny models with random weights."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from manifests.canonical import digest


def tiny_bundle(
    directory: Path,
    stage: str = "teacher",
    corpus_id: str = "0" * 32,
    parents: Mapping[str, str] | None = None,
    seed: int = 0,
    steps: int = 3,
) -> Any:
    """Write one, and return what it says of itself."""
    import torch

    from training.bundle import Origin, save_bundle
    from training.models.chain import Chain
    from training.models.presets import build_denoiser, build_repair

    torch.manual_seed(seed)
    net = build_repair("tiny", causal=stage != "teacher")
    model = net if stage in ("teacher", "student") else Chain(net, build_denoiser("tiny"))
    origin = Origin(stage, "tiny", corpus_id, digest([stage, seed]), {"name": "tiny"}, parents or {})
    return save_bundle(directory, model, origin, steps=steps, metrics={"val/loss": 0.5})
