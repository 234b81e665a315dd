"""Applying a real magnitude response with zero phase: colours the signal and moves nothing in time.

A response is given on a fixed logarithmic grid of frequencies and interpolated to the bins of one FFT of the whole
signal. Zero phase means no delay at any frequency, so the degraded signal stays aligned with its target to the
sample, which no causal filter of the same response would.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from datagen.degradations.base import Audio
from manifests.recipe import SAMPLE_RATE_HZ

GRID_POINTS = 4_096
LOWEST_HZ = 1.0
PAD_SAMPLES = SAMPLE_RATE_HZ // 2
"""Silence around the signal, so that what rings before its start or after its end does not wrap into it."""

FULL_BAND_HZ = 20_000.0
"""Losing what lies above this is inaudible."""
WORST_BAND_HZ = 2_000.0
"""Speech that ends here is barely intelligible: severity 1."""


@lru_cache(maxsize=1)
def grid_hz() -> NDArray[np.float64]:
    """Frequencies at which a response is given, in Hz: 0, then logarithmic from 1 Hz to 24 kHz; shape (4096,)."""
    spaced = np.geomspace(LOWEST_HZ, SAMPLE_RATE_HZ / 2, GRID_POINTS - 1)
    return np.concatenate(([0.0], spaced))


def with_response(audio: Audio, magnitude: NDArray[np.float64]) -> Audio:
    """Filter `audio` with zero phase.

    Args:
        audio: shape (N,).
        magnitude: linear gain at each frequency of `grid_hz`, shape (4096,).

    Returns:
        The filtered signal, shape (N,), delay 0.
    """
    size = fft.next_fast_len(len(audio) + PAD_SAMPLES, real=True)
    spectrum = fft.rfft(audio, size)
    below, share = _interpolation(size)
    magnitude = magnitude.astype(np.float32)
    gain = magnitude[below]
    gain += share * np.diff(magnitude)[below]
    spectrum *= gain
    filtered: Audio = fft.irfft(spectrum, size)[: len(audio)]
    return filtered


@lru_cache(maxsize=4)
def _interpolation(size: int) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """For each bin of an FFT of `size`: the grid point below it, and how far it lies towards the next one."""
    grid = grid_hz()
    bins = fft.rfftfreq(size, 1.0 / SAMPLE_RATE_HZ)
    below = np.minimum(np.searchsorted(grid, bins, side="right") - 1, GRID_POINTS - 2)
    share = (bins - grid[below]) / (grid[below + 1] - grid[below])
    return below, share.astype(np.float32)


def bandwidth_severity(bandwidth_hz: float) -> float:
    """Severity of hearing nothing above `bandwidth_hz`: 0 from 20 kHz up, 1 at 2 kHz, logarithmic between."""
    octaves_lost = np.log2(FULL_BAND_HZ / max(bandwidth_hz, 1.0))
    return float(np.clip(octaves_lost / np.log2(FULL_BAND_HZ / WORST_BAND_HZ), 0.0, 1.0))
