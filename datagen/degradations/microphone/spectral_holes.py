"""Holes in the spectrogram: patches of time and frequency that are gone, as after a greedy noise suppressor."""

import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Annotated, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy import fft, signal

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
from manifests.ranges import Span, Whole, Within, log_uniform, uniform
from manifests.recipe import SAMPLE_RATE_HZ
from manifests.sample import Axis, Values

FRAME_SAMPLES = 1_024
HOP_SAMPLES = 256
HOP_MS = 1_000.0 * HOP_SAMPLES / SAMPLE_RATE_HZ
BIN_HZ = SAMPLE_RATE_HZ / FRAME_SAMPLES
OVERLAPPED = 1.5
"""Sum of the squared Hann windows over any moment, at a hop of a quarter."""
MEASURED_EVERY = 2
"""Every second frame is measured."""
MOST_FRAMES = 4_096
"""Frames are transformed in blocks of this many, so that long signals need little memory."""
AUDIBLE = 1e-9
"""Power of a cell against the mean of all, below which nothing can be missed."""
NOTHING_DB = -90.0
WORST_SHARE = 0.4


class SpectralHoles(Degradation):
    """Cuts up to 250 patches of drawn time, frequency, duration and width out of the spectrogram, without delay.

    In a short-time Fourier transform (Hann windows of 21 ms, a quarter of a window apart) cells in a hole are
    lowered by the depth; the edges fall over two cells, and outside of the holes the signal is what it was, bit by
    bit. The share of the spectrogram that is gone is measured from the spectrograms before and after.
    """

    name: ClassVar[str] = "spectral_holes"
    axis: ClassVar[Axis | None] = "coloration"
    promises: ClassVar[Mapping[str, Tolerance]] = {"removed_share": Tolerance(absolute=5e-4, relative=0.2)}

    holes: Annotated[Span, Whole(1, 2_000)] = (1, 250)
    """In the whole clip; where they overlap, no more is taken than one of them takes."""
    duration_ms: Annotated[Span, Within(10.0, 5_000.0)] = (20.0, 400.0)
    width_hz: Annotated[Span, Within(50.0, 20_000.0)] = (100.0, 2_000.0)
    depth_db: Annotated[Span, Within(6.0, 100.0)] = (20.0, 60.0)
    """One for all holes of a clip."""
    up_to_hz: float = Field(default=10_000.0, ge=1_000.0, le=24_000.0)
    """No centre of a hole lies above this, or above the speech; the removed share is of what lies below it."""

    def draw(self, rng: np.random.Generator, scene: Scene) -> Drawn:
        """Draw the number of holes, log-uniform, and each: anywhere in the clip, log-uniform in all else."""
        count = round(log_uniform(rng, self.holes))
        up_to_hz = min(self.up_to_hz, scene.bandwidth_hz)
        low_hz = min(100.0, up_to_hz)
        ends_ms = (0.0, 1_000.0 * scene.frames / SAMPLE_RATE_HZ)
        values: Values = {
            "depth_db": uniform(rng, self.depth_db),
            "up_to_hz": up_to_hz,
            "at_ms": [round(uniform(rng, ends_ms), 1) for _ in range(count)],
            "centre_hz": [round(log_uniform(rng, (low_hz, up_to_hz)), 1) for _ in range(count)],
            "duration_ms": [round(log_uniform(rng, self.duration_ms), 1) for _ in range(count)],
            "width_hz": [round(log_uniform(rng, self.width_hz), 1) for _ in range(count)],
        }
        area = float(_removal(values, scene.frames)[:, : _bins(up_to_hz)].mean())
        return Drawn({**values, "removed_share": area})

    @staticmethod
    def apply(audio: Audio, values: Values, inputs: Inputs) -> Applied:
        """Take the holes out; measures how much of the spectrogram is gone, and the share of the energy."""
        removal = _removal(values, len(audio))
        removed = _synthesised(audio, removal)
        energy = float(np.dot(audio, audio))
        gone = float(np.dot(removed, removed))
        if gone <= energy * 10.0 ** (NOTHING_DB / 10.0):
            raise CannotApply("there is no sound where the holes are")
        holed = audio - removed
        return Applied(
            holed,
            measured={
                "removed_share": round(_missing(audio, holed, removal[:, : _bins(values["up_to_hz"])]), 5),
                "removed_energy_db": round(10.0 * math.log10(gone / energy), 2),
            },
        )

    @staticmethod
    def severity(values: Values, measured: Values) -> float:
        """Root of the share that is gone: a few holes are heard, and 40 % are the worst."""
        return min(1.0, math.sqrt(max(0.0, float(measured["removed_share"])) / WORST_SHARE))


