"""What each stage trains: its networks, what is frozen, and its losses (RaD-Net 2's schedule).

teacher: the non-causal repairing net. student: the causal one, distilled from the frozen teacher.
denoiser: behind the frozen student. joint: both, with batch norms frozen. Each may have an adversary, whose
terms are added to the spectral loss of the final output.
"""

from dataclasses import dataclass
from typing import get_args

import torch
from torch import Tensor, nn

from manifests.errors import UserError
from manifests.experiment import Distillation, Experiment, LossWeights, StageName
from manifests.keyed import generator
from training.adversary import Adversary, add_terms
from training.bundle import Bundle, Network
from training.loop import Task
from training.losses.distillation import (
    attention_match,
    distillation_weight,
    feature_match,
    output_match,
    similarity_match,
)
from training.losses.spectral import si_snr
from training.models.chain import Chain
from training.models.denoiser import Denoiser, freeze_batch_norm
from training.models.presets import Preset, build_denoiser, build_repair
from training.models.repair import RepairNet
from training.objective import LOSS, spectral_objective

PARENT: dict[StageName, StageName | None] = {
    "teacher": None,
    "student": "teacher",
    "denoiser": "student",
    "joint": "denoiser",
}
"""The stage whose model each stage builds on."""

INNER_MATCH = {"features": feature_match, "similarity": similarity_match, "attention": attention_match}


def build_task(stage: StageName, experiment: Experiment, parent: Bundle | None, device: torch.device) -> Task:
    """Build what a stage trains, with weights drawn from the experiment's seed or taken from `parent`.

    Args:
        stage: which one.
        experiment: its preset, seed, loss weights and distillation are used.
        parent: the finished model of the stage named by `PARENT`.
        device: where all networks go.

    Raises:
        UserError: when the preset is not known, or `parent` is not the model that the stage needs.
    """
    if experiment.preset not in get_args(Preset):
        known = ", ".join(get_args(Preset))
        raise UserError(f"experiment {experiment.name}, field 'preset': no {experiment.preset}; have {known}")
    model = _parent_model(stage, parent)
    loss = experiment.loss
    # Fresh weights are drawn from the process-wide generator, which is put back afterwards.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derived_seed(experiment.seed, stage, "weights"))
        if stage == "teacher":
            return TeacherTask(build_repair(experiment.preset, causal=False).to(device), loss)
        if stage == "student":
            assert isinstance(model, RepairNet)
            student = build_repair(experiment.preset, causal=True)
            if experiment.distillation.initialise_from_teacher:
                student.load_state_dict(model.state_dict())
            steps = experiment.stages.student.steps
            return StudentTask(
                student.to(device), frozen(model).to(device), loss, experiment.distillation, steps
            )
        if stage == "denoiser":
            assert isinstance(model, RepairNet)
            chain = Chain(frozen(model), build_denoiser(experiment.preset))
            return DenoiserTask(chain.to(device), loss)
        assert isinstance(model, Chain)
        return JointTask(model.requires_grad_(True).to(device), loss)


def _parent_model(stage: StageName, parent: Bundle | None) -> Network | None:
    """Return the network that the stage builds on, after checking that it is the right one."""
    needed = PARENT[stage]
    if needed is None:
        return None
    if parent is None:
        raise UserError(f"stage {stage} needs a finished {needed}")
    if parent.info.stage != needed:
        raise UserError(f"{parent.path}: is a {parent.info.stage}, and stage {stage} needs a {needed}")
    return parent.model


def derived_seed(seed: int, *purpose: str) -> int:
    """Return a seed for one purpose, 0 to 2^31 - 1."""
    return int(generator(seed, *purpose).integers(2**31))


def frozen(network: RepairNet) -> RepairNet:
    """Return the network in evaluation mode, its weights fixed."""
    return network.eval().requires_grad_(False)


