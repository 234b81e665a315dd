"""Notches: narrow bands that are missing, as after a feedback suppressor or a hum filter set too wide."""

import math
from collections.abc import Mapping
from typing import Annotated, ClassVar

import numpy as np
from numpy.typing import NDArray
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
from datagen.frequency_response import padded_spectrum
from datagen.measured_response import response_between
from manifests.ranges import Span, Whole, Within, integer, log_uniform, uniform
from manifests.recipe import SAMPLE_RATE_HZ
from manifests.sample import Axis, Values

INSIDE_SPEECH = 0.9
FLAT_SHARE = 0.25
"""The notch has its full depth this far from its centre, as a share of its width."""
REACH_SHARE = 0.75
"""It ends this far from its centre."""
MEASURED_SHARE = 0.125
"""Its depth is measured this far around its centre."""
DEEP_DB = 40.0
"""Deeper than this is as good as gone."""
WORST_ERBS = 6.0
"""Missing this many critical bands, speech loses a formant."""


class Notch(Degradation):
    """Rejects one or two bands by a depth in dB, with zero phase.

    A band is rejected by its full depth over half of its width and by half of it, in dB, at its ends; between and
    beyond it follows a cosine. The depth is measured at the centre, of two bands where it is shallower.
    """

    name: ClassVar[str] = "notch"
    axis: ClassVar[Axis | None] = "coloration"
    promises: ClassVar[Mapping[str, Tolerance]] = {"depth_db": Tolerance(absolute=0.5, relative=0.02)}

    notches: Annotated[Span, Whole(1, 8)] = (1, 2)
    """How many bands are rejected."""
    centre_hz: Annotated[Span, Within(50.0, 20_000.0)] = (100.0, 12_000.0)
    width_hz: Annotated[Span, Within(10.0, 4_000.0)] = (20.0, 500.0)
    """Between the points of half the depth."""
    depth_db: Annotated[Span, Within(3.0, 80.0)] = (10.0, 40.0)
    """One for all bands of a clip."""

    def draw(self, rng: np.random.Generator, scene: Scene) -> Drawn:
        """Draw the bands, log-uniform and where the speech is, and one depth for them all."""
        low_hz = self.centre_hz[0]
        high_hz = max(low_hz, min(self.centre_hz[1], INSIDE_SPEECH * scene.bandwidth_hz))
        bands = [
            {"hz": log_uniform(rng, (low_hz, high_hz)), "width_hz": log_uniform(rng, self.width_hz)}
            for _ in range(integer(rng, self.notches))
        ]
        return Drawn({"notches": bands, "depth_db": uniform(rng, self.depth_db)})

    @staticmethod
    def apply(audio: Audio, values: Values, inputs: Inputs) -> Applied:
        """Take the bands out of the spectrum; measures how deep the result is at their centres."""
        spectrum, size = padded_spectrum(audio)
        spectrum *= _gains(values, size / SAMPLE_RATE_HZ, len(spectrum))
        notched: Audio = fft.irfft(spectrum, size, overwrite_x=True)[: len(audio)]
        delivered = response_between(audio, notched)
        depths_db = []
        for band in values["notches"]:
            half_hz = MEASURED_SHARE * band["width_hz"]
            gain_db = delivered.gain_db(band["hz"] - half_hz, band["hz"] + half_hz)
            if gain_db is None:
                raise CannotApply(f"there is no sound at {band['hz']:.0f} Hz to take out")
            depths_db.append(-gain_db)
        return Applied(notched, measured={"depth_db": round(min(depths_db), 3)})

    @staticmethod
    def severity(values: Values, measured: Values) -> float:
        """Critical bands that are missing (six are the worst), times the depth up to 40 dB."""
        missing = sum(
            _erb_number(band["hz"] + band["width_hz"] / 2.0)
            - _erb_number(max(0.0, band["hz"] - band["width_hz"] / 2.0))
            for band in values["notches"]
        )
        return min(1.0, missing / WORST_ERBS) * min(1.0, float(measured["depth_db"]) / DEEP_DB)


def _gains(values: Values, bins_per_hz: float, bins: int) -> NDArray[np.float32]:
    """Gain of each bin, shape (bins,); where bands overlap, no more is taken than one of them takes."""
    gains = np.ones(bins, np.float32)
    for band in values["notches"]:
        reach_hz = REACH_SHARE * band["width_hz"]
        first = max(0, math.ceil((band["hz"] - reach_hz) * bins_per_hz))
        last = min(bins, math.floor((band["hz"] + reach_hz) * bins_per_hz) + 1)
        distance = np.abs(np.arange(first, last) / bins_per_hz - band["hz"]) / band["width_hz"]
        outwards = np.clip((distance - FLAT_SHARE) / (REACH_SHARE - FLAT_SHARE), 0.0, 1.0)
        taken_db = values["depth_db"] * (0.5 + 0.5 * np.cos(np.pi * outwards))
        gains[first:last] = np.minimum(gains[first:last], 10.0 ** (-taken_db / 20.0))
    return gains


def _erb_number(hz: float) -> float:
    """Number of critical bands below a frequency (Glasberg and Moore 1990, equation 4)."""
    return 21.4 * math.log10(1.0 + 0.00437 * hz)
