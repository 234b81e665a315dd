"""Speech levels: RMS, and the active level of ITU-T P.56 method B, which leaves pauses out.

P.56 (12/2011), section 7: the envelope is a twice-smoothed rectified signal (time constant 30 ms); the signal is
active while the envelope has reached a threshold within the last 200 ms; the active level is the long-term power
divided by the activity at that threshold which lies 15.9 dB below the active level itself.
"""

import math

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter1d
from scipy.signal import lfilter

RATE_HZ = 48_000
SMOOTHING_S = 0.03
HANGOVER_S = 0.2
MARGIN_DB = 15.9
ENVELOPE_RATE_HZ = 1_000
"""The envelope is followed at this rate: 30 of its samples span one time constant."""
SILENCE_DBFS = -100.0
"""Below this active level a signal counts as silent."""
COMFORTABLE_DBFS = -26.0
"""The nominal active level of speech in tests of ITU-T; louder and quieter is less pleasant."""
WORST_DISTANCE_DB = 30.0
"""So far from it, either way, is the worst."""


def rms_dbfs(audio: NDArray[np.float32]) -> float:
    """Return the RMS level in dB relative to a full-scale square wave; -inf for digital silence."""
    power = float(np.dot(audio, audio)) / max(len(audio), 1)
    return 10.0 * math.log10(power) if power > 0.0 else -math.inf


def peak_dbfs(audio: NDArray[np.float32]) -> float:
    """Return the sample peak in dBFS; -inf for digital silence."""
    peak = float(max(audio.max(initial=0.0), -audio.min(initial=0.0)))
    return 20.0 * math.log10(peak) if peak > 0.0 else -math.inf


def active_level_dbfs(audio: NDArray[np.float32], rate_hz: int = RATE_HZ) -> float:
    """Return the P.56 active level in dBFS, -inf for digital silence.

    Scaling the signal by g dB moves the result by exactly g dB (the threshold is found by interpolation in the
    sorted envelope, not on P.56's fixed 6 dB grid).

    Args:
        audio: shape (N,), full scale 1.0.
        rate_hz: its sample rate.
    """
    return measure_activity(audio, rate_hz)[0]


def measure_activity(audio: NDArray[np.float32], rate_hz: int = RATE_HZ) -> tuple[float, float]:
    """Return the P.56 active level in dBFS and the activity factor (0 to 1)."""
    step = max(1, round(rate_hz / ENVELOPE_RATE_HZ))
    blocks = len(audio) // step
    if blocks < 2:
        return rms_dbfs(audio), 1.0
    power = float(np.dot(audio, audio)) / len(audio)
    if power <= 0.0:
        return -math.inf, 0.0
    rectified = np.abs(audio[: blocks * step]).reshape(blocks, step)
    decay = math.exp(-step / (rate_hz * SMOOTHING_S))
    # Two equal poles: smoothed twice. (`mean` spends most of its time on going from row to row; `einsum` does not.)
    gain = (1.0 - decay) ** 2 / step
    envelope = lfilter([gain], [1.0, -2.0 * decay, decay**2], np.einsum("bs->b", rectified))
    hangover = max(1, round(HANGOVER_S * rate_hz / step))
    held = maximum_filter1d(envelope, hangover, origin=(hangover - 1) // 2, mode="constant")
    # With thresholds at the sorted values themselves, activity(threshold k) is (blocks - k) / blocks.
    thresholds = np.sort(held)
    activity = (blocks - np.arange(blocks)) / blocks
    audible = thresholds > 0.0
    level_db = 10.0 * np.log10(power / activity[audible])
    margin_db = level_db - 20.0 * np.log10(thresholds[audible])
    below = np.flatnonzero(margin_db <= MARGIN_DB)
    if not len(below) or below[0] == 0:
        found = 0 if len(below) else len(margin_db) - 1
        return float(level_db[found]), float(activity[audible][found])
    last, first = below[0] - 1, below[0]
    gap = margin_db[last] - margin_db[first]
    share = float((margin_db[last] - MARGIN_DB) / gap) if gap > 0 else 1.0
    level = float(level_db[last] + share * (level_db[first] - level_db[last]))
    return level, float(10.0 ** ((10.0 * math.log10(power) - level) / 10.0))


def level_severity(active_level_dbfs: float) -> float:
    """How unpleasant a level is: 0 at -26 dBFS, 1 from 30 dB away."""
    return min(1.0, abs(active_level_dbfs - COMFORTABLE_DBFS) / WORST_DISTANCE_DB)


def with_active_level(audio: NDArray[np.float32], level_dbfs: float) -> NDArray[np.float32]:
    """Return `audio` scaled to an active level in dBFS; silence is returned as it is."""
    now = active_level_dbfs(audio)
    return scaled(audio, level_dbfs - now) if now > SILENCE_DBFS else audio


def scaled(audio: NDArray[np.float32], gain_db: float) -> NDArray[np.float32]:
    """Return a copy of `audio` with `gain_db` applied."""
    return audio * np.float32(10.0 ** (gain_db / 20.0))