@dataclass
class TeacherTask:
    """The non-causal repairing net against the spectral loss."""

    network: RepairNet
    weights: LossWeights
    adversary: Adversary | None = None

    @property
    def trained(self) -> nn.Module:
        """All of it."""
        return self.network

    def prepare(self) -> None:
        """Into training mode."""
        self.network.train()

    def losses(self, degraded: Tensor, target: Tensor, step: int) -> dict[str, Tensor]:
        """Return the spectral loss."""
        estimate = self.network(degraded).wave
        losses = spectral_objective(estimate, target, self.weights)
        add_terms(self.adversary, losses, estimate, target, step)
        return losses


@dataclass
class StudentTask:
    """The causal repairing net against the spectral loss and the frozen teacher on the same input."""

    network: RepairNet
    teacher: RepairNet
    weights: LossWeights
    distillation: Distillation
    steps: int
    """Of the whole stage: distillation fades out over the last share of them."""
    adversary: Adversary | None = None

    @property
    def trained(self) -> nn.Module:
        """The student."""
        return self.network

    def prepare(self) -> None:
        """Put the student into training mode; the teacher stays in evaluation mode."""
        self.network.train()
        self.teacher.eval()

    def losses(self, degraded: Tensor, target: Tensor, step: int) -> dict[str, Tensor]:
        """Return the spectral loss, plus the matches with the teacher while their weights last."""
        settings = self.distillation
        share = distillation_weight(step, self.steps, full_weight=1.0, decay_share=settings.fade_share)
        inner, output = share * settings.features, share * settings.output
        ours = self.network(degraded, with_features=inner > 0.0)
        losses = spectral_objective(ours.wave, target, self.weights)
        add_terms(self.adversary, losses, ours.wave, target, step)
        if inner <= 0.0 and output <= 0.0:
            return losses
        with torch.no_grad():
            theirs = self.teacher(degraded, with_features=inner > 0.0)
        if inner > 0.0:
            losses["teacher_features"] = INNER_MATCH[settings.match](ours.features, theirs.features)
            losses[LOSS] = losses[LOSS] + inner * losses["teacher_features"]
        if output > 0.0:
            losses["teacher_output"] = output_match(ours.wave, theirs.wave)
            losses[LOSS] = losses[LOSS] + output * losses["teacher_output"]
        return losses


@dataclass
class DenoiserTask:
    """The denoiser behind the frozen student, against the spectral loss and a little SI-SNR."""

    network: Chain
    weights: LossWeights
    adversary: Adversary | None = None

    @property
    def trained(self) -> Denoiser:
        """The denoiser alone."""
        return self.network.denoiser

    def prepare(self) -> None:
        """Put the denoiser into training mode; the student stays in evaluation mode."""
        self.network.repair.eval()
        self.network.denoiser.train()

    def losses(self, degraded: Tensor, target: Tensor, step: int) -> dict[str, Tensor]:
        """Return the spectral loss of the denoised wave and its SI-SNR in dB, negated and weighted."""
        denoised = self.network(degraded).denoised
        losses = spectral_objective(denoised, target, self.weights)
        add_terms(self.adversary, losses, denoised, target, step)
        if self.weights.si_snr > 0.0:
            losses["si_snr_db"] = si_snr(denoised, target).mean()
            losses[LOSS] = losses[LOSS] - self.weights.si_snr * losses["si_snr_db"]
        return losses


@dataclass
class JointTask:
    """Both networks, batch norms frozen, against the spectral loss of the final and of the repaired wave."""

    network: Chain
    weights: LossWeights
    adversary: Adversary | None = None

    @property
    def trained(self) -> nn.Module:
        """The whole chain."""
        return self.network

    def prepare(self) -> None:
        """Into training mode, except for batch norms, which keep to their running statistics."""
        self.network.train()
        freeze_batch_norm(self.network)

    def losses(self, degraded: Tensor, target: Tensor, step: int) -> dict[str, Tensor]:
        """Return the spectral loss of the denoised wave plus a share of the repaired wave's."""
        output = self.network(degraded)
        losses = spectral_objective(output.denoised, target, self.weights)
        add_terms(self.adversary, losses, output.denoised, target, step)
        losses["repaired"] = spectral_objective(output.repaired, target, self.weights)[LOSS]
        losses[LOSS] = losses[LOSS] + self.weights.repaired * losses["repaired"]
        return losses
