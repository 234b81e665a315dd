"""The weighted spectral loss with a little of the SNR: what every stage is trained on and judged by."""

from torch import Tensor

from manifests.experiment import LossWeights
from training.losses.spectral import snr, spectral_loss

LOSS = "loss"
"""Name of the total among the named losses of a step."""


def spectral_objective(estimate: Tensor, target: Tensor, weights: LossWeights) -> dict[str, Tensor]:
    """Return the spectral terms of waves (B, N) by name, and under `loss` their weighted sum."""
    parts = spectral_loss(estimate, target)
    snr_db = snr(estimate, target).mean()
    total = (
        weights.magnitude * parts.magnitude
        + weights.complex * parts.complex
        + weights.asymmetric * parts.asymmetric
        - weights.snr * snr_db
    )
    return {LOSS: total, **parts._asdict(), "snr_db": snr_db}
