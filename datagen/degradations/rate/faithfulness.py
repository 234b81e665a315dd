"""Up to which frequency a signal still follows another, how far behind, and how much of it lies above an edge.

Frame by frame, the phase of the output is compared with that of the input. Where the output is the input, filtered
or not, the phases differ by the delay and nothing else; where it is an image or an alias of another band, they differ
at random. The comparison does not care how strong either is, so that it finds the end of a band below images that
are stronger than what was there before, where ratios of power would not.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft
from scipy.signal.windows import hann

from datagen.degradations.base import Audio
from manifests.recipe import SAMPLE_RATE_HZ

FRAME_SAMPLES = 1_024
MOST_FRAMES = 256
ACTIVE_RANGE = 1e-6
"""Frames with less energy than this share of the loudest one's are pauses."""
BAND_BINS = 9
"""Agreement is averaged over so many bins: 420 Hz."""
AGREES = 0.5
"""Mean cosine of the phase difference, 1 for the same and 0 for unrelated signals."""
QUIETEST_DB = -120.0

_HANN = hann(FRAME_SAMPLES, sym=False).astype(np.float32)
_BIN_HZ = SAMPLE_RATE_HZ / FRAME_SAMPLES


@dataclass(frozen=True)
class Faithfulness:
    """What became of a signal."""

    bandwidth_hz: float
    """The lowest frequency at which the output does not follow the input any more."""
    lag_samples: float
    """By how much the output is later, from the slope of its phase at low frequencies."""
    beyond_db: float
    """Power of the output above the edge, relative to all of it."""


def faithfulness(before: Audio, after: Audio, edge_hz: float) -> Faithfulness:
    """Compare two signals of shape (N,), the second of which should follow the first up to about `edge_hz`.

    The lag is measured below half the edge, where little of a falling spectrum folds to: lags of up to 48000 / edge
    samples, as no interpolator exceeds, are told apart.
    """
    spectra_before, spectra_after = _spectra(before, after)
    cross = spectra_after * np.conj(spectra_before)
    lag = _lag_samples(cross.sum(axis=0), edge_hz / 2.0)
    turned = cross * np.exp(2j * np.pi * lag / FRAME_SAMPLES * np.arange(cross.shape[1])).astype(np.complex64)
    cosine = (turned.real / np.maximum(np.abs(turned), np.float32(1e-30))).mean(axis=0)
    agreement = np.convolve(cosine, np.full(BAND_BINS, 1.0 / BAND_BINS), "same")
    ends = np.flatnonzero(agreement[BAND_BINS:] < AGREES)
    # The band at the top is only half a band wide: nothing can be said of its upper half.
    bins = BAND_BINS + int(ends[0]) if len(ends) else len(agreement) - 1
    power = np.square(np.abs(spectra_after)).sum(axis=0, dtype=np.float64)
    beyond = float(power[math.ceil(edge_hz / _BIN_HZ) + 1 :].sum() / max(float(power.sum()), 1e-30))
    return Faithfulness(bins * _BIN_HZ, lag, max(QUIETEST_DB, 10.0 * math.log10(max(beyond, 1e-30))))


def _spectra(before: Audio, after: Audio) -> tuple[NDArray[np.complex64], NDArray[np.complex64]]:
    """Spectra of frames in which `before` is active, each of shape (frames, bins)."""
    missing = max(0, FRAME_SAMPLES - len(before))
    if missing:
        before, after = np.pad(before, (0, missing)), np.pad(after, (0, missing))
    room = len(before) - FRAME_SAMPLES
    starts = np.linspace(0, room, min(MOST_FRAMES, 1 + 4 * room // FRAME_SAMPLES)).astype(int)
    frames = np.stack([before[start : start + FRAME_SAMPLES] for start in starts]) * _HANN
    energy = np.einsum("fs,fs->f", frames, frames)
    active = np.flatnonzero(energy >= ACTIVE_RANGE * energy.max())
    follow = np.stack([after[start : start + FRAME_SAMPLES] for start in starts[active]]) * _HANN
    return fft.rfft(frames[active], axis=1), fft.rfft(follow, axis=1)


def _lag_samples(cross: NDArray[np.complex64], highest_hz: float) -> float:
    """Fit a line through zero to the phases below a frequency, each weighted by its power."""
    bins = np.arange(2, max(6, int(highest_hz / _BIN_HZ)))
    weight = np.abs(cross[bins]).astype(np.float64)
    slope = float(np.sum(weight * bins * np.angle(cross[bins])) / max(float(np.sum(weight * bins**2)), 1e-30))
    return -slope * FRAME_SAMPLES / (2.0 * math.pi)
