"""What each stage trains: its networks, what is frozen, and its losses (RaD-Net 2's schedule).

teacher: the non-causal repairing net. student: the causal one, distilled from the frozen teacher.
denoiser: behind the frozen student. joint: both, with batch norms frozen. Each may have an adversary, whose
terms are added to the spectral loss of the final output.
"""

from collections.abc import Hashable
from dataclasses import dataclass, replace
from typing import get_args

import torch
from torch import Tensor, nn

from manifests.errors import UserError
from manifests.experiment import Experiment, LossWeights, StageName
from manifests.keyed import generator
from training.adversary import Adversary, add_terms, spectral_alone
from training.bundle import Bundle, Network, repairing
from training.distiller import TAUGHT, Distiller
from training.loop import Task
from training.losses.spectral import si_snr
from training.models.chain import Chain
from training.models.denoiser import Denoiser, freeze_batch_norm
from training.models.presets import DENOISERS, Preset, build_denoiser, build_repair
from training.models.repair import UNCALIBRATED, RepairNet
from training.objective import LOSS, spectral_objective

PARENT: dict[StageName, StageName | None] = {
    "teacher": None,
    "student": "teacher",
    "denoiser": "student",
    "joint": "denoiser",
}
"""The stage whose model each stage builds on."""

WHOLE: frozenset[StageName] = frozenset({"teacher", "denoiser", "joint"})
"""Stages whose own models hold all that they need to be trained further; a student also needs its teacher."""


def build_task(
    stage: StageName,
    experiment: Experiment,
    parent: Bundle | None,
    device: torch.device,
    begun: Bundle | None = None,
) -> Task:
    """Build what a stage trains, with weights drawn from the experiment's seed, or those of `parent` or `begun`.

    Args:
        stage: which one.
        experiment: its preset, seed, loss weights and distillation are used.
        parent: the finished model of the stage named by `PARENT`.
        device: where all networks go.
        begun: a model of the stage itself, whose weights it begins with.

    Raises:
        UserError: when the preset is not known, or `parent` is not the model that the stage needs.
    """
    if experiment.preset not in get_args(Preset):
        known = ", ".join(get_args(Preset))
        raise UserError(f"experiment {experiment.name}, field 'preset': no {experiment.preset}; have {known}")
    for bundle in (parent, begun):
        if bundle is not None:
            _uncalibrated(bundle.model)
    model = begun.model if begun and stage in WHOLE else _parent_model(stage, parent)
    loss = experiment.loss
    # Fresh weights are drawn from the process-wide generator, which is put back afterwards.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derived_seed(experiment.seed, stage, "weights"))
        if stage == "teacher":
            teacher = model if begun else build_repair(experiment.preset, causal=False)
            assert isinstance(teacher, RepairNet)
            return TeacherTask(teacher.requires_grad_(True).to(device), loss)
        if stage == "student":
            assert isinstance(model, RepairNet)
            student = build_repair(experiment.preset, causal=True)
            if begun:
                student.load_state_dict(begun.model.state_dict())
            elif experiment.distillation.initialise_from_teacher:
                student.load_state_dict(model.state_dict())
            steps = experiment.stages.student.steps
            distiller = Distiller(frozen(model).to(device), experiment.distillation, steps)
            return StudentTask(student.to(device), loss, distiller)
        if stage == "denoiser" and begun:
            assert isinstance(model, Chain)
            model.denoiser.requires_grad_(True)
            return DenoiserTask(Chain(frozen(model.repair), model.denoiser).to(device), loss)
        if stage == "denoiser":
            assert isinstance(model, RepairNet)
            chain = Chain(frozen(model), fresh_denoiser(experiment))
            return DenoiserTask(chain.to(device), loss)
        assert isinstance(model, Chain)
        return JointTask(model.requires_grad_(True).to(device), loss)


def _uncalibrated(network: Network) -> None:
    """Forget how a finished model's output was calibrated: it was for the weights as they are."""
    repair = repairing(network)
    repair.config = replace(repair.config, **UNCALIBRATED)  # type: ignore[arg-type]


def fresh_denoiser(experiment: Experiment) -> Denoiser:
    """Return an untrained denoiser; what it has in common with one that has attention starts alike in both."""
    whole = build_denoiser(experiment.preset)
    if experiment.denoiser.use_asa:
        return whole
    bare = Denoiser(replace(DENOISERS[experiment.preset], use_asa=False))
    weights = whole.state_dict()
    bare.load_state_dict({name: weights[name] for name in bare.state_dict()})
    return bare


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

    def repeats(self, step: int) -> Hashable:
        """Every step is like the others, but for discriminators."""
        return "spectral" if spectral_alone(self.adversary, step) else None


@dataclass
class StudentTask:
    """The causal repairing net against the spectral loss and the frozen teacher on the same input."""

    network: RepairNet
    weights: LossWeights
    distiller: Distiller
    adversary: Adversary | None = None

    @property
    def trained(self) -> nn.Module:
        """The student."""
        return self.network

    def prepare(self) -> None:
        """Put the student into training mode; the teacher stays in evaluation mode."""
        self.network.train()
        self.distiller.teacher.eval()

    def losses(self, degraded: Tensor, target: Tensor, step: int) -> dict[str, Tensor]:
        """Return the spectral loss, plus what the teacher teaches while that lasts."""
        ours = self.network(degraded, with_features=self.distiller.compares_features(step))
        losses = spectral_objective(ours.wave, target, self.weights)
        add_terms(self.adversary, losses, ours.wave, target, step)
        taught = self.distiller.losses(ours, degraded, target, step)
        if TAUGHT in taught:
            losses |= taught
            losses[LOSS] = losses[LOSS] + taught[TAUGHT]
        return losses

    def repeats(self, step: int) -> Hashable:
        """Steps are alike while the teacher weighs the same."""
        return self.distiller.weights(step) if spectral_alone(self.adversary, step) else None


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

    def repeats(self, step: int) -> Hashable:
        """Every step is like the others, but for discriminators."""
        return "spectral" if spectral_alone(self.adversary, step) else None


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

    def repeats(self, step: int) -> Hashable:
        """Every step is like the others, but for discriminators."""
        return "spectral" if spectral_alone(self.adversary, step) else None
