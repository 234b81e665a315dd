"""Systems compared sample by sample: a row a pair, a column a score, the verdict in colour and in a sign."""

from collections.abc import Iterator, Sequence

from pipelines.evaluation.records import Compared, Comparison, EvaluationRecords
from pipelines.quality.scores import DEGRADED, Column
from pipelines.report.markup import Html, tag
from pipelines.report.page import table

PAIRS = (
    "Differences are taken sample by sample, with 95 % intervals; where zero is best, of the distances from zero. "
    "▲ better, ▼ worse; without a sign, a difference is not shown, or the samples are too few. p is not corrected for "
    "the number of comparisons."
)
SIGNS = {"better": ("good", " ▲"), "worse": ("bad", " ▼")}


def comparisons(found: EvaluationRecords, judged: Sequence[Column]) -> list[Html]:
    """Return what each system does to its input, and, folded up, the systems among themselves and all numbers.

    Args:
        found: of an evaluation.
        judged: scores of which some values are better than others.
    """
    to_input = [pair for pair in found.comparisons if pair.against == DEGRADED]
    others = [pair for pair in found.comparisons if pair.against != DEGRADED]
    first, rest = (to_input, others) if to_input else (others, [])
    rows = [
        [f"{pair.system} – {pair.against}", column.heading, *_numbers(pair.scores[column.name], column)]
        for pair in found.comparisons
        for column in judged
        if column.name in pair.scores
    ]
    head = ("systems", "score", "difference", "95 % interval", "better on", "p", "n", "verdict")
    numbers = table(head, rows, range(2, 7), "Differences of systems in numbers")
    return [
        tag("h3", "Compared"),
        _pairs(first, judged, "What each system does to its input"),
        tag("p", PAIRS, class_="note"),
        *(
            [
                tag(
                    "details",
                    tag("summary", f"The systems among themselves: {len(rest)} pairs"),
                    _pairs(rest, judged, "The systems among themselves"),
                )
            ]
            if rest
            else []
        ),
        tag("details", tag("summary", f"All {len(rows)} comparisons in numbers"), numbers),
    ]


def _pairs(pairs: Sequence[Comparison], judged: Sequence[Column], label: str) -> Html:
    rows = [
        [
            f"{pair.system} – {pair.against}",
            *(_difference(pair.scores.get(column.name), column) for column in judged),
        ]
        for pair in pairs
    ]
    return table(("systems", *(column.heading for column in judged)), rows, range(1, len(judged) + 1), label)


def _difference(entry: Compared | None, column: Column) -> object:
    if entry is None or entry.mean is None:
        return "–"
    style, sign = SIGNS.get(entry.verdict, (None, ""))
    return [
        tag("span", f"{entry.mean:+.{column.digits}f}{sign}", class_=style),
        tag("small", _interval(entry, column)),
    ]


def _interval(entry: Compared, column: Column) -> str:
    digits = column.digits
    if entry.low is None or entry.high is None:
        return "–"
    return f"{entry.low:+.{digits}f} to {entry.high:+.{digits}f}"


def _numbers(entry: Compared, column: Column) -> Iterator[object]:
    yield "–" if entry.mean is None else f"{entry.mean:+.{column.digits}f}"
    yield _interval(entry, column)
    yield "–" if entry.better is None else f"{100 * entry.better:.0f} %"
    yield "–" if entry.p is None else f"{entry.p:.3f}"
    yield entry.n
    yield tag("span", entry.verdict, class_={"better": "good", "worse": "bad"}.get(entry.verdict))
