"""Two clocks that differ: the receiver plays a little faster or slower than the sender recorded."""

from collections.abc import Mapping
from typing import Annotated, ClassVar

import numpy as np
from scipy import fft

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
from datagen.lateness import lateness, loudest
from datagen.time_map import Piece, TimeMap
from manifests.ranges import Span, Within, log_uniform
from manifests.sample import Values

WINDOW_SAMPLES = 4_096
"""What is looked for again: 85 ms, in which the drift itself moves nothing by more than a sample."""
END_SHARE = 0.4
"""The loudest window is taken out of this share of the clip at each end."""
FURTHEST_PPM = 1_000.0
SPARE_SAMPLES = 32


class ClockDrift(Degradation):
    """Plays everything faster or slower by some millionths, as two sound cards with clocks of their own do.

    Sound cards in use differ by 10 to 300 ppm: not heard by itself, but after ten seconds the signal is up to 3 ms
    away from where it was. Resampled with soxr from the first sample on; moves the speech in time.
    """

    name: ClassVar[str] = "clock_drift"
    warps_time: ClassVar[bool] = True
    promises: ClassVar[Mapping[str, Tolerance]] = {"drift_ppm": Tolerance(absolute=1.5, relative=0.03)}

    magnitude_ppm: Annotated[Span, Within(1.0, FURTHEST_PPM)] = (10.0, 300.0)
    """How much faster or slower, each as often as the other; drawn on a logarithmic axis."""

    def draw(self, rng: np.random.Generator, scene: Scene) -> Drawn:
        """Draw the difference of the clocks: positive where the receiver plays faster."""
        sign = -1.0 if rng.random() < 0.5 else 1.0
        return Drawn({"drift_ppm": sign * log_uniform(rng, self.magnitude_ppm)})

    @staticmethod
    def apply(audio: Audio, values: Values, inputs: Inputs) -> Applied:
        """Resample; measures the drift by looking for two short stretches of the input in the result.

        Raises:
            CannotApply: when there is nothing to be heard at one end.
        """
        time_map = TimeMap((Piece(0, 0, 1.0 + 1e-6 * values["drift_ppm"]),))
        drifted = time_map.applied(audio)
        return Applied(drifted, measured={"drift_ppm": _drift_ppm(audio, drifted)}, time_map=time_map)

    @staticmethod
    def severity(values: Values, measured: Values) -> float:
        """As a share of 1000 ppm, where the ear begins to hear another pitch."""
        return min(1.0, abs(float(values["drift_ppm"])) / FURTHEST_PPM)


def _drift_ppm(audio: Audio, drifted: Audio) -> float:
    """Measure how much faster `drifted` plays: r where a sound at t is found at t / (1 + r)."""
    end = round(END_SHARE * len(audio))
    early, late = (_found_again(audio, drifted, part) for part in (slice(0, end), slice(-end, None)))
    slope = (late[1] - early[1]) / (late[0] - early[0])
    return float(-1e6 * slope / (1.0 + slope))


def _found_again(audio: Audio, drifted: Audio, part: slice) -> tuple[float, float]:
    """Return where the loudest stretch of a part of `audio` has its middle, and by how much it is late, in samples."""
    first, last, _ = part.indices(len(audio))
    window = loudest(audio, first, last, WINDOW_SAMPLES)
    if window is None:
        raise CannotApply("there is nothing to be heard at one end to tell a drift by")
    start, frames = window
    furthest = SPARE_SAMPLES + round(1.1e-6 * FURTHEST_PPM * len(audio))
    late = lateness(audio, drifted, start, frames, furthest)
    shape = np.hanning(frames).astype(np.float32)
    mine = audio[start : start + frames] * shape
    theirs = drifted[start + late : start + late + frames] * shape
    middle = np.dot(np.arange(frames), np.square(mine, dtype=np.float64)) / np.dot(mine, mine)
    return start + float(middle), late + _rest(mine, theirs)


def _rest(mine: Audio, theirs: Audio) -> float:
    """By what part of a sample `theirs` is late: the slope of the phase between them, weighted by their power."""
    cross = fft.rfft(theirs, len(mine)) * np.conj(fft.rfft(mine))
    radians = np.arange(len(cross)) * (2.0 * np.pi / len(mine))
    weight = np.abs(cross) * radians
    return -float(np.dot(weight, np.angle(cross)) / max(np.dot(weight, radians), 1e-30))
