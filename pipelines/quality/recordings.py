"""What can be said of a recording without a reference beside DNSMOS: its level, its bandwidth, its noise floor."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from datagen.bandwidth import true_bandwidth_hz
from datagen.examine import in_runs
from datagen.level import SILENCE_DBFS, active_level_dbfs
from manifests.recipe import SAMPLE_RATE_HZ
from pipelines.quality.metrics import Audio, MeasurementError

FRAME_SAMPLES = SAMPLE_RATE_HZ // 20
"""50 ms: shorter than most pauses between words."""
QUIET_SHARE = 0.1
NEAR_EXTREME = 0.99
TINY = 1e-3
"""Extremes below -60 dBFS are rounding noise, whose steps are flat."""


@dataclass(frozen=True)
class Measure:
    """Something that describes a recording; no value of it is better than another."""

    name: str
    """Column name, unit included."""
    title: str
    """Heading of its column in a table."""
    digits: int
    measure: Callable[[Audio], float]


def level_dbfs(audio: Audio) -> float:
    """Active level in dBFS (ITU-T P.56 method B); speech is at its most comfortable around -26.

    Raises:
        MeasurementError: when it is silent.
    """
    level = active_level_dbfs(_finite(audio))
    if level <= SILENCE_DBFS:
        raise MeasurementError("silent")
    return level


def bandwidth_khz(audio: Audio) -> float:
    """Where the spectrum ends, in kHz (`datagen.bandwidth`).

    Raises:
        MeasurementError: when it is silent.
    """
    found = true_bandwidth_hz(_finite(audio), SAMPLE_RATE_HZ)
    if not found:
        raise MeasurementError("silent")
    return found / 1000.0


def noise_floor_dbfs(audio: Audio) -> float:
    """RMS level of the quietest tenth of a recording's frames of 50 ms, in dBFS, and never below -100.

    It is that of the noise if the recording has pauses; without any it is that of the quietest speech.

    Raises:
        MeasurementError: when it is shorter than ten frames.
    """
    count = len(audio) // FRAME_SAMPLES
    quiet = int(count * QUIET_SHARE)
    if not quiet:
        raise MeasurementError("shorter than 0.5 s")
    frames = _finite(audio)[: count * FRAME_SAMPLES].reshape(count, FRAME_SAMPLES).astype(np.float64)
    power = np.sort((frames**2).mean(axis=1))[:quiet].mean()
    return max(10.0 * math.log10(power), SILENCE_DBFS) if power > 0.0 else SILENCE_DBFS


def flat_top_share(audio: Audio) -> float:
    """Share of the samples in flat tops: three or more in a row that nearly reach the highest or the lowest value.

    Of what was not clipped, only the top of the loudest wave is counted; codecs and filters round clipped tops off.

    Args:
        audio: shape (N,), at its own rate: resampling rounds them off too.
    """
    if not len(audio) or not _finite(audio).any():
        return 0.0
    top, bottom = float(audio.max()), float(audio.min())
    return (
        in_runs(audio >= NEAR_EXTREME * max(top, TINY)) + in_runs(audio <= NEAR_EXTREME * min(bottom, -TINY))
    ) / len(audio)


def _finite(audio: Audio) -> Audio:
    if not np.isfinite(audio).all():
        raise MeasurementError("holds NaN or infinity")
    return audio


MEASURES = (
    Measure("level_dbfs", "level dBFS", 1, level_dbfs),
    Measure("bandwidth_khz", "band kHz", 1, bandwidth_khz),
    Measure("noise_floor_dbfs", "floor dBFS", 1, noise_floor_dbfs),
)
