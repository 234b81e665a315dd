"""The noise gate: shut while the level is low, and with it the quiet syllables."""

import math
from collections.abc import Mapping
from typing import Annotated, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter1d

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
    DB_A_TIME_CONSTANT,
    Activity,
    Curve,
    activity,
    delivered,
    held_db,
    one_pole,
    peaks_dbfs,
    with_gain,
)
from manifests.ranges import Span, Within, log_uniform, uniform
from manifests.sample import Axis, Values

DETECTOR_MS = 10.0
"""The detector's own decay, long enough to bridge the period of a low voice."""
HYSTERESIS_DB = 4.0
"""The gate opens at its threshold, and shuts when the level has fallen by this much below it."""
SHARE_TOLERANCE = 0.05
SEARCH_STEPS = 12
WORST_SHARE = 0.4
WORST_RANGE_DB = 40.0


class NoiseGate(Degradation):
    """Shuts off what is quiet, abruptly: beginnings, endings and whole syllables are cut away.

    The threshold is the one that loses a wanted share of the speech. The gate opens with a time constant, stays
    open for a while after the level has fallen, and then closes along a line in decibels.
    """

    name: ClassVar[str] = "noise_gate"
    axis: ClassVar[Axis | None] = "discontinuity"
    promises: ClassVar[Mapping[str, Tolerance]] = {"cut_share": Tolerance(absolute=SHARE_TOLERANCE)}

    cut_share: Annotated[Span, Within(0.01, 0.9)] = (0.05, 0.35)
    """Share of the active speech that is turned down by more than half of `range_db`."""
    range_db: Annotated[Span, Within(3.0, 90.0)] = (10.0, 60.0)
    """How far a shut gate turns down."""
    attack_ms: Annotated[Span, Within(0.1, 200.0)] = (0.5, 10.0)
    """Time constant of opening."""
    hold_ms: Annotated[Span, Within(0.0, 1_000.0)] = (0.0, 80.0)
    """How long it stays open after the level has fallen."""
    release_ms: Annotated[Span, Within(1.0, 5_000.0)] = (5.0, 100.0)
    """How long it takes to close."""

    def draw(self, rng: np.random.Generator, scene: Scene) -> Drawn:
        """Draw share, depth and times; attack and release logarithmically."""
        return Drawn(
            {
                "cut_share": uniform(rng, self.cut_share),
                "range_db": uniform(rng, self.range_db),
                "attack_ms": log_uniform(rng, self.attack_ms),
                "hold_ms": uniform(rng, self.hold_ms),
                "release_ms": log_uniform(rng, self.release_ms),
            }
        )

    @staticmethod
    def apply(audio: Audio, values: Values, inputs: Inputs) -> Applied:
        """Gate; measures the share of the speech that was cut away and how far down, from the audio.

        Raises:
            CannotApply: when there is no speech, or it is so even that no threshold cuts away the drawn share.
        """
        speech = activity(audio)
        levels_dbfs = held_db(peaks_dbfs(audio), DB_A_TIME_CONSTANT * 1_000.0 / DETECTOR_MS)
        gain_db, threshold_dbfs = _cutting(speech, levels_dbfs, values)
        gated = with_gain(audio, gain_db)
        taken = delivered(speech, gated, reduced_db=values["range_db"] / 2.0)
        return Applied(
            gated,
            measured={
                "cut_share": taken.share,
                "most_reduction_db": taken.most_db,
                "threshold_over_level_db": threshold_dbfs - speech.level_dbfs,
            },
        )

    @staticmethod
    def severity(values: Values, measured: Values) -> float:
        """Share of the speech that was cut away, 40 % being the worst, weighed by how far down it went."""
        depth = min(1.0, float(values["range_db"]) / WORST_RANGE_DB)
        return min(1.0, math.sqrt(float(measured["cut_share"]) / WORST_SHARE)) * (0.4 + 0.6 * depth)


def opened(levels_dbfs: Curve, threshold_dbfs: float, hold_ms: float) -> NDArray[np.bool_]:
    """Tell for each millisecond whether the gate is told to be open; it begins shut.

    Open from where the level reaches the threshold to where it falls below it by the hysteresis, and for `hold_ms`
    after that.
    """
    decided = np.flatnonzero((levels_dbfs >= threshold_dbfs) | (levels_dbfs < threshold_dbfs - HYSTERESIS_DB))
    state = np.zeros(len(levels_dbfs), bool)
    if not len(decided):
        return state
    # Between two decisions the last one counts.
    last = np.searchsorted(decided, np.arange(len(levels_dbfs)), side="right") - 1
    state[last >= 0] = levels_dbfs[decided[last[last >= 0]]] >= threshold_dbfs
    hold = round(hold_ms * CONTROL_RATE_HZ / 1_000.0)
    if hold:
        state = maximum_filter1d(state.view(np.uint8), hold + 1, origin=hold // 2, mode="constant").view(bool)
    return state


def gate_db(is_open: NDArray[np.bool_], range_db: float, attack_ms: float, release_ms: float) -> Curve:
    """Return the gain of a gate: 0 dB open, `-range_db` shut."""
    openness = held_db(range_db * is_open.astype(np.float64), range_db * 1_000.0 / release_ms)
    return one_pole(np.maximum(openness, 0.0), attack_ms, 0.0) - range_db


def _cutting(speech: Activity, levels_dbfs: Curve, values: Values) -> tuple[Curve, float]:
    """Find the threshold that cuts away the drawn share, by halving; return the gain and the threshold."""
    share, range_db = values["cut_share"], values["range_db"]
    low_dbfs, high_dbfs = float(levels_dbfs.min()), float(levels_dbfs.max()) + HYSTERESIS_DB
    nearest, found, found_dbfs = np.inf, np.zeros(0), 0.0
    for _ in range(SEARCH_STEPS):
        threshold_dbfs = 0.5 * (low_dbfs + high_dbfs)
        is_open = opened(levels_dbfs, threshold_dbfs, values["hold_ms"])
        gain_db = gate_db(is_open, range_db, values["attack_ms"], values["release_ms"])
        cut = float(np.mean(speech.reductions_db(gain_db)[speech.active] > range_db / 2.0))
        if abs(cut - share) < nearest:
            nearest, found, found_dbfs = abs(cut - share), gain_db, threshold_dbfs
        low_dbfs, high_dbfs = (threshold_dbfs, high_dbfs) if cut < share else (low_dbfs, threshold_dbfs)
    if nearest > 0.8 * SHARE_TOLERANCE:
        raise CannotApply(f"no threshold of a gate cuts away {share:.0%} of this speech")
    return found, found_dbfs
