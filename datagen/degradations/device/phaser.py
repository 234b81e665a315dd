"""The phaser: a chain of all-passes whose corner an oscillator sweeps, mixed with the signal itself."""

import math
from collections.abc import Mapping
from typing import Annotated, ClassVar

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

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
from manifests.ranges import Span, Within, log_uniform, uniform
from manifests.recipe import SAMPLE_RATE_HZ
from manifests.sample import Axis, Values

STAGES = 6
SEGMENT_SAMPLES = 512
"""Segments of this length are filtered side by side, sample by sample."""
PIECE_SEGMENTS = 1_024
"""So many at once, 11 s, to keep memory small."""
OSCILLATOR_STEPS = 1 << 15
"""A turn of the oscillator is looked up in a table of so many steps."""
SETTLING_CONSTANTS = 24.0
"""Each begins so many time constants of the lowest corner earlier: six all-passes have forgotten all but -110 dB."""


class Phaser(Degradation):
    """Cancels moving bands: what six swept all-passes have shifted by half a period goes out against the original.

    A slow oscillator gives the whooshing of a guitar effect. One of 100 to 500 Hz, which is what the synthesizer of
    the ICASSP 2024 SSI challenge draws, makes a voice hoarse and metallic. The all-passes are normalised ladders
    (A. H. Gray and J. D. Markel, IEEE Trans. ASSP 23 (3), 1975), which keep the energy however fast they change.
    """

    name: ClassVar[str] = "phaser"
    axis: ClassVar[Axis | None] = "coloration"
    promises: ClassVar[Mapping[str, Tolerance]] = {"mix": Tolerance(absolute=0.02)}

    rate_hz: Annotated[Span, Within(0.05, 1_000.0)] = (100.0, 500.0)
    """Of the oscillator."""
    centre_hz: Annotated[Span, Within(600.0, 4_000.0)] = (1_300.0, 1_300.0)
    """Corner of the all-passes in the middle of the sweep."""
    sweep_octaves: Annotated[Span, Within(0.1, 2.5)] = (2.5, 2.5)
    """How far it is swept, up and down."""
    mix: Annotated[Span, Within(0.01, 0.5)] = (0.1, 0.35)
    """Share of the shifted signal in the result; with one half the cancelled bands are gone."""

    def draw(self, rng: np.random.Generator, scene: Scene) -> Drawn:
        """Draw rate and centre logarithmically, sweep and mix uniformly, and where the oscillator begins."""
        return Drawn(
            {
                "rate_hz": log_uniform(rng, self.rate_hz),
                "centre_hz": log_uniform(rng, self.centre_hz),
                "sweep_octaves": uniform(rng, self.sweep_octaves),
                "mix": uniform(rng, self.mix),
                "phase_turns": float(rng.random()),
            }
        )

    @staticmethod
    def apply(audio: Audio, values: Values, inputs: Inputs) -> Applied:
        """Mix in the shifted signal; measures its share from the energies of what went in and came out.

        Raises:
            CannotApply: when there is no signal.
        """
        if active_level_dbfs(audio) <= SILENCE_DBFS:
            raise CannotApply("there is no signal to shift")
        mix = np.float32(values["mix"])
        result = shifted(audio, *_ladder(len(audio), values), _settling_samples(values))
        result -= audio
        result *= mix
        result += audio
        return Applied(result, measured={"mix": _share(audio, result)})

    @staticmethod
    def severity(values: Values, measured: Values) -> float:
        """How deep the cancellation goes: 0 where nothing is mixed in, 0.9 at one half."""
        return 1.8 * min(0.5, max(0.0, float(measured["mix"])))


def shifted(audio: Audio, sine: NDArray[np.float32], cosine: NDArray[np.float32], settling: int) -> Audio:
    """Send `audio` through six all-passes that change with every sample.

    Each is a rotation of its input and its memory by an angle, so energy is neither made nor lost:
    out = sine * in + cosine * memory, memory = cosine * in - sine * memory.

    Args:
        audio: shape (N,).
        sine: sine of the angle at each sample, shape (N,): the all-pass coefficient.
        cosine: its cosine.
        settling: after how many samples the all-passes have forgotten how they began.
    """
    pieces = []
    for begin in range(0, len(audio), PIECE_SEGMENTS * SEGMENT_SAMPLES):
        lead = min(begin, settling)
        cut = slice(begin - lead, begin + PIECE_SEGMENTS * SEGMENT_SAMPLES)
        pieces.append(_in_segments(audio[cut], sine[cut], cosine[cut], settling)[lead:])
    return np.concatenate(pieces)


