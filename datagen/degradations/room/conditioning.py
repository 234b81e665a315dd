"""An impulse response made ready to be convolved with: what it is resampled, shortened and weighed to, and what it is.

The same response is drawn again and again, so the last ones are kept with what was measured of them, by content.
"""

import hashlib
import math
from collections import OrderedDict
from dataclasses import dataclass
from threading import Lock

import numpy as np
import soxr
from numpy.typing import NDArray
from scipy import fft

from datagen.degradations.base import Audio, CannotApply
from datagen.rir import direct_path_index, drr_db, rt60_s
from manifests.recipe import SAMPLE_RATE_HZ

LEAD_SAMPLES = 96
"""Kept of a response before its direct path: 2 ms, the first of them faded in, for the onset of the path itself."""
KEPT_BYTES = 12 << 20
"""Of conditioned responses, in each process: about a hundred of half a second."""

_DIRECT_SAMPLES = 121
"""The direct path and 2.5 ms after it, as `datagen.rir.drr_db` has it; everything later is reverberation."""
_FADE_SAMPLES = 48
_BLOCK_SAMPLES = 480
_FLOOR_SHARE = 0.1
_ABOVE_FLOOR_DB = 6.0
_DECAYED_DB = -40.0
"""Past the knee, a measured response decays by this much more before it is cut off."""
_CROSSOVER = (0.8, 0.9)
"""Of the band that a stretched response still fills: where its own treble takes over."""
_SHORTENINGS = 8
_SHORT_ENOUGH = 0.03
_TOO_FAR = 0.12
_INAUDIBLE_DB = 120.0


@dataclass(frozen=True)
class Conditioned:
    """A response that is ready, and what was measured of it."""

    response: Audio
    """Shape (N,), read-only, direct path at `LEAD_SAMPLES`."""
    rt60_s: float | None
    """T20 of its decay. A DRR that was asked for leaves it as it is: weighing reverberation against the direct path
    moves the -5 dB from which T20 is fitted, but not how the room decays."""
    drr_db: float


_Key = tuple[bytes, float | None, float | None, float | None]
_kept: OrderedDict[_Key, Conditioned] = OrderedDict()
_lock = Lock()


def prepared(
    rir: Audio,
    wanted_drr_db: float | None = None,
    resample: float | None = None,
    decay_rt60_s: float | None = None,
) -> Conditioned:
    """Condition a response, or recall it.

    Args:
        rir: shape (N,), 48 kHz.
        wanted_drr_db: direct-to-reverberant ratio to give it.
        resample: play it so many times as fast, before all else.
        decay_rt60_s: bring its RT60 down to this, before its DRR is set; a shorter one is left alone.

    Raises:
        CannotApply: when there is no direct path, or it would be weaker than a reflection.
    """
    content = hashlib.blake2b(np.ascontiguousarray(rir).data, digest_size=16).digest()
    key = (content, wanted_drr_db, resample, decay_rt60_s)
    with _lock:
        if (known := _kept.get(key)) is not None:
            _kept.move_to_end(key)
            return known
    made = _made(rir, wanted_drr_db, resample, decay_rt60_s)
    with _lock:
        _kept[key] = made
        held = sum(kept.response.nbytes for kept in _kept.values())
        while held > KEPT_BYTES and len(_kept) > 1:
            held -= _kept.popitem(last=False)[1].response.nbytes
    return made


def _made(
    rir: Audio, wanted_drr_db: float | None, resample: float | None, decay_rt60: float | None
) -> Conditioned:
    if not np.abs(rir).max(initial=0.0) > 0.0:
        raise CannotApply("the room impulse response is silent")
    if resample is not None:
        rir = _resampled(rir, resample)
    response = _with_silent_end(_from_direct_path(rir))
    if decay_rt60 is not None:
        response = _with_shorter_decay(response, decay_rt60)
    decay_s = rt60_s(response, SAMPLE_RATE_HZ)
    if wanted_drr_db is not None:
        response = _with_drr(response, wanted_drr_db)
    response.flags.writeable = False
    return Conditioned(response, decay_s, drr_db(response, SAMPLE_RATE_HZ))


