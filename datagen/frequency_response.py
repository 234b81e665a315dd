"""Applying a frequency response to a whole signal: with zero phase it colours the signal and moves nothing in time.

A response is given on a fixed logarithmic grid of frequencies and interpolated to the bins of one FFT of the whole
signal. A real response has zero phase: no delay at any frequency, so the degraded signal stays aligned with its
target to the sample, which no causal filter of the same response would.
"""

from functools import lru_cache
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from datagen.degradations.base import Audio
from manifests.recipe import SAMPLE_RATE_HZ

Gain = TypeVar("Gain", np.float32, np.complex64)

GRID_POINTS = 4_096
LOWEST_HZ = 1.0
PAD_SAMPLES = SAMPLE_RATE_HZ // 2
"""Silence around the signal, so that what rings before its start or after its end does not wrap into it."""
POWER_OF_TWO = 16
"""Sizes of FFTs are multiples of this: numbers with small odd factors only can be nearer, but are slower."""

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
    spectrum, size = padded_spectrum(audio)
    spectrum *= at_bins(magnitude.astype(np.float32), size)
    filtered: Audio = fft.irfft(spectrum, size, overwrite_x=True)[: len(audio)]
    return filtered


def padded_spectrum(audio: Audio) -> tuple[NDArray[np.complex64], int]:
    """Return the spectrum of `audio` with at least 0.5 s of silence after it, and the size of the FFT."""
    pieces = -(-(len(audio) + PAD_SAMPLES) // POWER_OF_TWO)
    size = POWER_OF_TWO * int(fft.next_fast_len(pieces, real=True))
    return fft.rfft(audio, size), size


def at_bins(response: NDArray[Gain], size: int) -> NDArray[Gain]:
    """Interpolate a response on `grid_hz`, real or complex, to the bins of an FFT of `size`."""
    below, share = _interpolation(size)
    gains: NDArray[Gain] = response[below]
    gains += share * np.diff(response)[below]
    return gains


@lru_cache(maxsize=2)
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
