"""Mains hum: what leaks from the power line into microphones, cables and amplifiers."""

import math
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy import fft

from datagen.degradations.additive.snr import SNR_TOLERANCE_DB, added_at_snr, severity_of_snr
from datagen.degradations.base import Applied, Audio, Degradation, Drawn, Inputs, Scene, Tolerance
from manifests.keyed import generator
from manifests.ranges import Probability, Span, Within, log_uniform, one_of, uniform
from manifests.recipe import SAMPLE_RATE_HZ
from manifests.sample import Axis, Values

MainsHz = Literal[50, 60]

HIGHEST_HARMONIC_HZ = 2_000.0
HIGHEST_BUZZ_HZ = 10_000.0
TABLE_SAMPLES = 1 << 16
"""One period of the hum: the highest line of the buzz has more than 300 of them, so that a straight line between
two neighbours is 90 dB exact."""
BLOCK_SAMPLES = 1 << 14
STEADINESS_DB = 3.0
"""No two lines of a real hum obey one law: each is up to this much stronger or weaker than the decay says."""


class MainsHum(Degradation):
    """Hum of 50 or 60 Hz with harmonics up to 2 kHz, at an SNR against the speech.

    Harmonics fall with their number; the even ones, which come from rectified current, are weaker or stronger than
    the odd ones, which come from the mains and its transformers. Buzz is what rectifiers and dimmers switch twice a
    period: pulses with lines up to 10 kHz.
    """

    name: ClassVar[str] = "mains_hum"
    axis: ClassVar[Axis | None] = "noisiness"
    promises: ClassVar[Mapping[str, Tolerance]] = {"snr_db": Tolerance(absolute=SNR_TOLERANCE_DB)}

    snr_db: Annotated[Span, Within(-30.0, 60.0)] = (15.0, 45.0)
    mains_hz: tuple[MainsHz, ...] = Field(default=(50, 60), min_length=1)
    off_hz: Annotated[Span, Within(-1.0, 1.0)] = (-0.1, 0.1)
    """How far the power line is off at the beginning, and, drawn anew, at the end of the sample."""
    decay_db_per_octave: Annotated[Span, Within(0.0, 40.0)] = (3.0, 12.0)
    """By how much harmonics fall."""
    even_db: Annotated[Span, Within(-60.0, 60.0)] = (-20.0, 10.0)
    """Even harmonics against odd ones."""
    buzz: Probability = 0.3
    """How often there is buzz as well."""
    buzz_db: Annotated[Span, Within(-60.0, 20.0)] = (-25.0, -5.0)
    """RMS of the buzz against that of the hum."""
    buzz_corner_hz: Annotated[Span, Within(100.0, 10_000.0)] = (500.0, 4_000.0)
    """Above this, log-uniform, the lines of the buzz fall by 12 dB an octave."""

    def draw(self, rng: np.random.Generator, scene: Scene) -> Drawn:
        """Draw the power line, the harmonics, the buzz and the SNR."""
        mains_hz = one_of(rng, self.mains_hz)
        values: Values = {
            "snr_db": uniform(rng, self.snr_db),
            "begin_hz": mains_hz + uniform(rng, self.off_hz),
            "end_hz": mains_hz + uniform(rng, self.off_hz),
            "decay_db_per_octave": uniform(rng, self.decay_db_per_octave),
            "even_db": uniform(rng, self.even_db),
            "harmonics_seed": int(rng.integers(0, 1 << 32)),
        }
        if rng.random() < self.buzz:
            values["buzz_db"] = uniform(rng, self.buzz_db)
            values["buzz_corner_hz"] = log_uniform(rng, self.buzz_corner_hz)
        return Drawn(values)

    @staticmethod
    def apply(audio: Audio, values: Values, inputs: Inputs) -> Applied:
        """Play one period of the hum again and again, at a rate that drifts, and add it at the SNR.

        Raises:
            CannotApply: when there is no speech.
        """
        period = one_period(values)
        hum = _played(period, len(audio), values["begin_hz"], values["end_hz"])
        return added_at_snr(audio, hum, values["snr_db"], inputs)

    @staticmethod
    def severity(values: Values, measured: Values) -> float:
        """1 at -5 dB SNR, 0 at 40 dB."""
        return severity_of_snr(values["snr_db"])


def one_period(values: Values) -> NDArray[np.float32]:
    """Return one period of hum and buzz, shape (`TABLE_SAMPLES`,), from what `MainsHum.draw` drew."""
    rng = generator("mains hum", values["harmonics_seed"])
    mains_hz = 0.5 * (values["begin_hz"] + values["end_hz"])
    number = np.arange(1, int(HIGHEST_HARMONIC_HZ / mains_hz) + 1)
    level_db = -values["decay_db_per_octave"] * np.log2(number)
    level_db += np.where(number % 2 == 0, values["even_db"], 0.0)
    level_db += rng.uniform(-STEADINESS_DB, STEADINESS_DB, len(number))
    lines = np.zeros(TABLE_SAMPLES // 2 + 1, np.complex128)
    lines[number] = 10.0 ** (level_db / 20.0) * np.exp(2j * math.pi * rng.random(len(number)))
    if values.get("buzz_db") is not None:
        number = np.arange(2, int(HIGHEST_BUZZ_HZ / mains_hz) + 1, 2)
        # In phase, the lines make the pulses that are heard as buzz.
        buzz = 1.0 / (1.0 + np.square(number * mains_hz / values["buzz_corner_hz"]))
        hum_db = 10.0 * math.log10(float(np.sum(np.abs(lines) ** 2)))
        buzz *= 10.0 ** ((hum_db + values["buzz_db"] - 10.0 * math.log10(float(np.sum(buzz**2)))) / 20.0)
        lines[number] += buzz * np.exp(2j * math.pi * rng.random())
    period: NDArray[np.float64] = fft.irfft(lines, TABLE_SAMPLES, norm="forward")
    return period.astype(np.float32)


def _played(period: NDArray[np.float32], frames: int, begin_hz: float, end_hz: float) -> NDArray[np.float32]:
    """Read a period at a frequency that goes from one value to another, between its samples by a straight line."""
    hum = np.empty(frames, np.float32)
    slope = np.append(period[1:], period[0]) - period
    for first in range(0, frames, BLOCK_SAMPLES):
        index = np.arange(first, min(first + BLOCK_SAMPLES, frames), dtype=np.float64)
        # The integral of a frequency that rises linearly, in periods.
        phase = index * (begin_hz + index * ((end_hz - begin_hz) / (2.0 * frames))) / SAMPLE_RATE_HZ
        position = phase * len(period)
        whole = position.astype(np.int64)
        share = (position - whole).astype(np.float32)
        whole &= len(period) - 1
        hum[first : first + len(index)] = period[whole] + share * slope[whole]
    return hum
