"""Alignment: removing a declared delay, and measuring what lag remains."""

import numpy as np
from numpy.typing import NDArray
from scipy import fft

WINDOW_SAMPLES = 1 << 15
"""Length of the stretch that is correlated: 0.68 s at 48 kHz, taken where the reference is loudest."""
MAX_LAG_SAMPLES = 2_400
"""Largest lag looked for: 50 ms at 48 kHz."""
_BLOCK_SAMPLES = 2_048


def without_delay(audio: NDArray[np.float32], delay_samples: float, frames: int) -> NDArray[np.float32]:
    """Remove a delay from `audio` and cut or zero-pad it to `frames`.

    A fractional rest is removed by a linear phase in the spectrum (exact for band-limited signals).

    Args:
        audio: shape (N,).
        delay_samples: how much later than its input the audio comes; negative when it comes earlier.
        frames: length of the result.
    """
    whole = int(np.floor(delay_samples + 0.5))
    rest = delay_samples - whole
    if rest:
        size = fft.next_fast_len(len(audio) + 256, real=True)
        spectrum = fft.rfft(audio, size)
        spectrum *= np.exp(2j * np.pi * rest * np.arange(len(spectrum)) / size).astype(np.complex64)
        audio = fft.irfft(spectrum, size)[: len(audio)].astype(np.float32)
    if whole == 0 and len(audio) == frames:
        return audio
    out = np.zeros(frames, np.float32)
    first = max(whole, 0)
    at = max(-whole, 0)
    count = min(frames - at, len(audio) - first)
    if count > 0:
        out[at : at + count] = audio[first : first + count]
    return out


def residual_lag(audio: NDArray[np.float32], reference: NDArray[np.float32]) -> tuple[float, float]:
    """Measure by how many samples `audio` lags `reference`, and how alike they are there.

    Cross-correlation of the loudest stretch of the reference, with parabolic interpolation of the peak.

    Returns:
        The lag in samples (sub-sample), and the normalised correlation at the peak, 0 to 1.
    """
    length = min(len(audio), len(reference))
    window = min(WINDOW_SAMPLES, length)
    start = _loudest(reference[:length], window)
    mine = reference[start : start + window]
    low = max(0, start - MAX_LAG_SAMPLES)
    theirs = audio[low : min(length, start + window + MAX_LAG_SAMPLES)]
    # What wraps around in so short a transform are lags that are not looked at.
    size = fft.next_fast_len(len(theirs), real=True)
    product = fft.rfft(theirs, size) * np.conj(fft.rfft(mine, size))
    correlation = fft.irfft(product, size)[: len(theirs) - len(mine) + 1]
    magnitude = np.abs(correlation)
    peak = int(np.argmax(magnitude))
    energy = float(np.dot(mine, mine)) * float(
        np.dot(theirs[peak : peak + window], theirs[peak : peak + window])
    )
    likeness = float(magnitude[peak]) / energy**0.5 if energy > 0.0 else 0.0
    fraction = 0.0
    if 0 < peak < len(magnitude) - 1:
        before, at, after = (float(x) for x in magnitude[peak - 1 : peak + 2])
        curvature = before - 2.0 * at + after
        fraction = 0.5 * (before - after) / curvature if curvature < 0.0 else 0.0
    return peak + fraction - (start - low), likeness


def _loudest(audio: NDArray[np.float32], window: int) -> int:
    blocks = len(audio) // _BLOCK_SAMPLES
    span = max(1, window // _BLOCK_SAMPLES)
    if blocks <= span:
        return 0
    framed = audio[: blocks * _BLOCK_SAMPLES].reshape(blocks, _BLOCK_SAMPLES)
    energy = np.einsum("bs,bs->b", framed, framed, dtype=np.float64)
    total = np.concatenate(([0.0], np.cumsum(energy)))
    return int(np.argmax(total[span:] - total[:-span])) * _BLOCK_SAMPLES
