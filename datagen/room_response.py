"""From what a simulator heard to an impulse response: tail, air, high-pass, a direct path in its place.

Three parts of pyroomacoustics are replaced here. Its ray-traced tail has a hole of up to 0.3 s when the talker is near,
because it waits for the first pulse at the rate of the direct path's arrival; its air absorption is constant within
octaves and from 8 kHz upwards, which steps visibly in a 48 kHz spectrogram; and its high-pass has zero phase, which
puts an echo of -52 dB before the direct path.
"""

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.signal import butter, sosfilt

from datagen.air import through_air
from datagen.rir import direct_path_index, drr_db, rt60_s
from datagen.room_plan import SPEED_OF_SOUND_M_S
from manifests.recipe import SAMPLE_RATE_HZ

LEAD_SAMPLES = 96
"""Every simulated response starts 2 ms before its direct path: `rir[LEAD_SAMPLES]` is the direct path."""
TRIM_DB = -80.0
"""The tail ends where the energy still to come lies this far below the whole."""
HIGH_PASS_HZ = 20.0
"""Images of one sign pile up below 10 Hz, by 3 to 20 dB. With minimum phase, nothing precedes the sound."""
_END_FADE_SAMPLES = 240


@dataclass(frozen=True)
class SimulatedResponse:
    """What the microphone hears of one position, and what was measured of it."""

    rir: NDArray[np.float32]
    """Shape (N,), 48 kHz, peak 1.0, direct path at `LEAD_SAMPLES`."""
    rt60_s: float
    drr_db: float
    direct_frame: int
    """Where the direct path was found in `rir`."""
    direct_error_db: float
    """Its amplitude over that of 1/r."""


def with_tail(
    early: NDArray[np.float64],
    energy: NDArray[np.float64],
    bin_samples: int,
    first_frame: int,
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """Add what the rays brought: Gaussian noise with the energy of the ray tracer's histogram in each time bin.

    The rays' receiver is a sphere of half a metre or more, so that some arrive too early: nothing diffuse precedes the
    first reflection.
    """
    filled = np.flatnonzero(energy)
    if not len(filled):
        return early
    energy = energy[: filled[-1] + 1]
    frames = len(energy) * bin_samples
    centres = (np.arange(len(energy)) + 0.5) * bin_samples
    envelope = np.sqrt(np.interp(np.arange(frames), centres, energy) / bin_samples)
    envelope[:first_frame] = 0.0
    result = np.zeros(max(len(early), frames))
    result[: len(early)] = early
    result[:frames] += envelope * rng.standard_normal(frames)
    return result


def finished(heard: NDArray[np.float64], direct: int, distance_m: float) -> SimulatedResponse | None:
    """Finish a response and measure it; None when it does not decay measurably."""
    # Of the direct path alone, amplitude 1/r; before air and high-pass, which take some of its treble and bass.
    direct_error_db = 20.0 * math.log10(max(abs(float(heard[direct])) * distance_m, 1e-6))
    through = through_air(heard, SAMPLE_RATE_HZ, SPEED_OF_SOUND_M_S)
    rir = _trimmed(sosfilt(_high_pass(), through), direct)
    realised_s, ratio_db = rt60_s(rir, SAMPLE_RATE_HZ), drr_db(rir, SAMPLE_RATE_HZ)
    if realised_s is None or not math.isfinite(ratio_db):
        return None
    return SimulatedResponse(rir, realised_s, ratio_db, direct_path_index(rir), direct_error_db)


@cache
def _high_pass() -> NDArray[np.float64]:
    sections: NDArray[np.float64] = butter(2, HIGH_PASS_HZ, "highpass", fs=SAMPLE_RATE_HZ, output="sos")
    return sections


def _trimmed(rir: NDArray[np.float64], direct: int) -> NDArray[np.float32]:
    """Cut to `LEAD_SAMPLES` before the direct path and to where the remaining energy falls below `TRIM_DB`."""
    rir = np.pad(rir, (max(0, LEAD_SAMPLES - direct), 0))[max(0, direct - LEAD_SAMPLES) :]
    # Fractional-delay filters of reflections close to the direct path ring before it.
    rir[:LEAD_SAMPLES] *= np.linspace(0.0, 1.0, LEAD_SAMPLES) ** 2
    remaining = np.cumsum(rir[::-1] ** 2)[::-1]
    end = int(np.searchsorted(-remaining, -remaining[0] * 10.0 ** (TRIM_DB / 10.0)))
    rir = rir[: max(end, 2 * LEAD_SAMPLES)]
    fade = min(_END_FADE_SAMPLES, len(rir) - LEAD_SAMPLES - 1)
    rir[len(rir) - fade :] *= np.cos(np.linspace(0.0, math.pi / 2.0, fade)) ** 2
    trimmed: NDArray[np.float32] = (rir / np.abs(rir).max()).astype(np.float32)
    return trimmed
