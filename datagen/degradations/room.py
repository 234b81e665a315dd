"""The room: speech convolved with the impulse response between a talker and a microphone.

The response is cut to its direct path, so reverberant speech stays aligned with the dry talker to the sample, and
the active level of what comes in is kept, so that the level drawn for the talker and every later SNR keep meaning.
"""

import math
from typing import Annotated, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy import fft
from scipy.signal import oaconvolve

from datagen.degradations.base import (
    Applied,
    Audio,
    CannotApply,
    Degradation,
    Drawn,
    Inputs,
    NoMaterial,
    Scene,
)
from datagen.level import SILENCE_DBFS, active_level_dbfs, scaled, with_active_level
from datagen.rir import direct_path_index, drr_db, early_part, rt60_s
from datagen.rooms import NAME_PREFIX
from manifests.ranges import Probability, Span, Within, uniform
from manifests.recipe import SAMPLE_RATE_HZ, TargetKind
from manifests.sample import Axis, Clip, Values
from manifests.source import Source

LEAD_SAMPLES = 96
"""Kept of a response before its direct path: 2 ms, the first of them faded in, for the onset of the path itself."""
_DIRECT_SAMPLES = 121
"""The direct path and 2.5 ms after it, as `datagen.rir.drr_db` has it; everything later is reverberation."""
_FADE_SAMPLES = 48
_SHORT_SAMPLES = 8_192
"""Up to this length, such as an early part, overlap-add takes a third of the time of one long transform."""
_BLOCK_SAMPLES = 480
_FLOOR_SHARE = 0.1
_ABOVE_FLOOR_DB = 6.0
_DECAYED_DB = -40.0
"""Past the knee, a measured response decays by this much more before it is cut off."""


class Room(Degradation):
    """Reverberation by a measured or simulated room impulse response of the sample's split."""

    name: ClassVar[str] = "room"
    axis: ClassVar[Axis | None] = "reverberation"

    rt60_s: Annotated[Span, Within(0.0, 10.0)] | None = None
    """Only responses with a reverberation time in this range are drawn; null for all."""
    simulated_share: Probability | None = None
    """How often a simulated room is drawn where there are measured ones as well; null draws from all alike."""
    drr_db: Annotated[Span, Within(-20.0, 40.0)] | None = None
    """Direct-to-reverberant ratio to give the response, by weighing what follows the direct path; null keeps it."""

    def draw(self, rng: np.random.Generator, scene: Scene) -> Drawn:
        """Draw a response, one of its channels, and a DRR where the recipe asks for one."""
        source = self._response(rng, scene)
        clip = Clip(
            sha256=source.sha256,
            start=0,
            frames=source.frames,
            channel=int(rng.integers(0, max(1, source.channels))),
        )
        values: Values = {
            "room": source.room,
            "catalogue_rt60_s": source.rt60_s,
            "catalogue_drr_db": source.drr_db,
        }
        if self.drr_db is not None:
            values["drr_db"] = uniform(rng, self.drr_db)
        return Drawn(values, (clip,), rir=source)

    def _response(self, rng: np.random.Generator, scene: Scene) -> Source:
        pool = scene.sources("rir")
        if self.rt60_s is not None:
            low, high = self.rt60_s
            pool = tuple(s for s in pool if s.rt60_s is not None and low <= s.rt60_s <= high)
        if not pool:
            reach = f" with an RT60 of {self.rt60_s[0]:g} to {self.rt60_s[1]:g} s" if self.rt60_s else ""
            raise NoMaterial(
                f"stage room: there is no room impulse response{reach} in a split that samples are made for; "
                "scan some with --rir, add 'rooms' to the recipe, or remove the stage"
            )
        if self.simulated_share is not None:
            wanted = rng.random() < self.simulated_share
            pool = tuple(s for s in pool if is_simulated(s) == wanted) or pool
        return pool[int(rng.integers(0, len(pool)))]

    @staticmethod
    def apply(audio: Audio, values: Values, inputs: Inputs) -> Applied:
        """Put the talker into the room.

        Raises:
            CannotApply: when the response is silent, or the drawn DRR would bury its direct path.
        """
        response = conditioned(inputs.clips[0], values.get("drr_db"))
        wet = convolved(audio, response)
        before, after = active_level_dbfs(audio), active_level_dbfs(wet)
        gain_db = before - after if min(before, after) > SILENCE_DBFS else 0.0
        measured = {
            "rt60_s": rt60_s(response, SAMPLE_RATE_HZ),
            "drr_db": drr_db(response, SAMPLE_RATE_HZ),
            "gain_db": gain_db,
        }
        return Applied(scaled(wet, gain_db), measured=measured)

    @staticmethod
    def severity(values: Values, measured: Values) -> float:
        """Half for RT60 (0.1 to 1.5 s, logarithmic) and half for DRR (20 to -5 dB)."""
        rt60 = measured.get("rt60_s") or values.get("catalogue_rt60_s") or 0.1
        drr = measured.get("drr_db")
        long = np.clip(math.log(rt60 / 0.1) / math.log(15.0), 0.0, 1.0)
        far = np.clip((20.0 - drr) / 25.0, 0.0, 1.0) if drr is not None else long
        return float(0.5 * long + 0.5 * far)

    @staticmethod
    def on_target(target: Audio, values: Values, inputs: Inputs, kind: TargetKind, early_ms: float) -> Audio:
        """Give the target the early or the whole response, at its own level, aligned as the degraded speech is."""
        if kind == "dry":
            return target
        response = conditioned(inputs.clips[0], values.get("drr_db"))
        if kind == "early":
            response = early_response(response, early_ms)
        return with_active_level(convolved(target, response), active_level_dbfs(target))


