"""Lost bandwidth: down to a lower sample rate and back, as a device or a call would, well or badly."""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

import numpy as np
import soxr
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
from datagen.degradations.rate.faithfulness import faithfulness
from datagen.degradations.rate.interpolation import held_lag_samples, interpolated
from datagen.frequency_response import bandwidth_severity
from manifests.ranges import Probability, Span, Within, one_of, uniform
from manifests.recipe import SAMPLE_RATE_HZ
from manifests.sample import Axis, Values

Method = Literal["soxr", "zoh", "linear", "cubic"]
Quality = Literal["QQ", "LQ", "MQ", "HQ", "VHQ"]
Rate = Literal[4_000, 6_000, 8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100]

METHODS: tuple[Method, ...] = ("soxr", "zoh", "linear", "cubic")
STANDARD_RATES_HZ: tuple[Rate, ...] = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100)
ANY_RATE_HZ: Span = (3_000.0, 32_000.0)
ANY_RATE_SHARE = 0.25
"""How often any rate is drawn where a recipe asks for both or for neither kind."""
ANTIALIAS_QUALITY = "HQ"
UNFILTERED_QUALITY = "QQ"
"""Of soxr: has no filter, and lets aliases and images through as the other interpolators do."""
IMAGES_MILDEST_DB = -60.0
IMAGES_WORST_DB = -15.0
IMAGES_SEVERITY = 0.5
"""What images add at their worst to the severity of the lost bandwidth."""


