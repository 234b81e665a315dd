"""Which samples of a corpus a page shows: the same ones every time, of every stage and of every severity."""

from collections.abc import Iterator, Sequence

import numpy as np

from manifests.sample import AXES
from pipelines.report.summary import Summary

SEVERITIES_SHOWN = (0.85, 0.5, 0.2)
"""Of each axis, samples as severe as this are looked for: strong, medium and light."""


def chosen_samples(summary: Summary, count: int) -> list[int]:
    """Choose rows of the table, in its order.

    First a sample without audible degradation, then light, medium and strong ones of each axis, then one for each
    stage that none of these has, of those with the fewest stages beside it; the rest is spread evenly.

    Args:
        summary: of the corpus.
        count: of samples, at most; all where there are not more.
    """
    if count >= summary.samples:
        return list(range(summary.samples))
    chosen: list[int] = []
    for row in _wanted(summary, chosen):
        if len(chosen) == count:
            break
        if row not in chosen:
            chosen.append(row)
    return sorted(chosen)


def _wanted(summary: Summary, chosen: Sequence[int]) -> Iterator[int]:
    severities = np.stack(
        [np.nan_to_num(summary.columns.get(f"severity.{axis}", np.zeros(summary.samples))) for axis in AXES],
        axis=1,
    )
    yield int(severities.max(axis=1).argmin())
    for wanted in SEVERITIES_SHOWN:
        for axis in range(len(AXES)):
            if severities[:, axis].any():
                yield int(np.abs(severities[:, axis] - wanted).argmin())
    stages = summary.fired.sum(axis=1)
    for column in reversed(
        range(len(summary.labels))
    ):  # the rarest first: they bring the frequent ones along
        with_it = summary.fired[:, column]
        if not with_it[list(chosen)].any():
            yield int(np.where(with_it, stages, np.iinfo(stages.dtype).max).argmin())
    # Steps of the golden ratio: every beginning of the sequence is spread evenly.
    for step in range(4 * summary.samples):
        yield int(summary.samples * ((step * 0.6180339887498949) % 1.0))
    yield from range(summary.samples)
