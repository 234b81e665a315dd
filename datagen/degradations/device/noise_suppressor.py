"""A noise suppressor that takes away too much: consonants vanish, voices warble, what is left of the noise twinkles.

Spectral gating of short-time spectra (M. Berouti, R. Schwartz and J. Makhoul, "Enhancement of speech corrupted by
acoustic noise", ICASSP 1979: power subtraction with over-subtraction and a spectral floor). Frames are centred and
overlap-add to the signal itself where the gain is 1, so there is no delay.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from pydantic import Field
from scipy import fft
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
from datagen.level import SILENCE_DBFS, active_level_dbfs
from manifests.ranges import Span, Whole, Within, integer, one_of, uniform
from manifests.sample import Axis, Values

Smoothing = Literal["none", "time", "frequency"]
Matrix = NDArray[np.float32]

HOP_SAMPLES = 480
CHUNK_FRAMES = 128
"""Spectra are worked on in pieces that fit into a cache."""
KEPT_FRAMES = 2_048
"""The spectra of up to 20 s are kept; those of longer signals are computed anew each time."""
NOISE_FRAMES = 200
"""The noise floor is found in this many frames from all over the signal."""
NOISE_QUANTILE = 0.1
QUIETEST_NOISE = 1e-4
"""The noise is never believed to lie lower than this against the mean power of its bin."""
NOISE_WIDTH_BINS = 15
SMOOTH_CELLS = 7
"""Length of the running mean in time (70 ms) or in frequency (220 to 350 Hz)."""
HISTOGRAM_STEP_DB = 0.25
HISTOGRAM_RANGE_DB = (-60.0, 140.0)
DISTORTION_TOLERANCE_DB = 1.0
SHARED_DB = 1.3
"""By so much less than its cells a signal is distorted, as overlapping frames share their losses: 0.3 to 2.2 dB."""
ATTEMPTS = 4
MILDEST_DB, WORST_DB = -35.0, -5.0
"""Speech distortion that is hardly heard, and that leaves little to be understood."""


class NoiseSuppressor(Degradation):
    """Suppresses noise at the price of speech: gates each cell of the spectrogram that does not stand out.

    The gate knows speech from noise by power alone. Its threshold is raised until as much of the speech is lost as
    was asked for, so that it eats weak consonants of clean speech as well.
    """

    name: ClassVar[str] = "noise_suppressor"
    axis: ClassVar[Axis | None] = "discontinuity"
    promises: ClassVar[Mapping[str, Tolerance]] = {
        "speech_distortion_db": Tolerance(absolute=DISTORTION_TOLERANCE_DB)
    }

    speech_distortion_db: Annotated[Span, Within(-45.0, -3.0)] = (-28.0, -8.0)
    """Power of what the speech loses, against that of the speech (noise that was added before does not count)."""
    floor_db: Annotated[Span, Within(3.0, 60.0)] = (8.0, 30.0)
    """By how much a shut cell is turned down."""
    window_ms: Annotated[Span, Whole(20, 40)] = (20, 32)
    """Length of a frame; there is one each 10 ms."""
    smoothings: tuple[Smoothing, ...] = Field(default=("none", "time", "frequency"), min_length=1)
    """How the power is smoothed before it is judged: not at all (musical noise), over 70 ms, or over seven bins."""

    def draw(self, rng: np.random.Generator, scene: Scene) -> Drawn:
        """Draw distortion and floor, uniform in dB, the window and the smoothing."""
        return Drawn(
            {
                "speech_distortion_db": uniform(rng, self.speech_distortion_db),
                "floor_db": uniform(rng, self.floor_db),
                "window_ms": integer(rng, self.window_ms),
                "smoothing": one_of(rng, self.smoothings),
            }
        )

    @staticmethod
    def apply(audio: Audio, values: Values, inputs: Inputs) -> Applied:
        """Suppress; measures what the speech and the whole signal have lost, from the audio.

        Raises:
            CannotApply: when there is no speech, or the floor does not allow so much distortion.
        """
        speech = audio if inputs.reference is None else inputs.reference
        level_dbfs = active_level_dbfs(audio) if speech is audio else inputs.speech_level_dbfs
        if level_dbfs <= SILENCE_DBFS:
            raise CannotApply("there is no speech that a suppressor could harm")
        suppressor = _Suppressor(audio, speech, round(values["window_ms"] * 48), values["smoothing"])
        wanted_db, floor = values["speech_distortion_db"], 10.0 ** (-values["floor_db"] / 20.0)
        histogram, asked_db = suppressor.histogram(), wanted_db + SHARED_DB
        for _ in range(ATTEMPTS):
            threshold_db = _threshold_db(histogram, asked_db, floor)
            result, lost_db = suppressor.suppressed(10.0 ** (threshold_db / 10.0), floor)
            if abs(lost_db - wanted_db) < 0.75 * DISTORTION_TOLERANCE_DB:
                break
            asked_db += wanted_db - lost_db
        return Applied(
            result,
            measured={
                "speech_distortion_db": lost_db,
                "removed_db": _ratio_db(audio - result, audio),
                "threshold_over_noise_db": threshold_db,
            },
        )

    @staticmethod
    def severity(values: Values, measured: Values) -> float:
        """Distortion of the speech: 0 at -35 dB, 1 at -5 dB."""
        lost_db = float(measured["speech_distortion_db"])
        return min(1.0, max(0.0, (lost_db - MILDEST_DB) / (WORST_DB - MILDEST_DB)))


@dataclass(frozen=True)
class _Cells:
    """Spectra of consecutive frames, shape (frames, bins)."""

    first: int
    spectrum: NDArray[np.complex64]
    speech: NDArray[np.complex64]
    """The same of the speech component; the same array where there is nothing else."""
    prominence: Matrix
    """Power against the noise floor, smoothed."""


class _Suppressor:
    """Short-time spectra of a signal and its speech, and what gating makes of them."""

    def __init__(self, audio: Audio, speech: Audio, window_samples: int, smoothing: Smoothing) -> None:
        self.audio, self.speech, self.smoothing = audio, speech, smoothing
        phase = np.arange(window_samples) * (math.pi / window_samples)
        self.window = np.sin(phase).astype(np.float32)
        self.frames = len(audio) // HOP_SAMPLES + 3
        hops = -(-window_samples // HOP_SAMPLES)
        squares = np.zeros(hops * HOP_SAMPLES, np.float32)
        squares[:window_samples] = np.square(self.window)
        self.overlap = squares.reshape(hops, HOP_SAMPLES).sum(axis=0)
        self.noise = self._noise()
        self.kept: list[_Cells] = []
        if self.frames <= KEPT_FRAMES:
            self.kept = list(self._chunks())

    def histogram(self) -> NDArray[np.float64]:
        """Power of the speech by prominence of its cells, in steps of 0.25 dB."""
        low_db, high_db = HISTOGRAM_RANGE_DB
        bins = round((high_db - low_db) / HISTOGRAM_STEP_DB)
        total = np.zeros(bins)
        for cells in self._chunks():
            # Every other frame will do: neighbours share most of their samples.
            level_db = 10.0 * np.log10(np.maximum(cells.prominence[::2], np.float32(1e-6)))
            bin_ = ((level_db - low_db) / HISTOGRAM_STEP_DB).astype(np.int32)
            power = _power(cells.speech[::2])
            total += np.bincount(np.minimum(bin_, bins - 1).ravel(), power.ravel(), bins)
        return total

    def suppressed(self, threshold: float, floor: float) -> tuple[Audio, float]:
        """Gate, and tell what the speech lost by it, in dB against the speech."""
        separate = self.speech is not self.audio
        gated = self._silence()
        voice = self._silence() if separate else gated
        for cells in self._chunks():
            gain = _gain(cells.prominence, threshold, floor)
            self._overlap_add(gated, cells.first, cells.spectrum * gain)
            if separate:
                self._overlap_add(voice, cells.first, cells.speech * gain)
        result = self._finished(gated)
        left = self._finished(voice) if separate else result
        return result, _ratio_db(self.speech - left, self.speech)

    def _chunks(self) -> Iterator[_Cells]:
        if self.kept:
            yield from self.kept
        else:
            yield from (self._cells(first) for first in range(0, self.frames, CHUNK_FRAMES))

    def _cells(self, first: int) -> _Cells:
        last = min(first + CHUNK_FRAMES, self.frames)
        spectrum = self._spectrum(self.audio, first, last)
        speech = spectrum if self.speech is self.audio else self._spectrum(self.speech, first, last)
        prominence = _power(spectrum) / self.noise
        if self.smoothing != "none":
            axis = 0 if self.smoothing == "time" else 1
            uniform_filter1d(prominence, SMOOTH_CELLS, axis=axis, output=prominence, mode="nearest")
        return _Cells(first, spectrum, speech, prominence)

    def _spectrum(self, audio: Audio, first: int, last: int, step: int = 1) -> NDArray[np.complex64]:
        """Transform the frames `first` to `last`; frame n is centred on sample 480 (n - 1), the first before all."""
        length = len(self.window)
        begin = (first - 1) * HOP_SAMPLES - length // 2
        end = (last - 2) * HOP_SAMPLES - length // 2 + length
        part = np.pad(audio[max(0, begin) : end], (max(0, -begin), max(0, end - max(len(audio), begin))))
        frames = sliding_window_view(part, length)[:: HOP_SAMPLES * step]
        spectrum: NDArray[np.complex64] = fft.rfft(frames * self.window, axis=1, overwrite_x=True)
        return spectrum

    def _noise(self) -> Matrix:
        """Noise floor of each bin: a low quantile of its power over time, smoothed over frequency."""
        power = _power(self._spectrum(self.audio, 0, self.frames, -(-self.frames // NOISE_FRAMES)))
        low = np.partition(power, int(NOISE_QUANTILE * len(power)), axis=0)[int(NOISE_QUANTILE * len(power))]
        floor = np.maximum(low, QUIETEST_NOISE * power.mean(axis=0))
        smooth: Matrix = uniform_filter1d(floor, NOISE_WIDTH_BINS, mode="nearest")
        return np.maximum(smooth, np.float32(1e-20))

    def _silence(self) -> Matrix:
        hops = -(-len(self.window) // HOP_SAMPLES)
        return np.zeros((self.frames + hops, HOP_SAMPLES), np.float32)

    def _overlap_add(self, into: Matrix, first: int, spectrum: NDArray[np.complex64]) -> None:
        frames = fft.irfft(spectrum, len(self.window), axis=1, overwrite_x=True)
        frames *= self.window
        for hop in range(-(-len(self.window) // HOP_SAMPLES)):
            part = frames[:, hop * HOP_SAMPLES : (hop + 1) * HOP_SAMPLES]
            into[first + hop : first + hop + len(part), : part.shape[1]] += part

    def _finished(self, summed: Matrix) -> Audio:
        summed /= self.overlap
        return summed.ravel()[HOP_SAMPLES + len(self.window) // 2 :][: len(self.audio)].copy()


def _gain(prominence: Any, threshold: float, floor: float) -> Any:
    """Power subtraction of `threshold` times the noise, in amplitude, and never below the floor."""
    kept = 1.0 - threshold / np.maximum(prominence, 1e-12)
    return np.sqrt(np.maximum(kept, floor * floor)).astype(np.float32, copy=False)


def _threshold_db(histogram: NDArray[np.float64], wanted_db: float, floor: float) -> float:
    """Find by how many dB the noise has to be over-subtracted for the cells to lose what is wanted.

    Raises:
        CannotApply: when shutting all cells would not be enough.
    """
    low_db, high_db = HISTOGRAM_RANGE_DB
    prominence = 10.0 ** ((low_db + HISTOGRAM_STEP_DB * (np.arange(len(histogram)) + 0.5)) / 10.0)

    def excess_db(threshold_db: float) -> float:
        lost = np.square(1.0 - _gain(prominence, 10.0 ** (threshold_db / 10.0), floor)) @ histogram
        return 10.0 * math.log10(max(float(lost) / float(histogram.sum()), 1e-12)) - wanted_db

    if excess_db(high_db) < 0.0 or excess_db(low_db) > 0.0:
        raise CannotApply(f"no threshold distorts this speech by {wanted_db:.1f} dB")
    return float(brentq(excess_db, low_db, high_db, xtol=0.02))


def _power(spectrum: NDArray[np.complex64]) -> Matrix:
    power: Matrix = np.square(spectrum.real)
    power += np.square(spectrum.imag)
    return power


def _ratio_db(part: Audio, whole: Audio) -> float:
    return 10.0 * math.log10(max(float(np.dot(part, part)), 1e-30) / float(np.dot(whole, whole)))
