"""The algorithmic reverberator of the ICASSP 2024 SSI challenge's synthesizer, for those who want its corpus.

Freeverb by Jezar at Dreampoint (June 2000, public domain): after M. R. Schroeder, "Natural sounding artificial
reverberation", J. Audio Eng. Soc. 10 (3), 1962, and J. A. Moorer, "About this reverberation business", Computer
Music Journal 3 (2), 1979. Measured and simulated rooms (`room`) sound more like rooms.
"""

import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Annotated, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.signal import lfilter

from datagen.degradations.base import (
    Applied,
    Audio,
    CannotApply,
    Degradation,
    Drawn,
    Inputs,
    Scene,
    Tolerance,
)
from datagen.degradations.room.conditioning import LEAD_SAMPLES, early_response
from datagen.degradations.room.room import Room, convolved
from datagen.level import SILENCE_DBFS, active_level_dbfs, rms_dbfs, with_active_level
from datagen.rir import drr_db, rt60_s
from manifests.ranges import Span, Within, uniform
from manifests.recipe import SAMPLE_RATE_HZ, TargetKind
from manifests.sample import Axis, Values

TUNED_RATE_HZ = 44_100
COMB_DELAYS = (1_116, 1_188, 1_277, 1_356, 1_422, 1_491, 1_557, 1_617)
"""In samples at 44.1 kHz, as are those of the all-passes."""
ALLPASS_DELAYS = (556, 441, 341, 225)
ALLPASS_FEEDBACK = 0.5
INPUT_GAIN = 0.015
WET_SCALE, DRY_SCALE = 3.0, 2.0
WET_AT_HALF, DRY_AT_HALF = 0.33, 0.4
"""Wet and dry level of a mix of one half."""
SMALLEST_FEEDBACK, FEEDBACK_RANGE = 0.7, 0.28
DAMPING_SCALE = 0.4
DECAY_DB = 90.0
"""The response ends where its slowest comb has decayed by this much."""


class Freeverb(Degradation):
    """Adds the tail of eight low-pass feedback combs and four all-passes in series to the undelayed speech.

    Levels as in the synthesizer of the ICASSP 2024 SSI challenge: the direct sound has a gain of 1.6 (1 - mix),
    the first echo comes 25 ms later.
    """

    name: ClassVar[str] = "freeverb"
    axis: ClassVar[Axis | None] = "reverberation"
    promises: ClassVar[Mapping[str, Tolerance]] = {"direct_gain_db": Tolerance(absolute=0.05)}

    room_size: Annotated[Span, Within(0.0, 1.0)] = (0.01, 0.3)
    """Feedback of the combs is 0.7 + 0.28 `room_size`: reverberation times of 0.5 to 0.75 s by default."""
    mix: Annotated[Span, Within(0.01, 0.99)] = (0.3, 0.6)
    """Wet level `mix` / 0.5 x 0.33, dry level (1 - `mix`) / 0.5 x 0.4."""
    damping: float = Field(default=0.5, ge=0.0, le=1.0)
    """Low-pass in the feedback: 0 none, 1 the strongest."""

    def draw(self, rng: np.random.Generator, scene: Scene) -> Drawn:
        """Draw room size and mix, uniform."""
        mix = uniform(rng, self.mix)
        return Drawn(
            {
                "room_size": uniform(rng, self.room_size),
                "mix": mix,
                "damping": self.damping,
                "direct_gain_db": 20.0 * math.log10(_direct_gain(mix)),
            }
        )

    @staticmethod
    def apply(audio: Audio, values: Values, inputs: Inputs) -> Applied:
        """Add the tail; measures the direct gain from the audio, and the response as that of a room.

        Raises:
            CannotApply: when there is no signal.
        """
        if active_level_dbfs(audio) <= SILENCE_DBFS:
            raise CannotApply("there is no signal to reverberate")
        response = _response(values["room_size"], values["mix"], values["damping"])
        wet = convolved(audio, response)
        # Before the first echo there is nothing but the direct sound.
        begin = int(np.argmax(audio != 0.0))
        alone = slice(begin, begin + _at_48k(COMB_DELAYS[0]))
        return Applied(
            wet,
            measured={
                "direct_gain_db": rms_dbfs(wet[alone]) - rms_dbfs(audio[alone]),
                "level_change_db": active_level_dbfs(wet) - active_level_dbfs(audio),
                # Next to so strong a direct sound the decay of the whole response is not to be seen.
                "rt60_s": rt60_s(response[LEAD_SAMPLES + 1 :], SAMPLE_RATE_HZ),
                "drr_db": drr_db(response, SAMPLE_RATE_HZ),
            },
        )

    @staticmethod
    def severity(values: Values, measured: Values) -> float:
        """That of a room with the same reverberation time and direct-to-reverberant ratio."""
        return Room.severity({}, measured)

    @staticmethod
    def on_target(target: Audio, values: Values, inputs: Inputs, kind: TargetKind, early_ms: float) -> Audio:
        """Give the target the early or the whole response, at its own level."""
        if kind == "dry":
            return target
        response = _response(values["room_size"], values["mix"], values["damping"])
        if kind == "early":
            response = early_response(response, early_ms)
        return with_active_level(convolved(target, response), active_level_dbfs(target))


