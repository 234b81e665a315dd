"""Stationary noise of any colour."""

from collections.abc import Mapping
from typing import Annotated, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from datagen.degradations.additive.snr import (
    SNR_TOLERANCE_DB,
    added_at_snr,
    severity_of_snr,
)
from datagen.degradations.base import (
    Applied,
    Audio,
    Degradation,
    Drawn,
    Inputs,
    Scene,
    Tolerance,
)
from manifests.keyed import generator
from manifests.ranges import Span, Within, uniform
from manifests.recipe import SAMPLE_RATE_HZ
from manifests.sample import Axis, Values

LOWEST_HZ = 20.0
"""Below this, coloured noise is flat: 1/f^2 would otherwise be all inaudible drift."""


class ColouredNoise(Degradation):
    """Stationary Gaussian noise with a power spectrum of 1/f^exponent, at an SNR against the speech."""

    name: ClassVar[str] = "coloured_noise"
    axis: ClassVar[Axis | None] = "noisiness"
    promises: ClassVar[Mapping[str, Tolerance]] = {"snr_db": Tolerance(absolute=SNR_TOLERANCE_DB)}

    snr_db: Annotated[Span, Within(-30.0, 60.0)] = (10.0, 50.0)
    exponent: Annotated[Span, Within(-2.0, 2.0)] = (-2.0, 2.0)
    """-2 violet, -1 blue, 0 white, 1 pink, 2 brown: power falls by 3 dB an octave for each unit."""

    def draw(self, rng: np.random.Generator, scene: Scene) -> Drawn:
        """Draw SNR and colour, and the seed of the noise."""
        return Drawn(
            {
                "snr_db": uniform(rng, self.snr_db),
                "exponent": uniform(rng, self.exponent),
                "noise_seed": int(rng.integers(0, 1 << 32)),
            }
        )

    @staticmethod
    def apply(audio: Audio, values: Values, inputs: Inputs) -> Applied:
        """Make the noise from its seed and add it at the drawn SNR.

        Raises:
            CannotApply: when there is no speech.
        """
        noise = coloured(len(audio), values["exponent"], values["noise_seed"])
        return added_at_snr(audio, noise, values["snr_db"], inputs)

    @staticmethod
    def severity(values: Values, measured: Values) -> float:
        """1 at -5 dB SNR, 0 at 40 dB."""
        return severity_of_snr(values["snr_db"])


def coloured(frames: int, exponent: float, seed: int) -> NDArray[np.float32]:
    """Make Gaussian noise with a power spectrum of 1/f^exponent above `LOWEST_HZ`, shape (frames,)."""
    size = fft.next_fast_len(frames, real=True)
    bins = size // 2 + 1
    normal = generator("coloured noise", seed).standard_normal(2 * bins, dtype=np.float32)
    frequency_hz = np.arange(bins, dtype=np.float32) * np.float32(SAMPLE_RATE_HZ / size)
    shape = np.maximum(frequency_hz / np.float32(1_000.0), np.float32(LOWEST_HZ / 1_000.0))
    spectrum = normal.view(np.complex64) * shape ** np.float32(-exponent / 2.0)
    spectrum[0] = 0.0
    noise: NDArray[np.float32] = fft.irfft(spectrum, size)[:frames]
    return noise
