"""Adversarial losses: least squares for both sides (LSGAN, Mao et al., 2017) and feature matching.

A judgement is what a discriminator says of a batch: a map of scores, about 1 for clean and 0 for enhanced
speech, and the activations on the way to it. Feature matching is relative to the size of the clean
speech's activations, so that layers and widths weigh alike. All losses are float32, also under autocast.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Judgement(NamedTuple):
    """What one discriminator says of a batch.

    Attributes:
        scores: (B, 1, T, F).
        features: activations of its layers, each (B, C, T, F).
    """

    scores: Tensor
    features: tuple[Tensor, ...]


def discriminator_loss(clean: Sequence[Judgement], enhanced: Sequence[Judgement]) -> Tensor:
    """Return mean (D(s) - 1)^2 + mean D(y)^2, averaged over discriminators.

    Args:
        clean: each discriminator's judgement of the targets s.
        enhanced: of the estimates y, which must be detached from the generator.
    """
    pairs = zip(clean, enhanced, strict=True)
    terms = [
        (real.scores.float() - 1.0).square().mean() + fake.scores.float().square().mean()
        for real, fake in pairs
    ]
    return torch.stack(terms).mean()


def generator_loss(enhanced: Sequence[Judgement]) -> Tensor:
    """Return mean (D(y) - 1)^2, averaged over discriminators."""
    return torch.stack([(fake.scores.float() - 1.0).square().mean() for fake in enhanced]).mean()


def feature_matching(clean: Sequence[Judgement], enhanced: Sequence[Judgement], eps: float = 1e-5) -> Tensor:
    """Return mean |A(y) - A(s)| / (mean |A(s)| + eps), averaged over layers and discriminators.

    Args:
        clean: judgements of the targets, taken as constants.
        enhanced: judgements of the estimates.
        eps: keeps layers that are silent on clean speech from weighing without bound.
    """
    terms = []
    for real, fake in zip(clean, enhanced, strict=True):
        for wanted, given in zip(real.features, fake.features, strict=True):
            wanted = wanted.detach().float()
            terms.append((given.float() - wanted).abs().mean() / (wanted.abs().mean() + eps))
    return torch.stack(terms).mean()
