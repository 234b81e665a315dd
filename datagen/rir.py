"""Room impulse responses: where the direct path is, how long the room rings, how direct the sound is."""

import math

import numpy as np
from numpy.typing import NDArray

ONSET_DB = 10.0
"""The direct path is the first arrival that comes within this of the strongest."""
ONSET_PEAK_SAMPLES = 24
"""From that onset the direct path's peak is at most this far: half a millisecond at 48 kHz."""
EMPTY_TAIL_DB = -120.0
"""What lies this far below the peak up to the end of a file is padding."""

ENVELOPE_S = 0.005
NOISE_SHARE = 0.1
"""Share of the response at its end that the noise is first estimated from (Lundeby et al. 1995)."""
NOISE_MARGIN_DB = 8.0
REFINEMENTS = 5
FIT_FROM_DB = -5.0
FIT_TO_DB = -25.0
"""T20 of ISO 3382-1: the decay from -5 to -25 dB, extrapolated to 60 dB."""


def direct_path_index(rir: NDArray[np.float32]) -> int:
    """Return the frame of the direct path's peak in a response of shape (N,).

    The strongest peak may be a reflection (a source behind the head, a focusing wall): the direct path is the first
    arrival that is at most 10 dB weaker.

    Raises:
        ValueError: when the response is empty or silent.
    """
    magnitude = np.abs(rir)
    strongest = float(magnitude.max(initial=0.0))
    if strongest <= 0.0 or not math.isfinite(strongest):
        raise ValueError("a room impulse response needs a peak")
    onset = int(np.argmax(magnitude >= strongest * 10.0 ** (-ONSET_DB / 20.0)))
    return onset + int(np.argmax(magnitude[onset : onset + ONSET_PEAK_SAMPLES]))


def rt60_s(rir: NDArray[np.float32], rate_hz: int) -> float | None:
    """Return the reverberation time T20 in seconds, None where the response does not decay by 25 dB.

    Schroeder's backward integration (ISO 3382-1, 5.3.3) from the direct path to where the decay meets the noise,
    less the noise (Chu 1978), plus the energy that an exponential decay would have had beyond.

    Args:
        rir: shape (N,).
        rate_hz: its sample rate.
    """
    start = direct_path_index(rir)
    power = _power_from(rir, start)
    end, slope_db, noise = _meets_noise(power, rate_hz)
    if end < 2 or slope_db >= 0.0:
        return None
    reverse = np.cumsum(power[:end][::-1] - noise)[::-1]
    # Beyond `end` an exponential decay of `slope_db` a sample holds its power at `end` times the sum of the series.
    smooth = max(1, round(ENVELOPE_S * rate_hz))
    at_end = max(0.0, float(power[max(0, end - smooth) : end].mean()) - noise)
    remainder = at_end / (1.0 - 10.0 ** (slope_db / 10.0))
    total = float(reverse[0]) + remainder
    decay_db = 10.0 * np.log10(np.maximum((reverse + remainder) / total, 1e-15))
    first = int(np.argmax(decay_db <= FIT_FROM_DB))
    last = int(np.argmax(decay_db <= FIT_TO_DB))
    if last - first < 2:
        return None
    slope_db_per_frame = np.polyfit(np.arange(last - first), decay_db[first:last], 1)[0]
    return float(-60.0 / slope_db_per_frame / rate_hz) if slope_db_per_frame < 0.0 else None


def drr_db(rir: NDArray[np.float32], rate_hz: int, direct_ms: float = 2.5) -> float:
    """Return the direct-to-reverberant ratio in dB: energy within `direct_ms` of the direct path over all later.

    Noise beyond the end of the decay counts for neither. Infinite for a response without reverberation.
    """
    index = direct_path_index(rir)
    half = round(direct_ms * rate_hz / 1000.0)
    end, _, noise = _meets_noise(_power_from(rir, index), rate_hz)
    direct = float(np.sum(np.square(rir[max(0, index - half) : index + half + 1], dtype=np.float64)))
    tail = np.square(rir[index + half + 1 : index + max(end, half + 1)], dtype=np.float64)
    reverberant = float(tail.sum()) - noise * len(tail)
    return 10.0 * math.log10(direct / reverberant) if reverberant > 0.0 else math.inf


def _power_from(rir: NDArray[np.float32], start: int) -> NDArray[np.float64]:
    """Squared response from a frame on, without the padding at its end."""
    power = np.square(rir[start:], dtype=np.float64)
    audible = np.flatnonzero(power > power.max() * 10.0 ** (EMPTY_TAIL_DB / 10.0))
    return power[: audible[-1] + 1]


def _meets_noise(power: NDArray[np.float64], rate_hz: int) -> tuple[int, float, float]:
    """Find where a decay meets its noise floor (after Lundeby et al., Acustica 81, 1995).

    Returns:
        The frame of the crossing (the end, where the file stops before it), the slope of the decay in dB a frame,
        and the noise power.
    """
    step = max(1, round(ENVELOPE_S * rate_hz))
    blocks = len(power) // step
    if blocks < 4:
        return len(power), 0.0, 0.0
    envelope = power[: blocks * step].reshape(blocks, step).mean(axis=1)
    level_db = 10.0 * np.log10(np.maximum(envelope, envelope.max() * 1e-15))
    peak = int(np.argmax(level_db))
    tail = max(1, round(NOISE_SHARE * blocks))
    noise = float(envelope[-tail:].mean())
    crossing, slope_db = float(blocks), 0.0
    for _ in range(REFINEMENTS):
        noise_db = 10.0 * math.log10(max(noise, 1e-300))
        above = level_db[peak:] > noise_db + NOISE_MARGIN_DB
        last = peak + (len(above) if above.all() else int(np.argmin(above)))
        if last - peak < 2:
            break
        slope_db, intercept_db = np.polyfit(np.arange(peak, last), level_db[peak:last], 1)
        if slope_db >= 0.0:
            break
        crossing = min(float(blocks), (noise_db - intercept_db) / slope_db)
        # The noise starts where the decay is 10 dB below the crossing; at least the last tenth is noise.
        first = min(blocks - tail, math.ceil(crossing - 10.0 / slope_db))
        noise = float(envelope[first:].mean())
    return min(len(power), max(1, round(crossing * step))), float(slope_db) / step, noise
