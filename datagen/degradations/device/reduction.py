"""What compressor and expander have in common: they are asked for by what they take, and measured by it."""

import numpy as np

from datagen.degradations.base import Applied, Audio, CannotApply
from datagen.degradations.device.dynamics import LEAST_REDUCTION_DB, Activity, delivered
from datagen.level import active_level_dbfs, scaled
from manifests.ranges import Span, uniform
from manifests.sample import Values

WORST_REDUCTION_DB = 20.0


def draw_strength(rng: np.random.Generator, reduction_db: Span, threshold_dbfs: Span | None) -> Values:
    """Draw `threshold_dbfs` where a recipe gives a range of it, and `reduction_db` where it does not."""
    if threshold_dbfs is None:
        return {"reduction_db": uniform(rng, reduction_db)}
    return {"threshold_dbfs": uniform(rng, threshold_dbfs)}


def reduced(
    speech: Activity, audio: Audio, threshold_dbfs: float, *, restore_level: bool, refusal: str
) -> Applied:
    """Measure what was taken from the signal in which `speech` was found, and restore its level if asked to.

    Args:
        speech: of the signal before.
        audio: the signal after, shape (N,).
        threshold_dbfs: for the record.
        restore_level: bring the result back to the active level of before.
        refusal: why nothing was taken, when nothing was.

    Raises:
        CannotApply: when nothing was taken.
    """
    taken = delivered(speech, audio)
    if taken.most_db < LEAST_REDUCTION_DB:
        raise CannotApply(f"{refusal} of {threshold_dbfs:.1f} dBFS")
    restored_db = speech.level_dbfs - active_level_dbfs(audio) if restore_level else 0.0
    return Applied(
        scaled(audio, restored_db) if restored_db else audio,
        measured={
            "reduction_db": taken.mean_db,
            "most_reduction_db": taken.most_db,
            "reduced_share": taken.share,
            "threshold_over_level_db": threshold_dbfs - speech.level_dbfs,
            "restored_db": restored_db,
        },
    )


def reduction_severity(measured: Values) -> float:
    """Reduction that was delivered, 20 dB being the worst."""
    return min(1.0, max(0.0, float(measured["reduction_db"])) / WORST_REDUCTION_DB)
