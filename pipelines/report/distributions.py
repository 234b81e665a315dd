"""One chart with what it says in words, for one corpus or for two."""

from collections.abc import Sequence

import numpy as np

from pipelines.report.charts import histogram
from pipelines.report.markup import Html, tag
from pipelines.report.scales import Values, bin_edges, count, figure, percent
from pipelines.report.summary import Measure, Summary

CENTRAL = (0.05, 0.5, 0.95)


def chart(measure: Measure, summary: Summary, other: Summary | None = None) -> Html:
    """Return the distribution of a measure over a corpus, with another one's drawn over it."""
    samples = [summary.values(measure)] + ([other.values(measure)] if other else [])
    said = [in_words(measure, samples[0], summary.samples)]
    if other:
        said = [f"A: {said[0]}", f"B: {in_words(measure, samples[1], other.samples)}"]
    totals = [summary.samples] + ([other.samples] if other else [])
    all_have = all(len(values) == total for values, total in zip(samples, totals, strict=True))
    return figure_of(measure, samples, said, "samples" if all_have else "samples with any")


def figure_of(measure: Measure, samples: list[Values], said: Sequence[str], of: str) -> Html:
    """Return a chart of one or two arrays of values, below its title and above what it says of each.

    Args:
        measure: what the values are.
        samples: the arrays.
        said: a line on each.
        of: what heights are shares of: those that have a value, which may not be all.
    """
    if any(len(values) for values in samples):
        edges = bin_edges(samples, measure.whole)
        picture = histogram(edges, samples, measure.axis, f"{measure.title}: {'; '.join(said)}", of)
    else:
        picture = tag("p", "No sample has any.", class_="note")
    return tag(
        "figure",
        tag("h3", measure.title),
        picture,
        tag("figcaption", [tag("span", line) for line in said]),
        class_="card",
    )


def in_words(measure: Measure, values: Values, samples: int, noun: str = "samples") -> str:
    """Say how many samples have a value, and where most values lie."""
    if not len(values):
        return f"none of {count(samples)} {noun}"
    low, middle, high = (figure(float(value)) for value in np.quantile(values, CENTRAL))
    has = f"all {noun}" if len(values) == samples else f"{percent(len(values) / samples)} of the {noun}"
    unit = f" {measure.unit}" if measure.unit and " " not in measure.unit else ""
    return f"{has}; median {middle}{unit}, 90 % from {low} to {high}{unit}"
