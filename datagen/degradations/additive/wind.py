"""Wind on an unprotected microphone: turbulence that rumbles, gusts that open its spectrum, and what devices do then.

Pressure follows the square of the wind's speed, 12 dB for twice the speed, and eddies of one size pass by in
proportion to it, so the corner of the spectrum moves with the speed. Above the corner the power falls as f^(-5/3)
(stagnation pressure in the inertial range), f^(-7/3) (the turbulence's own pressure) or more steeply, where eddies
are smaller than the microphone or its screen (Morgan and Raspet, JASA 1992; van den Berg, JASA 2006). Wind-tunnel
spectra by Mirabilii et al. (IWAENC 2022) have corners from 40 Hz at 2 m/s to 400 Hz at 8 m/s.
"""

import math
from collections.abc import Mapping
from typing import Annotated, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from datagen.degradations.additive.snr import SNR_TOLERANCE_DB, delivered, scale_to_snr, severity_of_snr
from datagen.degradations.base import Applied, Audio, Degradation, Drawn, Inputs, Scene, Tolerance
from datagen.level import active_level_dbfs, rms_dbfs
from manifests.keyed import generator
from manifests.ranges import Probability, Span, Within, log_uniform, uniform
from manifests.recipe import SAMPLE_RATE_HZ
from manifests.sample import Axis, Values

HOP_SAMPLES = 2_048
"""The spectrum follows the speed every 43 ms."""
FRAMES_AT_ONCE = 32
"""So many fit into a processor's cache."""
LOWEST_HZ = 20.0
"""Microphones hear no slower change of pressure; without this limit all of the power would lie there."""
CORNERS_PER_OCTAVE = 12
"""Spectra are made for corners this far apart."""
GUST_CYCLES = 8.0
"""Gusts are drawn for at least so many periods of the slowest of them, which need not fit into the sample."""
STEP_SAMPLES = 48
"""The device hears the wind's level, and turns the voice down, every millisecond."""


