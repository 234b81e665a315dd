"""The weighted spectral loss and the level error: what every stage is trained on and judged by."""

from torch import Tensor

from manifests.experiment import LossWeights
from training.losses.spectral import level_error, spectral_loss

LOSS = "loss"
"""Name of the total among the named losses of a step."""


def spectral_objective(estimate: Tensor, target: Tensor, weights: LossWeights) -> dict[str, Tensor]:
    """Return the spectral terms of waves (B, N) by name, and under `loss` their weighted sum."""
    parts = spectral_loss(estimate, target)
    level_error_db = level_error(estimate, target).mean()
    total = (
        weights.magnitude * parts.magnitude
        + weights.complex * parts.complex
        + weights.asymmetric * parts.asymmetric
        + weights.level * level_error_db
    )
    return {LOSS: total, **parts._asdict(), "level_error_db": level_error_db}
