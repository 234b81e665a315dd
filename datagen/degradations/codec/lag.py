"""Where the waveform of what came out of a codec fits that of what went in."""

import math

import numpy as np

from datagen.degradations.base import Audio

SEARCH_SAMPLES = 5
"""How far from the known delay to look, at 48 kHz: a tenth of a millisecond, in which speech does not repeat."""
SURE_LIKENESS = 0.3
"""Below this correlation the waveforms say nothing, and the known delay stands."""


def best_match(audio: Audio, decoded: Audio, delay_samples: int) -> tuple[int, float]:
    """Find where `decoded` correlates best with `audio`.

    Args:
        audio: what was sent, shape (N,) at 48 kHz.
        decoded: what came out, shape (M,) at 48 kHz.
        delay_samples: by how much it should be late.

    Returns:
        By how many samples that is later than `delay_samples`, and what lag is left by parabolic interpolation;
        zeros where nothing is sure.
    """
    length = min(len(audio), len(decoded) - delay_samples - SEARCH_SAMPLES)
    if length <= 0:
        return 0, 0.0
    sent = audio[:length]
    lags = range(-min(SEARCH_SAMPLES, delay_samples), SEARCH_SAMPLES + 1)
    likeness = [float(np.dot(sent, decoded[delay_samples + lag :][:length])) for lag in lags]
    best = int(np.argmax(likeness))
    energy = float(np.dot(sent, sent)) * float(np.dot(decoded, decoded))
    if not likeness[best] > SURE_LIKENESS * math.sqrt(energy) > 0.0:
        return 0, 0.0
    return lags[best], _vertex(likeness, best)


def _vertex(likeness: list[float], best: int) -> float:
    if not 0 < best < len(likeness) - 1:
        return 0.0
    before, at, after = likeness[best - 1 : best + 2]
    curvature = before - 2.0 * at + after
    return 0.5 * (before - after) / curvature if curvature < 0.0 else 0.0
