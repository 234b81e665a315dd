"""A comb filter: the sound reaches the microphone a second time, reflected by a table or the lid of a laptop."""

import math
from collections.abc import Mapping
from typing import Annotated, ClassVar

import numpy as np
from scipy import signal

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
from datagen.measured_response import response_between
from manifests.ranges import Span, Within, log_uniform, uniform
from manifests.recipe import SAMPLE_RATE_HZ
from manifests.sample import Axis, Values

SPEED_M_S = 343.0
"""Of sound, at 20 degrees C."""
SAMPLES_PER_MS = SAMPLE_RATE_HZ / 1_000.0
REGULARISATION = 1e-6
"""Sound 60 dB below the mean spectrum still helps to tell the delay."""
WORST_RIPPLE_DB = 30.0


class Comb(Degradation):
    """Adds one reflection: peaks at the multiples of 1 / delay, and notches half-way between them.

    The direct sound stays where and as it is. A reflector sends back only waves that are shorter than it is wide: the
    reflection is high-passed, by 6 dB an octave, below the frequency whose wave is as long as the reflector (343 Hz
    for a metre). The delay of the reflection is measured by deconvolution, then its level.
    """

    name: ClassVar[str] = "comb"
    axis: ClassVar[Axis | None] = "coloration"
    promises: ClassVar[Mapping[str, Tolerance]] = {
        "delay_ms": Tolerance(absolute=0.5 / SAMPLES_PER_MS),
        "echo_db": Tolerance(absolute=0.2),
    }

    delay_ms: Annotated[Span, Within(0.1, 50.0)] = (0.2, 8.0)
    """0.2 ms are 7 cm more than the direct way, 8 ms are 2.7 m. Rounded to whole samples."""
    echo_db: Annotated[Span, Within(-40.0, -0.1)] = (-12.0, -1.0)
    """Level of the reflection against the direct sound, at high frequencies."""
    reflector_m: Annotated[Span, Within(0.05, 5.0)] = (0.2, 0.7)
    """Width of what reflects: the lid of a laptop to a desk. Wide ones shift the best match of waveforms."""

    def draw(self, rng: np.random.Generator, scene: Scene) -> Drawn:
        """Draw the delay, log-uniform, the level and the reflector."""
        delay_samples = round(log_uniform(rng, self.delay_ms) * SAMPLES_PER_MS)
        return Drawn(
            {
                "delay_ms": delay_samples / SAMPLES_PER_MS,
                "echo_db": uniform(rng, self.echo_db),
                "reflector_m": uniform(rng, self.reflector_m),
            }
        )

    @staticmethod
    def apply(audio: Audio, values: Values, inputs: Inputs) -> Applied:
        """Add the reflection; measures its delay and its level."""
        delay = round(values["delay_ms"] * SAMPLES_PER_MS)
        if delay >= len(audio):
            raise CannotApply(f"is over before a reflection of {values['delay_ms']:.1f} ms arrives")
        reflected = _reflected(audio, values["reflector_m"])
        if not reflected.any():
            raise CannotApply("there is no sound to reflect")
        combed = audio.copy()
        combed[delay:] += np.float32(10.0 ** (values["echo_db"] / 20.0)) * reflected[:-delay]
        delay_ms, echo_db = _echo_between(reflected, combed - audio)
        return Applied(combed, measured={"delay_ms": round(delay_ms, 4), "echo_db": round(echo_db, 3)})

    @staticmethod
    def severity(values: Values, measured: Values) -> float:
        """Ripple of the comb in dB from its peaks to its notches: 4 for a reflection at -12 dB, 30 are the worst."""
        echo = 10.0 ** (min(float(measured["echo_db"]), -0.1) / 20.0)
        return min(1.0, 20.0 * math.log10((1.0 + echo) / (1.0 - echo)) / WORST_RIPPLE_DB)


def _reflected(audio: Audio, reflector_m: float) -> Audio:
    """What a plate of this width sends back, without delay: a first-order high-pass."""
    b, a = signal.butter(1, SPEED_M_S / reflector_m, "highpass", fs=SAMPLE_RATE_HZ)
    reflected: Audio = signal.lfilter(b.astype(np.float32), a.astype(np.float32), audio)
    return reflected


def _echo_between(reflected: Audio, added: Audio) -> tuple[float, float]:
    """Return at what delay in ms, by deconvolution, and how loud in dB, by projection, `reflected` is in `added`."""
    response = response_between(reflected, added).impulse_response(REGULARISATION)
    arrival = int(np.argmax(np.abs(response[: len(response) // 2])))
    early, late = reflected[: len(reflected) - arrival], added[arrival:]
    echo = abs(float(np.dot(early, late))) / max(float(np.dot(early, early)), 1e-30)
    return arrival / SAMPLES_PER_MS, 20.0 * math.log10(max(echo, 1e-9))
