"""The downward expander: what is quiet becomes quieter still."""

from collections.abc import Mapping
from typing import Annotated, ClassVar

import numpy as np

from datagen.degradations.base import (
    Applied,
    Audio,
    Degradation,
    Drawn,
    Inputs,
    Scene,
    Tolerance,
)
from datagen.degradations.device.dynamics import (
    DB_A_TIME_CONSTANT,
    Curve,
    activity,
    expansion_db,
    held_db,
    one_pole,
    peaks_dbfs,
    threshold_for,
    with_gain,
)
from datagen.degradations.device.reduction import draw_strength, reduced, reduction_severity
from manifests.ranges import Probability, Span, Within, log_uniform, uniform
from manifests.sample import Axis, Values

MOST_DB = 60.0
"""An expander never turns down by more."""


class Expander(Degradation):
    """Turns down what lies below a threshold: for each dB below it, by `ratio` minus one more.

    Word endings and weak consonants fade. The level detector follows rises with the attack, and decays with the
    release as an amplitude does, so that the gain falls by (`ratio` - 1) 8.7 dB in each `release_ms`. With a
    threshold near full scale it is the "anti-AGC" of the ICASSP 2024 SSI challenge's synthesizer.
    """

    name: ClassVar[str] = "expander"
    axis: ClassVar[Axis | None] = "discontinuity"
    promises: ClassVar[Mapping[str, Tolerance]] = {"reduction_db": Tolerance(absolute=0.2, relative=0.02)}

    reduction_db: Annotated[Span, Within(0.2, 40.0)] = (2.0, 12.0)
    """What it takes from the level of the speech, averaged over its frames of 10 ms, before the level is restored."""
    threshold_dbfs: Annotated[Span, Within(-80.0, 6.0)] | None = None
    """Instead of `reduction_db`: a threshold for the peaks, relative to full scale. Speech that is always above it
    is refused."""
    ratio: Annotated[Span, Within(1.05, 20.0)] = (1.4, 4.0)
    """By how many dB the output falls for each dB that the input falls below the threshold."""
    attack_ms: Annotated[Span, Within(0.1, 200.0)] = (0.5, 10.0)
    """Time constant with which a rise of the level is followed."""
    release_ms: Annotated[Span, Within(5.0, 5_000.0)] = (30.0, 300.0)
    """Time constant with which a level that has gone is forgotten."""
    restore_level: Probability = 0.5
    """How often the result is brought back to the active level that it had."""

    def draw(self, rng: np.random.Generator, scene: Scene) -> Drawn:
        """Draw strength or threshold, ratio and times; the times logarithmically."""
        values: Values = {
            "ratio": uniform(rng, self.ratio),
            "attack_ms": log_uniform(rng, self.attack_ms),
            "release_ms": log_uniform(rng, self.release_ms),
            "restore_level": bool(rng.random() < self.restore_level),
        }
        return Drawn(values | draw_strength(rng, self.reduction_db, self.threshold_dbfs))

    @staticmethod
    def apply(audio: Audio, values: Values, inputs: Inputs) -> Applied:
        """Expand; measures what was taken, from the audio.

        Raises:
            CannotApply: when there is no speech, or none of it lies below the threshold.
        """
        speech = activity(audio)
        peaks = peaks_dbfs(audio)
        levels_dbfs = held_db(peaks, DB_A_TIME_CONSTANT * 1_000.0 / values["release_ms"])
        levels_dbfs = one_pole(levels_dbfs, values["attack_ms"], float(levels_dbfs[0]))

        def gain_db(threshold_dbfs: float) -> Curve:
            return -expansion_db(levels_dbfs, threshold_dbfs, values["ratio"], MOST_DB)

        threshold_dbfs = values.get("threshold_dbfs")
        if threshold_dbfs is None:
            wanted_db = values["reduction_db"]
            threshold_dbfs = threshold_for(
                wanted_db,
                lambda threshold: speech.mean_reduction_db(gain_db(threshold)),
                float(levels_dbfs.min()),
                float(levels_dbfs.max()) + MOST_DB / (values["ratio"] - 1.0),
            )
        expanded = with_gain(audio, gain_db(threshold_dbfs))
        restore, refusal = values["restore_level"], "nothing lies below the threshold"
        return reduced(speech, expanded, threshold_dbfs, restore_level=restore, refusal=refusal)

    @staticmethod
    def severity(values: Values, measured: Values) -> float:
        """Reduction that was delivered, 20 dB being the worst."""
        return reduction_severity(measured)