def early_response(response: Audio, early_ms: float) -> Audio:
    """Return a conditioned response up to `early_ms` after its direct path, ended by a 1 ms fade."""
    early = response[: LEAD_SAMPLES + max(1, round(early_ms * SAMPLE_RATE_HZ / 1000.0))].copy()
    return _faded_out(early, min(_FADE_SAMPLES, len(early) - LEAD_SAMPLES - 1))


def _from_direct_path(rir: Audio) -> NDArray[np.float32]:
    """Cut to `LEAD_SAMPLES` before the direct path, faded in."""
    direct = direct_path_index(rir)
    lead = min(direct, LEAD_SAMPLES)
    response = np.zeros(LEAD_SAMPLES + len(rir) - direct, np.float32)
    response[LEAD_SAMPLES - lead :] = rir[direct - lead :]
    response[:_FADE_SAMPLES] *= np.sin(np.linspace(0.0, math.pi / 2.0, _FADE_SAMPLES, dtype=np.float32)) ** 2
    return response


def _with_silent_end(response: NDArray[np.float32]) -> NDArray[np.float32]:
    """Let the response decay on where a measurement ends in noise.

    The floor is the level of the last tenth. From where the response sinks to 6 dB above it, the rest is faded at
    the response's own rate of decay and cut off 40 dB lower.
    """
    blocks = len(response) // _BLOCK_SAMPLES
    if blocks < 10:
        return response
    energy = np.square(response[: blocks * _BLOCK_SAMPLES].reshape(blocks, _BLOCK_SAMPLES)).mean(axis=1)
    floor = float(np.median(energy[blocks - max(2, int(_FLOOR_SHARE * blocks)) :]))
    above = np.flatnonzero(energy > floor * 10.0 ** (_ABOVE_FLOOR_DB / 10.0))
    knee = (int(above[-1]) + 1) * _BLOCK_SAMPLES if len(above) else blocks * _BLOCK_SAMPLES
    decay_s = rt60_s(response, SAMPLE_RATE_HZ) or 0.3
    length = min(len(response), knee + math.ceil(-_DECAYED_DB / 60.0 * decay_s * SAMPLE_RATE_HZ))
    result = response[:length].copy()
    seconds = np.arange(length - knee, dtype=np.float32) / SAMPLE_RATE_HZ
    # In units of the floor: the energy is (m - 1) d + 1, decay d and floor 1, and shall be m d.
    margin = np.float32(10.0 ** (_ABOVE_FLOOR_DB / 10.0))
    decay = 10.0 ** (-6.0 * seconds / np.float32(decay_s))
    result[knee:] *= np.sqrt(margin * decay / ((margin - 1.0) * decay + 1.0))
    return _faded_out(result, min(_FADE_SAMPLES, length - LEAD_SAMPLES - 1))


def _faded_out(response: NDArray[np.float32], samples: int) -> NDArray[np.float32]:
    """Fade the last `samples` of an own array to zero, in place."""
    if samples > 0:
        response[-samples:] *= np.cos(np.linspace(0.0, math.pi / 2.0, samples, dtype=np.float32)) ** 2
    return response


def _with_drr(response: NDArray[np.float32], wanted_db: float) -> NDArray[np.float32]:
    """Weigh what follows the direct path so that the ratio of their energies is `wanted_db`."""
    now_db = drr_db(response, SAMPLE_RATE_HZ)
    if not math.isfinite(now_db):
        raise CannotApply("the room impulse response is all direct path, so it has no DRR")
    split = LEAD_SAMPLES + _DIRECT_SAMPLES
    direct, rest = response[:split], response[split:]
    weighed = rest * np.float32(10.0 ** ((now_db - wanted_db) / 20.0))
    if np.abs(weighed).max() > np.abs(direct).max():
        raise CannotApply(f"a DRR of {wanted_db:.1f} dB would make a reflection louder than the direct path")
    return np.concatenate((direct, weighed))


