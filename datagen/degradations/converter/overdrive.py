"""Overdrive: an amplifier that saturates long before it clips."""

import math
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field
from scipy.ndimage import uniform_filter1d
from scipy.optimize import brentq

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
from datagen.degradations.converter.waveshaping import Oversample, distortion_severity, sdr_db, shaped
from manifests.ranges import Span, Within, one_of, uniform
from manifests.sample import Axis, Values

CurveName = Literal["tanh", "sigmoid", "diode"]

PEAK_SHARE = 0.001
"""The level that this share of the samples exceeds is what the drive refers to: a click does not count."""
BLOCK_SAMPLES = 240
COUPLING_BLOCKS = 9
"""Uneven half-waves leave a mean that follows the speech: what of it is slower than 45 ms is taken away."""
WIDEST_DRIVE_DB = 60.0
"""As far as a measured drive is looked for."""
EVERY = 4
"""The drive is measured on every fourth sample."""


class Overdrive(Degradation):
    """Drives the speech into a curve that bends ever more, and restores its RMS level.

    With x = 1 at the knee: `tanh` is tanh(x), `sigmoid` is x / sqrt(1 + x^2), which bends more gently, and `diode`
    is 1 - exp(-x) for one half-wave and (exp(b x) - 1) / b for the other, which makes even harmonics too (the mean
    that it leaves is taken away, as by a coupling capacitor). The harmonics are band-limited (`oversample`).
    """

    name: ClassVar[str] = "overdrive"
    axis: ClassVar[Axis | None] = "coloration"
    promises: ClassVar[Mapping[str, Tolerance]] = {"drive_db": Tolerance(absolute=0.5)}

    drive_db: Annotated[Span, Within(0.0, 50.0)] = (2.0, 30.0)
    """How far the peaks (the level that 0.1 % of the samples exceed) lie above the knee of the curve."""
    curves: tuple[CurveName, ...] = Field(default=("tanh", "sigmoid", "diode"), min_length=1)
    asymmetry_db: Annotated[Span, Within(0.0, 40.0)] = (3.0, 20.0)
    """Of `diode`: how much later the other half-wave saturates, 1 / b in dB."""
    oversample: tuple[Oversample, ...] = Field(default=(2, 4), min_length=1)
    """At how many times 48 kHz the curve is run; with 1, harmonics fold back."""

    def draw(self, rng: np.random.Generator, scene: Scene) -> Drawn:
        """Draw the curve, the drive, which half-wave of a diode saturates first, and the oversampling."""
        values: Values = {
            "curve": one_of(rng, self.curves),
            "drive_db": uniform(rng, self.drive_db),
        }
        if values["curve"] == "diode":
            values["asymmetry_db"] = uniform(rng, self.asymmetry_db)
            values["upper_first"] = bool(rng.random() < 0.5)
        values["oversample"] = one_of(rng, self.oversample)
        return Drawn(values)

    @staticmethod
    def apply(audio: Audio, values: Values, inputs: Inputs) -> Applied:
        """Bend; measures the drive by how much of the signal came through, and the distortion.

        Raises:
            CannotApply: when the signal is silent but for clicks.
        """
        rank = len(audio) - 1 - round(PEAK_SHARE * len(audio))
        peak = float(np.partition(np.abs(audio), rank)[rank]) if len(audio) else 0.0
        deviation = audio.std()
        if peak <= 0.0 or deviation <= 0.0:
            raise CannotApply("there is no signal to drive")
        knee = np.float32(peak / 10.0 ** (values["drive_db"] / 20.0))
        kept = _passed(audio, _bent(audio, knee, values))
        driven = shaped(audio, lambda waveform: _bent(waveform, knee, values), values["oversample"], kept)
        if values["curve"] == "diode":
            driven -= _slow(driven - np.float32(kept) * audio)
        passed = _passed(audio, driven)
        measured = {
            "drive_db": _drive_db(audio, peak, passed, values),
            "sdr_db": round(sdr_db(audio * np.float32(passed), driven), 3),
        }
        gain = np.float32(deviation / driven.std())
        return Applied(driven * gain, measured=measured | {"restored_db": round(20.0 * math.log10(gain), 3)})

    @staticmethod
    def severity(values: Values, measured: Values) -> float:
        """By the ratio of what came through to what the curve added: 0 from 40 dB up, 1 at 3 dB."""
        return distortion_severity(measured["sdr_db"])


def _bent(waveform: Audio, knee: np.float32, values: Values) -> Audio:
    """Run a curve of slope 1 at zero that saturates at `knee`."""
    x = waveform / knee
    match values["curve"]:
        case "tanh":
            bent = np.tanh(x)
        case "sigmoid":
            bent = x / np.sqrt(np.float32(1.0) + x * x)
        case _:
            steepness = np.float32(10.0 ** (-values["asymmetry_db"] / 20.0))
            first = np.greater(x, 0.0) if values["upper_first"] else np.less(x, 0.0)
            slope = steepness + (np.float32(1.0) - steepness) * first.astype(np.float32)
            bent = np.copysign((np.float32(1.0) - np.exp(-slope * np.abs(x))) / slope, x)
    return np.asarray(bent * knee, np.float32)


def _slow(added: Audio) -> Audio:
    """What moves more slowly than the coupling lets through: triangular means of blocks, and lines between them."""
    blocks = max(1, len(added) // BLOCK_SAMPLES)
    means = added[: blocks * BLOCK_SAMPLES].reshape(blocks, -1).mean(axis=1)
    knots = np.pad(
        uniform_filter1d(uniform_filter1d(means, COUPLING_BLOCKS), COUPLING_BLOCKS), (1, 2), "edge"
    )
    ramp = (np.arange(BLOCK_SAMPLES, dtype=np.float32) + np.float32(0.5)) / np.float32(BLOCK_SAMPLES)
    lines = knots[:-1, np.newaxis] + np.diff(knots)[:, np.newaxis] * ramp
    # The first line ends in the middle of the first block.
    slow: Audio = lines.ravel()[BLOCK_SAMPLES // 2 :][: len(added)]
    return slow


def _passed(audio: Audio, driven: Audio) -> float:
    """Gain with which `audio` is contained in `driven`: covariance over variance."""
    centred = audio - audio.mean()
    return float(np.dot(centred, driven) / np.dot(centred, centred))


def _drive_db(audio: Audio, peak: float, passed: float, values: Values) -> float | None:
    """Measure the drive: the one at which the curve lets so much of the signal through as came out."""
    few = np.ascontiguousarray(audio[::EVERY])

    def excess(drive_db: float) -> float:
        knee = np.float32(peak / 10.0 ** (drive_db / 20.0))
        return _passed(few, _bent(few, knee, values)) - passed

    if not excess(-WIDEST_DRIVE_DB) > 0.0 > excess(WIDEST_DRIVE_DB):
        return None
    return round(float(brentq(excess, -WIDEST_DRIVE_DB, WIDEST_DRIVE_DB, xtol=0.01)), 2)
