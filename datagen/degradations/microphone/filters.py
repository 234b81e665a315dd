"""Low-pass, high-pass and band-pass: the classic families and slopes, as magnitudes with zero phase."""

import math
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator
from scipy import signal

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
from datagen.frequency_response import bandwidth_severity, grid_hz, with_response
from datagen.level import rms_dbfs
from datagen.measured_response import response_between
from manifests.ranges import Span, Whole, Within, integer, log_uniform, one_of, uniform
from manifests.sample import Axis, Values

Family = Literal["butter", "cheby1", "ellip", "bessel", "cheby2", "brickwall"]
Kind = Literal["lowpass", "highpass"]

FAMILIES: tuple[Family, ...] = ("butter", "cheby1", "ellip", "bessel", "cheby2", "brickwall")
HALF_POWER_DB = 10.0 * math.log10(0.5)
HALF_AMPLITUDE_DB = 20.0 * math.log10(0.5)
BRICKWALL_EDGE = 0.03
"""Width of the edge of a brick wall, as a share of its cut-off."""
BRICKWALL_NARROWEST_HZ = 10.0
"""An edge of this width rings for a tenth of a second to each side."""
GONE_DB = -40.0
"""What a filter turns down further than this is not there any more for the stages that come after."""
INSIDE_SPEECH = 0.9
"""A low-pass is drawn below this share of the speech's bandwidth, so that it takes something away."""
HIGHPASS_MILDEST_HZ = 20.0
HIGHPASS_WORST_HZ = 1_000.0
EDGE_TOLERANCE = Tolerance(absolute=2.0, relative=0.02)


class _Filter(Degradation):
    """What the three have in common: a family, an order and how far it may ripple."""

    axis: ClassVar[Axis | None] = "coloration"

    families: tuple[Family, ...] = Field(default=FAMILIES, min_length=1)
    """`brickwall` has no order: it falls within 3 % of the cut-off, at least 10 Hz, as half a cosine."""
    order: Annotated[Span, Whole(1, 20)] = (1, 20)
    """Slope: 6 dB an octave each, for `butter`."""
    ripple_db: Annotated[Span, Within(0.01, 6.0)] = (0.1, 3.0)
    """Ripple in the pass band, of `cheby1` and `ellip`."""
    attenuation_db: Annotated[Span, Within(10.0, 120.0)] = (30.0, 80.0)
    """Attenuation in the stop band, of `ellip` and `cheby2`."""

    def _draw_shape(self, rng: np.random.Generator) -> Values:
        family = one_of(rng, self.families)
        if family == "brickwall":
            return {"family": family}
        shape: Values = {"family": family, "order": integer(rng, self.order)}
        if family in ("cheby1", "ellip"):
            shape["ripple_db"] = uniform(rng, self.ripple_db)
        if family in ("ellip", "cheby2"):
            shape["attenuation_db"] = uniform(rng, self.attenuation_db)
        return shape


class LowPass(_Filter):
    """Takes away what lies above a cut-off, with zero phase: the magnitude of an analogue filter.

    The cut-off is where a filter of its family says that its pass band ends: 3 dB down for `butter`, `bessel` and
    `cheby2`, the edge of the ripple for `cheby1` and `ellip`, 6 dB down for `brickwall`. It is measured from the
    ratio of the spectra of output and input.
    """

    name: ClassVar[str] = "lowpass"
    promises: ClassVar[Mapping[str, Tolerance]] = {"cutoff_hz": EDGE_TOLERANCE}
    cutoff_hz: Annotated[Span, Within(200.0, 22_000.0)] = (2_000.0, 20_000.0)

    def draw(self, rng: np.random.Generator, scene: Scene) -> Drawn:
        """Draw a cut-off within the speech's bandwidth, log-uniform, and the shape of the slope."""
        cutoff_hz = log_uniform(rng, _inside_speech(self.cutoff_hz, scene))
        values: Values = {"cutoff_hz": cutoff_hz, **self._draw_shape(rng)}
        return Drawn(values, bandwidth_hz=_left_hz(cutoff_hz, values))

    @staticmethod
    def apply(audio: Audio, values: Values, inputs: Inputs) -> Applied:
        """Filter with zero phase; measures the cut-off and the change of level."""
        cutoff_hz = values["cutoff_hz"]
        response = magnitude("lowpass", cutoff_hz, values)
        return _filtered(audio, response, values, {"cutoff_hz": "lowpass"})

    @staticmethod
    def severity(values: Values, measured: Values) -> float:
        """The lower the cut-off, the worse: 0 from 20 kHz, 1 at 2 kHz."""
        return bandwidth_severity(values["cutoff_hz"])


