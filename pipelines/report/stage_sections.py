"""What a page says of the stages of a corpus: how often each fired, what it promised, and which are together."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from manifests.corpus import CorpusManifest
from pipelines.report.charts import bar, key, matrix, shades, spans
from pipelines.report.markup import Html, join, tag
from pipelines.report.page import table
from pipelines.report.recipe_choices import ONE_BY_ONE, Draws
from pipelines.report.scales import Values, count, percent
from pipelines.report.summary import Promise, Summary
from pipelines.report.words import in_span, in_units, stage_title, value_title

SURELY_OFF = 4.0
"""Standard deviations: of a hundred shares, chance alone puts one this far off once in a hundred and fifty corpora."""
SURELY_TOGETHER = 5.0
"""Likewise, for the hundreds of pairs of stages."""


def drawn_and_delivered(
    manifest: CorpusManifest, summary: Summary, axes: Mapping[str, str], other: Summary | None
) -> Html:
    """Return for each stage how often it was asked for and drawn, and whether it delivered what it promised.

    Args:
        manifest: of the corpus.
        summary: of the corpus.
        axes: axis of P.804 of each label.
        other: a corpus to compare with.
    """
    total = sum(manifest.samples.values())
    here = {label: float(share) for label, share in zip(summary.labels, _shares(summary), strict=True)}
    there = dict(zip(other.labels, _shares(other), strict=True)) if other else {}
    checked, out = _promises(manifest)
    rows = []
    labels = [*manifest.stages, *(label for label in (*here, *there) if label not in manifest.stages)]
    for label in dict.fromkeys(labels):
        asked = manifest.stages.get(label, {}).get("asked")
        drawn, second = here.get(label, 0.0), there.get(label, 0.0) if other else None
        off = asked is not None and abs(drawn - asked) > SURELY_OFF * _deviation(asked, total)
        rows.append(
            (
                stage_title(label),
                axes.get(label, "–"),
                percent(asked) if asked is not None else "–",
                tag("span", percent(drawn), " ", "≠" if off else "", class_="bad" if off else None),
                *([percent(float(second))] if second is not None else []),
                bar(drawn, mark=asked, second=None if second is None else float(second)),
                count(checked[label]) if checked[label] else "–",
                tag("span", count(out[label]), class_="bad")
                if out[label]
                else ("0" if checked[label] else "–"),
            )
        )
    columns = ["stage", "axis", "asked", "drawn", *(["drawn in B"] if other else []), "", "checked", "out"]
    numbers = [n for n, name in enumerate(columns) if name not in ("stage", "axis", "")]
    swatches = [("a", "drawn, share of the samples"), ("mark", "asked for by the recipe")]
    if other:
        swatches.insert(1, ("b", "drawn in B"))
    return join(
        key(*swatches),
        table(
            columns, rows, numbers, "Asked and drawn share of each stage, and promised values checked and out"
        ),
        tag(
            "p",
            "Checked: values that stages promise to deliver within a tolerance (an SNR, a cut-off, a loss rate), "
            "compared with what was measured; out: how many were out of it. ≠ marks a drawn share that lies further "
            f"from the asked one than chance explains ({SURELY_OFF:g} standard deviations).",
            class_="note",
        ),
        _promised_values(manifest, summary),
    )


def _shares(summary: Summary) -> Sequence[float]:
    shares: list[float] = summary.fired.mean(axis=0).tolist() if summary.samples else []
    return shares


def _deviation(share: float, samples: int) -> float:
    """Return the standard deviation of a drawn share, one sample's weight at least."""
    return max(math.sqrt(max(share * (1.0 - share), 0.0) / max(samples, 1)), 1.0 / max(samples, 1))


def _promises(manifest: CorpusManifest) -> tuple[Counter[str], Counter[str]]:
    checked: Counter[str] = Counter()
    out: Counter[str] = Counter()
    for name, counts in manifest.tolerances.items():
        label = name.rpartition(".")[0]
        checked[label] += counts.get("checked", 0)
        out[label] += counts.get("out", 0)
    return checked, out


