"""`ssiforge report CORPUS`: the page of a corpus. The same corpus gives the same bytes."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from datagen.degradations import stage_class
from manifests.corpus import SAMPLES_FILE, SOURCES_FILE, CorpusManifest, read_manifest
from manifests.errors import UserError
from manifests.store import Store, open_store
from pipelines.corpus.reading import told_of
from pipelines.report.against import compare
from pipelines.report.choice import chosen_samples
from pipelines.report.corpus_sections import (
    at_a_glance,
    cost,
    distributions,
    failures,
    licences,
    splits_and_speakers,
)
from pipelines.report.material import read_kinds, read_names, read_recipe, read_refusals
from pipelines.report.page import Section, page
from pipelines.report.recipe_choices import draws_of
from pipelines.report.sample_reader import SampleReader
from pipelines.report.samples import samples_section
from pipelines.report.scales import count, figure
from pipelines.report.stage_sections import drawn_and_delivered, stages_together
from pipelines.report.summary import Summary, read_summary
from pipelines.report.writing import check_place, store_page, write_page

REPORT_FILE = "report/index.html"


def write_report(
    place: str, out: Path | None, against: str | None, samples: int, say: Callable[[str], None]
) -> tuple[str, int]:
    """Write the page of a corpus; return where it is, and its size in bytes.

    Args:
        place: folder or URI of the corpus.
        out: folder to write to; None for the corpus itself.
        against: another corpus, or a folder of real recordings.
        samples: how many to show, at most.
        say: receives lines for people.

    Raises:
        UserError: when there is no corpus, its tables are missing or damaged, or the page cannot be written.
        JobError: when the disk is full.
    """
    store = open_store(place)
    hint = "" if out is not None else "; choose another place with --out"
    folder = out if out is not None else store.folder and store.folder / Path(REPORT_FILE).parent
    if folder is not None:
        check_place(folder, hint)
    content = corpus_page(store, against, samples, say)
    if out is None:
        store_page(store, REPORT_FILE, content, hint)
        return store.where(REPORT_FILE), len(content)
    file = out / Path(REPORT_FILE).name
    write_page(file, content)
    return str(file), len(content)


def corpus_page(store: Store, against: str | None, samples: int, say: Callable[[str], None]) -> bytes:
    """Return the page of a corpus; arguments as of `write_report`.

    Raises:
        UserError: likewise.
    """
    manifest = read_manifest(store)
    for name in (SAMPLES_FILE, SOURCES_FILE):
        if store.size(name) is None:
            raise UserError(
                f"{store.where(name)}: missing; run the 'ssiforge generate' that made the corpus again"
            )
    with store.local_copy(SAMPLES_FILE) as table:
        with told_of(store, SAMPLES_FILE):
            summary = read_summary(table, manifest.tolerances)
        reader = SampleReader(store, manifest, table)
        recipe = read_recipe(store)
        compared = compare(summary, manifest, recipe, reader, against, say) if against is not None else None
        shown = [reader.read(row) for row in chosen_samples(summary, samples)]
    other = compared.summary if compared else None
    names = read_names(store, (source.sha256 for sample in shown for source in sample.record.sources))
    sections = [
        Section("glance", "At a glance", at_a_glance(manifest, summary, read_kinds(store), recipe)),
        *([Section("against", compared.title, compared.body, compared.lead)] if compared else []),
        Section(
            "distributions",
            "Distributions",
            distributions(summary, other),
            "What was measured on all samples after they were rendered.",
        ),
        Section(
            "stages",
            "Drawn and delivered",
            drawn_and_delivered(manifest, summary, _axes(manifest, summary, other), other),
        ),
        Section("together", "Stages together", stages_together(summary, draws_of(recipe))),
        Section("splits", "Splits and speakers", splits_and_speakers(manifest, summary)),
        Section(
            "licences",
            "Licences",
            licences(manifest),
            "Samples that hold material under each.",
        ),
        Section("failures", "Failures", failures(manifest, read_refusals(store))),
        Section("cost", "Cost", cost(manifest, summary)),
        Section(
            "samples",
            "Samples",
            samples_section(shown, names),
            f"{len(shown)} of {count(summary.samples)}, chosen to show every stage, and light, medium and strong "
            "degradation on each axis.",
        ),
    ]
    return page(f"Corpus {manifest.recipe}", _lead(manifest), sections)


def _lead(manifest: CorpusManifest) -> str:
    splits = ", ".join(f"{count(number)} in {split}" for split, number in manifest.samples.items())
    rate = f"{manifest.sample_rate_hz / 1000:g} kHz"
    return f"{figure(manifest.hours)} hours of degraded speech with its target at {rate}; samples: {splits}."


def _axes(manifest: CorpusManifest, summary: Summary, other: Summary | None) -> dict[str, str]:
    """Return the axis of the stage of each label, also of those that never fired, unless it is not installed."""
    axes: dict[str, str] = {}
    for label in {*manifest.stages, *summary.labels, *(other.labels if other else ())}:
        with suppress(UserError):
            axes[label] = stage_class(label.partition("#")[0]).axis or "none"
    return axes
