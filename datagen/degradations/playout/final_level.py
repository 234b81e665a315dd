"""The end of the chain: the level at which the sample is stored."""

from collections.abc import Mapping
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

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
from datagen.level import SILENCE_DBFS, active_level_dbfs, level_severity, peak_dbfs, scaled
from manifests.ranges import Span, Within, uniform
from manifests.sample import Axis, Values

LEVEL_TOLERANCE_DB = 0.05
"""Of the level, and of a peak at the ceiling."""


class FinalLevel(Degradation):
    """Brings the sample to an active level; where its peaks would not fit, it stays quieter instead of clipping.

    The promise is that level, or a lower one with the highest peak at the ceiling.
    """

    name: ClassVar[str] = "final_level"
    axis: ClassVar[Axis | None] = "loudness"
    promises: ClassVar[Mapping[str, Tolerance]] = {
        "active_level_dbfs": Tolerance(absolute=LEVEL_TOLERANCE_DB)
    }

    active_level_dbfs: Annotated[Span, Within(-70.0, -5.0)] = (-36.0, -16.0)
    """ITU-T P.56 active level."""
    ceiling_dbfs: float = Field(default=-0.1, ge=-20.0, le=0.0)
    """No sample comes out above this peak."""

    def draw(self, rng: np.random.Generator, scene: Scene) -> Drawn:
        """Draw the level, uniform in dB."""
        return Drawn(
            {
                "active_level_dbfs": uniform(rng, self.active_level_dbfs),
                "ceiling_dbfs": self.ceiling_dbfs,
            }
        )

    @staticmethod
    def apply(audio: Audio, values: Values, inputs: Inputs) -> Applied:
        """Scale; measures the level and the peak that came out, and by how much the peaks held the level down.

        Raises:
            CannotApply: when the signal is silent.
        """
        now_dbfs = active_level_dbfs(audio)
        if now_dbfs <= SILENCE_DBFS:
            raise CannotApply("silence cannot be brought to a level")
        wanted_db = values["active_level_dbfs"] - now_dbfs
        gain_db = min(wanted_db, values["ceiling_dbfs"] - peak_dbfs(audio))
        result = scaled(audio, gain_db)
        reached_dbfs = active_level_dbfs(result)
        return Applied(
            result,
            measured={
                "gain_db": round(reached_dbfs - now_dbfs, 4),
                "active_level_dbfs": round(reached_dbfs, 4),
                "peak_dbfs": round(peak_dbfs(result), 4),
                "held_down_db": round(max(0.0, wanted_db - gain_db), 4),
            },
        )

    @classmethod
    def broken_promises(cls, values: Values, measured: Values) -> tuple[str, ...]:
        """A level that is too low is no broken promise where a peak has come up to the ceiling."""
        broken = super().broken_promises(values, measured)
        too_low = measured.get("active_level_dbfs", values["active_level_dbfs"]) < values["active_level_dbfs"]
        at_ceiling = abs(measured.get("peak_dbfs", 0.0) - values["ceiling_dbfs"]) <= LEVEL_TOLERANCE_DB
        return () if too_low and at_ceiling else broken

    @staticmethod
    def severity(values: Values, measured: Values) -> float:
        """Distance of the delivered level from -26 dBFS, 30 dB being the worst."""
        return level_severity(float(measured["active_level_dbfs"]))
