"""Losses on spectra and waves; all of them but SI-SNR see the level, because loudness is repaired.

The spectral loss compares power-compressed spectra (PLCPA, phase-aware: magnitudes and complex values) and
adds an asymmetric term against over-suppression, both as in TEA-PSE, at several resolutions as in TEA-PSE
3.0. Waves are (B, N), full scale 1.0.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from training.models.stft import at_least_float32

COMPRESSION_POWER = 0.3

# (window, hop) in samples at 48 kHz: 10 ms for transients, 20 ms as the networks', 43 ms for harmonics.
RESOLUTIONS = ((480, 240), (960, 480), (2048, 512))

# Added to |X|^2. |X| = 1e-4 is below the noise of 16-bit rounding in the shortest window, so what it hides
# cannot be heard; smaller values only make the gradient at digital silence (which grows as its -0.35th power)
# worse.
EPS_POWER = 1e-8


class SpectralLoss(NamedTuple):
    """Terms of the spectral loss, each a scalar averaged over bins, frames, batch and resolutions.

    Attributes:
        magnitude: mean (|Y|^p - |S|^p)^2.
        complex: mean |Y |Y|^(p-1) - S |S|^(p-1)|^2.
        asymmetric: mean max(|S|^p - |Y|^p, 0)^2, what the estimate lacks.
    """

    magnitude: Tensor
    complex: Tensor
    asymmetric: Tensor

    @property
    def total(self) -> Tensor:
        """The sum, each term with weight one."""
        return self.magnitude + self.complex + self.asymmetric


def spectral_loss(
    estimate: Tensor, target: Tensor, resolutions: tuple[tuple[int, int], ...] = RESOLUTIONS
) -> SpectralLoss:
    """Compare two batches of waves by their compressed spectra.

    Args:
        estimate: (B, N) Y.
        target: (B, N) S, at the level wanted.
        resolutions: (window, hop) of each Hann STFT, in samples.

    Returns:
        The terms; all zero exactly where ``estimate`` equals ``target``. Computed in float32 (or better),
        also under autocast.

    Raises:
        ValueError: shapes differ.
    """
    if estimate.shape != target.shape:
        raise ValueError(f"estimate {tuple(estimate.shape)} and target {tuple(target.shape)} differ in shape")
    with torch.autocast(estimate.device.type, enabled=False):
        terms = [_at_resolution(estimate, target, window, hop) for window, hop in resolutions]
    return SpectralLoss(*(torch.stack(term).mean() for term in zip(*terms, strict=True)))


def _at_resolution(estimate: Tensor, target: Tensor, window: int, hop: int) -> tuple[Tensor, Tensor, Tensor]:
    magnitude_y, y = compressed_stft(estimate, window, hop)
    magnitude_s, s = compressed_stft(target, window, hop)
    lack = magnitude_s - magnitude_y
    return (
        lack.square().mean(),
        (y - s).square().sum(-1).mean(),
        lack.clamp_min(0.0).square().mean(),
    )


def compressed_stft(wave: Tensor, window: int, hop: int) -> tuple[Tensor, Tensor]:
    """Return |X|^p (B, F, T) and X |X|^(p-1) (B, F, T, 2) of a wave, padded by zeros at both ends."""
    wave = at_least_float32(wave)
    shape = torch.hann_window(window, dtype=wave.dtype, device=wave.device)
    spectrum = torch.view_as_real(
        torch.stft(wave, window, hop, window=shape, pad_mode="constant", return_complex=True)
    )
    power = spectrum.square().sum(-1) + EPS_POWER
    magnitude: Tensor = power ** (COMPRESSION_POWER / 2.0)
    return magnitude, spectrum * (magnitude / power.sqrt()).unsqueeze(-1)


def level_error(estimate: Tensor, target: Tensor, eps: float = 1e-6) -> Tensor:
    """How far the level of an estimate is from the target's: |10 log10(mean y^2 / mean s^2)|.

    Spectral losses are least for an estimate that is too quiet wherever it is uncertain; this one is not.

    Args:
        estimate: (B, N).
        target: (B, N).
        eps: mean square added to both sides, -60 dBFS: below it, levels are alike.

    Returns:
        (B,) in dB, lower is better.
    """
    with torch.autocast(estimate.device.type, enabled=False):
        estimate, target = (at_least_float32(x) for x in (estimate, target))
        ratio = (estimate.square().mean(-1) + eps) / (target.square().mean(-1) + eps)
        return (10.0 * torch.log10(ratio)).abs()


def si_snr(estimate: Tensor, target: Tensor, eps: float = 1e-8) -> Tensor:
    """Scale-invariant signal-to-noise ratio of signals without their means (Le Roux et al., ICASSP 2019).

    It is blind to level: never the only loss of the repairing net.

    Args:
        estimate: (B, N).
        target: (B, N).
        eps: energy added to both sides of the ratio; bounds the result where one of them is silent.

    Returns:
        (B,) in dB, higher is better.
    """
    with torch.autocast(estimate.device.type, enabled=False):
        estimate, target = (at_least_float32(x) for x in (estimate, target))
        estimate = estimate - estimate.mean(-1, keepdim=True)
        target = target - target.mean(-1, keepdim=True)
        gain = (estimate * target).sum(-1, keepdim=True) / (target.square().sum(-1, keepdim=True) + eps)
        wanted = gain * target
        ratio = (wanted.square().sum(-1) + eps) / ((estimate - wanted).square().sum(-1) + eps)
        return 10.0 * torch.log10(ratio)
