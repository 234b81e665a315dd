"""`--against B`: a corpus beside another one, or beside a folder of real degraded recordings."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from manifests.corpus import SAMPLES_FILE, is_corpus, read_manifest
from manifests.errors import UserError
from manifests.store import open_store
from pipelines.report.charts import key
from pipelines.report.differences import EXPLAINED, Difference, differences_table
from pipelines.report.distributions import figure_of, in_words
from pipelines.report.markup import Html, join, tag
from pipelines.report.page import facts
from pipelines.report.recordings import MEASURED, MOST_MEASURED, measure_clips, measure_recordings, spread
from pipelines.report.sample_reader import SampleReader
from pipelines.report.scales import Values, count, figure, percent
from pipelines.report.summary import MEASURES, SEVERITIES, Measure, Summary, read_summary

MENTIONED = 0.02
"""Difference of the shares of samples that have a value."""
FEW = 20
"""Recordings: fewer than this say little about a distribution."""


@dataclass(frozen=True)
class Compared:
    """What a comparison adds to a page."""

    lead: str
    body: Html
    summary: Summary | None
    """Of another corpus; None for recordings."""


def compare(summary: Summary, reader: SampleReader, against: str, say: Callable[[str], None]) -> Compared:
    """Compare a corpus, A, with B.

    Args:
        summary: of A.
        reader: of A's samples.
        against: folder or URI of B, a corpus or recordings.
        say: told of recordings that cannot be read.

    Raises:
        UserError: when B is neither, or damaged.
    """
    if is_corpus(against):
        return _with_corpus(summary, against)
    return _with_recordings(summary, reader, against, say)


def _with_corpus(summary: Summary, against: str) -> Compared:
    store = open_store(against)
    manifest = read_manifest(store)
    try:
        with store.local_copy(SAMPLES_FILE) as path:
            other = read_summary(path)
    except FileNotFoundError as error:
        raise UserError(f"{store.where(SAMPLES_FILE)}: missing") from error
    pairs = [(m, summary.values(m), other.values(m)) for m in (*MEASURES, *SEVERITIES)]
    differences = [Difference(m, a, b) for m, a, b in pairs if len(a) and len(b)]
    talkers = {talker.name for talker in summary.talkers}
    shared = talkers & {talker.name for talker in other.talkers}
    identity: list[tuple[str, object]] = [
        ("B", join(manifest.recipe, tag("code", f" {manifest.id}"))),
        ("Size of B", f"{figure(manifest.hours)} h, {count(other.samples)} samples"),
        ("Speakers", f"{count(len(shared))} of the {count(len(talkers))} names in A are in B as well"),
    ]
    lead = "B is another corpus; its distributions are drawn as lines over those of this one, A, and its stages below."
    rarer = list(_rarer(pairs, summary.samples, other.samples))
    body = join(
        facts(identity),
        differences_table(differences),
        tag("p", EXPLAINED, class_="note"),
        tag("ul", [tag("li", sentence) for sentence in rarer]) if rarer else None,
    )
    return Compared(lead, body, other)


def _rarer(pairs: list[tuple[Measure, Values, Values]], a_samples: int, b_samples: int) -> Iterator[str]:
    """Say of which measures more samples of A than of B have a value, or the other way round."""
    for measure, a, b in pairs:
        here, there = len(a) / max(a_samples, 1), len(b) / max(b_samples, 1)
        if abs(here - there) > MENTIONED:
            yield f"{measure.title}: {percent(here)} of A's samples have any, {percent(there)} of B's"


def _with_recordings(
    summary: Summary, reader: SampleReader, against: str, say: Callable[[str], None]
) -> Compared:
    there, measured, found = measure_recordings(against, say)
    rows = spread(summary.samples, MOST_MEASURED)
    here = measure_clips((reader.read_degraded(row) for row in rows), len(rows))
    differences, charts = [], []
    for measure in MEASURED:
        a, b = here[measure.column], there[measure.column]
        if not len(a) or not len(b):
            continue
        differences.append(Difference(measure, a, b))
        said = f"A: {in_words(measure, a, len(rows), 'clips')}; B: {in_words(measure, b, measured, 'recordings')}"
        charts.append(figure_of(measure, [a, b], said))
    of = f"{count(measured)} recordings" + (f" of {count(found)}" if found > measured else "")
    care = f" {of} say little about a distribution: read this with care." if measured < FEW else ""
    lead = (
        f"B are real recordings: {of}, measured as {count(len(rows))} degraded clips of this corpus, A, were, "
        f"spread evenly over it. What is common in B and rare in A, the recipe does not teach.{care}"
    )
    body = join(
        differences_table(differences),
        tag("p", EXPLAINED, class_="note"),
        key(("a", f"A: {count(len(rows))} degraded clips"), ("line-b", f"B: {of}")),
        tag("div", charts, class_="grid"),
    )
    return Compared(lead, body, None)