def _with_shorter_decay(response: NDArray[np.float32], wanted_s: float) -> NDArray[np.float32]:
    """Fade what follows the direct path exponentially, so that T20 comes down to `wanted_s`.

    A decay of 60 dB in T and an envelope of 60 dB in E make one of 60 / T + 60 / E dB a second. Real decays bend, so
    the envelope is corrected by what came out, within what was too steep and too flat before.
    """
    decay_s = rt60_s(response, SAMPLE_RATE_HZ)
    if decay_s is None or decay_s <= wanted_s:
        return response
    db_s, flatter, steeper = 0.0, 0.0, math.inf
    best, best_error = response, math.inf
    for _ in range(_SHORTENINGS):
        # Where nothing is left to measure, the envelope was too steep.
        next_db_s = db_s + 60.0 / wanted_s - 60.0 / decay_s if decay_s else math.inf
        if not flatter < next_db_s < steeper:
            next_db_s = 0.5 * (flatter + steeper)
        db_s = next_db_s
        faded = _steeper(response, db_s)
        decay_s = rt60_s(faded, SAMPLE_RATE_HZ)
        error = abs(decay_s / wanted_s - 1.0) if decay_s else math.inf
        if error < best_error:
            best, best_error = faded, error
        if error <= _SHORT_ENOUGH:
            return faded
        flatter, steeper = (db_s, steeper) if decay_s and decay_s > wanted_s else (flatter, db_s)
    if best_error > _TOO_FAR:
        raise CannotApply(f"no fading brings the response's RT60 down to {wanted_s:.2f} s")
    return best


def _steeper(response: NDArray[np.float32], db_s: float) -> NDArray[np.float32]:
    length = min(len(response), LEAD_SAMPLES + math.ceil(_INAUDIBLE_DB / db_s * SAMPLE_RATE_HZ))
    steeper = response[:length].copy()
    seconds = np.arange(length - LEAD_SAMPLES, dtype=np.float32) / SAMPLE_RATE_HZ
    steeper[LEAD_SAMPLES:] *= np.float32(10.0) ** (np.float32(-db_s / 20.0) * seconds)
    return steeper


def _resampled(rir: Audio, factor: float) -> NDArray[np.float32]:
    """Play a response `factor` times as fast: a room of 1 / `factor` times the size.

    Its direct path falls on a whole sample again. A slower response has lost its treble, as far as the original has
    any: that of the original is put in its place, its direct path where the slower one has it.
    """
    direct = direct_path_index(rir)
    played = soxr.resample(rir, SAMPLE_RATE_HZ * factor, SAMPLE_RATE_HZ, quality="HQ")
    at = round(direct / factor)
    size = fft.next_fast_len(max(len(played), at + len(rir) - direct) + 2 * LEAD_SAMPLES, real=True)
    cycles = np.arange(size // 2 + 1) / size
    # A pulse that is played slower keeps its height and becomes wider, which makes all of its spectrum louder.
    spectrum = fft.rfft(played, size) * (factor * np.exp(-2j * np.pi * cycles * (at - direct / factor)))
    if factor < 1.0:
        first, last = (share * 0.5 * factor for share in _CROSSOVER)
        share = np.clip((cycles - first) / (last - first), 0.0, 1.0)
        treble = np.sin(0.5 * np.pi * share) ** 2
        shift = np.exp(-2j * np.pi * cycles * (at - direct))
        spectrum = (1.0 - treble) * spectrum + treble * shift * fft.rfft(rir, size)
    response: NDArray[np.float32] = fft.irfft(spectrum, size)[: len(played) + LEAD_SAMPLES].astype(np.float32)
    return response
