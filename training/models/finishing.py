"""What a finished model puts out: its own output, its levelled input where that is as good, and the level made up for.

None of it is trained. Where a model takes little away it was asked to take little, and what it changes there is mostly
harm: that part of the input is put back as it was. The rest keeps a share of the input, which bounds what a model can
take away and spoil, as the attenuation limit of other denoisers does (`chosen`; docs/results.md). Both are for speech
that is good to begin with: of a signal that is mostly noise the output is the model's own (:class:`NoiseGauge`).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.models.layers import Memory

BAND_BINS = 32
"""Bins that are compared together, 1.6 kHz."""
MIN_MAGNITUDE = 1e-6
"""Added to both sides of a comparison: bands of a silence are alike."""
HEARD_BINS = 160
"""Those below 8 kHz, where speech has its power: by them it is judged how much a model takes away."""
MIN_POWER = 1e-7
"""Added to both sides of that: of silence nothing is taken."""
QUIET_DB = 3.0
"""Power of a frame of the levelled input, in its own unit, up to which it is a pause with nothing to be heard: 25 dB
below speech."""
CLEAN_DB, NOISY_DB = -5.5, -9.0
"""What a model takes of a frame in the middle of all: from the first up the input is good enough to be left in, from
the second down nothing of it is (`chosen`; docs/results.md)."""
RATE_DB = 0.05
"""So far the middle moves in a frame of 10 ms, at most: 5 dB a second."""
SOFT_DB = 1.0
"""A frame that is nearer to the middle than this moves it less, and so does one that is hardly louder than a pause."""
OPEN_DB, SHUT_DB = -40.0, -50.0
"""Power of a frame of the levelled input, in its own unit, down to which all that a model puts out is heard, and from
which on nothing is: 68 and 78 dB below speech, some -95 and -105 dBFS."""
FADE_DB = 0.8
"""So far this falls in a frame after the last sound, at most: what a lost packet leaves empty can still be filled."""


def kept(enhanced: Tensor, levelled: Tensor, share: float | Tensor) -> Tensor:
    """Put the levelled input back where it is like the enhanced signal: Y + k r (X - Y).

    r is min(y, x) / max(y, x) with x and y the sums of magnitudes of a band of 32 bins in a frame: 1 where a model
    leaves a band as loud as it was, near 0 where it takes most of it away or adds most of it.

    Args:
        enhanced: Y, linear spectrum (B, 2, 481, T).
        levelled: X, of the same shape.
        share: k, 0 to 1; the same for all, or (B, 1, 1, T).

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


def taken_db(enhanced: Tensor, levelled: Tensor) -> Tensor:
    """Return what a model leaves of the power of each frame below 8 kHz, in dB, for spectra (B, 2, 481, T): (B, T)."""
    return _power_db(enhanced) - _power_db(levelled)


def audible(levelled: Tensor) -> Tensor:
    """Say of each frame of a spectrum (B, 2, 481, T) whether anything is to be heard in it, 0 to 1: (B, T)."""
    return ((_power_db(levelled) - QUIET_DB) / SOFT_DB).clamp(0.0, 1.0)


def middle_db(taken: Tensor, heard: Tensor) -> Tensor:
    """Return the middle of what is taken of the audible frames, (B,), given both for each, (B, T); 0 for none."""
    return taken.masked_fill(heard == 0.0, torch.nan).nanmedian(dim=-1).values.nan_to_num(0.0)


def _power_db(spectrum: Tensor, bins: int = HEARD_BINS) -> Tensor:
    return 10.0 * torch.log10(spectrum[:, :, :bins].square().sum((1, 2)) + MIN_POWER)


class NoiseGauge(nn.Module):
    """Says how far the input of a signal may be left in: 1 for clean speech, 0 for what is mostly noise.

    It follows the middle of :func:`taken_db` of all frames in which anything is to be heard: pauses full of noise, of
    which a model takes nearly all, and loud vowels, of which it takes nothing, move it as far as one another. A signal
    begins as a clean one does.

    Args:
        causal: whether the middle is that of the past; else it is that of all frames.
    """

    memory: Memory | None = None

    def __init__(self, causal: bool) -> None:
        super().__init__()
        self.causal = causal

    def forward(self, enhanced: Tensor, levelled: Tensor) -> Tensor:
        """Return it for each frame, (B, 1, 1, T), of linear spectra (B, 2, 481, T)."""
        middle = self._middle(taken_db(enhanced, levelled), audible(levelled))
        clean = ((middle - NOISY_DB) / (CLEAN_DB - NOISY_DB)).clamp(0.0, 1.0)
        return clean[:, None, None, :]

    def _middle(self, taken: Tensor, heard: Tensor) -> Tensor:
        if not self.causal:
            return middle_db(taken, heard).unsqueeze(-1).expand_as(taken)
        middle = self.memory.get(self) if self.memory is not None else None
        middle = taken.new_zeros(len(taken)) if middle is None else middle
        # Some operations on a few numbers, for each frame: a GPU would take longer to be asked than a CPU to do them.
        course = _followed(taken.cpu(), heard.cpu(), middle.cpu()).to(taken.device)
        if self.memory is not None:
            self.memory[self] = course[:, -1].clone()
        return course


def _followed(taken: Tensor, heard: Tensor, middle: Tensor) -> Tensor:
    """Return the middle after each frame, (B, T)."""
    course = []
    for frame, weight in zip(taken.unbind(-1), heard.unbind(-1), strict=True):
        middle = middle + RATE_DB * weight * ((frame - middle) / SOFT_DB).clamp(-1.0, 1.0)
        course.append(middle)
    return torch.stack(course, dim=-1)


class SilenceGate(nn.Module):
    """Says how far what a model puts out is heard: 1 as long as there is any sound, 0 some time after the last.

    Nothing says what a network draws where there is nothing at all; it is a faint hum.
    """

    memory: Memory | None = None

    def forward(self, levelled: Tensor) -> Tensor:
        """Return it for each frame, (B, 1, 1, T), of a linear spectrum (B, 2, 481, T)."""
        power_db = _power_db(levelled, levelled.shape[2])
        before = self.memory.get(self) if self.memory is not None else None
        before = power_db.new_zeros(len(power_db)) if before is None else before
        fallen = FADE_DB * torch.arange(power_db.shape[1] + 1, device=power_db.device)
        risen = torch.cat((before.unsqueeze(-1), power_db), dim=-1) + fallen
        course = (risen.cummax(dim=-1).values - fallen)[:, 1:]
        if self.memory is not None:
            self.memory[self] = course[:, -1].clone()
        return ((course - SHUT_DB) / (OPEN_DB - SHUT_DB)).clamp(0.0, 1.0)[:, None, None, :]
