"""What processors of dynamics are made of: level detector, gain computer, attack and release, and what was delivered.

The design is the feed-forward one in decibels of D. Giannoulis, M. Massberg and J. D. Reiss, "Digital dynamic range
compressor design: a tutorial and analysis", J. Audio Eng. Soc. 60 (6), 2012. Levels are followed at 1 kHz; a gain is
interpolated between these points, so it neither steps nor delays anything.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.signal import lfilter

from datagen.degradations.base import Audio, CannotApply
from datagen.level import MARGIN_DB, SILENCE_DBFS, active_level_dbfs
from manifests.recipe import SAMPLE_RATE_HZ

Curve = NDArray[np.float64]
"""One value for each millisecond, shape (M,) for N samples, M = ceil(N / 48)."""

CONTROL_SAMPLES = 48
CONTROL_RATE_HZ = SAMPLE_RATE_HZ / CONTROL_SAMPLES
FLOOR_DBFS = -120.0
"""Lower levels are not told apart."""
FRAME_BLOCKS = 10
FRAME_SAMPLES = FRAME_BLOCKS * CONTROL_SAMPLES
"""What was delivered is measured in frames of 10 ms."""
REDUCED_DB = 1.0
"""A frame that lost more than this counts as reduced."""
LEAST_REDUCTION_DB = 0.5
"""A processor that takes less than this even from the frame that it hits hardest is not heard."""
DB_A_TIME_CONSTANT = 20.0 / math.log(10.0)
"""An amplitude that decays exponentially falls by 8.69 dB in one time constant."""
_SOLVED_DB = 0.005


# --- levels and gains -----------------------------------------------------------------------------


def peaks_dbfs(audio: Audio) -> Curve:
    """Return the highest magnitude within each millisecond, in dBFS."""
    whole = len(audio) // CONTROL_SAMPLES * CONTROL_SAMPLES
    peaks = np.abs(audio[:whole]).reshape(-1, CONTROL_SAMPLES).max(axis=1)
    if whole < len(audio):
        peaks = np.append(peaks, np.abs(audio[whole:]).max())
    return np.asarray(20.0 * np.log10(np.maximum(peaks.astype(np.float64), 10.0 ** (FLOOR_DBFS / 20.0))))


def power_dbfs(audio: Audio, time_constant_ms: float) -> Curve:
    """Return the power of the last `time_constant_ms`, exponentially weighed, at each millisecond, in dBFS."""
    whole = len(audio) // CONTROL_SAMPLES * CONTROL_SAMPLES
    blocks, rest = audio[:whole].reshape(-1, CONTROL_SAMPLES), audio[whole:]
    power = np.einsum("bs,bs->b", blocks, blocks).astype(np.float64) / CONTROL_SAMPLES
    if len(rest):
        power = np.append(power, float(np.dot(rest, rest)) / len(rest))
    smooth = one_pole(power, time_constant_ms, float(power[0]))
    return np.asarray(10.0 * np.log10(np.maximum(smooth, 10.0 ** (FLOOR_DBFS / 10.0))))


def compression_db(level_db: Curve, threshold_db: float, ratio: float, knee_db: float) -> Curve:
    """Return by how much a compressor turns down at a steady level: equation 4 of the paper, input minus output."""
    over = level_db - threshold_db
    slope = 1.0 - 1.0 / ratio
    if knee_db <= 0.0:
        return np.asarray(slope * np.maximum(over, 0.0))
    bent = slope * np.square(np.clip(over + knee_db / 2.0, 0.0, knee_db)) / (2.0 * knee_db)
    return np.asarray(np.where(over > knee_db / 2.0, slope * over, bent))


def expansion_db(level_db: Curve, threshold_db: float, ratio: float, most_db: float) -> Curve:
    """Return by how much a downward expander turns down at a steady level; never more than `most_db`."""
    return np.asarray(np.clip((ratio - 1.0) * (threshold_db - level_db), 0.0, most_db))


def held_db(level_db: Curve, fall_db_per_s: float) -> Curve:
    """Follow every rise at once, and fall at a rate: the decoupled peak detector, equation 15, in dB."""
    fallen = fall_db_per_s / CONTROL_RATE_HZ * np.arange(len(level_db))
    return np.asarray(np.maximum.accumulate(level_db + fallen) - fallen)


def ballistic_db(reduction_db: Curve, attack_ms: float, release_ms: float) -> Curve:
    """Let a reduction of 0 dB and more come with one time constant and go with another: equation 15 on the gain."""
    # y[n] = max(x[n], exp(-1 / release) y[n - 1]) is a running maximum once the decay is taken out of it.
    decayed = np.arange(len(reduction_db)) / (release_ms * CONTROL_RATE_HZ / 1_000.0)
    released = np.exp(np.maximum.accumulate(np.log(np.maximum(reduction_db, 1e-12)) + decayed) - decayed)
    return one_pole(released, attack_ms, 0.0)


def one_pole(values: Curve, time_constant_ms: float, before: float) -> Curve:
    """Smooth with one time constant, from the value `before` on."""
    keep = math.exp(-1_000.0 / (time_constant_ms * CONTROL_RATE_HZ))
    smooth, _ = lfilter([1.0 - keep], [1.0, -keep], values, zi=[keep * before])
    return np.asarray(smooth)


def with_gain(audio: Audio, gain_db: Curve) -> Audio:
    """Apply a gain that reaches `gain_db[k]` at the end of millisecond k and starts with its first value."""
    return with_gain_at_edges(audio, np.concatenate((gain_db[:1], gain_db)))


def with_gain_at_edges(audio: Audio, gain_db: Curve) -> Audio:
    """Apply a gain given at every edge between milliseconds, shape (M + 1,), linear in amplitude between them."""
    gain = (10.0 ** (gain_db / 20.0)).astype(np.float32)
    blocks = len(audio) // CONTROL_SAMPLES
    whole = blocks * CONTROL_SAMPLES
    ramp = np.arange(1, CONTROL_SAMPLES + 1, dtype=np.float32) / CONTROL_SAMPLES
    curve = np.empty(len(audio), np.float32)
    body = curve[:whole].reshape(blocks, CONTROL_SAMPLES)
    np.multiply(np.diff(gain[: blocks + 1])[:, None], ramp, out=body)
    body += gain[:blocks, None]
    if whole < len(audio):
        curve[whole:] = gain[blocks] + (gain[blocks + 1] - gain[blocks]) * ramp[: len(audio) - whole]
    curve *= audio
    return curve


# --- what a gain does to speech -------------------------------------------------------------------


@dataclass(frozen=True)
class Activity:
    """Where somebody speaks: the frames of 10 ms that count when a reduction is measured."""

    level_dbfs: float
    """Active level of the signal (P.56)."""
    energies: Curve
    """Sum of squares of each millisecond that belongs to a whole frame."""
    active: NDArray[np.bool_]
    """Whether a frame lies less than 15.9 dB below the active level, shape (frames,)."""

    def reductions_db(self, gain_db: Curve) -> Curve:
        """Predict what a gain takes from each frame."""
        gain = 10.0 ** (gain_db[: len(self.energies)] / 20.0)
        start = np.concatenate((gain[:1], gain[:-1]))
        after = self.energies * (start * start + start * gain + gain * gain) / 3.0
        return _loss_db(_framed(self.energies), _framed(after))

    def mean_reduction_db(self, gain_db: Curve) -> float:
        """Predict what a gain takes from the active frames, on average."""
        return float(self.reductions_db(gain_db)[self.active].mean())


@dataclass(frozen=True)
class Delivered:
    """What a processor took from the signal, measured on the audio before and after it."""

    mean_db: float
    """On average over the active frames."""
    most_db: float
    """From the frame that lost most, of all that hold a signal."""
    share: float
    """Share of the active frames that lost more than was asked about."""
    range_db: float
    """Between the frames that lost most and least, of all that hold a signal."""


def activity(audio: Audio) -> Activity:
    """Find the frames in which somebody speaks.

    Raises:
        CannotApply: when nobody does.
    """
    level_dbfs = active_level_dbfs(audio)
    frames = len(audio) // FRAME_SAMPLES
    if level_dbfs <= SILENCE_DBFS or not frames:
        raise CannotApply("there is no speech whose dynamics could be processed")
    blocks = audio[: frames * FRAME_SAMPLES].reshape(-1, CONTROL_SAMPLES)
    energies = np.einsum("bs,bs->b", blocks, blocks).astype(np.float64)
    active = _framed(energies) > FRAME_SAMPLES * 10.0 ** ((level_dbfs - MARGIN_DB) / 10.0)
    if not active.any():
        raise CannotApply("there is no speech whose dynamics could be processed")
    return Activity(level_dbfs, energies, active)


def lost_db(speech: Activity, after: Audio) -> Curve:
    """Measure what each frame of the signal in which `speech` was found has lost; 0 for digital silence."""
    frames = len(speech.active)
    framed = after[: frames * FRAME_SAMPLES].reshape(frames, FRAME_SAMPLES)
    return _loss_db(_framed(speech.energies), np.einsum("fs,fs->f", framed, framed).astype(np.float64))


def lost_db_by_millisecond(speech: Activity, after: Audio) -> Curve:
    """Measure as `lost_db` does, for each millisecond that belongs to a whole frame."""
    blocks = after[: len(speech.energies) * CONTROL_SAMPLES].reshape(-1, CONTROL_SAMPLES)
    return _loss_db(speech.energies, np.einsum("bs,bs->b", blocks, blocks).astype(np.float64))


def delivered(speech: Activity, after: Audio, reduced_db: float = REDUCED_DB) -> Delivered:
    """Measure what became of the signal in which `speech` was found; frames that lost `reduced_db` are counted."""
    lost = lost_db(speech, after)
    sounding, active = lost[_framed(speech.energies) > 0.0], lost[speech.active]
    return Delivered(
        float(active.mean()),
        float(sounding.max()),
        float(np.mean(active > reduced_db)),
        float(np.ptp(sounding)),
    )


def threshold_for(
    wanted_db: float, reduction_at: Callable[[float], float], low_db: float, high_db: float
) -> float:
    """Find the threshold between two others at which a processor takes `wanted_db` from the speech.

    Raises:
        CannotApply: when no threshold between them does.
    """
    ends = [reduction_at(end) - wanted_db for end in (low_db, high_db)]
    if ends[0] * ends[1] > 0.0:
        raise CannotApply(f"no threshold takes {wanted_db:.1f} dB from this speech")
    return float(
        brentq(lambda threshold: reduction_at(threshold) - wanted_db, low_db, high_db, xtol=_SOLVED_DB)
    )


def _framed(energies: Curve) -> Curve:
    return np.asarray(energies.reshape(-1, FRAME_BLOCKS).sum(axis=1))


def _loss_db(before: Curve, after: Curve) -> Curve:
    """Difference of the levels of frames in dB; 0 for frames of digital silence."""
    least = np.finfo(np.float64).tiny
    lost = 10.0 * np.log10(np.maximum(before, least) / np.maximum(after, least))
    return np.asarray(np.where(before > 0.0, lost, 0.0))
