"""Low-pass, high-pass and band-pass: the classic families and slopes, as magnitudes with zero phase."""

import math
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator
from scipy import signal

from datagen.degradations.base import Applied, Audio, CannotApply, Degradation, Drawn, Inputs, Scene
from datagen.degradations.frequency_response import bandwidth_severity, grid_hz, with_response
from datagen.level import rms_dbfs
from manifests.ranges import Span, Within, integer, log_uniform, uniform
from manifests.sample import Axis, Values

Family = Literal["butter", "cheby1", "ellip", "bessel"]
Kind = Literal["lowpass", "highpass"]

FAMILIES: tuple[Family, ...] = ("butter", "cheby1", "ellip", "bessel")
INSIDE_SPEECH = 0.9
"""A low-pass is drawn below this share of the speech's bandwidth, so that it takes something away."""
HIGHPASS_MILDEST_HZ = 20.0
HIGHPASS_WORST_HZ = 1_000.0


class _Filter(Degradation):
    """What the three have in common: a family, an order and how far it may ripple."""

    axis: ClassVar[Axis | None] = "coloration"

    families: tuple[Family, ...] = Field(default=FAMILIES, min_length=1)
    order: Annotated[Span, Within(1, 20)] = (1, 20)
    ripple_db: Annotated[Span, Within(0.01, 6.0)] = (0.1, 3.0)
    """Ripple in the pass band, of `cheby1` and `ellip`."""
    attenuation_db: Annotated[Span, Within(10.0, 120.0)] = (30.0, 80.0)
    """Attenuation in the stop band, of `ellip`."""

    def _draw_shape(self, rng: np.random.Generator) -> Values:
        family = self.families[int(rng.integers(len(self.families)))]
        shape: Values = {"family": family, "order": integer(rng, self.order)}
        if family in ("cheby1", "ellip"):
            shape["ripple_db"] = uniform(rng, self.ripple_db)
        if family == "ellip":
            shape["attenuation_db"] = uniform(rng, self.attenuation_db)
        return shape


class LowPass(_Filter):
    """Takes away what lies above a cut-off."""

    name: ClassVar[str] = "lowpass"
    cutoff_hz: Annotated[Span, Within(200.0, 22_000.0)] = (2_000.0, 20_000.0)

    def draw(self, rng: np.random.Generator, scene: Scene) -> Drawn:
        """Draw a cut-off within the speech's bandwidth, log-uniform, and the shape of the slope."""
        cutoff_hz = log_uniform(rng, _inside_speech(self.cutoff_hz, scene))
        return Drawn({"cutoff_hz": cutoff_hz, **self._draw_shape(rng)})

    @staticmethod
    def apply(audio: Audio, values: Values, inputs: Inputs) -> Applied:
        """Filter with zero phase."""
        return _filtered(audio, magnitude("lowpass", values["cutoff_hz"], values))

    @staticmethod
    def severity(values: Values, measured: Values) -> float:
        """The lower the cut-off, the worse: 0 from 20 kHz, 1 at 2 kHz."""
        return bandwidth_severity(values["cutoff_hz"])


class HighPass(_Filter):
    """Takes away what lies below a cut-off."""

    name: ClassVar[str] = "highpass"
    cutoff_hz: Annotated[Span, Within(10.0, 4_000.0)] = (20.0, 300.0)

    def draw(self, rng: np.random.Generator, scene: Scene) -> Drawn:
        """Draw a cut-off, log-uniform, and the shape of the slope."""
        return Drawn({"cutoff_hz": log_uniform(rng, self.cutoff_hz), **self._draw_shape(rng)})

    @staticmethod
    def apply(audio: Audio, values: Values, inputs: Inputs) -> Applied:
        """Filter with zero phase."""
        return _filtered(audio, magnitude("highpass", values["cutoff_hz"], values))

    @staticmethod
    def severity(values: Values, measured: Values) -> float:
        """The higher the cut-off, the worse: 0 at 20 Hz, 1 from 1 kHz."""
        return _highpass_severity(values["cutoff_hz"])


