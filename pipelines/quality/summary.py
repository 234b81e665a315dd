"""Means of scores, with how sure each is, how many samples are in it, and how many are not."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from manifests.canonical import rounded
from pipelines.quality.bootstrap import grouped, interval, resampled_means
from pipelines.quality.conditions import reading_order
from pipelines.quality.scores import DIGITS, Column, Row, by_system


def summarised(rows: Iterable[Row], shown: Sequence[Column]) -> dict[str, dict[str, Any]]:
    """Return, for each system and score, its mean with a 95 % interval.

    `{system: {"samples": n, "unit": "speaker" or "sample", "units": how many, "small": too few for the intervals to be
    trusted, score: {"mean": x, "low": x, "high": x, "n": samples in the mean, "failures": samples that are not}}}`.
    Where nearest to zero is best there is `mean_absolute` too: errors of both signs cancel in a mean. Numbers are
    None where there is nothing to average, or nothing to resample.
    """
    return {system: _summary(of_system, shown) for system, of_system in by_system(rows).items()}


def _summary(rows: Sequence[Row], shown: Sequence[Column]) -> dict[str, Any]:
    grouping = grouped([row.speaker for row in rows])
    head = {
        "samples": len(rows),
        "unit": grouping.unit,
        "units": grouping.units,
        "small": grouping.is_small,
    }
    return head | {column.name: _mean(rows, column) for column in shown}


def _mean(rows: Sequence[Row], column: Column) -> dict[str, Any]:
    there = [row for row in rows if row.scores[column.name] is not None]
    values = np.array([row.scores[column.name] for row in there], np.float64)
    entry: dict[str, Any] = {"mean": None, "low": None, "high": None}
    if there:
        entry["mean"] = rounded(values.mean(), DIGITS)
        means = resampled_means(values, grouped([row.speaker for row in there]))
        if means is not None:
            entry["low"], entry["high"] = (rounded(end, DIGITS) for end in interval(means))
    if column.higher_is_better is None and not column.describes:
        entry["mean_absolute"] = rounded(np.abs(values).mean(), DIGITS) if there else None
    return entry | {"n": len(there), "failures": len(rows) - len(there)}


def best_mean(summary: Mapping[str, Any], column: Column) -> float | None:
    """Return the best mean of any system; where zero is best, that with the smallest mean distance from it."""
    entries = [m[column.name] for m in summary.values() if m[column.name]["mean"] is not None]
    if not entries or column.describes:
        return None
    if column.higher_is_better is None:
        return float(min(entries, key=lambda entry: entry["mean_absolute"])["mean"])
    means = [entry["mean"] for entry in entries]
    return float(max(means) if column.higher_is_better else min(means))


def by_condition(rows: Sequence[Row], shown: Sequence[Column]) -> dict[str, dict[str, Any]]:
    """Return the summary of each condition, in the order in which people read them."""
    names = sorted({condition for row in rows for condition in row.conditions}, key=reading_order)
    return {name: summarised((row for row in rows if name in row.conditions), shown) for name in names}


def reasons(rows: Iterable[Row]) -> dict[str, int]:
    """Count failures by score and reason."""
    found: dict[str, int] = {}
    for row in rows:
        for name, reason in row.failures.items():
            found[f"{name}: {reason}"] = found.get(f"{name}: {reason}", 0) + 1
    return dict(sorted(found.items()))
