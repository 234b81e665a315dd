"""Additive noise at an exact signal-to-noise ratio: recordings of the world around the talker, and coloured noise.

Every SNR here is the difference of two ITU-T P.56 active levels, that of the speech and that of the noise: pauses
in the talk and silence between barks do not count. (An SNR of plain RMS values would be 10 dB off for a door slam.)
"""

from collections.abc import Mapping
from typing import Annotated, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy import fft

from datagen.degradations.base import (
    Applied,
    Audio,
    CannotApply,
    Degradation,
    Drawn,
    Inputs,
    NoMaterial,
    Scene,
    Tolerance,
)
from datagen.level import SILENCE_DBFS, active_level_dbfs, rms_dbfs, scaled
from manifests.keyed import generator
from manifests.ranges import Span, Within, integer, uniform
from manifests.recipe import SAMPLE_RATE_HZ
from manifests.sample import Axis, Clip, Values
from manifests.source import Source

CROSSFADE_SAMPLES = 960
"""Repetitions of a short recording overlap by 20 ms, so that they do not click."""
LOWEST_HZ = 20.0
"""Below this, coloured noise is flat: 1/f^2 would otherwise be all inaudible drift."""
_QUIETEST_SOURCE_DB = (-10.0, 0.0)
SNR_TOLERANCE_DB = 0.1
"""Scaling moves an active level by exactly the gain; this leaves room for the next measurement's rounding."""


class EnvironmentalNoise(Degradation):
    """One to three recordings at once, from random places in them, at an SNR against the speech."""

    name: ClassVar[str] = "noise"
    axis: ClassVar[Axis | None] = "noisiness"
    promises: ClassVar[Mapping[str, Tolerance]] = {"snr_db": Tolerance(absolute=SNR_TOLERANCE_DB)}

    snr_db: Annotated[Span, Within(-30.0, 60.0)] = (-5.0, 30.0)
    sources: Annotated[Span, Within(1, 5)] = (1.0, 3.0)
    """How many recordings play at once; never more than the split has."""
    min_bandwidth_hz: float = Field(default=0.0, ge=0.0, le=24_000.0)
    """Recordings whose spectrum ends below this are not drawn."""

    def draw(self, rng: np.random.Generator, scene: Scene) -> Drawn:
        """Draw recordings (each at most once), a stretch of each, their balance and the SNR."""
        pool = scene.sources("noise")
        if self.min_bandwidth_hz:
            pool = tuple(s for s in pool if (s.bandwidth_hz or 0.0) >= self.min_bandwidth_hz)
        if not pool:
            raise NoMaterial(_no_noise(scene, self.min_bandwidth_hz))
        count = min(integer(rng, self.sources), len(pool))
        chosen = [pool[int(i)] for i in rng.choice(len(pool), count, replace=False)]
        clips = tuple(_stretch(rng, source, scene.frames) for source in chosen)
        balance = [0.0, *(uniform(rng, _QUIETEST_SOURCE_DB) for _ in chosen[1:])]
        values = {
            "snr_db": uniform(rng, self.snr_db),
            "relative_db": [round(x, 3) for x in balance],
            "begin_samples": [clip.at for clip in clips],
        }
        return Drawn(values, clips)

    @staticmethod
    def apply(audio: Audio, values: Values, inputs: Inputs) -> Applied:
        """Mix the clips by their active levels and add them at the drawn SNR.

        Raises:
            CannotApply: when there is no speech, or one of the clips is silent.
        """
        noise = np.zeros(len(audio), np.float32)
        for clip, relative_db, begin in zip(
            inputs.clips, values["relative_db"], values["begin_samples"], strict=True
        ):
            part = repeated(clip, len(audio), begin)
            level_dbfs = active_level_dbfs(part)
            if level_dbfs <= SILENCE_DBFS:
                raise CannotApply("the drawn stretch of noise is silent")
            noise += scaled(part, relative_db - level_dbfs)
        return added_at_snr(audio, noise, values["snr_db"], inputs)

    @staticmethod
    def severity(values: Values, measured: Values) -> float:
        """1 at -5 dB SNR, 0 at 40 dB."""
        return severity_of_snr(values["snr_db"])


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


def severity_of_snr(snr_db: float) -> float:
    """1 at -5 dB and below, 0 at 40 dB and above."""
    return min(1.0, max(0.0, (40.0 - snr_db) / 45.0))


def added_at_snr(audio: Audio, noise: NDArray[np.float32], snr_db: float, inputs: Inputs) -> Applied:
    """Scale `noise` so that its active level lies `snr_db` below that of the speech, and add it.

    Raises:
        CannotApply: when the speech or the noise is silent.
    """
    speech_dbfs = inputs.speech_level_dbfs
    noise_dbfs = active_level_dbfs(noise)
    if speech_dbfs <= SILENCE_DBFS or inputs.reference is None:
        raise CannotApply("the speech is silent, so there is no SNR")
    if noise_dbfs <= SILENCE_DBFS:
        raise CannotApply("the noise is silent")
    noise = scaled(noise, speech_dbfs - snr_db - noise_dbfs)
    delivered_dbfs = active_level_dbfs(noise)
    measured = {
        "snr_db": speech_dbfs - delivered_dbfs,
        "snr_rms_db": rms_dbfs(inputs.reference) - rms_dbfs(noise),
        "noise_active_level_dbfs": delivered_dbfs,
    }
    return Applied(audio + noise, measured=measured, added=noise)


def repeated(clip: Audio, frames: int, begin: int) -> NDArray[np.float32]:
    """Fill `frames` with a clip that begins at `begin` (0 or before), again and again, crossfaded at the seams.

    The crossfade keeps power (sine and cosine), as neighbouring repetitions are not alike there.
    """
    if begin == 0 and len(clip) >= frames:
        return clip[:frames]
    fade = min(CROSSFADE_SAMPLES, len(clip) // 4)
    period = len(clip) - fade
    ramp = np.sin(np.linspace(0.0, np.pi / 2.0, fade, dtype=np.float32))
    seamless = clip.copy()
    seamless[:fade] = clip[:fade] * ramp + clip[period:] * ramp[::-1]
    loop = seamless[:period]
    phase = -begin % period
    return np.tile(loop, -(-(frames + phase) // period))[phase : phase + frames]


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


def _stretch(rng: np.random.Generator, source: Source, frames: int) -> Clip:
    """Draw where a recording is entered: a stretch of a long one, all of a short one from a random phase."""
    channel = int(rng.integers(0, max(1, source.channels)))
    # One frame more than needed: resampling rounds the length.
    needed = -(-frames * source.rate_hz // SAMPLE_RATE_HZ) + 1
    if source.frames >= needed:
        start = int(rng.integers(0, source.frames - needed + 1))
        return Clip(sha256=source.sha256, start=start, frames=needed, channel=channel)
    length = max(1, round(source.frames * SAMPLE_RATE_HZ / source.rate_hz))
    begin = -int(rng.integers(0, length))
    return Clip(sha256=source.sha256, start=0, frames=source.frames, at=begin, channel=channel)


def _no_noise(scene: Scene, min_bandwidth_hz: float) -> str:
    enough = f" with a bandwidth of at least {min_bandwidth_hz:g} Hz" if min_bandwidth_hz else ""
    return (
        f"stage noise: there is no usable noise recording{enough} in a split that samples are made for; "
        "scan more noise, or remove the stage"
    )
