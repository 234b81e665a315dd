"""Untrained models that the stages of an experiment can build on."""

from pathlib import Path

import torch

from manifests.experiment import Experiment, StageName
from training.bundle import Bundle, Network, Origin, load_bundle, save_bundle
from training.models.chain import Chain
from training.models.presets import build_denoiser, build_repair


def untrained_parents(experiment: Experiment, folder: Path, device: torch.device) -> dict[StageName, Bundle]:
    """Write a model of each stage but the last to `folder`, and load it."""
    student = build_repair(experiment.preset, causal=True)
    networks: dict[StageName, Network] = {
        "teacher": build_repair(experiment.preset, causal=False),
        "student": student,
        "denoiser": Chain(student, build_denoiser(experiment.preset)),
    }
    for stage, network in networks.items():
        origin = Origin(stage, experiment.preset, "corpus", "settings", {}, {})
        save_bundle(folder / stage, network, origin, 0, {})
    return {stage: load_bundle(folder / stage, device) for stage in networks}
