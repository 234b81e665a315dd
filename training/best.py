"""Which validation was the best so far, by a chosen metric, and how long ago that was."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from manifests.experiment import BestBy

HIGHER_IS_BETTER: frozenset[BestBy] = frozenset({"si_snr_db"})
"""Of all other metrics of a validation, lower is better."""


@dataclass
class Best:
    """The best result so far; a metric that is not a number is never better."""

    by: BestBy
    value: float | None = None
    """None before the first validation that has one."""
    stale_validations: int = 0
    """In a row without a better one, up to now."""

    def take(self, judged: Mapping[str, float]) -> bool:
        """Take in the metrics of a validation; say whether it is the best so far."""
        value = judged[self.by]
        if self._better(value):
            self.value, self.stale_validations = value, 0
            return True
        self.stale_validations += 1
        return False

    def forget(self) -> None:
        """Compare with nothing that was before: the next validation is the best."""
        self.value, self.stale_validations = None, 0

    def _better(self, value: float) -> bool:
        if self.value is None:
            return value == value  # false for NaN alone
        return value > self.value if self.by in HIGHER_IS_BETTER else value < self.value

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint holds of it."""
        return {"value": self.value, "stale_validations": self.stale_validations}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""
        self.value, self.stale_validations = state["value"], state["stale_validations"]
