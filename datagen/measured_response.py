"""Measuring the frequency response of a stage from what went in and what came out, whatever happened in between.

The gain at a frequency is the cross-spectrum of output and input over the power of the input (J. Bendat and A. Piersol,
"Random Data", chapter 6). Long signals are summed in pieces before the FFT, which samples their spectrum every
0.8 Hz without computing all of it. Where the input holds nothing, there is no gain to measure.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from datagen.degradations.base import Audio
from manifests.recipe import SAMPLE_RATE_HZ

BINS = 30_000
"""Fewest bins: one at least every 0.8 Hz."""
FLOOR = 1e-10
"""Power of a bin, against the mean of all bins, that stands out from the rounding of 32-bit floats."""
EDGE_OCTAVES = 1.0
"""An edge is looked for this far around where it should be."""
EDGE_BAND_OCTAVES = 1.0 / 96.0
"""Gains are averaged over bands of this width in the search for an edge."""


@dataclass(frozen=True)
class MeasuredResponse:
    """Cross-spectrum and power spectrum, both bin by bin."""

    hz: NDArray[np.float64]
    """Frequencies of the bins, shape (F,)."""
    power: NDArray[np.float64]
    """Of the input, shape (F,)."""
    cross: NDArray[np.complex128]
    """Output times the conjugate of the input, shape (F,)."""

    def gains_db(self, centres_hz: NDArray[np.float64], octaves: float) -> NDArray[np.float64]:
        """Return the gain around each centre in dB, over a band of `octaves`; NaN where the input holds nothing."""
        half = 2.0 ** (octaves / 2.0)
        return self._gains_db(centres_hz / half, centres_hz * half)

    def gain_db(self, low_hz: float, high_hz: float) -> float | None:
        """Return the gain from `low_hz` to `high_hz` in dB; None where the input holds nothing."""
        gain = float(self._gains_db(np.array([low_hz]), np.array([high_hz]))[0])
        return None if np.isnan(gain) else gain

    def _gains_db(self, low_hz: NDArray[np.float64], high_hz: NDArray[np.float64]) -> NDArray[np.float64]:
        spacing = self.hz[1]
        first = np.clip(np.round(low_hz / spacing).astype(int), 0, len(self.hz) - 1)
        last = np.clip(np.round(high_hz / spacing).astype(int), first, len(self.hz) - 1) + 1
        bounds = np.stack((first, last), axis=1).ravel()
        power = np.add.reduceat(np.append(self.power, 0.0), bounds)[::2]
        cross = np.abs(np.add.reduceat(np.append(self.cross, 0.0), bounds)[::2])
        heard = power > FLOOR * self.power.mean() * (last - first)
        gains = np.full(len(power), np.nan)
        gains[heard] = 20.0 * np.log10(np.maximum(cross[heard] / power[heard], 1e-9))
        return gains

    def edge_hz(self, near_hz: float, level_db: float, *, falling: bool) -> float | None:
        """Find where the gain crosses `level_db` within an octave of `near_hz`: None when it does not, to be seen.

        Args:
            near_hz: where the edge should be.
            level_db: gain at the edge.
            falling: whether the gain falls towards higher frequencies. Of several crossings the outermost counts:
                the highest of a falling edge, the lowest of a rising one.
        """
        reach = 2.0**EDGE_OCTAVES
        top_hz = min(near_hz * reach, SAMPLE_RATE_HZ / 2)
        bins = slice(*np.searchsorted(self.hz, [near_hz / reach, top_hz]))
        heard = np.flatnonzero(self.power[bins] > FLOOR * self.power.mean())
        if len(heard) == 0:
            return None
        hz, power, cross = self.hz[bins][heard], self.power[bins][heard], self.cross[bins][heard]
        band = np.floor(np.log2(hz / hz[0]) / EDGE_BAND_OCTAVES)
        starts = np.flatnonzero(np.diff(band, prepend=-1.0))
        weight = np.add.reduceat(power, starts)
        centre = np.log(np.add.reduceat(hz * power, starts) / weight)
        gain_db = 20.0 * np.log10(np.maximum(np.abs(np.add.reduceat(cross, starts)) / weight, 1e-9))
        passed = np.flatnonzero(gain_db >= level_db)
        if len(passed) == 0:
            return None
        inside, outside = (passed[-1], passed[-1] + 1) if falling else (passed[0], passed[0] - 1)
        if not 0 <= outside < len(centre):
            return None
        share = (gain_db[inside] - level_db) / (gain_db[inside] - gain_db[outside])
        return float(np.exp(centre[inside] + share * (centre[outside] - centre[inside])))

    def impulse_response(self, regularisation: float) -> NDArray[np.float64]:
        """Deconvolve: what an impulse at time 0 becomes; shape (2 F - 2,), the end of it is before time 0.

        Args:
            regularisation: power, against the mean of all bins, below which a bin counts for little. The response
                is scaled so that an unchanged signal gives 1 at time 0.
        """
        softened = self.power + regularisation * self.power.mean()
        response: NDArray[np.float64] = fft.irfft(self.cross / softened)
        return response / max(float(fft.irfft(self.power / softened)[0]), 1e-12)


def response_between(before: Audio, after: Audio) -> MeasuredResponse:
    """Measure what became of `before` in `after`, both of shape (N,).

    Both ends are faded out over the whole length: what a filter would have rung on beyond them is cut off, which no
    filter does.
    """
    pieces = max(1, len(before) // (2 * BINS))
    size = int(fft.next_fast_len(max(2 * BINS, -(-len(before) // pieces)), real=True))
    size += size % 2
    window = _window(len(before))
    spectrum = _sampled_spectrum(before, window, size).astype(np.complex128)
    power = spectrum.real**2 + spectrum.imag**2
    cross = _sampled_spectrum(after, window, size).astype(np.complex128) * np.conj(spectrum)
    return MeasuredResponse(fft.rfftfreq(size, 1.0 / SAMPLE_RATE_HZ), power, cross)


def _sampled_spectrum(audio: Audio, window: Audio, size: int) -> NDArray[np.complex64]:
    """Every k-th bin of the spectrum of the faded signal, from an FFT of `size` samples."""
    pieces = -(-len(audio) // size)
    faded = np.zeros(pieces * size, np.float32)
    np.multiply(audio, window, out=faded[: len(audio)])
    spectrum: NDArray[np.complex64] = fft.rfft(faded.reshape(pieces, size).sum(axis=0))
    return spectrum


def _window(frames: int) -> Audio:
    """(1 - u^2)^2 for u from -1 to 1: smooth at both ends like a Hann window, and cheaper."""
    u = np.linspace(-1.0, 1.0, frames, dtype=np.float32)
    u *= u
    np.subtract(np.float32(1.0), u, out=u)
    u *= u
    return u