class Wind(Degradation):
    """Synthesised wind noise with gusts, at an SNR against the speech; wind turns the voice down and clips.

    The noise falls above a corner frequency, which moves with the wind's speed; the speed is log-normal with von
    Karman's spectrum of turbulence. As in the URGENT 2025 challenge, a compressor that listens to the wind turns the
    voice down (ducking), with all that was added to it before, and the sum of both clips. The SNR counts the voice
    before it is turned down.
    """

    name: ClassVar[str] = "wind"
    axis: ClassVar[Axis | None] = "noisiness"
    promises: ClassVar[Mapping[str, Tolerance]] = {"snr_db": Tolerance(absolute=SNR_TOLERANCE_DB)}

    snr_db: Annotated[Span, Within(-30.0, 60.0)] = (-10.0, 15.0)
    corner_hz: Annotated[Span, Within(20.0, 2_000.0)] = (40.0, 300.0)
    """Log-uniform: where the spectrum begins to fall at the wind's median speed."""
    exponent: Annotated[Span, Within(1.0, 6.0)] = (5.0 / 3.0, 4.0)
    """How it falls: the power goes with 1/f^exponent, 3 dB an octave for each unit."""
    gustiness: Annotated[Span, Within(0.0, 1.0)] = (0.1, 0.5)
    """Standard deviation of the speed's natural logarithm; 0.1 moves the level by 1.7 dB, 0.5 by 8.7 dB."""
    gusts_hz: Annotated[Span, Within(0.02, 5.0)] = (0.1, 1.0)
    """Log-uniform: gusts are slower than this, and the faster the weaker beyond."""
    duck_threshold_db: Annotated[Span, Within(-60.0, 60.0)] = (-10.0, 10.0)
    """Level of the wind, against the active level of the speech, from which the voice is turned down."""
    duck_ratio: Annotated[Span, Within(1.0, 100.0)] = (1.0, 20.0)
    """For each dB of wind above the threshold the voice loses 1 - 1/ratio dB."""
    duck_attack_ms: Annotated[Span, Within(1.0, 1_000.0)] = (5.0, 100.0)
    """Time constant with which the device notices that the wind rises."""
    duck_release_ms: Annotated[Span, Within(1.0, 5_000.0)] = (5.0, 100.0)
    """Time constant with which it notices that the wind has fallen."""
    clipped: Probability = 0.75
    """How often voice and wind together are clipped."""
    clip_share: Annotated[Span, Within(0.05, 1.0)] = (0.85, 1.0)
    """Where they clip: a share of their highest and of their lowest sample."""

    def draw(self, rng: np.random.Generator, scene: Scene) -> Drawn:
        """Draw the weather, and what the device makes of it."""
        values: Values = {
            "snr_db": uniform(rng, self.snr_db),
            "corner_hz": log_uniform(rng, self.corner_hz),
            "exponent": uniform(rng, self.exponent),
            "gustiness": uniform(rng, self.gustiness),
            "gusts_hz": log_uniform(rng, self.gusts_hz),
            "wind_seed": int(rng.integers(0, 1 << 32)),
            "duck_threshold_db": uniform(rng, self.duck_threshold_db),
            "duck_ratio": uniform(rng, self.duck_ratio),
            "duck_attack_ms": uniform(rng, self.duck_attack_ms),
            "duck_release_ms": uniform(rng, self.duck_release_ms),
        }
        if rng.random() < self.clipped:
            values["clip_share"] = uniform(rng, self.clip_share)
        return Drawn(values)

    @staticmethod
    def apply(audio: Audio, values: Values, inputs: Inputs) -> Applied:
        """Make the wind at its SNR, turn the voice down, add, and clip; what clipping changed counts as added.

        Raises:
            CannotApply: when there is no speech.
        """
        wind = blowing(len(audio), values)
        scale_to_snr(wind, values["snr_db"], inputs)
        assert inputs.reference is not None
        gain = ducking(wind, inputs.speech_level_dbfs, values)
        ducked, speech = audio * gain, inputs.reference * gain
        wind_clipped_share = 0.0
        if values.get("clip_share") is not None:
            wind_clipped_share = _clip(wind, ducked, values["clip_share"])
        levels = delivered(wind, inputs)
        measured = {
            **levels,
            "ducked_snr_db": active_level_dbfs(speech) - levels["noise_active_level_dbfs"],
            "ducked_db": rms_dbfs(inputs.reference) - rms_dbfs(speech),
            "deepest_duck_db": -20.0 * math.log10(float(gain.min())),
            "wind_clipped_share": wind_clipped_share,
        }
        return Applied(ducked + wind, measured=measured, added=wind, speech=speech)

    @staticmethod
    def severity(values: Values, measured: Values) -> float:
        """1 at -5 dB SNR, 0 at 40 dB."""
        return severity_of_snr(values["snr_db"])


