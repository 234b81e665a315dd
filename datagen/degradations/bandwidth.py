"""Lost bandwidth: down to a lower sample rate and back, as a device or a call would."""

from typing import ClassVar, Literal

import numpy as np
import soxr
from pydantic import Field

from datagen.degradations.base import Applied, Audio, CannotApply, Degradation, Drawn, Inputs, Scene
from datagen.degradations.frequency_response import bandwidth_severity
from manifests.recipe import SAMPLE_RATE_HZ
from manifests.sample import Axis, Values

Quality = Literal["QQ", "LQ", "MQ", "HQ", "VHQ"]
Rate = Literal[4_000, 6_000, 8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100]


class BandwidthLoss(Degradation):
    """Resamples to a lower rate and back to 48 kHz with soxr, which adds no delay.

    A rate is drawn only if its Nyquist frequency lies below the end of the speech's spectrum: the stage never
    does nothing.
    """

    name: ClassVar[str] = "bandwidth_loss"
    axis: ClassVar[Axis | None] = "coloration"
    rates_hz: tuple[Rate, ...] = Field(default=(8_000, 16_000, 22_050, 24_000, 32_000, 44_100), min_length=1)
    qualities: tuple[Quality, ...] = Field(default=("QQ", "LQ", "MQ", "HQ", "VHQ"), min_length=1)
    """Of soxr: QQ interpolates by cubics, so that it aliases; LQ to VHQ have ever steeper filters."""

    def draw(self, rng: np.random.Generator, scene: Scene) -> Drawn:
        """Draw a rate that cuts into the speech, and a resampler."""
        cutting = [rate for rate in self.rates_hz if rate / 2 < scene.bandwidth_hz] or [min(self.rates_hz)]
        return Drawn(
            {
                "rate_hz": cutting[int(rng.integers(len(cutting)))],
                "quality": self.qualities[int(rng.integers(len(self.qualities)))],
                "speech_bandwidth_hz": float(scene.bandwidth_hz),
            }
        )

    @staticmethod
    def apply(audio: Audio, values: Values, inputs: Inputs) -> Applied:
        """Resample down and up."""
        rate_hz, quality = values["rate_hz"], values["quality"]
        if rate_hz / 2 >= values["speech_bandwidth_hz"]:
            ends_hz = values["speech_bandwidth_hz"]
            raise CannotApply(f"the speech ends at {ends_hz:.0f} Hz, below what {rate_hz} Hz can carry")
        narrow = soxr.resample(audio, SAMPLE_RATE_HZ, rate_hz, quality)
        lost: Audio = soxr.resample(narrow, rate_hz, SAMPLE_RATE_HZ, quality)
        return Applied(lost, measured={"bandwidth_hz": rate_hz / 2})

    @staticmethod
    def severity(values: Values, measured: Values) -> float:
        """The less is left, the worse: 0 from 20 kHz, 1 at 2 kHz."""
        return bandwidth_severity(values["rate_hz"] / 2)
