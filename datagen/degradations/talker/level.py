"""The talker: too loud or too quiet, all at once louder or quieter, or now nearer and now further away."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import field_validator

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
from datagen.degradations.device.dynamics import (
    CONTROL_SAMPLES,
    FRAME_BLOCKS,
    Curve,
    activity,
    lost_db,
    with_gain,
)
from datagen.level import SILENCE_DBFS, active_level_dbfs, level_severity, rms_dbfs, scaled
from manifests.ranges import Probability, Span, Within, log_uniform, uniform
from manifests.recipe import SAMPLE_RATE_HZ
from manifests.sample import Axis, Values

LEVEL_TOLERANCE_DB = 0.05
WORST_GAIN_DB = 30.0
WORST_STEP_DB = 24.0
WORST_DRIFT_DB = 24.0
KNOT_REACH = (0.2, 1.0)
"""How far a knot lies from the middle, as a share of the way to the end of the range."""
LEAST_SEEN = 0.3
"""Of the way between the highest and the lowest knot, the speech has to see this share."""


class Level(Degradation):
    """Changes the level of everything so far by a constant gain."""

    name: ClassVar[str] = "level"
    axis: ClassVar[Axis | None] = "loudness"
    promises: ClassVar[Mapping[str, Tolerance]] = {
        "gain_db": Tolerance(absolute=LEVEL_TOLERANCE_DB),
        "active_level_dbfs": Tolerance(absolute=LEVEL_TOLERANCE_DB),
    }

    gain_db: Annotated[Span, Within(-60.0, 40.0)] = (-10.0, 10.0)
    active_level_dbfs: Annotated[Span, Within(-70.0, -5.0)] | None = None
    """Instead of `gain_db`: the ITU-T P.56 active level to bring everything to."""

    @field_validator("gain_db")
    @classmethod
    def _some_gain(cls, gain_db: tuple[float, float]) -> tuple[float, float]:
        return _not_only_zero(gain_db)

    def draw(self, rng: np.random.Generator, scene: Scene) -> Drawn:
        """Draw the gain or the level, uniform in dB."""
        if self.active_level_dbfs is not None:
            return Drawn({"active_level_dbfs": uniform(rng, self.active_level_dbfs)})
        return Drawn({"gain_db": uniform(rng, self.gain_db)})

    @staticmethod
    def apply(audio: Audio, values: Values, inputs: Inputs) -> Applied:
        """Scale; measures the gain and the level from the audio.

        Raises:
            CannotApply: when the signal is silent.
        """
        before_dbfs = active_level_dbfs(audio)
        if before_dbfs <= SILENCE_DBFS:
            raise CannotApply("silence cannot be brought to a level")
        gain_db = values["gain_db"] if "gain_db" in values else values["active_level_dbfs"] - before_dbfs
        result = scaled(audio, gain_db)
        return Applied(
            result,
            measured={
                "gain_db": rms_dbfs(result) - rms_dbfs(audio),
                "active_level_dbfs": active_level_dbfs(result),
            },
        )

    @staticmethod
    def severity(values: Values, measured: Values) -> float:
        """Distance from the level that was right, or of the level asked for from -26 dBFS; 30 dB is the worst."""
        if "active_level_dbfs" in values:
            return level_severity(float(measured["active_level_dbfs"]))
        return min(1.0, abs(float(values["gain_db"])) / WORST_GAIN_DB)


class GainStep(Degradation):
    """Changes the level from some moment on, to the end or for a while, with a ramp that is linear in dB."""

    name: ClassVar[str] = "gain_step"
    axis: ClassVar[Axis | None] = "loudness"
    promises: ClassVar[Mapping[str, Tolerance]] = {"step_db": Tolerance(absolute=LEVEL_TOLERANCE_DB)}

    step_db: Annotated[Span, Within(-60.0, 40.0)] = (-18.0, 18.0)
    ramp_ms: Annotated[Span, Within(0.1, 10_000.0)] = (5.0, 3_000.0)
    """How long the change takes; at most half of the time that is left, where that is longer than the shortest."""
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
        shortest_ms, longest_ms = self.ramp_ms
        # A step that ends early still has to be a step: ramp and plateau take a quarter of what is left at least.
        earliest_s = start_s + max(2e-3 * shortest_ms, 0.25 * (seconds - start_s))
        end_s = uniform(rng, (min(earliest_s, seconds), seconds))
        ends = rng.random() < self.ends_early
        half_ms = 500.0 * ((end_s if ends else seconds) - start_s)
        return Drawn(
            {
                "step_db": uniform(rng, self.step_db),
                "ramp_ms": log_uniform(rng, (shortest_ms, max(shortest_ms, min(longest_ms, half_ms)))),
                "start_s": start_s,
                "end_s": end_s if ends else None,
            }
        )

    @staticmethod
    def apply(audio: Audio, values: Values, inputs: Inputs) -> Applied:
        """Multiply by the gain curve; measures the step from the audio, and the share that is not at its own level.

        Raises:
            CannotApply: when there is no signal between the end of the ramp and the end of the step.
        """
        first = round(values["start_s"] * SAMPLE_RATE_HZ)
        last = len(audio) if values["end_s"] is None else round(values["end_s"] * SAMPLE_RATE_HZ)
        ramp = max(1, round(values["ramp_ms"] * SAMPLE_RATE_HZ / 1_000))
        plateau = slice(first + ramp, last)
        if not audio[plateau].any():
            raise CannotApply("there is no signal at the level that the gain steps to")
        stepped = audio.copy()
        rise_db = values["step_db"] * np.arange(1, ramp + 1, dtype=np.float32) / ramp
        stepped[first : first + ramp] *= _gain(rise_db)
        stepped[plateau] *= _gain(np.float32(values["step_db"]))
        down = stepped[last : last + ramp]
        down *= _gain(rise_db[::-1][: len(down)])
        return Applied(
            stepped,
            measured={
                "step_db": rms_dbfs(stepped[plateau]) - rms_dbfs(audio[plateau]),
                "stepped_share": round((last - first) / len(audio), 4),
            },
        )

    @staticmethod
    def severity(values: Values, measured: Values) -> float:
        """Size of the step, 24 dB being the worst."""
        return min(1.0, abs(float(values["step_db"])) / WORST_STEP_DB)


class LevelDrift(Degradation):
    """Lets the level wander smoothly, as with a talker who turns away and comes nearer.

    The gain in dB goes from knot to knot along half periods of a cosine, so it is level at each knot and never
    goes beyond them. Its range is that over the moments in which somebody speaks.
    """

    name: ClassVar[str] = "level_drift"
    axis: ClassVar[Axis | None] = "loudness"
    promises: ClassVar[Mapping[str, Tolerance]] = {"range_db": Tolerance(absolute=0.2, relative=0.02)}

    range_db: Annotated[Span, Within(0.5, 60.0)] = (4.0, 20.0)
    """Between the highest and the lowest gain."""
    knot_s: Annotated[Span, Within(0.2, 60.0)] = (1.0, 4.0)
    """How long it goes in one direction."""

    def draw(self, rng: np.random.Generator, scene: Scene) -> Drawn:
        """Draw the range, and the knots: where they are, and how high, now above and now below the middle."""
        range_db = uniform(rng, self.range_db)
        seconds = scene.frames / SAMPLE_RATE_HZ
        at_s, above = 0.0, bool(rng.random() < 0.5)
        knots: list[list[float]] = []
        while not knots or knots[-1][0] < seconds:
            height = 0.5 + (0.5 if above else -0.5) * uniform(rng, KNOT_REACH)
            knots.append([round(at_s, 3), round(height, 4)])
            at_s, above = at_s + uniform(rng, self.knot_s), not above
        return Drawn({"range_db": range_db, "knots": knots})

    @staticmethod
    def apply(audio: Audio, values: Values, inputs: Inputs) -> Applied:
        """Multiply by the gain curve; measures its range from the audio.

        Raises:
            CannotApply: when there is no speech, or too little of it for a drift.
        """
        speech = activity(audio)
        height = _along_knots(values["knots"], -(-len(audio) // CONTROL_SAMPLES))
        seen = height[FRAME_BLOCKS // 2 :: FRAME_BLOCKS][: len(speech.active)][speech.active]
        lowest, highest = float(seen.min()), float(seen.max())
        if highest - lowest < LEAST_SEEN * np.ptp([knot[1] for knot in values["knots"]]) or highest == lowest:
            raise CannotApply("there is too little speech for its level to drift")
        drifted = with_gain(audio, values["range_db"] * ((height - lowest) / (highest - lowest) - 0.5))
        return Applied(drifted, measured={"range_db": float(np.ptp(lost_db(speech, drifted)[speech.active]))})

    @staticmethod
    def severity(values: Values, measured: Values) -> float:
        """Range of the gain, 24 dB being the worst."""
        return min(1.0, abs(float(values["range_db"])) / WORST_DRIFT_DB)


def _along_knots(knots: list[list[float]], count: int) -> Curve:
    """Follow the heights of knots along half periods of a cosine, for `count` milliseconds."""
    at_s, heights = np.array(knots).T
    now_s = np.arange(1, count + 1) * CONTROL_SAMPLES / SAMPLE_RATE_HZ
    before = np.clip(np.searchsorted(at_s, now_s, side="right") - 1, 0, len(at_s) - 2)
    share = (now_s - at_s[before]) / np.diff(at_s)[before]
    risen = 0.5 - 0.5 * np.cos(np.pi * np.minimum(share, 1.0))
    return np.asarray(heights[before] + risen * np.diff(heights)[before])


def _gain(gain_db: Any) -> Any:
    return np.power(np.float32(10.0), gain_db / np.float32(20.0))


def _not_only_zero(bounds: tuple[float, float]) -> tuple[float, float]:
    if bounds == (0.0, 0.0):
        raise ValueError("is 0 dB, which changes nothing; leave the stage out instead")
    return bounds