class BandPass(_Filter):
    """Leaves a band, such as the 300 to 3400 Hz of a telephone."""

    name: ClassVar[str] = "bandpass"
    low_hz: Annotated[Span, Within(10.0, 4_000.0)] = (50.0, 400.0)
    high_hz: Annotated[Span, Within(500.0, 22_000.0)] = (2_800.0, 8_000.0)

    @model_validator(mode="after")
    def _leaves_a_band(self) -> "BandPass":
        if self.low_hz[1] >= self.high_hz[0]:
            raise ValueError("low_hz must end below where high_hz begins")
        return self

    def draw(self, rng: np.random.Generator, scene: Scene) -> Drawn:
        """Draw both edges, log-uniform, and the shape of the slopes."""
        edges = {
            "low_hz": log_uniform(rng, self.low_hz),
            "high_hz": log_uniform(rng, _inside_speech(self.high_hz, scene)),
        }
        return Drawn({**edges, **self._draw_shape(rng)})

    @staticmethod
    def apply(audio: Audio, values: Values, inputs: Inputs) -> Applied:
        """Filter with zero phase."""
        upper = magnitude("lowpass", values["high_hz"], values)
        return _filtered(audio, upper * magnitude("highpass", values["low_hz"], values))

    @staticmethod
    def severity(values: Values, measured: Values) -> float:
        """Both edges count: either one alone can make it as bad as it gets."""
        kept = (1.0 - bandwidth_severity(values["high_hz"])) * (1.0 - _highpass_severity(values["low_hz"]))
        return 1.0 - kept


def magnitude(kind: Kind, cutoff_hz: float, shape: Values) -> NDArray[np.float64]:
    """Magnitude of an analogue filter on the grid of `frequency_response`, shape (4096,).

    The cut-off is the -3 dB point of `butter` and `bessel`, and the edge of the ripple of `cheby1` and `ellip`.
    The magnitude is applied once: `order` is the slope that is heard (6 dB an octave each, for `butter`).

    Args:
        kind: which side is taken away.
        cutoff_hz: the edge.
        shape: `family`, `order`, and `ripple_db` and `attenuation_db` where the family has them.
    """
    zeros, poles, gain = _prototype(shape)
    hz = grid_hz()
    s: Any = 1j * (hz / cutoff_hz if kind == "lowpass" else cutoff_hz / np.maximum(hz, 1e-3))
    # In logarithms: products of twenty factors far from the edge leave the range of a float.
    log_gain = np.full(len(hz), math.log(gain))
    for zero in zeros:
        log_gain += np.log(np.maximum(np.abs(s - zero), 1e-12))
    for pole in poles:
        log_gain -= np.log(np.abs(s - pole))
    response: NDArray[np.float64] = np.exp(np.maximum(log_gain, -50.0))
    return response


def _prototype(shape: Values) -> tuple[Any, Any, float]:
    """Zeros, poles and gain of the analogue low-pass with its edge at 1 rad/s."""
    order: int = shape["order"]
    match shape["family"]:
        case "cheby1":
            zeros, poles, gain = signal.cheb1ap(order, shape["ripple_db"])
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


def _inside_speech(bounds: tuple[float, float], scene: Scene) -> tuple[float, float]:
    low_hz, high_hz = bounds
    return low_hz, max(low_hz, min(high_hz, INSIDE_SPEECH * scene.bandwidth_hz))


def _highpass_severity(cutoff_hz: float) -> float:
    octaves = math.log(max(cutoff_hz, HIGHPASS_MILDEST_HZ) / HIGHPASS_MILDEST_HZ)
    return min(1.0, octaves / math.log(HIGHPASS_WORST_HZ / HIGHPASS_MILDEST_HZ))


def _filtered(audio: Audio, response: NDArray[np.float64]) -> Applied:
    before_dbfs = rms_dbfs(audio)
    filtered = with_response(audio, response)
    after_dbfs = rms_dbfs(filtered)
    if not (math.isfinite(before_dbfs) and math.isfinite(after_dbfs)):
        raise CannotApply("there is no signal to filter")
    return Applied(filtered, measured={"level_change_db": round(after_dbfs - before_dbfs, 3)})