def _promised_values(manifest: CorpusManifest, summary: Summary) -> Html | None:
    """Return each promised value: what was drawn beside what was delivered, and how far they are apart."""
    if not manifest.tolerances:
        return None
    known = {f"{one.label}.{one.name}": one for one in summary.promises}
    rows = []
    for name, counts in manifest.tolerances.items():
        label, _, value = name.rpartition(".")
        missed = counts.get("out", 0)
        rows.append(
            (
                stage_title(label),
                value_title(value),
                *_pair(known.get(name)),
                count(counts.get("checked", 0)),
                tag("span", count(missed), class_="bad") if missed else "0",
            )
        )
    head = (
        "stage",
        "value",
        "drawn: median (90 %)",
        "delivered: median (90 %)",
        "",
        "apart, 95 %",
        "checked",
        "out",
    )
    return join(
        tag("h3", "Each value, as drawn and as delivered"),
        key(("a", "drawn, 5 to 95 %, and the median"), ("c", "delivered: measured on the same samples")),
        table(head, rows, (2, 3, 5, 6, 7), "Each promised value, as drawn and as delivered"),
        tag(
            "p",
            "Apart: drawn and delivered differ by no more than this in 95 % of the samples. Some values are limits, as "
            "a codec's audio band: the speech may have less.",
            class_="note",
        ),
    )


def _pair(promise: Promise | None) -> tuple[object, ...]:
    if promise is None:
        return ("–", "–", "", "–")
    drawn, delivered = (in_span(promise.name, span) for span in (promise.drawn, promise.delivered))
    return (
        drawn,
        delivered,
        spans(((promise.drawn, "a"), (promise.delivered, "c"))),
        in_units(promise.name.replace("dbfs", "db"), promise.off),
    )


def stages_together(summary: Summary, draws: Draws = ONE_BY_ONE) -> Html:
    """Return how often each two stages are in one sample.

    Args:
        summary: of the corpus.
        draws: by its recipe: no pair of alternatives is unexpected.
    """
    names = [stage_title(label) for label in summary.labels]
    shares = summary.together()
    chart = matrix(
        names, shares, "Which stages are in one sample; the table of stages gives their shares in numbers"
    )
    chosen = np.array(
        [[any({a, b} <= choice for choice in draws.choices) for b in summary.labels] for a in summary.labels],
        bool,
    )
    sentences = list(_unexpected(names, shares, summary.samples, chosen, draws.undistorted))
    return join(
        shades("never together", "always together"),
        tag(
            "div",
            chart,
            class_="scrolling matrix",
            role="region",
            aria_label="Stages in one sample",
            tabindex=0,
        ),
        tag(
            "p",
            "Rows: of the samples with this stage, the share that has the column's stage as well; the diagonal: "
            "of all samples. Columns of one shade throughout are drawn independently of the rows. Of the alternatives "
            "of one choice in the recipe a sample has one, or as many as its how_many says.",
            class_="note",
        ),
        tag("ul", [tag("li", sentence) for sentence in sentences]) if sentences else None,
    )


def _unexpected(
    names: Sequence[str],
    shares: Values,
    samples: int,
    chosen: NDArray[np.bool_],
    undistorted: float,
    most: int = 6,
) -> Iterator[str]:
    """Name pairs that are together far more, or less, often than independent draws would be; none of one choice."""
    if not names:
        return
    alone = np.diag(shares)
    expected = np.outer(alone, alone) * samples
    # Stages that not every sample has are drawn for the distorted samples alone.
    at_times = alone < 1.0 - undistorted / 2.0
    if undistorted < 1.0:
        expected[np.ix_(at_times, at_times)] /= 1.0 - undistorted
    together = shares * alone[:, None] * samples
    distance = (together - expected) / np.sqrt(np.maximum(expected, 1.0))
    distance[np.tril_indices(len(names))] = 0.0
    distance[chosen] = 0.0
    ranked = np.argsort(-np.abs(distance), axis=None, kind="stable")[:most]
    for row, column in zip(*np.unravel_index(ranked, distance.shape), strict=True):
        if abs(distance[row, column]) < SURELY_TOGETHER:
            return
        often = "more" if distance[row, column] > 0 else "less"
        there, due = (count(round(held[row, column])) for held in (together, expected))
        yield (
            f"{names[row]} and {names[column]} are together {often} often than independent draws: in {there} samples, "
            f"where {due} would be expected"
        )
