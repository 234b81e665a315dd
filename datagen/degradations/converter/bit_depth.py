"""Coarse quantisation: a converter or a file with few bits."""

import math
from collections.abc import Mapping
from typing import Annotated, ClassVar

import numpy as np
from pydantic import field_validator

from datagen.degradations.additive.snr import severity_of_snr
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
from datagen.degradations.converter.waveshaping import sdr_db
from manifests.keyed import generator
from manifests.ranges import Probability, Span, Within, uniform
from manifests.sample import Axis, Values

FINEST_BITS = 16.0
"""Nothing finer is drawn: a rendered sample has 16 bits itself, and finer steps change nothing."""
FAINTEST_SNR_DB = 88.0
"""Quantisation noise that is weaker changes nothing."""
LEAST_SNR_DB = {False: 3.0, True: -5.0}
"""Without and with dither. Below 3 dB a bare quantiser lets only crackles of the peaks through, and there is no
speech left to restore; with dither the speech stays whole under the noise, as low as additive noise is drawn."""


class BitDepth(Degradation):
    """Rounds to 2^bits levels (mid-tread, full scale 1.0, fractional bits too), with or without dither.

    The steps are those of a converter at a fixed full scale: quiet speech meets coarser steps than loud speech, and
    where less than 3 dB of signal-to-noise ratio would be left (everything rounds to zero, at worst) the sample is
    drawn again. It does not clip. Dither is triangular, two steps wide (Lipshitz, Wannamaker and Vanderkooy 1992):
    noise of q^2 / 4 that does not depend on the speech, instead of distortion of about q^2 / 12 that does.
    """

    name: ClassVar[str] = "bit_depth"
    axis: ClassVar[Axis | None] = "noisiness"
    promises: ClassVar[Mapping[str, Tolerance]] = {"bits": Tolerance(absolute=0.02)}

    bits: Annotated[Span, Within(2.0, 24.0)] = (4.0, 14.0)
    """2^bits levels between -1 and 1. Nothing above 16 is drawn."""
    dither: Probability = 0.5
    """How often the rounding is dithered."""

    @field_validator("bits")
    @classmethod
    def _changes_something(cls, bits: Span) -> Span:
        if bits[0] > FINEST_BITS:
            raise ValueError(f"must begin at or below {FINEST_BITS:g}: finer steps change nothing")
        return bits

    def draw(self, rng: np.random.Generator, scene: Scene) -> Drawn:
        """Draw the number of bits and the dither's seed."""
        values: Values = {"bits": uniform(rng, (self.bits[0], min(self.bits[1], FINEST_BITS)))}
        dithered = bool(rng.random() < self.dither)
        seed = int(rng.integers(0, 1 << 32))
        return Drawn(values | ({"dither_seed": seed} if dithered else {}))

    @staticmethod
    def apply(audio: Audio, values: Values, inputs: Inputs) -> Applied:
        """Quantise; measures the bits by the smallest step of the result, and the signal-to-noise ratio.

        Raises:
            CannotApply: when next to nothing of the speech would be left, or next to nothing would change.
        """
        step = 2.0 ** (1.0 - values["bits"])
        dithered = "dither_seed" in values
        steps = audio * np.float32(1.0 / step)
        if dithered:
            steps += _triangular(len(audio), values["dither_seed"])
        quantised: Audio = np.rint(steps) * np.float32(step)
        snr_db = sdr_db(audio, quantised)
        if not quantised.any() or snr_db < LEAST_SNR_DB[dithered]:
            raise CannotApply(
                f"the speech is too quiet for {values['bits']:.1f} bits: {snr_db:.1f} dB SNR left"
            )
        if snr_db > FAINTEST_SNR_DB:
            raise CannotApply(f"the speech is too loud for {values['bits']:.1f} bits to change anything")
        return Applied(quantised, measured={"bits": _bits(quantised), "snr_db": round(snr_db, 3)})

    @staticmethod
    def severity(values: Values, measured: Values) -> float:
        """As of additive noise at the ratio that was delivered: 1 at -5 dB, 0 at 40 dB."""
        return severity_of_snr(measured["snr_db"])


def _triangular(count: int, seed: int) -> Audio:
    """Noise with a triangular distribution from -1 to 1 step: the sum of two uniform ones."""
    rng = generator("dither", seed)
    noise = rng.random(count, np.float32)
    noise -= rng.random(count, np.float32)
    return noise


def _bits(quantised: Audio) -> float:
    """Measure the number of bits by the value nearest to zero."""
    magnitude = np.abs(quantised)
    return round(1.0 - math.log2(float(magnitude[magnitude > 0.0].min())), 4)
