"""The limiter: nothing comes out above a ceiling, and everything near a peak is pulled down with it."""

from collections.abc import Mapping
from typing import Annotated, ClassVar

import numpy as np
from scipy.ndimage import maximum_filter1d, uniform_filter1d

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
    DB_A_TIME_CONSTANT,
    LEAST_REDUCTION_DB,
    Curve,
    activity,
    delivered,
    held_db,
    peaks_dbfs,
    with_gain_at_edges,
)
from datagen.level import active_level_dbfs, peak_dbfs, scaled
from manifests.ranges import Probability, Span, Within, log_uniform, uniform
from manifests.sample import Axis, Values

CEILING_TOLERANCE_DB = 0.1
WORST_REDUCTION_DB = 20.0


class Limiter(Degradation):
    """Keeps every peak under a ceiling by turning down ahead of it and coming back slowly after it.

    A look-ahead peak limiter: the gain that each millisecond needs is held for the length of the look-ahead,
    released, and averaged over that length, so that it has arrived when the peak comes. The look-ahead looks into
    the future of the file and delays nothing. With its level restored, speech sounds dense and its pauses loud.
    """

    name: ClassVar[str] = "limiter"
    axis: ClassVar[Axis | None] = "loudness"
    promises: ClassVar[Mapping[str, Tolerance]] = {
        "peak_reduction_db": Tolerance(absolute=CEILING_TOLERANCE_DB),
        "ceiling_dbfs": Tolerance(absolute=CEILING_TOLERANCE_DB),
    }

    peak_reduction_db: Annotated[Span, Within(1.0, 40.0)] = (3.0, 18.0)
    """By how much the highest peak is brought down."""
    ceiling_dbfs: Annotated[Span, Within(-60.0, 0.0)] | None = None
    """Instead of `peak_reduction_db`: the ceiling, relative to full scale. Speech that stays below is refused."""
    lookahead_ms: Annotated[Span, Within(1.0, 100.0)] = (1.0, 25.0)
    """How long before a peak the gain begins to fall."""
    release_ms: Annotated[Span, Within(5.0, 5_000.0)] = (50.0, 700.0)
    """How long the gain takes to come back by 8.7 dB."""
    restore_level: Probability = 0.5
    """How often the result is brought back to the active level that it had."""

    def draw(self, rng: np.random.Generator, scene: Scene) -> Drawn:
        """Draw the reduction or the ceiling, uniform in dB, and the times logarithmically."""
        values: Values = {
            "lookahead_ms": log_uniform(rng, self.lookahead_ms),
            "release_ms": log_uniform(rng, self.release_ms),
            "restore_level": bool(rng.random() < self.restore_level),
        }
        if self.ceiling_dbfs is None:
            values["peak_reduction_db"] = uniform(rng, self.peak_reduction_db)
        else:
            values["ceiling_dbfs"] = uniform(rng, self.ceiling_dbfs)
        return Drawn(values)

    @staticmethod
    def apply(audio: Audio, values: Values, inputs: Inputs) -> Applied:
        """Limit; measures the peak that came out and what was taken from the speech.

        Raises:
            CannotApply: when there is no speech, or it stays below the ceiling.
        """
        speech = activity(audio)
        highest_dbfs = peak_dbfs(audio)
        ceiling_dbfs = values.get("ceiling_dbfs")
        if ceiling_dbfs is None:
            ceiling_dbfs = highest_dbfs - values["peak_reduction_db"]
        if highest_dbfs - ceiling_dbfs < LEAST_REDUCTION_DB:
            raise CannotApply(f"the speech does not reach the ceiling of {ceiling_dbfs:.1f} dBFS")
        gain_db = -_limiting_db(
            peaks_dbfs(audio) - ceiling_dbfs, values["lookahead_ms"], values["release_ms"]
        )
        limited = with_gain_at_edges(audio, gain_db)
        taken = delivered(speech, limited)
        reached_dbfs = peak_dbfs(limited)
        restored_db = speech.level_dbfs - active_level_dbfs(limited) if values["restore_level"] else 0.0
        return Applied(
            scaled(limited, restored_db) if restored_db else limited,
            measured={
                "peak_reduction_db": highest_dbfs - reached_dbfs,
                "ceiling_dbfs": reached_dbfs,
                "reduction_db": taken.mean_db,
                "reduced_share": taken.share,
                "restored_db": restored_db,
            },
        )

    @staticmethod
    def severity(values: Values, measured: Values) -> float:
        """By how much the highest peak was brought down, 20 dB being the worst."""
        return min(1.0, max(0.0, float(measured["peak_reduction_db"])) / WORST_REDUCTION_DB)


def _limiting_db(over_db: Curve, lookahead_ms: float, release_ms: float) -> Curve:
    """Return the reduction at each edge between milliseconds, shape (M + 1,).

    At both edges of a millisecond it is never less than this millisecond is over the ceiling, so neither is what
    is interpolated between them.
    """
    needed = np.maximum(over_db, 0.0)
    at_edges = np.maximum(np.append(needed, 0.0), np.insert(needed, 0, 0.0))
    ahead = max(1, round(lookahead_ms * CONTROL_RATE_HZ / 1_000.0))
    width = ahead + 1
    # The window of the maximum reaches from each edge into the future, that of the mean into the past.
    early = maximum_filter1d(at_edges, width, origin=-(width // 2), mode="nearest")
    released = np.maximum(held_db(early, DB_A_TIME_CONSTANT * 1_000.0 / release_ms), 0.0)
    return np.asarray(uniform_filter1d(released, width, origin=(width - 1) // 2, mode="nearest"))
