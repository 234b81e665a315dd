"""`--against B`: a corpus beside another one, or beside a folder of real degraded recordings."""

import difflib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from manifests.corpus import SAMPLES_FILE, CorpusManifest, is_corpus, read_manifest
from manifests.store import open_store
from pipelines.corpus.reading import table_of
from pipelines.report.against_recordings import with_recordings
from pipelines.report.differences import EXPLAINED, Difference, differences_table
from pipelines.report.markup import Html, join, tag
from pipelines.report.material import read_recipe
from pipelines.report.page import facts
from pipelines.report.sample_reader import SampleReader
from pipelines.report.scales import Values, count, figure, percent
from pipelines.report.summary import MEASURES, SEVERITIES, Measure, Summary, read_summary
from pipelines.report.words import stage_title

MENTIONED = 0.02
"""Difference of the shares of samples that have a value: a smaller one is of no interest, however sure."""
SURELY = 3.0
"""Standard deviations: how far two shares must lie apart to be named."""
MOST_LINES = 400
"""Of a difference between two recipes."""


@dataclass(frozen=True)
class Compared:
    """What a comparison adds to a page."""

    title: str
    lead: str
    body: Html
    summary: Summary | None
    """Of another corpus; None for recordings."""


def compare(
    summary: Summary,
    manifest: CorpusManifest,
    recipe: str,
    reader: SampleReader,
    against: str,
    say: Callable[[str], None],
) -> Compared:
    """Compare a corpus, A, with B.

    Args:
        summary: of A.
        manifest: of A.
        recipe: of A, as text.
        reader: of A's samples.
        against: folder or URI of B, a corpus or recordings.
        say: told of recordings that cannot be read.

    Raises:
        UserError: when B is neither, or damaged.
    """
    if is_corpus(against):
        return _with_corpus(summary, manifest, recipe, against)
    lead, body = with_recordings(summary.samples, reader, against, say)
    return Compared("Against recordings", lead, body, None)


def _with_corpus(summary: Summary, ours: CorpusManifest, recipe: str, against: str) -> Compared:
    store = open_store(against)
    manifest = read_manifest(store)
    with table_of(store, SAMPLES_FILE) as path:
        other = read_summary(path)
    pairs = [(m, summary.values(m), other.values(m)) for m in (*MEASURES, *SEVERITIES)]
    differences = [Difference(m, a, b) for m, a, b in pairs if len(a) and len(b)]
    talkers = {talker.name for talker in summary.talkers}
    shared = talkers & {talker.name for talker in other.talkers}
    identity: list[tuple[str, object]] = [
        ("B", join(manifest.recipe, tag("code", f" {manifest.id}"))),
        ("Size of B", f"{figure(manifest.hours)} h, {count(other.samples)} samples"),
        ("Recipe", "the same" if manifest.recipe_digest == ours.recipe_digest else "another"),
        ("Sources", "the same" if manifest.catalogue_digest == ours.catalogue_digest else "others"),
        ("Seed", "the same" if manifest.seed == ours.seed else f"{manifest.seed} instead of {ours.seed}"),
        ("Speakers", f"{count(len(shared))} of the {count(len(talkers))} names in A are in B as well"),
    ]
    lead = "B is another corpus; its distributions are drawn as lines over those of this one, A, and its stages below."
    told = [*_stages(summary, other), *_rarer(pairs, summary.samples, other.samples)]
    body = join(
        facts(identity),
        tag("h3", "How often"),
        tag("ul", [tag("li", sentence) for sentence in told])
        if told
        else tag(
            "p", "Every stage and every measure is as frequent in B as in A, within what chance explains."
        ),
        tag("h3", "How much, where there is any"),
        differences_table(differences),
        tag("p", EXPLAINED, class_="note"),
        _recipes(recipe, read_recipe(store)),
    )
    return Compared("Against B", lead, body, other)


def _stages(summary: Summary, other: Summary) -> Iterator[str]:
    """Say which stages are in another share of B's samples than chance explains, the largest difference first."""
    here, there = (
        dict(zip(held.labels, held.fired.mean(axis=0).tolist(), strict=True)) if held.samples else {}
        for held in (summary, other)
    )
    apart = []
    for label in dict.fromkeys([*here, *there]):
        a, b = here.get(label, 0.0), there.get(label, 0.0)
        if _surely_apart(a, b, summary.samples, other.samples):
            apart.append(
                (abs(a - b), f"{stage_title(label)}: in {percent(a)} of A's samples, {percent(b)} of B's")
            )
    yield from (sentence for _, sentence in sorted(apart, key=lambda item: (-item[0], item[1])))


def _surely_apart(a: float, b: float, a_samples: int, b_samples: int) -> bool:
    """Whether two shares of samples differ by more than chance explains (a two-proportion z-test)."""
    a_samples, b_samples = max(a_samples, 1), max(b_samples, 1)
    both = (a * a_samples + b * b_samples) / (a_samples + b_samples)
    chance = math.sqrt(both * (1.0 - both) * (1.0 / a_samples + 1.0 / b_samples))
    return abs(a - b) > SURELY * chance


def _recipes(ours: str, theirs: str) -> Html | None:
    """Return what differs between two recipes, line by line."""
    if not ours or not theirs or ours == theirs:
        return None
    lines = list(difflib.unified_diff(ours.splitlines(), theirs.splitlines(), "A", "B", n=2, lineterm=""))[2:]
    if not lines:
        return None
    kinds = {"+": "added", "-": "removed"}
    told = [tag("span", f"{line}\n", class_=kinds.get(line[:1])) for line in lines[:MOST_LINES]]
    more = f"… and {count(len(lines) - MOST_LINES)} lines more" if len(lines) > MOST_LINES else None
    return tag(
        "details",
        tag("summary", f"What differs in the recipes: − A, + B, {count(len(lines))} lines"),
        tag("pre", told, more, tabindex=0),
    )


def _rarer(pairs: list[tuple[Measure, Values, Values]], a_samples: int, b_samples: int) -> Iterator[str]:
    """Say of which measures more samples of A than of B have a value, or the other way round."""
    for measure, a, b in pairs:
        here, there = len(a) / max(a_samples, 1), len(b) / max(b_samples, 1)
        if abs(here - there) > MENTIONED and _surely_apart(here, there, a_samples, b_samples):
            yield f"{measure.title}: {percent(here)} of A's samples have any, {percent(there)} of B's"
