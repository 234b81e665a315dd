"""What a finished model puts out: its own output, its levelled input where that is as good, and the level made up for.

None of it is trained. Where a model takes little away it was asked to take little, and what it changes there is mostly
harm: that part of the input is put back as it was. The rest keeps a share of the input, which bounds what a model can
take away and spoil, as the attenuation limit of other denoisers does (`chosen`; docs/results.md).
"""

import torch
from torch import Tensor
from torch.nn import functional as F

BAND_BINS = 32
"""Bins that are compared together, 1.6 kHz."""
MIN_MAGNITUDE = 1e-6
"""Added to both sides of a comparison: bands of a silence are alike."""


def kept(enhanced: Tensor, levelled: Tensor, share: float) -> Tensor:
    """Put the levelled input back where it is like the enhanced signal: Y + k r (X - Y).

    r is min(y, x) / max(y, x) with x and y the sums of magnitudes of a band of 32 bins in a frame: 1 where a model
    leaves a band as loud as it was, near 0 where it takes most of it away or adds most of it.

    Args:
        enhanced: Y, linear spectrum (B, 2, 481, T).
        levelled: X, of the same shape.
        share: k, 0 to 1.

    Returns:
        (B, 2, 481, T).
    """
    return enhanced + share * likeness(enhanced, levelled) * (levelled - enhanced)


def likeness(enhanced: Tensor, levelled: Tensor) -> Tensor:
    """Return r of :func:`kept` for spectra (B, 2, F, T): (B, 1, F, T)."""
    ours, theirs = (_of_bands(spectrum) for spectrum in (enhanced, levelled))
    ratio = (torch.minimum(ours, theirs) + MIN_MAGNITUDE) / (torch.maximum(ours, theirs) + MIN_MAGNITUDE)
    return ratio.repeat_interleave(BAND_BINS, dim=2)[:, :, : enhanced.shape[2]]


def _of_bands(spectrum: Tensor) -> Tensor:
    """Return the sums of magnitudes, (B, 1, bands, T); the last band may have fewer bins."""
    magnitude = spectrum.square().sum(1, keepdim=True).sqrt()
    padded = F.pad(magnitude, (0, 0, 0, -magnitude.shape[2] % BAND_BINS))
    batch, _, bins, frames = padded.shape
    return padded.reshape(batch, 1, bins // BAND_BINS, BAND_BINS, frames).sum(3)
