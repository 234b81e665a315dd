"""The compressor: what is loud becomes less so, and with its level restored, what is quiet becomes louder."""

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
    Curve,
    activity,
    ballistic_db,
    compression_db,
    peaks_dbfs,
    threshold_for,
    with_gain,
)
from datagen.degradations.device.reduction import draw_strength, reduced, reduction_severity
from manifests.ranges import Probability, Span, Within, log_uniform, uniform
from manifests.sample import Axis, Values


class Compressor(Degradation):
    """Turns down what lies above a threshold, by a ratio, with an attack and a release.

    A feed-forward peak compressor in decibels with a soft knee (Giannoulis, Massberg and Reiss, J. Audio Eng. Soc.
    60 (6), 2012). It is asked for by what it takes from the speech; the threshold that does so is found.
    """

    name: ClassVar[str] = "compressor"
    axis: ClassVar[Axis | None] = "loudness"
    promises: ClassVar[Mapping[str, Tolerance]] = {"reduction_db": Tolerance(absolute=0.2, relative=0.02)}

    reduction_db: Annotated[Span, Within(0.2, 40.0)] = (2.0, 12.0)
    """What it takes from the level of the speech, averaged over its frames of 10 ms, before the level is restored."""
    threshold_dbfs: Annotated[Span, Within(-80.0, 0.0)] | None = None
    """Instead of `reduction_db`: a threshold for the peaks, relative to full scale. Speech that never gets there
    is refused."""
    ratio: Annotated[Span, Within(1.1, 100.0)] = (1.4, 20.0)
    """By how many dB the input must rise above the threshold for the output to rise by one."""
    knee_db: Annotated[Span, Within(0.0, 24.0)] = (0.0, 12.0)
    """Width of the range around the threshold in which the curve bends."""
    attack_ms: Annotated[Span, Within(0.1, 200.0)] = (0.5, 25.0)
    """Time constant of turning down."""
    release_ms: Annotated[Span, Within(5.0, 5_000.0)] = (50.0, 1_000.0)
    """Time constant of coming back."""
    restore_level: Probability = 0.5
    """How often the result is brought back to the active level that it had (make-up gain)."""

    def draw(self, rng: np.random.Generator, scene: Scene) -> Drawn:
        """Draw strength or threshold, the curve and the times; ratio and times logarithmically."""
        values: Values = {
            "ratio": log_uniform(rng, self.ratio),
            "knee_db": uniform(rng, self.knee_db),
            "attack_ms": log_uniform(rng, self.attack_ms),
            "release_ms": log_uniform(rng, self.release_ms),
            "restore_level": bool(rng.random() < self.restore_level),
        }
        return Drawn(values | draw_strength(rng, self.reduction_db, self.threshold_dbfs))

    @staticmethod
    def apply(audio: Audio, values: Values, inputs: Inputs) -> Applied:
        """Compress; measures what was taken, from the audio.

        Raises:
            CannotApply: when there is no speech, or none of it reaches the threshold.
        """
        speech = activity(audio)
        levels_dbfs = peaks_dbfs(audio)

        def gain_db(threshold_dbfs: float) -> Curve:
            steady_db = compression_db(levels_dbfs, threshold_dbfs, values["ratio"], values["knee_db"])
            return -ballistic_db(steady_db, values["attack_ms"], values["release_ms"])

        threshold_dbfs = values.get("threshold_dbfs")
        if threshold_dbfs is None:
            wanted_db, highest_dbfs = values["reduction_db"], float(levels_dbfs.max()) + values["knee_db"]
            furthest_db = 2.0 * wanted_db / (1.0 - 1.0 / values["ratio"])
            threshold_dbfs = threshold_for(
                wanted_db,
                lambda threshold: speech.mean_reduction_db(gain_db(threshold)),
                speech.level_dbfs - furthest_db - 60.0,
                highest_dbfs,
            )
        compressed = with_gain(audio, gain_db(threshold_dbfs))
        restore, refusal = values["restore_level"], "the speech does not reach the threshold"
        return reduced(speech, compressed, threshold_dbfs, restore_level=restore, refusal=refusal)

    @staticmethod
    def severity(values: Values, measured: Values) -> float:
        """Reduction that was delivered, 20 dB being the worst."""
        return reduction_severity(measured)