class HighPass(_Filter):
    """Takes away what lies below a cut-off, with zero phase; the cut-off means what it means for `lowpass`."""

    name: ClassVar[str] = "highpass"
    promises: ClassVar[Mapping[str, Tolerance]] = {"cutoff_hz": EDGE_TOLERANCE}
    cutoff_hz: Annotated[Span, Within(10.0, 4_000.0)] = (20.0, 300.0)

    def draw(self, rng: np.random.Generator, scene: Scene) -> Drawn:
        """Draw a cut-off, log-uniform, and the shape of the slope."""
        return Drawn({"cutoff_hz": log_uniform(rng, self.cutoff_hz), **self._draw_shape(rng)})

    @staticmethod
    def apply(audio: Audio, values: Values, inputs: Inputs) -> Applied:
        """Filter with zero phase; measures the cut-off and the change of level."""
        cutoff_hz = values["cutoff_hz"]
        response = magnitude("highpass", cutoff_hz, values)
        return _filtered(audio, response, values, {"cutoff_hz": "highpass"})

    @staticmethod
    def severity(values: Values, measured: Values) -> float:
        """The higher the cut-off, the worse: 0 at 20 Hz, 1 from 1 kHz."""
        return _highpass_severity(values["cutoff_hz"])


class BandPass(_Filter):
    """Leaves a band, such as the 300 to 3400 Hz of a telephone: a `highpass` and a `lowpass` of one family."""

    name: ClassVar[str] = "bandpass"
    promises: ClassVar[Mapping[str, Tolerance]] = {"low_hz": EDGE_TOLERANCE, "high_hz": EDGE_TOLERANCE}
    low_hz: Annotated[Span, Within(10.0, 4_000.0)] = (50.0, 400.0)
    high_hz: Annotated[Span, Within(500.0, 22_000.0)] = (2_800.0, 8_000.0)

    @model_validator(mode="after")
    def _leaves_a_band(self) -> "BandPass":
        if self.low_hz[1] >= self.high_hz[0]:
            raise ValueError("low_hz must end below where high_hz begins")
        return self

    def draw(self, rng: np.random.Generator, scene: Scene) -> Drawn:
        """Draw both edges, log-uniform, and the shape of the slopes."""
        values: Values = {
            "low_hz": log_uniform(rng, self.low_hz),
            "high_hz": log_uniform(rng, _inside_speech(self.high_hz, scene)),
            **self._draw_shape(rng),
        }
        return Drawn(values, bandwidth_hz=_left_hz(values["high_hz"], values))

    @staticmethod
    def apply(audio: Audio, values: Values, inputs: Inputs) -> Applied:
        """Filter with zero phase; measures both edges and the change of level."""
        upper = magnitude("lowpass", values["high_hz"], values)
        response = upper * magnitude("highpass", values["low_hz"], values)
        return _filtered(audio, response, values, {"low_hz": "highpass", "high_hz": "lowpass"})

    @staticmethod
    def severity(values: Values, measured: Values) -> float:
        """Both edges count: either one alone can make it as bad as it gets."""
        kept = (1.0 - bandwidth_severity(values["high_hz"])) * (1.0 - _highpass_severity(values["low_hz"]))
        return 1.0 - kept


def magnitude(kind: Kind, cutoff_hz: float, shape: Values) -> NDArray[np.float64]:
    """Magnitude of an analogue filter on the grid of `frequency_response`, shape (4096,).

    The magnitude is applied once: `order` is the slope that is heard (6 dB an octave each, for `butter`).

    Args:
        kind: which side is taken away.
        cutoff_hz: where the gain is `edge_db(shape)`.
        shape: `family`, and `order`, `ripple_db` and `attenuation_db` where the family has them.
    """
    hz = grid_hz()
    if shape["family"] == "brickwall":
        return _brickwall(hz if kind == "lowpass" else 2.0 * cutoff_hz - hz, cutoff_hz)
    zeros, poles, gain = _prototype(shape)
    w = hz / cutoff_hz if kind == "lowpass" else cutoff_hz / np.maximum(hz, 1e-3)
    power = np.full(len(hz), gain**2)
    for root in zeros:
        power *= root.real**2 + (w - root.imag) ** 2
    for root in poles:
        power /= root.real**2 + (w - root.imag) ** 2
    response: NDArray[np.float64] = np.sqrt(power)
    return response


def edge_db(shape: Values) -> float:
    """Gain at the cut-off, in dB, by which a family defines it."""
    match shape["family"]:
        case "cheby1" | "ellip":
            return -float(shape["ripple_db"])
        case "brickwall":
            return HALF_AMPLITUDE_DB
        case _:
            return HALF_POWER_DB


