"""The frequency response of a poor microphone: two shelves and a few resonances.

Curves are the analogue prototypes of R. Bristow-Johnson's "Cookbook formulae for audio equalizer biquad filter
coefficients". Their poles and zeros all lie in the left half of the plane: as they stand, phase included, they are
the minimum-phase response of their magnitude.
"""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator
from scipy import fft

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
from datagen.frequency_response import at_bins, grid_hz, padded_spectrum, with_response
from datagen.measured_response import response_between
from manifests.ranges import Span, Whole, Within, integer, log_uniform, one_of, uniform
from manifests.recipe import SAMPLE_RATE_HZ
from manifests.sample import Axis, Values

Phase = Literal["zero", "minimum"]

SHELF_Q = 0.7071
"""Steepest slope without a bump."""
HEARD_HZ = (100.0, 16_000.0)
"""Over which the deviation from a flat response is measured, on a logarithmic axis."""
INSIDE_SPEECH = 0.9
"""Of narrower speech, up to this share of its bandwidth."""
STEP_OCTAVES = 1.0 / 12.0
MEASURED_OCTAVES = 1.0 / 48.0
FEWEST_MEASURED = 0.5
"""Share of the frequencies at which there must be something to measure."""
WORST_DEVIATION_DB = 12.0


class MicrophoneEq(Degradation):
    """A low shelf, a high shelf and up to seven peaks or dips, after R. Bristow-Johnson's cookbook.

    With `minimum` phase, as a microphone has it, low frequencies come later or earlier than high ones; the stage
    declares the lag of the speech as a whole, so that waveforms match best where they are compared. With `zero` phase
    nothing moves. Deviation from a flat response and the largest gain are measured from the spectra.
    """

    name: ClassVar[str] = "microphone_eq"
    axis: ClassVar[Axis | None] = "coloration"
    promises: ClassVar[Mapping[str, Tolerance]] = {
        "deviation_db": Tolerance(absolute=0.05, relative=0.02),
        "largest_db": Tolerance(absolute=0.1, relative=0.03),
    }

    low_shelf_hz: Annotated[Span, Within(20.0, 2_000.0)] = (50.0, 700.0)
    """Corner of the low shelf."""
    high_shelf_hz: Annotated[Span, Within(2_000.0, 20_000.0)] = (4_500.0, 16_000.0)
    """Corner of the high shelf."""
    shelf_db: Annotated[Span, Within(-30.0, 30.0)] = (-12.0, 12.0)
    """Gain of each shelf, drawn for each."""
    peaks: Annotated[Span, Whole(0, 20)] = (0, 7)
    """How many peaks and dips."""
    peak_hz: Annotated[Span, Within(20.0, 20_000.0)] = (100.0, 16_000.0)
    """Centre of each."""
    peak_db: Annotated[Span, Within(-30.0, 30.0)] = (-10.0, 10.0)
    """Gain at the centre of each."""
    peak_q: Annotated[Span, Within(0.1, 30.0)] = (0.5, 5.0)
    """Quality of each: its centre over its width."""
    phase: tuple[Phase, ...] = Field(default=("zero",), min_length=1)

    @model_validator(mode="after")
    def _not_flat(self) -> "MicrophoneEq":
        if self.shelf_db == (0.0, 0.0) and (self.peak_db == (0.0, 0.0) or self.peaks[0] < 1):
            raise ValueError("shelf_db and peak_db of 0 make a flat response, which changes nothing")
        return self

    def draw(self, rng: np.random.Generator, scene: Scene) -> Drawn:
        """Draw the corner frequencies and gains; peaks lie where the speech has something to colour."""
        top_hz = max(self.peak_hz[0], min(self.peak_hz[1], scene.bandwidth_hz))
        values: Values = {
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
            "phase": one_of(rng, self.phase),
            "heard_to_hz": min(HEARD_HZ[1], INSIDE_SPEECH * scene.bandwidth_hz),
        }
        heard = _heard_hz(values)
        curve_db = _decibels(response(heard, values))
        largest = int(np.argmax(np.abs(curve_db)))
        return Drawn(
            {
                **values,
                "deviation_db": float(curve_db.std()),
                "largest_hz": float(heard[largest]),
                "largest_db": float(curve_db[largest]),
            }
        )

    @staticmethod
    def apply(audio: Audio, values: Values, inputs: Inputs) -> Applied:
        """Apply the curve; measures how far it is from flat, and its largest gain."""
        measured: Values = {}
        late = 0
        if values["phase"] == "minimum":
            coloured, late, centroid_hz = _minimum_phase(audio, values)
            measured["centroid_hz"] = round(centroid_hz, 1)
            measured["group_delay_samples"] = round(group_delay_samples(centroid_hz, values), 3)
        else:
            coloured = with_response(audio, np.abs(response(grid_hz(), values)))
        delivered = response_between(audio, coloured[: len(audio)])
        gains_db = delivered.gains_db(_heard_hz(values), MEASURED_OCTAVES)
        largest_db = delivered.gains_db(np.array([values["largest_hz"]]), MEASURED_OCTAVES)[0]
        if np.isnan(largest_db) or np.isfinite(gains_db).mean() < FEWEST_MEASURED:
            raise CannotApply("too little of the spectrum holds a sound that could be coloured")
        measured["deviation_db"] = round(float(np.nanstd(gains_db)), 3)
        measured["largest_db"] = round(float(largest_db), 3)
        return Applied(coloured, delay_samples=float(late), measured=measured)

    @staticmethod
    def severity(values: Values, measured: Values) -> float:
        """RMS deviation from a flat response, 12 dB being the worst."""
        return min(1.0, float(measured["deviation_db"]) / WORST_DEVIATION_DB)


