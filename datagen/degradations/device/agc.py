"""Automatic gain control that pumps: it turns up what is not speech, and is too loud when speech comes back."""

from collections.abc import Mapping
from typing import Annotated, ClassVar

import numpy as np
from scipy.ndimage import maximum_filter1d

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
    CONTROL_RATE_HZ,
    LEAST_REDUCTION_DB,
    Curve,
    activity,
    delivered,
    held_db,
    one_pole,
    power_dbfs,
    with_gain,
)
from datagen.level import active_level_dbfs, level_severity, scaled
from manifests.ranges import Span, Within, log_uniform, uniform
from manifests.sample import Axis, Values

DETECTOR_MS = 20.0
"""Time constant of the power that it looks at."""
WORST_PUMPING_DB = 30.0


class Agc(Degradation):
    """Brings speech to a target level with a gain that follows it, and so rises in every pause.

    The gain of a device that does not tell speech from pauses: it falls when the level rises, waits for a while
    when the level falls, and then creeps up, so noise and breath swell, and the first syllable afterwards is too
    loud. It begins settled on the talker. The speech as a whole comes out at the target.
    """

    name: ClassVar[str] = "agc"
    axis: ClassVar[Axis | None] = "loudness"
    promises: ClassVar[Mapping[str, Tolerance]] = {"target_dbfs": Tolerance(absolute=0.1)}

    target_dbfs: Annotated[Span, Within(-60.0, -5.0)] = (-32.0, -16.0)
    """Active level (P.56) to which it brings the speech."""
    rise_db: Annotated[Span, Within(1.0, 60.0)] = (5.0, 26.0)
    """How far above its value for the talker's own level the gain may rise."""
    rise_db_per_s: Annotated[Span, Within(0.5, 500.0)] = (6.0, 60.0)
    """How fast it rises while the level is low."""
    hang_ms: Annotated[Span, Within(1.0, 5_000.0)] = (10.0, 200.0)
    """How long it waits before it rises."""
    attack_ms: Annotated[Span, Within(1.0, 2_000.0)] = (5.0, 150.0)
    """Time constant with which it falls when the level rises."""

    def draw(self, rng: np.random.Generator, scene: Scene) -> Drawn:
        """Draw target and reach, uniform in dB, speed and times logarithmically."""
        return Drawn(
            {
                "target_dbfs": uniform(rng, self.target_dbfs),
                "rise_db": uniform(rng, self.rise_db),
                "rise_db_per_s": log_uniform(rng, self.rise_db_per_s),
                "hang_ms": log_uniform(rng, self.hang_ms),
                "attack_ms": log_uniform(rng, self.attack_ms),
            }
        )

    @staticmethod
    def apply(audio: Audio, values: Values, inputs: Inputs) -> Applied:
        """Follow and bring to the target; measures how far the gain moved, from the audio.

        Raises:
            CannotApply: when there is no speech, or it is so even that the gain stands still.
        """
        speech = activity(audio)
        followed = with_gain(audio, _gain_db(power_dbfs(audio, DETECTOR_MS), speech.level_dbfs, values))
        moved = delivered(speech, followed)
        if moved.range_db < LEAST_REDUCTION_DB:
            raise CannotApply("the speech is so even that the gain stands still")
        result = scaled(followed, values["target_dbfs"] - active_level_dbfs(followed))
        reached_dbfs = active_level_dbfs(result)
        return Applied(
            result,
            measured={
                "target_dbfs": reached_dbfs,
                "gain_db": reached_dbfs - speech.level_dbfs,
                "pumping_db": moved.range_db,
            },
        )

    @staticmethod
    def severity(values: Values, measured: Values) -> float:
        """How far the gain moved, 30 dB being the worst, and how far the level is from -26 dBFS, likewise."""
        pumping = min(1.0, float(measured["pumping_db"]) / WORST_PUMPING_DB)
        return 1.0 - (1.0 - pumping) * (1.0 - level_severity(float(measured["target_dbfs"])))


def _gain_db(power_dbfs: Curve, level_dbfs: float, values: Values) -> Curve:
    """Return the gain relative to what a steady signal at `level_dbfs` would get."""
    hang = max(1, round(values["hang_ms"] * CONTROL_RATE_HZ / 1_000.0))
    # Settled on the talker before the first sample.
    hung = maximum_filter1d(
        np.insert(power_dbfs, 0, level_dbfs), hang, origin=(hang - 1) // 2, mode="nearest"
    )
    followed = np.maximum(held_db(hung, values["rise_db_per_s"])[1:], level_dbfs - values["rise_db"])
    return level_dbfs - one_pole(followed, values["attack_ms"], level_dbfs)