def blowing(frames: int, values: Values) -> NDArray[np.float32]:
    """Make wind of no particular level, shape (frames,), from what `Wind.draw` drew.

    White noise, filtered anew in every frame of two hops; sine windows on both sides keep its power.
    """
    rng = generator("wind", values["wind_seed"])
    count = -(-frames // HOP_SAMPLES) + 1
    speed = np.exp(values["gustiness"] * _gusts(rng, count, values["gusts_hz"]))
    step = np.rint(CORNERS_PER_OCTAVE * np.log2(speed))
    steps, which = np.unique(step, return_inverse=True)
    corners_hz = values["corner_hz"] * 2.0 ** (steps / CORNERS_PER_OCTAVE)
    responses = np.stack([_response(corner_hz, values["exponent"]) for corner_hz in corners_hz])
    level = np.square(speed).astype(np.float32)
    window = np.sin(np.pi * (np.arange(2 * HOP_SAMPLES, dtype=np.float32) + 0.5) / (2 * HOP_SAMPLES))
    sound = np.zeros((count + 1, HOP_SAMPLES), np.float32)
    last = rng.random((1, HOP_SAMPLES), np.float32) - np.float32(0.5)
    for first in range(0, count, FRAMES_AT_ONCE):
        now = slice(first, min(first + FRAMES_AT_ONCE, count))
        # Uniform noise is as white as Gaussian noise, is quicker to make, and is Gaussian once filtered.
        fresh = rng.random((now.stop - first, HOP_SAMPLES), np.float32) - np.float32(0.5)
        white = np.concatenate((last, fresh))
        last = white[-1:]
        spectra = fft.rfft(np.concatenate((white[:-1], white[1:]), axis=1) * window)
        spectra *= responses[which[now]] * level[now, None]
        turbulence = fft.irfft(spectra, overwrite_x=True)
        turbulence *= window
        sound[first : now.stop] += turbulence[:, :HOP_SAMPLES]
        sound[first + 1 : now.stop + 1] += turbulence[:, HOP_SAMPLES:]
    # The first hop has no frame before it.
    return sound.reshape(-1)[HOP_SAMPLES : HOP_SAMPLES + frames]


def ducking(wind: Audio, speech_dbfs: float, values: Values) -> NDArray[np.float32]:
    """Gain of a compressor that listens to the wind, shape (N,).

    The level of each millisecond is followed by one pole for its rise and one for its fall (Giannoulis, Massberg and
    Reiss, JAES 60(6), 2012), and what exceeds the threshold is taken from the voice as the ratio says.
    """
    steps = -(-len(wind) // STEP_SAMPLES)
    padded = np.zeros(steps * STEP_SAMPLES, np.float32)
    padded[: len(wind)] = wind
    blocks = padded.reshape(steps, STEP_SAMPLES)
    heard = np.sqrt(np.einsum("ij,ij->i", blocks, blocks) / STEP_SAMPLES).tolist()
    attack, release = (
        math.exp(-1_000.0 * STEP_SAMPLES / SAMPLE_RATE_HZ / values[name])
        for name in ("duck_attack_ms", "duck_release_ms")
    )
    followed = []
    level = 0.0
    for loudness in heard:
        level = loudness + (attack if loudness > level else release) * (level - loudness)
        followed.append(level)
    above_db = 20.0 * np.log10(np.maximum(followed, 1e-9)) - (speech_dbfs + values["duck_threshold_db"])
    reduction_db = (1.0 - 1.0 / values["duck_ratio"]) * np.maximum(above_db, 0.0)
    gain = (10.0 ** (-reduction_db / 20.0)).astype(np.float32)
    before = np.concatenate((gain[:1], gain[:-1]))
    ramp = np.arange(1, STEP_SAMPLES + 1, dtype=np.float32) / STEP_SAMPLES
    smooth = before[:, None] + (gain - before)[:, None] * ramp
    curve: NDArray[np.float32] = smooth.reshape(-1)[: len(wind)]
    return curve


def _gusts(rng: np.random.Generator, count: int, corner_hz: float) -> NDArray[np.float64]:
    """Draw a process of unit variance, one value a hop, with von Karman's spectrum (1 + (f / corner)^2)^(-5/6)."""
    rate_hz = SAMPLE_RATE_HZ / HOP_SAMPLES
    size = fft.next_fast_len(max(count, math.ceil(GUST_CYCLES * rate_hz / corner_hz)), real=True)
    hz = fft.rfftfreq(size, 1.0 / rate_hz)
    power = (1.0 + np.square(hz / corner_hz)) ** (-5.0 / 6.0)
    power[0] = 0.0
    lines = np.sqrt(power) * (rng.standard_normal(len(hz)) + 1j * rng.standard_normal(len(hz)))
    gusts: NDArray[np.float64] = fft.irfft(lines, size, norm="forward")[:count]
    return gusts / math.sqrt(4.0 * float(power.sum()))


def _response(corner_hz: float, exponent: float) -> NDArray[np.float32]:
    """Magnitude for one frame, of equal power for every corner: flat from `LOWEST_HZ` to the corner, then falling."""
    hz = fft.rfftfreq(2 * HOP_SAMPLES, 1.0 / SAMPLE_RATE_HZ)
    power = (1.0 + np.square(hz / corner_hz)) ** (-exponent / 2.0) / corner_hz
    power *= hz**4 / (hz**4 + LOWEST_HZ**4)
    magnitude: NDArray[np.float32] = np.sqrt(power).astype(np.float32)
    return magnitude


def _clip(wind: NDArray[np.float32], ducked: Audio, share: float) -> float:
    """Clip the sum of both by changing `wind` in place; return the share of samples that it hits."""
    together = ducked + wind
    low, high = np.float32(share) * together.min(), np.float32(share) * together.max()
    over = np.flatnonzero((together < low) | (together > high))
    wind[over] = np.clip(together[over], low, high) - ducked[over]
    return len(over) / len(wind)
