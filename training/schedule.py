"""The learning rate of a stage, step by step."""

import math
from dataclasses import dataclass

from manifests.experiment import StageSettings


@dataclass
class Schedule:
    """A linear rise, then a constant rate, half a cosine, or a rate that is halved when validation is stale.

    The rate is a function of the step and of what is held here, so a resumed run goes on with it exactly.
    """

    settings: StageSettings
    halvings: int = 0
    """Of the rate so far."""
    stale_validations: int = 0
    """Since the result was last better, or the rate last halved."""

    def rate(self, step: int) -> float:
        """Return the learning rate of the step after `step` steps."""
        settings = self.settings
        rate = settings.learning_rate * 0.5**self.halvings
        if step < settings.warmup_steps:
            return rate * (step + 1) / settings.warmup_steps
        if settings.schedule == "cosine":
            done = (step - settings.warmup_steps) / (settings.steps - settings.warmup_steps)
            rate *= 0.5 * (1.0 + math.cos(math.pi * done))
        return rate

    def take_note(self, better: bool) -> None:
        """Note whether a validation's result was the best so far; after too many that were not, halve the rate."""
        self.stale_validations = 0 if better else self.stale_validations + 1
        halve_after = self.settings.halve_after if self.settings.schedule == "halve" else 0
        if halve_after and self.stale_validations >= halve_after:
            self.halvings += 1
            self.stale_validations = 0

    def forget(self) -> None:
        """Count stale validations from here on."""
        self.stale_validations = 0

    def state_dict(self) -> dict[str, int]:
        """Return what a checkpoint holds of it."""
        return {"halvings": self.halvings, "stale_validations": self.stale_validations}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on from a state."""
        self.halvings, self.stale_validations = state["halvings"], state["stale_validations"]
