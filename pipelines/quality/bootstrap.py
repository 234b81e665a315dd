"""How sure a mean is: 95 % intervals by resampling, over speakers where there are enough of them.

Percentile bootstrap: Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, sections 13.3 and 16.4; whole
speakers are drawn (a cluster bootstrap: Davison and Hinkley, "Bootstrap Methods and their Application", 1997, section
3.8), because samples of one talker are no independent witnesses. The draws depend on the number of units alone:
every score and every system is resampled with the same ones, whatever is compared with what.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from manifests.keyed import generator

RESAMPLES = 2000
CONFIDENCE = 0.95
LEAST_SPEAKERS = 8
"""With fewer, samples are resampled: a handful of speakers gives no distribution."""
SMALL_UNITS = 10
"""With fewer units a percentile interval is clearly too narrow, and is marked."""
_BLOCK = 100
"""Resamples drawn at once: bounds memory, and changes no draw."""

Unit = Literal["speaker", "sample"]
Means = NDArray[np.float64]
"""Means of the resampled sets, shape (RESAMPLES,)."""


@dataclass(frozen=True)
class Grouping:
    """What a set of samples is resampled by."""

    unit: Unit
    unit_of_sample: NDArray[np.int64]
    """(N,): number of the speaker, or of the sample itself."""

    @property
    def units(self) -> int:
        """How many there are."""
        return int(self.unit_of_sample.max(initial=-1)) + 1

    @property
    def is_small(self) -> bool:
        """Whether intervals are too narrow to be trusted."""
        return self.units < SMALL_UNITS


def grouped(speakers: Sequence[str | None]) -> Grouping:
    """Group samples, (N,), by their speakers where all are known and there are at least `LEAST_SPEAKERS`."""
    known = {speaker for speaker in speakers if speaker is not None}
    if None in speakers or len(known) < LEAST_SPEAKERS:
        return Grouping("sample", np.arange(len(speakers)))
    numbers = {speaker: number for number, speaker in enumerate(sorted(known))}
    return Grouping("speaker", np.array([numbers[str(speaker)] for speaker in speakers], np.int64))


def resampled_means(values: NDArray[np.float64], grouping: Grouping) -> Means | None:
    """Return the mean of `values`, (N,), over each resampled set of units; None with fewer than two units."""
    units = grouping.units
    if units < 2:
        return None
    sums = np.bincount(grouping.unit_of_sample, values, units)
    counts = np.bincount(grouping.unit_of_sample, minlength=units)
    rng = generator("bootstrap", units)
    means = []
    for _ in range(RESAMPLES // _BLOCK):
        drawn = rng.integers(units, size=(_BLOCK, units))
        means.append(sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1))
    return np.concatenate(means)


def interval(means: Means) -> tuple[float, float]:
    """Return the ends of the middle 95 % of resampled means."""
    outside = (1.0 - CONFIDENCE) / 2.0
    low, high = np.quantile(means, (outside, 1.0 - outside))
    return float(low), float(high)


def two_sided_p(means: Means) -> float:
    """Return how well a mean of zero fits: twice the share of resampled means on the rarer side of it, at most 1.

    One is added to both counts, so that no finite number of resamples claims zero (Davison and Hinkley, section 4.2).
    """
    rarer = min(int((means <= 0.0).sum()), int((means >= 0.0).sum()))
    return min(1.0, 2.0 * (rarer + 1) / (len(means) + 1))
