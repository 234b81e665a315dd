"""Curves without memory, as amplifiers and converters bend a waveform, and how much they distort it.

A curve makes harmonics without end. A device makes them before its converter's filter, which takes away what the
sample rate cannot carry; computed at 48 kHz they would fold back as tones that no device makes. So a curve is run
on the waveform between the samples, and only what it changes is band-limited again: samples far from any change
stay as they are to the bit, and there is no delay.
"""

import math
from collections.abc import Callable
from typing import Literal

import numpy as np
import soxr

from datagen.degradations.base import Audio
from manifests.recipe import SAMPLE_RATE_HZ

Oversample = Literal[1, 2, 4]
"""At how many times 48 kHz a curve is run; 1 lets harmonics fold back."""
Curve = Callable[[Audio], Audio]

BLOCK_SAMPLES = 16_384
"""What is oversampled at once: stays in a processor's cache, and ten minutes need no more memory than a second."""
QUALITY = "HQ"

MILDEST_SDR_DB = 40.0
"""Distortion this far below the speech is inaudible."""
WORST_SDR_DB = 3.0


def shaped(audio: Audio, curve: Curve, oversample: int, kept: float = 1.0) -> Audio:
    """Run `curve` on `audio`, shape (N,), at `oversample` times 48 kHz.

    Args:
        audio: at 48 kHz.
        curve: called with consecutive stretches of the oversampled waveform; may be empty.
        oversample: 1, 2 or 4.
        kept: gain of what goes past the resamplers, whose filters end at 22 kHz: 1 for a curve that leaves most of
            the signal as it is.

    Returns:
        Shape (N,), delay 0.
    """
    if oversample == 1:
        return curve(audio)
    raised_hz = oversample * SAMPLE_RATE_HZ
    up = soxr.ResampleStream(SAMPLE_RATE_HZ, raised_hz, 1, "float32", QUALITY)
    down = soxr.ResampleStream(raised_hz, SAMPLE_RATE_HZ, 1, "float32", QUALITY)
    gain = np.float32(kept)
    result = audio * gain
    filled = 0
    for start in range(0, len(audio), BLOCK_SAMPLES):
        last = start + BLOCK_SAMPLES >= len(audio)
        points = up.resample_chunk(audio[start : start + BLOCK_SAMPLES], last=last)
        change = down.resample_chunk(curve(points) - gain * points, last=last)
        # Both streams together give back exactly as many samples as they were given.
        result[filled : filled + len(change)] += change
        filled += len(change)
    return result


def sdr_db(clean: Audio, distorted: Audio) -> float:
    """Signal-to-distortion ratio, 10 log10(sum x^2 / sum (x - y)^2) in dB; infinite where nothing has changed."""
    error = clean - distorted
    power, distortion = float(np.dot(clean, clean)), float(np.dot(error, error))
    if distortion <= 0.0:
        return math.inf
    return 10.0 * math.log10(power / distortion) if power > 0.0 else -math.inf


def distortion_severity(sdr: float) -> float:
    """Severity of a distortion at a ratio in dB: 0 from 40 dB up, 1 at 3 dB."""
    return min(1.0, max(0.0, (MILDEST_SDR_DB - sdr) / (MILDEST_SDR_DB - WORST_SDR_DB)))
