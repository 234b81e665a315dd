"""The adversary of a stage: discriminators with an optimiser of their own, and what they tell the generator.

A stage begins with spectral losses alone. Then the discriminators train, for some steps by themselves, and
from there on their terms are added to the generator's loss. The weight of these terms is measured once, at
their first step, so that the gradient of the spectral loss with respect to the estimate is a declared number
of times as large as theirs; it is kept in the checkpoint.

Both sides of a step see the same discriminators: `add` leaves their gradients, `step` moves them together
with the generator, unless anything in the step is not finite: then neither side moves.
"""

from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from manifests.experiment import Adversarial, Experiment, StageName
from manifests.keyed import generator
from training.losses.adversarial import discriminator_loss, feature_matching, generator_loss
from training.models.discriminators import Discriminators, common_gain
from training.objective import LOSS
from training.ranks import ALONE, Ranks

DISCRIMINATOR_LOSS = "discriminator"


class Adversary:
    """Discriminators in training.

    Args:
        settings: sizes, weights and rates.
        steps: of the stage.
        device: where the discriminators go.
        accumulated: batches whose gradients make a step.
    """

    def __init__(self, settings: Adversarial, steps: int, device: torch.device, accumulated: int = 1) -> None:
        self.settings = settings
        self.accumulated = accumulated
        self.first_step = int(settings.start_share * steps)
        """From here on the discriminators train."""
        self.first_word = self.first_step + settings.lead_steps
        """From here on they have a say in the generator's loss."""
        self.networks = Discriminators(
            settings.resolution_windows, settings.band_windows, settings.channels
        ).to(device)
        self.parameters = list(self.networks.parameters())
        # Fused, as the networks' own: it can be told on the device to move nothing.
        self.optimiser = torch.optim.AdamW(
            self.parameters, lr=settings.learning_rate, betas=settings.betas, fused=True
        )
        self.join(ALONE, 1.0)
        self.weight: float | None = None
        """Measured weight of all adversarial terms; None before the first step that has them."""
        self._measured: float | None = None
        self._trains = False

    def join(self, ranks: Ranks, share: float) -> None:
        """Train together with other ranks, of whose batch this one has a share (see `Ranks.share`)."""
        self._ranks, self._share = ranks, share

    def state_dict(self) -> dict[str, Any]:
        """Return networks, optimiser and measured weight."""
        return {
            "networks": self.networks.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "weight": self.weight,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` returned."""
        self.networks.load_state_dict(state["networks"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.weight = state["weight"]

    def add(self, losses: dict[str, Tensor], estimate: Tensor, target: Tensor, step: int) -> None:
        """Leave gradients in the discriminators, and add their terms to the generator's losses.

        Args:
            losses: of the generator so far; its total must be the spectral loss of `estimate`, against which
                the weight is measured. Gets new terms and a new total.
            estimate: (B, N), with its graph.
            target: (B, N), clean.
            step: steps that the stage has done.
        """
        if step < self.first_step:
            return
        # Float16 would need a loss scale of its own here.
        half = torch.get_autocast_dtype(estimate.device.type) == torch.float16
        with torch.autocast(estimate.device.type, enabled=False) if half else nullcontext():
            self._add(losses, estimate, target, step)

    def _add(self, losses: dict[str, Tensor], estimate: Tensor, target: Tensor, step: int) -> None:
        gain = common_gain(target)
        clean = self.networks(target, gain)
        ours = discriminator_loss(clean, self.networks(estimate.detach(), gain))
        (ours / self.accumulated).backward()  # type: ignore[no-untyped-call]
        self._trains = True
        losses[DISCRIMINATOR_LOSS] = ours.detach()
        if step < self.first_word:
            return
        self.networks.requires_grad_(False)
        enhanced = self.networks(estimate, gain)
        self.networks.requires_grad_(True)
        losses["adversarial"] = generator_loss(enhanced)
        losses["feature_matching"] = feature_matching(clean, enhanced)
        terms = (
            self.settings.adversarial * losses["adversarial"]
            + self.settings.feature_matching * losses["feature_matching"]
        )
        losses[LOSS] = losses[LOSS] + self._weight_of(terms, losses[LOSS], estimate) * terms

    def ready(self) -> Tensor:
        """Average the gradients over ranks and say whether they are finite, as a truth value on the device.

        Every rank must call it in every step.
        """
        if not self._trains:
            return torch.ones((), dtype=torch.bool, device=self.parameters[0].device)
        self._ranks.average_gradients(self.parameters, self._share)
        norm = nn.utils.get_total_norm([p.grad for p in self.parameters if p.grad is not None])
        return torch.isfinite(norm)

    def step(self, usable: Tensor) -> None:
        """Move the discriminators by the gradients that `add` left, if the step is usable, and forget these.

        Args:
            usable: a truth value on the device: whether the generator moves too.
        """
        if self._trains:
            self.optimiser.found_inf = (~usable).float()  # type: ignore[attr-defined]
            self.optimiser.step()
        if self._measured is not None and bool(usable):
            self.weight = self._measured
        self.optimiser.zero_grad()
        self._measured, self._trains = None, False

    def _weight_of(self, terms: Tensor, spectral: Tensor, estimate: Tensor) -> float:
        if self.weight is not None:
            return self.weight
        if self._measured is None:
            spectral_norm, terms_norm = (
                torch.autograd.grad(loss, estimate, retain_graph=True)[0].float().norm()
                for loss in (spectral, terms)
            )
            measured = spectral_norm / (self.settings.spectral_dominance * terms_norm)
            self._measured = float(self._ranks.mean({"weight": measured}, self._share)["weight"])
        return self._measured


def add_terms(
    adversary: Adversary | None, losses: dict[str, Tensor], estimate: Tensor, target: Tensor, step: int
) -> None:
    """Do `Adversary.add` where a task has an adversary."""
    if adversary is not None:
        adversary.add(losses, estimate, target, step)


def spectral_alone(adversary: Adversary | None, step: int) -> bool:
    """Say whether discriminators have no part in a step."""
    return adversary is None or step < adversary.first_step


def build_adversary(stage: StageName, experiment: Experiment, device: torch.device) -> Adversary | None:
    """Build the adversary of a stage, its weights drawn from the experiment's seed; None where it has none."""
    if stage not in experiment.adversarial.stages:
        return None
    # Fresh weights are drawn from the process-wide generator, which is put back afterwards.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(generator(experiment.seed, stage, "discriminators").integers(2**31)))
        return Adversary(
            experiment.adversarial,
            experiment.stages.of(stage).steps,
            device,
            experiment.optimisation.accumulate,
        )