def is_simulated(source: Source) -> bool:
    """Whether a response comes from the simulated bank."""
    return (source.room or "").startswith(NAME_PREFIX)


def conditioned(rir: Audio, wanted_drr_db: float | None = None) -> Audio:
    """Prepare a response: direct path at `LEAD_SAMPLES`, no pre-echo, a tail that decays into silence.

    Args:
        rir: shape (N,), 48 kHz.
        wanted_drr_db: direct-to-reverberant ratio to give it, or None.

    Raises:
        CannotApply: when there is no direct path, or it would be weaker than a reflection.
    """
    peak = float(np.abs(rir).max(initial=0.0))
    if peak <= 0.0:
        raise CannotApply("the room impulse response is silent")
    direct = direct_path_index(rir)
    lead = min(direct, LEAD_SAMPLES)
    response = np.zeros(LEAD_SAMPLES + len(rir) - direct, np.float32)
    response[LEAD_SAMPLES - lead :] = rir[direct - lead :]
    response[:_FADE_SAMPLES] *= np.sin(np.linspace(0.0, math.pi / 2.0, _FADE_SAMPLES, dtype=np.float32)) ** 2
    response = _with_silent_end(response)
    if wanted_drr_db is not None:
        response = _with_drr(response, wanted_drr_db)
    return response


def early_response(response: Audio, early_ms: float) -> Audio:
    """Return a conditioned response up to `early_ms` after its direct path, ended by a 1 ms fade."""
    early = early_part(response, SAMPLE_RATE_HZ, early_ms)
    fade = min(_FADE_SAMPLES, len(early) - LEAD_SAMPLES - 1)
    return _faded_out(early, fade)


def convolved(audio: Audio, response: Audio) -> Audio:
    """Convolve with a conditioned response; the result has the length of `audio` and lags it by nothing."""
    if len(response) <= _SHORT_SAMPLES:
        short: Audio = oaconvolve(audio, response).astype(np.float32, copy=False)
        return short[LEAD_SAMPLES : LEAD_SAMPLES + len(audio)]
    size = fft.next_fast_len(len(audio) + len(response) - 1, real=True)
    spectrum = fft.rfft(audio, size)
    spectrum *= fft.rfft(response, size)
    wet: Audio = fft.irfft(spectrum, size, overwrite_x=True)
    return wet[LEAD_SAMPLES : LEAD_SAMPLES + len(audio)]


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
