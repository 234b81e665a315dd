"""Half duplex: while the far end talks, echo control turns the near end down, speech and all."""

import math
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import numpy as np
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
from datagen.degradations.device.dynamics import (
    CONTROL_RATE_HZ,
    CONTROL_SAMPLES,
    FRAME_BLOCKS,
    Curve,
    activity,
    lost_db,
    lost_db_by_millisecond,
    with_gain,
)
from manifests.ranges import Span, Within, log_uniform, uniform
from manifests.recipe import SAMPLE_RATE_HZ
from manifests.sample import Axis, Values

RAMP_SHARE = 0.8
"""Attack and release together take at most this share of an interval, so that it is attenuated at all."""
WORST_SHARE = 0.5
WORST_ATTENUATION_DB = 40.0


class HalfDuplex(Degradation):
    """Turns the talker down for stretches of time, as an echo suppressor does while the other side talks.

    The gain goes down and comes back along lines in decibels that are centred on the ends of each interval.
    """

    name: ClassVar[str] = "half_duplex"
    axis: ClassVar[Axis | None] = "discontinuity"
    promises: ClassVar[Mapping[str, Tolerance]] = {
        "attenuation_db": Tolerance(absolute=0.1),
        "attenuated_share": Tolerance(absolute=0.02, relative=0.05),
    }

    attenuation_db: Annotated[Span, Within(1.0, 90.0)] = (6.0, 40.0)
    attenuated_share: Annotated[Span, Within(0.01, 0.9)] = (0.05, 0.4)
    """Share of the sample's length in which it is turned down; for short samples what one interval makes of it."""
    interval_ms: Annotated[Span, Within(50.0, 10_000.0)] = (200.0, 2_000.0)
    attack_ms: Annotated[Span, Within(1.0, 500.0)] = (5.0, 50.0)
    """How long it takes to go down."""
    release_ms: Annotated[Span, Within(1.0, 500.0)] = (20.0, 150.0)
    """How long it takes to come back."""

    def draw(self, rng: np.random.Generator, scene: Scene) -> Drawn:
        """Draw the depth and the times, lengths of intervals that make up the share, and where they lie."""
        seconds = scene.frames / SAMPLE_RATE_HZ
        attenuation_db = uniform(rng, self.attenuation_db)
        lengths_s = _lengths_s(rng, seconds * uniform(rng, self.attenuated_share), self.interval_ms, seconds)
        # Gaps before, between and after the intervals, all equally likely to be long.
        gaps_s = rng.dirichlet(np.ones(len(lengths_s) + 1)) * (seconds - lengths_s.sum())
        starts_s = np.cumsum(gaps_s[:-1]) + np.concatenate(([0.0], np.cumsum(lengths_s)[:-1]))
        intervals = [
            [round(float(start), 4), round(float(start + length), 4)]
            for start, length in zip(starts_s, lengths_s, strict=True)
        ]
        return Drawn(
            {
                "attenuation_db": attenuation_db,
                "attenuated_share": float(lengths_s.sum()) / seconds,
                "intervals_s": intervals,
                "attack_ms": log_uniform(rng, self.attack_ms),
                "release_ms": log_uniform(rng, self.release_ms),
            }
        )

    @staticmethod
    def apply(audio: Audio, values: Values, inputs: Inputs) -> Applied:
        """Attenuate; measures by how much and for how long, from the audio where there is a signal.

        Raises:
            CannotApply: when there is no speech, nobody speaks in the intervals, or they are shorter than the ramps.
        """
        speech = activity(audio)
        count = -(-len(audio) // CONTROL_SAMPLES)
        depth = _depth(values["intervals_s"], count, values["attack_ms"], values["release_ms"])
        attenuated = with_gain(audio, -values["attenuation_db"] * depth)
        lost = lost_db(speech, attenuated)
        # A frame is settled when it and what came just before are all the way down.
        settled = (
            _framewise(np.minimum(depth, np.append(depth[:1], depth[:-1])), len(lost)).min(axis=1) >= 1.0
        )
        if not (settled & speech.active).any():
            raise CannotApply("nobody speaks while the near end is turned down")
        # By milliseconds: the loss of a frame that is low in part is that of its louder part.
        planned = depth[: len(speech.energies)] > 0.5
        fallen = lost_db_by_millisecond(speech, attenuated) > values["attenuation_db"] / 2.0
        low = np.where(speech.energies > 0.0, fallen, planned)
        return Applied(
            attenuated,
            measured={
                "attenuation_db": float(np.median(lost[settled & speech.active])),
                "attenuated_share": float(np.mean(low)),
                "speech_attenuated_share": float(_framewise(low, len(lost))[speech.active].mean()),
            },
        )

    @staticmethod
    def severity(values: Values, measured: Values) -> float:
        """Share of the speech that was turned down, one half being the worst, weighed by how far."""
        depth = min(1.0, float(values["attenuation_db"]) / WORST_ATTENUATION_DB)
        return min(1.0, math.sqrt(float(measured["speech_attenuated_share"]) / WORST_SHARE)) * (
            0.2 + 0.8 * depth
        )


def _lengths_s(
    rng: np.random.Generator, total_s: float, interval_ms: tuple[float, float], seconds: float
) -> NDArray[np.float64]:
    """Draw lengths, logarithmically, that add up to `total_s`, or one of the shortest kind where that is longer."""
    shortest_s, longest_s = interval_ms[0] / 1_000.0, interval_ms[1] / 1_000.0
    if total_s <= shortest_s:
        return np.array([min(shortest_s, 0.9 * seconds)])
    lengths: list[float] = []
    left_s = total_s
    while left_s > 2.0 * shortest_s:
        # What is left after this one is enough for another.
        lengths.append(log_uniform(rng, (shortest_s, min(longest_s, left_s - shortest_s))))
        left_s -= lengths[-1]
    return np.array([*lengths, left_s])


def _depth(intervals_s: list[list[float]], count: int, attack_ms: float, release_ms: float) -> Curve:
    """Return the share of the attenuation, 0 to 1, at each of `count` milliseconds.

    Raises:
        CannotApply: when the ramps take up an interval.
    """
    now_ms = np.arange(1, count + 1) * 1_000.0 / CONTROL_RATE_HZ
    depth = np.zeros(count)
    for start_s, end_s in intervals_s:
        start_ms, end_ms = 1_000.0 * start_s, 1_000.0 * end_s
        if attack_ms + release_ms > 2.0 * RAMP_SHARE * (end_ms - start_ms):
            raise CannotApply(f"an interval of {end_ms - start_ms:.0f} ms has no room for its ramps")
        first = max(0, int(start_ms - attack_ms))
        last = min(count, int(end_ms + release_ms) + 1)
        near_ms = now_ms[first:last]
        down = 0.5 + (near_ms - start_ms) / attack_ms
        up = 0.5 + (end_ms - near_ms) / release_ms
        depth[first:last] = np.maximum(depth[first:last], np.clip(np.minimum(down, up), 0.0, 1.0))
    return depth


def _framewise(curve: NDArray[Any], frames: int) -> NDArray[Any]:
    return curve[: frames * FRAME_BLOCKS].reshape(frames, -1)
