"""The frequency response of a poor microphone: two shelves and a few resonances.

Curves are the analogue prototypes of R. Bristow-Johnson's "Cookbook formulae for audio equalizer biquad filter
coefficients", taken as magnitudes.
"""

from typing import Annotated, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import model_validator

from datagen.degradations.base import Applied, Audio, Degradation, Drawn, Inputs, Scene
from datagen.degradations.frequency_response import grid_hz, with_response
from manifests.ranges import Span, Within, integer, log_uniform, uniform
from manifests.sample import Axis, Values

SHELF_Q = 0.7071
"""Steepest slope without a bump."""
HEARD_HZ = (100.0, 16_000.0)
"""Over which the deviation from a flat response is measured, on a logarithmic axis."""
WORST_DEVIATION_DB = 12.0


class MicrophoneEq(Degradation):
    """A low shelf, a high shelf and up to seven peaks or dips, zero phase."""

    name: ClassVar[str] = "microphone_eq"
    axis: ClassVar[Axis | None] = "coloration"

    low_shelf_hz: Annotated[Span, Within(20.0, 2_000.0)] = (50.0, 700.0)
    high_shelf_hz: Annotated[Span, Within(2_000.0, 20_000.0)] = (4_500.0, 16_000.0)
    shelf_db: Annotated[Span, Within(-30.0, 30.0)] = (-12.0, 12.0)
    peaks: Annotated[Span, Within(0, 20)] = (0, 7)
    peak_hz: Annotated[Span, Within(20.0, 20_000.0)] = (100.0, 16_000.0)
    peak_db: Annotated[Span, Within(-30.0, 30.0)] = (-10.0, 10.0)
    peak_q: Annotated[Span, Within(0.1, 30.0)] = (0.5, 5.0)

    @model_validator(mode="after")
    def _not_flat(self) -> "MicrophoneEq":
        if self.shelf_db == (0.0, 0.0) and (self.peak_db == (0.0, 0.0) or self.peaks[0] < 1):
            raise ValueError("shelf_db and peak_db of 0 make a flat response, which changes nothing")
        return self

    def draw(self, rng: np.random.Generator, scene: Scene) -> Drawn:
        """Draw the corner frequencies and gains; peaks lie where the speech has something to colour."""
        top_hz = max(self.peak_hz[0], min(self.peak_hz[1], scene.bandwidth_hz))
        return Drawn(
            {
                "low_shelf_hz": log_uniform(rng, self.low_shelf_hz),
                "low_shelf_db": uniform(rng, self.shelf_db),
                "high_shelf_hz": log_uniform(rng, self.high_shelf_hz),
                "high_shelf_db": uniform(rng, self.shelf_db),
                "peaks": [
                    {
                        "hz": log_uniform(rng, (self.peak_hz[0], top_hz)),
                        "db": uniform(rng, self.peak_db),
                        "q": log_uniform(rng, self.peak_q),
                    }
                    for _ in range(integer(rng, self.peaks))
                ],
            }
        )

    @staticmethod
    def apply(audio: Audio, values: Values, inputs: Inputs) -> Applied:
        """Apply the summed curve; measures how far it is from flat."""
        grid = grid_hz()
        curve_db = low_shelf_db(grid, values["low_shelf_hz"], values["low_shelf_db"])
        curve_db += high_shelf_db(grid, values["high_shelf_hz"], values["high_shelf_db"])
        for peak in values["peaks"]:
            curve_db += peak_db(grid, peak["hz"], peak["db"], peak["q"])
        heard = curve_db[(grid >= HEARD_HZ[0]) & (grid <= HEARD_HZ[1])]
        return Applied(
            with_response(audio, 10.0 ** (curve_db / 20.0)),
            measured={"deviation_db": round(float(heard.std()), 3)},
        )

    @staticmethod
    def severity(values: Values, measured: Values) -> float:
        """RMS deviation from a flat response, 12 dB being the worst."""
        return min(1.0, float(measured["deviation_db"]) / WORST_DEVIATION_DB)


def peak_db(hz: NDArray[np.float64], centre_hz: float, gain_db: float, q: float) -> NDArray[np.float64]:
    """Response of a peak in dB at the frequencies `hz`: (s^2 + s A/Q + 1) / (s^2 + s/(AQ) + 1)."""
    w = hz / centre_hz
    A = 10.0 ** (gain_db / 40.0)
    through = (1.0 - w**2) ** 2
    return _db((through + (w * A / q) ** 2) / (through + (w / (A * q)) ** 2))


def low_shelf_db(hz: NDArray[np.float64], corner_hz: float, gain_db: float) -> NDArray[np.float64]:
    """Response of a low shelf in dB: A (s^2 + s sqrt(A)/Q + A) / (A s^2 + s sqrt(A)/Q + 1)."""
    w = hz / corner_hz
    A = 10.0 ** (gain_db / 40.0)
    slope = A * (w / SHELF_Q) ** 2
    return _db(A**2 * ((A - w**2) ** 2 + slope) / ((1.0 - A * w**2) ** 2 + slope))


def high_shelf_db(hz: NDArray[np.float64], corner_hz: float, gain_db: float) -> NDArray[np.float64]:
    """Response of a high shelf in dB: A (A s^2 + s sqrt(A)/Q + 1) / (s^2 + s sqrt(A)/Q + A)."""
    w = hz / corner_hz
    A = 10.0 ** (gain_db / 40.0)
    slope = A * (w / SHELF_Q) ** 2
    return _db(A**2 * ((1.0 - A * w**2) ** 2 + slope) / ((A - w**2) ** 2 + slope))


def _db(power: NDArray[np.float64]) -> NDArray[np.float64]:
    decibels: NDArray[np.float64] = 10.0 * np.log10(power)
    return decibels
