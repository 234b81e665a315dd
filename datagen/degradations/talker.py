"""The talker: too loud or too quiet, or all at once louder or quieter."""

from typing import Annotated, ClassVar

import numpy as np
from pydantic import field_validator

from datagen.degradations.base import Applied, Audio, CannotApply, Degradation, Drawn, Inputs, Scene
from datagen.level import scaled
from manifests.ranges import Probability, Span, Within, log_uniform, uniform
from manifests.recipe import SAMPLE_RATE_HZ
from manifests.sample import Axis, Values

WORST_LEVEL_DB = 30.0
WORST_STEP_DB = 24.0


class Level(Degradation):
    """Changes the level of everything so far by a constant gain."""

    name: ClassVar[str] = "level"
    axis: ClassVar[Axis | None] = "loudness"
    gain_db: Annotated[Span, Within(-60.0, 40.0)] = (-10.0, 10.0)

    @field_validator("gain_db")
    @classmethod
    def _some_gain(cls, gain_db: tuple[float, float]) -> tuple[float, float]:
        return _not_only_zero(gain_db)

    def draw(self, rng: np.random.Generator, scene: Scene) -> Drawn:
        """Draw the gain in dB, uniform."""
        return Drawn({"gain_db": uniform(rng, self.gain_db)})

    @staticmethod
    def apply(audio: Audio, values: Values, inputs: Inputs) -> Applied:
        """Scale."""
        return Applied(scaled(audio, values["gain_db"]))

    @staticmethod
    def severity(values: Values, measured: Values) -> float:
        """Distance from the level that was right, 30 dB being the worst."""
        return min(1.0, abs(float(values["gain_db"])) / WORST_LEVEL_DB)


class GainStep(Degradation):
    """Changes the level from some moment on, to the end or for a while, with a ramp that is linear in dB."""

    name: ClassVar[str] = "gain_step"
    axis: ClassVar[Axis | None] = "loudness"
    step_db: Annotated[Span, Within(-60.0, 40.0)] = (-18.0, 18.0)
    ramp_ms: Annotated[Span, Within(0.1, 10_000.0)] = (5.0, 3_000.0)
    start_share: Annotated[Span, Within(0.0, 0.95)] = (0.0, 0.8)
    """Where the step begins, as a share of the sample's length."""
    ends_early: Probability = 0.25
    """How often the level goes back before the sample ends."""

    @field_validator("step_db")
    @classmethod
    def _some_step(cls, step_db: tuple[float, float]) -> tuple[float, float]:
        return _not_only_zero(step_db)

    def draw(self, rng: np.random.Generator, scene: Scene) -> Drawn:
        """Draw when, how much and how fast; `end_s` is None when the step lasts to the end."""
        seconds = scene.frames / SAMPLE_RATE_HZ
        start_s = seconds * uniform(rng, self.start_share)
        end_s = uniform(rng, (start_s, seconds))
        return Drawn(
            {
                "step_db": uniform(rng, self.step_db),
                "ramp_ms": log_uniform(rng, self.ramp_ms),
                "start_s": start_s,
                "end_s": end_s if rng.random() < self.ends_early else None,
            }
        )

    @staticmethod
    def apply(audio: Audio, values: Values, inputs: Inputs) -> Applied:
        """Multiply by the gain curve; measures the share of the sample that is not at its own level."""
        first = round(values["start_s"] * SAMPLE_RATE_HZ)
        last = len(audio) if values["end_s"] is None else round(values["end_s"] * SAMPLE_RATE_HZ)
        if not audio[first:].any():
            raise CannotApply("there is no signal after the gain step")
        stepped = audio.copy()
        ramp = max(1, round(values["ramp_ms"] * SAMPLE_RATE_HZ / 1_000))
        rise_db = values["step_db"] * np.arange(1, ramp + 1, dtype=np.float32) / ramp
        up = stepped[first : min(first + ramp, last)]
        up *= _gain(rise_db[: len(up)])
        stepped[first + len(up) : last] *= _gain(np.float32(values["step_db"]))
        if last < len(audio) and len(up):
            # Goes back from wherever the ramp had come to.
            fall_db = rise_db[len(up) - 1] * (1.0 - np.arange(1, ramp + 1, dtype=np.float32) / ramp)
            down = stepped[last : last + ramp]
            down *= _gain(fall_db[: len(down)])
        return Applied(stepped, measured={"stepped_share": round(max(0, last - first) / len(audio), 4)})

    @staticmethod
    def severity(values: Values, measured: Values) -> float:
        """Size of the step, 24 dB being the worst."""
        return min(1.0, abs(float(values["step_db"])) / WORST_STEP_DB)


def _gain(gain_db: np.ndarray | np.float32) -> np.ndarray | np.float32:
    return np.power(np.float32(10.0), gain_db / np.float32(20.0))


def _not_only_zero(bounds: tuple[float, float]) -> tuple[float, float]:
    if bounds == (0.0, 0.0):
        raise ValueError("is 0 dB, which changes nothing; leave the stage out instead")
    return bounds
