"""The end of the chain: the level at which the sample is stored."""

from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from datagen.degradations.base import Applied, Audio, CannotApply, Degradation, Drawn, Inputs, Scene
from datagen.level import SILENCE_DBFS, active_level_dbfs, peak_dbfs, scaled
from manifests.ranges import Span, Within, uniform
from manifests.sample import Axis, Values

COMFORTABLE_DBFS = -26.0
WORST_DISTANCE_DB = 30.0


class FinalLevel(Degradation):
    """Brings the sample to an active level; where its peaks would not fit, it stays quieter instead of clipping."""

    name: ClassVar[str] = "final_level"
    axis: ClassVar[Axis | None] = "loudness"
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
        """Scale; measures the gain, and the level that the peaks allowed."""
        now_dbfs = active_level_dbfs(audio)
        if now_dbfs <= SILENCE_DBFS:
            raise CannotApply("silence cannot be brought to a level")
        wanted_db = values["active_level_dbfs"] - now_dbfs
        gain_db = min(wanted_db, values["ceiling_dbfs"] - peak_dbfs(audio))
        return Applied(
            scaled(audio, gain_db),
            measured={
                "gain_db": round(gain_db, 4),
                "active_level_dbfs": round(now_dbfs + gain_db, 4),
                "held_down_db": round(wanted_db - gain_db, 4),
            },
        )

    @staticmethod
    def severity(values: Values, measured: Values) -> float:
        """Distance of the delivered level from -26 dBFS, 30 dB being the worst."""
        distance_db = abs(float(measured["active_level_dbfs"]) - COMFORTABLE_DBFS)
        return min(1.0, distance_db / WORST_DISTANCE_DB)