class BandwidthLoss(Degradation):
    """Resamples to a lower rate and back to 48 kHz, well or badly.

    `soxr` resamples as good software does, at one of several qualities. `zoh`, `linear` and `cubic` interpolate as
    cheap devices and the SSI challenge's synthesizer do: they leave images of the speech above half the rate, and
    where no anti-alias filter comes before them, aliases below it. The lag of a zero-order hold is removed, to the
    fraction of a sample. A recipe that names `rates_hz` gets these, as in the URGENT challenges; one that names
    `any_rate_hz` gets any rate of that range, as in the SSI challenge; one that names neither gets both. A rate
    for `soxr` is drawn only if its Nyquist frequency lies below the end of the speech's spectrum, or of what earlier
    stages have left of it; where no rate that devices have does and a recipe asks for both, any rate is drawn.
    """

    name: ClassVar[str] = "bandwidth_loss"
    axis: ClassVar[Axis | None] = "coloration"
    promises: ClassVar[Mapping[str, Tolerance]] = {
        "bandwidth_hz": Tolerance(relative=0.15),
        "lag_samples": Tolerance(absolute=1.0),
    }

    rates_hz: tuple[Rate, ...] | None = Field(default=None, min_length=1)
    """Rates that devices have. Where neither this nor `any_rate_hz` is given: one of 8, 11.025, 12, 16, 22.05, 24, 32
    and 44.1 kHz in three of four draws, and any rate from 3 to 32 kHz in the fourth."""
    any_rate_hz: Annotated[Span, Within(3_000.0, 47_000.0)] | None = None
    """Any whole rate within this range; together with `rates_hz`, in one of four draws."""
    methods: tuple[Method, ...] | None = Field(default=None, min_length=1)
    """How rates are converted: `zoh` holds samples, `linear` draws lines, `cubic` Catmull-Rom splines. Where it is not
    given: `soxr` for the rates that devices have, and any of the four for any other rate."""
    qualities: tuple[Quality, ...] = Field(default=("QQ", "LQ", "MQ", "HQ", "VHQ"), min_length=1)
    """Of `soxr`: QQ interpolates by cubics, so that it aliases; LQ to VHQ have ever steeper filters."""
    antialias: Probability = 0.5
    """Of `zoh`, `linear` and `cubic`: how often a good filter takes away, on the way down, what would alias."""

    def draw(self, rng: np.random.Generator, scene: Scene) -> Drawn:
        """Draw a rate that cuts into the speech, and how it is converted."""
        both = (self.rates_hz is None) == (self.any_rate_hz is None)
        any_rate = rng.random() < ANY_RATE_SHARE if both else self.rates_hz is None
        methods = self.methods or (METHODS if any_rate else ("soxr",))
        method = one_of(rng, methods)
        # What holds samples or draws lines leaves images of anything; a filter changes only what lies above it.
        ends_hz = scene.bandwidth_hz if method == "soxr" else SAMPLE_RATE_HZ / 2
        rate_hz = self._draw_rate(rng, ends_hz, any_rate=any_rate, both=both)
        values: Values = {"rate_hz": rate_hz, "lag_samples": 0.0, "method": method}
        if method == "soxr":
            values["quality"] = one_of(rng, self.qualities)
            if values["quality"] != UNFILTERED_QUALITY:
                values["bandwidth_hz"] = rate_hz / 2
        else:
            values["antialias"] = bool(rng.random() < self.antialias)
        if method == "zoh":
            values["lag_samples"] = held_lag_samples(
                rate_hz, SAMPLE_RATE_HZ, held_down=not values["antialias"]
            )
        values["speech_bandwidth_hz"] = float(scene.bandwidth_hz)
        return Drawn(values, bandwidth_hz=rate_hz / 2)

    def _draw_rate(self, rng: np.random.Generator, ends_hz: float, *, any_rate: bool, both: bool) -> int:
        rates_hz = self.rates_hz or STANDARD_RATES_HZ
        cutting = [rate for rate in rates_hz if rate / 2 < ends_hz]
        if any_rate or (both and not cutting):
            low_hz, high_hz = self.any_rate_hz or ANY_RATE_HZ
            return round(uniform(rng, (low_hz, max(low_hz, min(high_hz, 2.0 * ends_hz - 1.0)))))
        cutting = cutting or [min(rates_hz)]
        return one_of(rng, cutting)

    @staticmethod
    def apply(audio: Audio, values: Values, inputs: Inputs) -> Applied:
        """Resample down and up; measures how far the result still follows the speech, how late, and the images.

        Raises:
            CannotApply: when the speech ends below what the rate can carry, or there is none.
        """
        rate_hz = values["rate_hz"]
        if values["method"] == "soxr" and rate_hz / 2 >= values["speech_bandwidth_hz"]:
            ends_hz = values["speech_bandwidth_hz"]
            raise CannotApply(f"the speech ends at {ends_hz:.0f} Hz, below what {rate_hz} Hz can carry")
        if not audio.any():
            raise CannotApply("there is no signal to resample")
        lost = _resampled(audio, values) if values["method"] == "soxr" else _interpolated(audio, values)
        found = faithfulness(audio, lost, rate_hz / 2)
        measured = {
            "bandwidth_hz": round(found.bandwidth_hz, 1),
            "lag_samples": round(found.lag_samples, 4),
            "images_db": round(found.beyond_db, 2),
        }
        return Applied(lost, delay_samples=values["lag_samples"], measured=measured)

    @staticmethod
    def severity(values: Values, measured: Values) -> float:
        """The less is left, the worse: 0 from 20 kHz, 1 at 2 kHz; images above that make it worse still."""
        images = (measured["images_db"] - IMAGES_MILDEST_DB) / (IMAGES_WORST_DB - IMAGES_MILDEST_DB)
        kept = 1.0 - IMAGES_SEVERITY * min(1.0, max(0.0, images))
        return float(1.0 - kept * (1.0 - bandwidth_severity(values["rate_hz"] / 2)))


def _resampled(audio: Audio, values: Values) -> Audio:
    rate_hz, quality = values["rate_hz"], values["quality"]
    # Lengths are rounded to whole samples of the low rate: a little silence, so that none is missing at the end.
    silence = np.zeros(SAMPLE_RATE_HZ // rate_hz + 2, np.float32)
    narrow = soxr.resample(np.concatenate([audio, silence]), SAMPLE_RATE_HZ, rate_hz, quality)
    lost: Audio = soxr.resample(narrow, rate_hz, SAMPLE_RATE_HZ, quality)[: len(audio)]
    return lost


def _interpolated(audio: Audio, values: Values) -> Audio:
    rate_hz, method = values["rate_hz"], values["method"]
    if values["antialias"]:
        narrow = soxr.resample(audio, SAMPLE_RATE_HZ, rate_hz, ANTIALIAS_QUALITY)
    else:
        count = len(audio) * rate_hz // SAMPLE_RATE_HZ + 1
        narrow = interpolated(audio, SAMPLE_RATE_HZ, rate_hz, count, method)
    return interpolated(narrow, rate_hz, SAMPLE_RATE_HZ, len(audio), method)
