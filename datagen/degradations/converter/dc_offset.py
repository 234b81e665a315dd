"""DC offset: the zero line of a cheap converter lies beside zero."""

import math
from collections.abc import Mapping
from typing import Annotated, ClassVar

import numpy as np

from datagen.degradations.base import Applied, Audio, Degradation, Drawn, Inputs, Scene, Tolerance
from manifests.ranges import Span, Within, log_uniform
from manifests.sample import Axis, Values

MILDEST = 0.001
WORST = 0.5
WORST_SEVERITY = 0.3
"""An offset itself cannot be heard: it takes headroom, and makes what comes after clip or rectify unevenly."""


class DcOffset(Degradation):
    """Adds a constant, upwards or downwards. The ranges are those of the nanless universal enhancement mix."""

    name: ClassVar[str] = "dc_offset"
    axis: ClassVar[Axis | None] = "coloration"
    promises: ClassVar[Mapping[str, Tolerance]] = {"offset": Tolerance(absolute=1e-5, relative=0.01)}

    magnitude: Annotated[Span, Within(1e-4, 0.5)] = (0.001, 0.2)
    """Of full scale, log-uniform; either sign."""

    def draw(self, rng: np.random.Generator, scene: Scene) -> Drawn:
        """Draw the magnitude and the sign."""
        magnitude = log_uniform(rng, self.magnitude)
        return Drawn({"offset": magnitude if rng.random() < 0.5 else -magnitude})

    @staticmethod
    def apply(audio: Audio, values: Values, inputs: Inputs) -> Applied:
        """Shift; measures by how much the mean has moved."""
        shifted = audio + np.float32(values["offset"])
        moved = float(shifted.mean(dtype=np.float64) - audio.mean(dtype=np.float64))
        return Applied(shifted, measured={"offset": round(moved, 7)})

    @staticmethod
    def severity(values: Values, measured: Values) -> float:
        """Logarithmic in the offset, and never high: nobody hears it by itself."""
        decades = math.log(max(abs(measured["offset"]), MILDEST) / MILDEST) / math.log(WORST / MILDEST)
        return WORST_SEVERITY * min(1.0, decades)
