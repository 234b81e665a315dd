"""Two systems on the same samples: the difference of each score, sample by sample, and how sure it is."""

from collections.abc import Sequence
from itertools import combinations
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from manifests.canonical import rounded
from pipelines.quality.bootstrap import Grouping, grouped, interval, resampled_means, two_sided_p
from pipelines.quality.scores import Column, Row, by_system

DIGITS = 6

Verdict = Literal["better", "worse", "not shown", "too few"]
"""What the interval says of the second system: it lies on one side of zero, it holds it, or nothing that counts."""


def compared(rows: Sequence[Row], shown: Sequence[Column]) -> list[dict[str, Any]]:
    """Compare every system with every one before it, the input first.

    Returns:
        For each pair `{"system": B, "with": A, "scores": {score: entry}}`, where entries are those of `difference`.
    """
    systems = by_system(rows)
    return [
        {
            "system": second,
            "with": first,
            "scores": {
                column.name: difference(systems[first], systems[second], column)
                for column in shown
                if not column.describes
            },
        }
        for first, second in combinations(systems, 2)
    ]


def difference(first: Sequence[Row], second: Sequence[Row], column: Column) -> dict[str, Any]:
    """Compare two systems on the samples for which both have a score.

    The difference is second minus first. Where zero is best, it is that of the distances from zero, and less is better.

    Returns:
        `n` samples, and how many were left out because a score is missing; `mean`; `low` and `high`, the ends of
        its 95 % interval; `better`, the share of samples on which the second is better, ties counted half; `p`, how
        well no difference at all fits; `verdict`. Numbers are None where they are not defined; p is not corrected
        for the number of comparisons.
    """
    firsts = {row.key: value for row in first if (value := row.scores[column.name]) is not None}
    both = [row for row in second if row.scores[column.name] is not None and row.key in firsts]
    left_out = len({row.key for row in (*first, *second)}) - len(both)
    if not both:
        nothing = dict.fromkeys(("mean", "low", "high", "better", "p"))
        return {"n": 0, "left_out": left_out, "unit": "sample", "units": 0, **nothing, "verdict": "too few"}
    before = np.array([firsts[row.key] for row in both])
    after = np.array([row.scores[column.name] for row in both], np.float64)
    change = np.abs(after) - np.abs(before) if column.higher_is_better is None else after - before
    grouping = grouped([row.speaker for row in both])
    means = resampled_means(change, grouping)
    low, high = interval(means) if means is not None else (None, None)
    return {
        "n": len(both),
        "left_out": left_out,
        "unit": grouping.unit,
        "units": grouping.units,
        "mean": rounded(change.mean(), DIGITS),
        "low": None if low is None else rounded(low, DIGITS),
        "high": None if high is None else rounded(high, DIGITS),
        "better": rounded(_share_better(change, bool(column.higher_is_better)), DIGITS),
        "p": None if means is None else rounded(two_sided_p(means), DIGITS),
        "verdict": _verdict(grouping, low, high, bool(column.higher_is_better)),
    }


def _share_better(change: NDArray[np.float64], higher_is_better: bool) -> float:
    gain = change if higher_is_better else -change
    return float(((gain > 0.0) + 0.5 * (gain == 0.0)).mean())


def _verdict(grouping: Grouping, low: float | None, high: float | None, higher_is_better: bool) -> Verdict:
    if grouping.is_small or low is None or high is None:
        return "too few"
    if low <= 0.0 <= high:
        return "not shown"
    return "better" if (low > 0.0) == higher_is_better else "worse"
