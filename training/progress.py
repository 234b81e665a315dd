"""How far a stage has come, and which of its steps moved nothing."""

import logging
import math
from dataclasses import dataclass

from manifests.errors import JobError
from training.objective import LOSS
from training.window import Outcome

log = logging.getLogger(__name__)

GRADIENT_NORM = "gradient_norm"
"""Before it was clipped; named among the losses of a step."""

MAX_OVERFLOWS_IN_ROW = 24
"""So many steps in a row may fail to a loss that is scaled too high. Scales start at 2^16, double after 2000 good
steps, and halve at each overflow: after 24 halvings, it is not the scale that makes gradients infinite."""


@dataclass
class Progress:
    """How far a stage has come."""

    step: int = 0
    skipped_steps: int = 0
    """Steps without a finite loss and gradient, which moved no weight."""
    skipped_in_row: int = 0
    overflowed_steps: int = 0
    """Steps that moved no weight because the loss was scaled too high for float16; they are part of its work."""
    overflowed_in_row: int = 0
    damaged_samples: int = 0
    """Samples that could not be read and were replaced."""

    def count(self, outcome: Outcome, loss_is_scaled: bool, max_nan_steps: int) -> dict[str, float] | None:
        """Count a step, and return its numbers if it moved the weights.

        Raises:
            JobError: when too many steps in a row had to be skipped.
        """
        values = outcome.read()
        finite_loss = math.isfinite(values[LOSS])
        if finite_loss and math.isfinite(values[GRADIENT_NORM]):
            self.skipped_in_row = self.overflowed_in_row = 0
            return values
        if loss_is_scaled and finite_loss and self.overflowed_in_row < MAX_OVERFLOWS_IN_ROW:
            self.overflowed_steps += 1
            self.overflowed_in_row += 1
            return None
        self.skipped_steps += 1
        self.skipped_in_row += 1
        log.warning("step %d: loss or gradient is not finite; no weight moved", outcome.step)
        if self.skipped_in_row >= max_nan_steps:
            raise JobError(
                f"{self.skipped_in_row} steps in a row had no finite loss and gradient, the last of them "
                f"step {outcome.step} with samples {', '.join(outcome.keys[:4])}; try a lower learning rate"
            )
        return None
