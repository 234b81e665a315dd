"""Where a stretch of one signal is found in another: how stages that move time measure what they did."""

import numpy as np
from scipy import fft

from datagen.degradations.base import Audio

FAINTEST_POWER = 1e-12
"""Mean square of a stretch in which there is nothing to look for: -120 dBFS."""


def loudest(audio: Audio, first: int, last: int, frames: int) -> tuple[int, int] | None:
    """Return the beginning and the length of the loudest stretch of about `frames` between `first` and `last`.

    None if all of it is silent.
    """
    frames = min(frames, last - first)
    if frames <= 0:
        return None
    blocks = audio[first : last - (last - first) % frames].reshape(-1, frames)
    power = np.einsum("bs,bs->b", blocks, blocks) / frames
    found = int(np.argmax(power))
    return (first + found * frames, frames) if power[found] > FAINTEST_POWER else None


def lateness(audio: Audio, other: Audio, start: int, frames: int, furthest: int) -> int:
    """Return by how many samples `audio[start:start + frames]` comes later in `other`, by normalised correlation.

    Args:
        audio: shape (N,).
        other: shape (M,).
        start: where the stretch begins.
        frames: how long it is.
        furthest: how far to look in both directions.
    """
    stretch = audio[start : start + frames]
    low = max(0, start - furthest)
    searched = other[low : start + frames + furthest]
    size = fft.next_fast_len(len(searched) + frames, real=True)
    likeness = fft.irfft(fft.rfft(searched, size) * np.conj(fft.rfft(stretch, size)), size)
    power = np.cumsum(np.concatenate(([0.0], np.square(searched, dtype=np.float64))))
    power = power[frames:] - power[:-frames]
    return low + int(np.argmax(likeness[: len(power)] / np.sqrt(power + frames * FAINTEST_POWER))) - start