def response(hz: NDArray[np.float64], values: Values) -> NDArray[np.complex128]:
    """Complex gain of the drawn shelves and peaks at the frequencies `hz`, minimum phase."""
    curve = low_shelf(hz, values["low_shelf_hz"], values["low_shelf_db"])
    curve = curve * high_shelf(hz, values["high_shelf_hz"], values["high_shelf_db"])
    for drawn in values["peaks"]:
        curve = curve * peak(hz, drawn["hz"], drawn["db"], drawn["q"])
    return curve


def peak(hz: NDArray[np.float64], centre_hz: float, gain_db: float, q: float) -> NDArray[np.complex128]:
    """Complex gain of a peak at the frequencies `hz`: (s^2 + s A/Q + 1) / (s^2 + s/(AQ) + 1)."""
    s, A = 1j * hz / centre_hz, 10.0 ** (gain_db / 40.0)
    curve: NDArray[np.complex128] = (s**2 + s * A / q + 1.0) / (s**2 + s / (A * q) + 1.0)
    return curve


def low_shelf(hz: NDArray[np.float64], corner_hz: float, gain_db: float) -> NDArray[np.complex128]:
    """Complex gain of a low shelf: A (s^2 + s sqrt(A)/Q + A) / (A s^2 + s sqrt(A)/Q + 1)."""
    s, A = 1j * hz / corner_hz, 10.0 ** (gain_db / 40.0)
    slope = s * np.sqrt(A) / SHELF_Q
    curve: NDArray[np.complex128] = A * (s**2 + slope + A) / (A * s**2 + slope + 1.0)
    return curve


def high_shelf(hz: NDArray[np.float64], corner_hz: float, gain_db: float) -> NDArray[np.complex128]:
    """Complex gain of a high shelf: A (A s^2 + s sqrt(A)/Q + 1) / (s^2 + s sqrt(A)/Q + A)."""
    s, A = 1j * hz / corner_hz, 10.0 ** (gain_db / 40.0)
    slope = s * np.sqrt(A) / SHELF_Q
    curve: NDArray[np.complex128] = A * (A * s**2 + slope + 1.0) / (s**2 + slope + A)
    return curve


def group_delay_samples(hz: float, values: Values) -> float:
    """Group delay of the drawn curve at one frequency, in samples at 48 kHz: minus the slope of its phase."""
    around = hz * np.array([0.999, 1.001])
    below, above = response(around, values)
    turns = float(np.angle(above / below)) / (2.0 * np.pi)
    return -turns / float(around[1] - around[0]) * SAMPLE_RATE_HZ


def _minimum_phase(audio: Audio, values: Values) -> tuple[Audio, int, float]:
    """Colour with minimum phase; return the result, by how many samples it lags, and the speech's centroid in Hz.

    The lag is where output and input correlate best: their cross-spectrum is the power spectrum of the speech times
    the response. What it has beyond whole samples is taken out of the response.
    """
    spectrum, size = padded_spectrum(audio)
    curve = response(grid_hz(), values)
    power = spectrum.real**2 + spectrum.imag**2
    if not power.any():
        raise CannotApply("there is no signal to colour")
    lag = _highest(fft.irfft(power * at_bins(curve.astype(np.complex64), size), size, overwrite_x=True))
    whole = round(lag)
    curve = curve * np.exp(2j * np.pi * grid_hz() * (lag - whole) / SAMPLE_RATE_HZ)
    spectrum *= at_bins(curve.astype(np.complex64), size)
    coloured: Audio = fft.irfft(spectrum, size, overwrite_x=True)[: len(audio) + max(whole, 0)]
    centroid_hz = float(np.arange(len(power)) @ power / power.sum(dtype=np.float64)) * SAMPLE_RATE_HZ / size
    return coloured, whole, centroid_hz


def _highest(correlation: Audio) -> float:
    """Where a circular correlation is highest, between the samples by a parabola; shape (N,)."""
    peak = int(np.argmax(correlation))
    before, at, after = (float(correlation[(peak + step) % len(correlation)]) for step in (-1, 0, 1))
    fraction = 0.5 * (before - after) / min(before - 2.0 * at + after, -1e-30)
    return fraction + (peak if peak < len(correlation) // 2 else peak - len(correlation))


def _heard_hz(values: Values) -> NDArray[np.float64]:
    octaves = np.log2(max(values["heard_to_hz"] / HEARD_HZ[0], 2.0))
    steps: NDArray[np.float64] = HEARD_HZ[0] * 2.0 ** np.arange(0.0, octaves, STEP_OCTAVES)
    return steps


def _decibels(curve: NDArray[np.complex128]) -> NDArray[np.float64]:
    decibels: NDArray[np.float64] = 20.0 * np.log10(np.abs(curve))
    return decibels