def _in_segments(
    audio: Audio, sine: NDArray[np.float32], cosine: NDArray[np.float32], settling: int
) -> NDArray[np.float32]:
    segments = -(-len(audio) // SEGMENT_SAMPLES)
    span = SEGMENT_SAMPLES + settling
    end = segments * SEGMENT_SAMPLES - len(audio)

    def side_by_side(values: NDArray[np.float32], fill: float) -> NDArray[np.float32]:
        """Column k holds segment k after what precedes it; rows are samples."""
        padded = np.pad(values, (settling, end), constant_values=fill)
        return np.ascontiguousarray(sliding_window_view(padded, span)[::SEGMENT_SAMPLES].T)

    # Stage s works on sample n - s while stage 0 works on sample n: all stages of all segments at once.
    late = STAGES - 1
    rows = side_by_side(audio, 0.0)
    sines = np.pad(side_by_side(sine, float(sine[0])), ((late, late), (0, 0)), mode="edge")
    cosines = np.pad(side_by_side(cosine, float(cosine[0])), ((late, late), (0, 0)), mode="edge")
    result = np.empty_like(rows)
    entering, memory, product = (np.zeros((STAGES, segments), np.float32) for _ in range(3))
    leaving = np.zeros((STAGES, segments), np.float32)
    for row in range(span + late):
        if row < span:
            entering[0] = rows[row]
        entering[1:] = leaving[:-1]
        angle_sine, angle_cosine = sines[row : row + STAGES][::-1], cosines[row : row + STAGES][::-1]
        np.multiply(angle_sine, entering, out=leaving)
        np.multiply(angle_cosine, memory, out=product)
        leaving += product
        memory *= angle_sine
        np.multiply(angle_cosine, entering, out=product)
        np.subtract(product, memory, out=memory)
        if row >= late:
            result[row - late] = leaving[-1]
    return np.ascontiguousarray(result[settling:].T).ravel()[: len(audio)]


def _ladder(frames: int, values: Values) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return sine and cosine of the all-passes' angle at each sample, for the swept corner."""
    swing = np.sin(
        np.arange(OSCILLATOR_STEPS, dtype=np.float32) * np.float32(2.0 * math.pi / OSCILLATOR_STEPS)
    )
    corner_hz = values["centre_hz"] * np.exp2(np.float32(values["sweep_octaves"]) * swing)
    warped = np.tan(corner_hz * np.float32(math.pi / SAMPLE_RATE_HZ))
    sine = (warped - 1.0) / (warped + 1.0)
    turns = values["phase_turns"] + values["rate_hz"] / SAMPLE_RATE_HZ * np.arange(frames)
    step = (turns * OSCILLATOR_STEPS).astype(np.int64) & (OSCILLATOR_STEPS - 1)
    return sine[step], np.sqrt(1.0 - sine * sine)[step]


def _settling_samples(values: Values) -> int:
    lowest_hz: float = values["centre_hz"] * 2.0 ** -values["sweep_octaves"]
    return math.ceil(SETTLING_CONSTANTS * SAMPLE_RATE_HZ / (2.0 * math.pi * lowest_hz))


def _share(before: Audio, after: Audio) -> float:
    """Share of a shifted signal of the same energy in a mix.

    With m the share, x the signal, a the shifted one and |a| = |x|: y = (1 - m) x + m a. Its energy and its product
    with x hold the product of x and a, which drops out: m = (yy + xx - 2 xy) / (2 (xx - xy)).
    """
    change = (after - before).astype(np.float64)
    moved = -2.0 * float(np.dot(change, before))
    return float(np.dot(change, change)) / moved if moved > 0.0 else 0.0