def _brickwall(hz: NDArray[np.float64], cutoff_hz: float) -> NDArray[np.float64]:
    width_hz = max(BRICKWALL_NARROWEST_HZ, BRICKWALL_EDGE * cutoff_hz)
    across = np.clip((hz - cutoff_hz) / width_hz + 0.5, 0.0, 1.0)
    gain: NDArray[np.float64] = 0.5 + 0.5 * np.cos(np.pi * across)
    return gain


def _prototype(shape: Values) -> tuple[Any, Any, float]:
    """Zeros, poles and gain of the analogue low-pass with its edge at 1 rad/s."""
    order: int = shape["order"]
    match shape["family"]:
        case "cheby1":
            zeros, poles, gain = signal.cheb1ap(order, shape["ripple_db"])
        case "cheby2":
            zeros, poles, gain = _half_power_cheb2ap(order, shape["attenuation_db"])
        case "ellip":
            # The stop band must lie below the ripple, or there is no such filter.
            attenuation_db = max(shape["attenuation_db"], shape["ripple_db"] + 10.0)
            zeros, poles, gain = signal.ellipap(order, shape["ripple_db"], attenuation_db)
        case "bessel":
            zeros, poles, gain = signal.besselap(order, norm="mag")
        case _:
            zeros, poles, gain = signal.buttap(order)
    # A first-order elliptic filter comes with its one pole as a scalar.
    return np.atleast_1d(zeros), np.atleast_1d(poles), float(np.real(gain))


def _half_power_cheb2ap(order: int, attenuation_db: float) -> tuple[Any, Any, float]:
    """The inverse Chebyshev filter, moved from the edge of its stop band to its half-power frequency.

    |H|^2 = 1 / (1 + 1 / (e T_n(1/w))^2) with e^2 = 1 / (10^(a/10) - 1) is a half at w = 1 / cosh(acosh(1/e) / n).
    """
    zeros, poles, gain = signal.cheb2ap(order, attenuation_db)
    stop = math.cosh(math.acosh(math.sqrt(10.0 ** (attenuation_db / 10.0) - 1.0)) / order)
    return zeros * stop, poles * stop, float(np.real(gain)) * stop ** (len(poles) - len(zeros))


def _inside_speech(bounds: tuple[float, float], scene: Scene) -> tuple[float, float]:
    low_hz, high_hz = bounds
    return low_hz, max(low_hz, min(high_hz, INSIDE_SPEECH * scene.bandwidth_hz))


def _left_hz(cutoff_hz: float, shape: Values) -> float:
    """Where a low-pass leaves off: the highest frequency that it does not turn down further than `GONE_DB`."""
    kept = magnitude("lowpass", cutoff_hz, shape) >= 10.0 ** (GONE_DB / 20.0)
    return float(grid_hz()[np.flatnonzero(kept)[-1]])


def _highpass_severity(cutoff_hz: float) -> float:
    octaves = math.log(max(cutoff_hz, HIGHPASS_MILDEST_HZ) / HIGHPASS_MILDEST_HZ)
    return min(1.0, octaves / math.log(HIGHPASS_WORST_HZ / HIGHPASS_MILDEST_HZ))


def _filtered(audio: Audio, response: NDArray[np.float64], values: Values, edges: dict[str, Kind]) -> Applied:
    before_dbfs = rms_dbfs(audio)
    filtered = with_response(audio, response)
    after_dbfs = rms_dbfs(filtered)
    if not (math.isfinite(before_dbfs) and math.isfinite(after_dbfs)):
        raise CannotApply("there is no signal to filter")
    measured: Values = {"level_change_db": round(after_dbfs - before_dbfs, 3)}
    delivered = response_between(audio, filtered)
    for name, kind in edges.items():
        other = [(edge, side) for edge, side in edges.items() if edge != name]
        level_db = edge_db(values) + sum(
            _gain_db_at(values[name], side, values[edge], values) for edge, side in other
        )
        found_hz = delivered.edge_hz(values[name], level_db, falling=kind == "lowpass")
        if found_hz is None:
            raise CannotApply(
                f"there is no sound around {values[name]:.0f} Hz, where the filter has its edge"
            )
        measured[name] = round(found_hz, 2)
    return Applied(filtered, measured=measured)


def _gain_db_at(hz: float, kind: Kind, cutoff_hz: float, shape: Values) -> float:
    """Gain that the filter at the other end of a band has at `hz`."""
    gain = np.interp(hz, grid_hz(), magnitude(kind, cutoff_hz, shape))
    return 20.0 * math.log10(max(float(gain), 1e-9))
