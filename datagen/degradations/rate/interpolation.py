"""Simple interpolators, as cheap converters and old software use them: what they miss can be heard.

All of them go through the samples that they are given. In a spectrum they are filters of the low rate's images:
sinc for a held sample, sinc squared for straight lines, and steeper ones for cubics. On the way down, without a filter
before them, they fold everything above half the low rate into what lies below.
"""

import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from datagen.degradations.base import Audio

Interpolator = Literal["zoh", "linear", "cubic"]

BLOCK_SAMPLES = 65_536
_ROUNDING = 1e-6
"""Places are multiples of at least 1/48000 of a sample: this far below a whole number is that number."""


def interpolated(audio: Audio, from_hz: int, to_hz: int, count: int, interpolator: Interpolator) -> Audio:
    """Read `audio` at another rate.

    Args:
        audio: shape (N,), at `from_hz`. Beyond its ends it goes on as it ends.
        from_hz: its rate.
        to_hz: the rate of the result.
        count: length of the result.
        interpolator: `zoh` holds each sample until the next (zero-order hold), `linear` draws straight lines, `cubic`
            draws Catmull-Rom splines (E. Catmull and R. Rom, 1974), whose slope at a sample is that between its
            neighbours.

    Returns:
        Shape (count,); sample n lies at the time n / to_hz.
    """
    padded = np.pad(audio, (1, 3), mode="edge")
    result = np.empty(count, np.float32)
    for start in range(0, count, BLOCK_SAMPLES):
        stop = min(start + BLOCK_SAMPLES, count)
        before, share = _places(start, stop, from_hz, to_hz)
        np.minimum(before, len(audio), out=before)
        result[start:stop] = _between(padded, before, share, interpolator)
    return result


def held_lag_samples(down_hz: int, high_hz: int, *, held_down: bool) -> float:
    """Return by how many samples a zero-order hold lags, on average, that brings `down_hz` up to `high_hz`.

    A held sample stands for the time from itself to the next: the mean age of what is heard is half a low-rate
    sample, less half of the finest step in which ages come.

    Args:
        down_hz: the low rate.
        high_hz: the rate above it, in whose samples the lag is given.
        held_down: whether the way down was a hold too, which took the last sample at or before each place.
    """
    common = math.gcd(down_hz, high_hz)
    low, high = down_hz // common, high_hz // common
    period = np.arange(high, dtype=np.int64)
    low_places = period * low // high
    ages = period - (low_places * high // low if held_down else low_places * (high / low))
    return float(ages.mean())


def _places(start: int, stop: int, from_hz: int, to_hz: int) -> tuple[NDArray[np.int64], Audio]:
    """For each sample of the result: the last sample at or before it, and how far it lies towards the next."""
    places = np.arange(start, stop, dtype=np.float64) * (from_hz / to_hz)
    places += _ROUNDING
    before = places.astype(np.int64)
    places -= before
    places -= _ROUNDING
    return before, places.astype(np.float32)


def _between(padded: Audio, before: NDArray[np.int64], share: Audio, interpolator: Interpolator) -> Audio:
    """Interpolate in audio with one sample of padding at its start."""
    here = padded[1:][before]
    if interpolator == "zoh":
        return here
    following = padded[2:][before]
    if interpolator == "linear":
        return np.asarray(here + share * (following - here), np.float32)
    previous, last = padded[before], padded[3:][before]
    half = np.float32(0.5)
    slope = half * (following - previous)
    bend = previous - np.float32(2.5) * here + np.float32(2.0) * following - half * last
    twist = np.float32(1.5) * (here - following) + half * (last - previous)
    return np.asarray(here + share * (slope + share * (bend + share * twist)), np.float32)
