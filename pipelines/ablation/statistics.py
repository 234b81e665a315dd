"""Means over seeds, their confidence intervals, and differences between arms, seed by seed.

An interval speaks of what chance in the initial weights and in the order of samples does to a result. It is not about
other speakers or other corpora, and it is not corrected for the number of comparisons.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pipelines.ablation.scores import MEASURES, Measure, RunResult

CONFIDENCE = 0.95

ONE_SEED = "one seed: cannot tell"
NO_DIFFERENCE = "no difference shown"

Results = Mapping[str, Mapping[int, RunResult]]
"""By arm and seed."""


@dataclass(frozen=True)
class Interval:
    """A mean with its 95 % confidence interval; no bounds where there is but one value."""

    mean: float
    low: float | None
    high: float | None


def t_interval(values: Sequence[float]) -> Interval:
    """Return mean +- t s / sqrt(n), t being Student's quantile at n - 1 degrees of freedom.

    Raises:
        ValueError: without values.
    """
    if not values:
        raise ValueError("no values")
    count = len(values)
    mean = math.fsum(values) / count
    if count == 1:
        return Interval(mean, None, None)
    from scipy.stats import t

    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (count - 1))
    half = float(t.ppf(0.5 + CONFIDENCE / 2.0, count - 1)) * deviation / math.sqrt(count)
    return Interval(mean, mean - half, mean + half)


def verdict(difference: Interval, higher_is_better: bool) -> str:
    """Say in words what a difference (arm minus baseline) shows, and no more than that."""
    if difference.low is None or difference.high is None:
        return ONE_SEED
    if difference.low <= 0.0 <= difference.high:
        return NO_DIFFERENCE
    return "better" if (difference.mean > 0.0) == higher_is_better else "worse"


def usable_samples(results: Results, measure: str) -> list[int]:
    """Return the places of the samples on which every run has this score: only these are compared."""
    columns = [result.scores[measure] for by_seed in results.values() for result in by_seed.values()]
    return [place for place, values in enumerate(zip(*columns, strict=True)) if None not in values]


def seed_means(results: Results, measure: str) -> dict[str, dict[int, float]]:
    """Return the mean over the usable samples, by arm and seed; nothing in the arms if there is no such sample."""
    usable = usable_samples(results, measure)
    found: dict[str, dict[int, float]] = {arm: {} for arm in results}
    for arm, by_seed in results.items():
        for seed, result in by_seed.items():
            if (mean := mean_over(result, measure, usable)) is not None:
                found[arm][seed] = mean
    return found


def mean_over(result: RunResult, measure: str, places: Sequence[int]) -> float | None:
    """Return the mean of one run's scores at these samples; None if none of them has one."""
    values = [value for place in places if (value := result.scores[measure][place]) is not None]
    return math.fsum(values) / len(values) if values else None


def table(results: Results, baseline: str) -> dict[str, dict[str, Any]]:
    """Return, by arm and measure: mean and interval, the paired difference to the baseline, and the verdict.

    A measure that no sample has in every run is left out.
    """
    rows: dict[str, dict[str, Any]] = {arm: {} for arm in results}
    for measure in MEASURES:
        means = seed_means(results, measure.name)
        for arm, by_seed in means.items():
            if by_seed:
                entry = asdict(t_interval(list(by_seed.values())))
                rows[arm][measure.name] = entry | _against(means[baseline], by_seed, measure, arm == baseline)
    return rows


def _against(
    baseline: Mapping[int, float], arm: Mapping[int, float], measure: Measure, is_baseline: bool
) -> dict[str, Any]:
    if is_baseline:
        return {"difference": None, "verdict": None}
    difference = t_interval([value - baseline[seed] for seed, value in arm.items()])
    return {"difference": asdict(difference), "verdict": verdict(difference, measure.higher_is_better)}