def _removal(values: Values, frames: int) -> NDArray[np.float32]:
    """What is taken of each cell of the spectrogram, 0 to 1: shape (moments, bins)."""
    moments = -(-frames // HOP_SAMPLES) + 1
    removal = np.zeros((moments, FRAME_SAMPLES // 2 + 1), np.float32)
    taken = 1.0 - 10.0 ** (-values["depth_db"] / 20.0)
    drawn = (values[name] for name in ("at_ms", "duration_ms", "centre_hz", "width_hz"))
    for at_ms, duration_ms, centre_hz, width_hz in zip(*drawn, strict=True):
        rows, in_time = _soft(at_ms / HOP_MS, duration_ms / HOP_MS, moments)
        columns, in_frequency = _soft(centre_hz / BIN_HZ, width_hz / BIN_HZ, removal.shape[1])
        patch = removal[rows, columns]
        np.maximum(patch, (taken * in_time)[:, None] * in_frequency, out=patch)
    return removal


def _soft(centre: float, extent: float, cells: int) -> tuple[slice, NDArray[np.float32]]:
    """A stretch of `extent` cells around `centre`: which cells, and 1 inside falling to 0 over two at the ends."""
    first = max(0, math.ceil(centre - extent / 2.0 - 1.0))
    last = min(cells, math.floor(centre + extent / 2.0 + 1.0) + 1)
    inwards = (extent / 2.0 - np.abs(np.arange(first, last) - centre)) / 2.0 + 0.5
    smooth = np.sin(0.5 * np.pi * np.clip(inwards, 0.0, 1.0)) ** 2
    return slice(first, last), smooth.astype(np.float32)


def _synthesised(audio: Audio, removal: NDArray[np.float32]) -> Audio:
    """The part of the signal that `removal` takes, by overlap-add of the frames that it touches."""
    removed = np.zeros((len(removal) + FRAME_SAMPLES // HOP_SAMPLES, HOP_SAMPLES), np.float32)
    turns = np.flatnonzero(np.diff(removal.any(axis=1), prepend=False, append=False))
    for start, end in turns.reshape(-1, 2):
        for first in range(start, end, MOST_FRAMES):
            last = min(first + MOST_FRAMES, end)
            spectrum = _spectra(audio, first, last, HOP_SAMPLES)
            spectrum *= removal[first:last]
            pieces = fft.irfft(spectrum, FRAME_SAMPLES, axis=1, overwrite_x=True)
            pieces *= _hann() / np.float32(OVERLAPPED)
            quarters = pieces.reshape(len(pieces), -1, HOP_SAMPLES)
            for quarter in range(quarters.shape[1]):
                removed[first + quarter : last + quarter] += quarters[:, quarter]
    start = FRAME_SAMPLES // 2
    return removed.reshape(-1)[start : start + len(audio)]


def _missing(before: Audio, after: Audio, removal: NDArray[np.float32]) -> float:
    """Mean over the spectrogram of what is missing of its magnitude; as drawn where there was nothing to miss."""
    drawn = removal[::MEASURED_EVERY]
    floor = AUDIBLE * float(np.dot(before, before)) / len(before) * float(np.dot(_hann(), _hann()))
    total = 0.0
    for first in range(0, len(drawn), MOST_FRAMES):
        missing = drawn[first : first + MOST_FRAMES].copy()
        span = (first, first + len(missing), MEASURED_EVERY * HOP_SAMPLES)
        was, is_now = (np.abs(_spectra(audio, *span)[:, : drawn.shape[1]]) for audio in (before, after))
        heard = was**2 > floor
        missing[heard] = 1.0 - np.minimum(1.0, is_now[heard] / was[heard])
        total += float(missing.sum())
    return total / drawn.size


def _spectra(audio: Audio, first: int, last: int, hop_samples: int) -> NDArray[np.complex64]:
    """Spectra of the windowed frames `first` to `last` (excluded), shape (count, 513).

    Frame k is centred on sample k * hop; what lies outside of the signal is silence.
    """
    begin = first * hop_samples - FRAME_SAMPLES // 2
    end = (last - 1) * hop_samples + FRAME_SAMPLES // 2
    piece = np.zeros(end - begin, np.float32)
    inside = audio[max(begin, 0) : end]
    piece[max(-begin, 0) :][: len(inside)] = inside
    frames = np.lib.stride_tricks.sliding_window_view(piece, FRAME_SAMPLES)[::hop_samples]
    spectra: NDArray[np.complex64] = fft.rfft(frames * _hann(), axis=1)
    return spectra


@lru_cache(maxsize=1)
def _hann() -> NDArray[np.float32]:
    window: NDArray[np.float32] = signal.get_window("hann", FRAME_SAMPLES).astype(np.float32)
    window.setflags(write=False)
    return window


def _bins(up_to_hz: float) -> int:
    return math.ceil(up_to_hz / BIN_HZ)