def _direct_gain(mix: float) -> float:
    return DRY_SCALE * DRY_AT_HALF * (1.0 - mix) / 0.5


@lru_cache(maxsize=4)
def _response(room_size: float, mix: float, damping: float) -> Audio:
    """Return the impulse response, its direct path at `LEAD_SAMPLES`, until it has decayed by 90 dB."""
    feedback = SMALLEST_FEEDBACK + FEEDBACK_RANGE * room_size
    rounds = -DECAY_DB / (20.0 * math.log10(feedback))
    length = math.ceil(_at_48k(COMB_DELAYS[-1]) * (rounds + 1.0)) + sum(map(_at_48k, ALLPASS_DELAYS))
    tail = _combs(length, feedback, DAMPING_SCALE * damping)
    for delay in map(_at_48k, ALLPASS_DELAYS):
        tail = _allpass(tail, delay)
    wet_gain = WET_SCALE * WET_AT_HALF * mix / 0.5
    response = np.zeros(LEAD_SAMPLES + length, np.float32)
    response[LEAD_SAMPLES:] = (wet_gain * INPUT_GAIN) * tail
    response[LEAD_SAMPLES] += _direct_gain(mix)
    response.setflags(write=False)
    return response


def _combs(length: int, feedback: float, damp: float) -> NDArray[np.float64]:
    """Sum of the responses of all combs: what is heard goes back into its delay through a low-pass."""
    delays = [_at_48k(delay) for delay in COMB_DELAYS]
    block = delays[0]
    lines = np.zeros((len(delays), length + delays[-1] + block))
    # What has been written into a line comes out again after its delay; the impulse goes in at 0.
    lines[range(len(delays)), delays] = 1.0
    state = np.zeros((len(delays), 1))
    for begin in range(0, length, block):
        heard = lines[:, begin : begin + block]
        smooth, state = lfilter([1.0 - damp], [1.0, -damp], heard, axis=1, zi=state)
        for line, delay, returned in zip(lines, delays, smooth, strict=True):
            line[begin + delay : begin + delay + block] += feedback * returned
    return np.asarray(lines[:, :length].sum(axis=0))


def _allpass(tail: NDArray[np.float64], delay: int) -> NDArray[np.float64]:
    """Freeverb's all-pass, (-1 + (1 + g) z^-M) / (1 - g z^-M): one first-order filter for each of M phases."""
    rows = -(-len(tail) // delay)
    phases = np.pad(tail, (0, rows * delay - len(tail))).reshape(rows, delay)
    filtered = lfilter([-1.0, 1.0 + ALLPASS_FEEDBACK], [1.0, -ALLPASS_FEEDBACK], phases, axis=0)
    return np.asarray(filtered.ravel()[: len(tail)])


def _at_48k(samples: int) -> int:
    return round(samples * SAMPLE_RATE_HZ / TUNED_RATE_HZ)
