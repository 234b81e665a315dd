"""`ssiforge generate`: a recipe and a catalogue become a corpus.

The driver decides what is missing before any worker starts, hands out shards, and writes `corpus.json` last.
Whatever interrupts it, running the same command again goes on from the committed shards. The driver draws no sample and
holds no plan: a task is a few numbers and a digest, drawn out into specs where it is rendered.
"""

import math
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from datagen.degradations import bind
from datagen.environment import code_version
from datagen.plan import samples_of_splits
from datagen.shard import corpus_plan_digest
from manifests.catalogue import Catalogue, read_catalogue
from manifests.corpus import CorpusManifest
from manifests.documents import check, load_document, with_overrides
from manifests.errors import JobError, JobInterrupted, UserError
from manifests.interrupts import interruptible
from manifests.licence_names import AllowedLicences
from manifests.recipe import Limits, Recipe
from manifests.store import Place, Store, absolute, is_remote, open_store
from pipelines.corpus.companions import remove_companions, write_companions
from pipelines.corpus.folder import begin, corpus_folder, planned, with_withdrawn
from pipelines.corpus.ledger import Ledger
from pipelines.corpus.manifest import Run, finish, held_manifest, is_up_to_date
from pipelines.corpus.openlineage import catalogue_inputs, generate_job, told
from pipelines.corpus.outstanding import Shards, asked_of, finished_shards
from pipelines.corpus.shard_result import Lost, recalled
from pipelines.executors import Executor, Job
from pipelines.generation.checks import asked_shares, check_files, check_material
from pipelines.generation.licence_choice import of_allowed_licences
from pipelines.generation.progress import Progress, ProgressView, State, write_progress
from pipelines.generation.worker import RenderJob
from pipelines.openlineage.events import corpus_name
from pipelines.rooms.bank import copied_into, simulated_rooms, with_rooms

FEWEST_DRAWS_TO_JUDGE = 50
"""The share of failed draws is compared with the recipe's limit from this many draws on."""
_SHARD_FILE = re.compile(r"(^|/)shard-[^/]*\.(tar|json)$")


@dataclass(frozen=True)
class Generated:
    """What a run of `generate` did."""

    manifest: CorpusManifest
    rendered_shards: int
    kept_shards: int
    seconds: float


def generate(
    recipe_reference: str,
    sources: Place,
    out: Place,
    executor: Executor,
    samples: int | None = None,
    hours: float | None = None,
    seed: int = 0,
    overrides: tuple[str, ...] = (),
    cache: Path | None = None,
    say: Callable[[str], None] = lambda line: None,
    allow_licences: Sequence[str] = (),
) -> Generated:
    """Generate a corpus, finish one that was begun with the same arguments, or make one larger.

    Args:
        recipe_reference: a shipped recipe's name, or the path of a YAML file.
        sources: the catalogue written by `ssiforge scan`, a path or URI.
        out: folder or URI of the corpus; made when missing.
        executor: where shards are rendered.
        samples: number of samples; give either this or `hours`.
        hours: length of the corpus.
        seed: seed of every draw.
        overrides: `field=value` settings that replace fields of the recipe.
        cache: folder for simulated rooms; the user's cache folder by default.
        say: receives lines for people.
        allow_licences: names and patterns of licences, separated by commas; other sources are not drawn.

    Raises:
        UserError: for a mistake in the arguments, the recipe or the catalogue.
        JobError: when rendering fails beyond the recipe's limits.
        JobInterrupted: when it was asked to stop.
    """
    began = time.monotonic()
    document = with_overrides(load_document(recipe_reference, "recipes"), overrides)
    bound = bind(check(Recipe, document.content, document), document)
    recipe = bound.recipe
    counts = samples_of_splits(recipe, _total_samples(recipe, samples, hours))
    allowed = AllowedLicences.parse(allow_licences)
    given = catalogue_at(sources)
    with corpus_folder(out) as store:
        plan = planned(store, bound, counts, seed, allowed.names if allowed else None)
        check_files(given, sources, frozenset(plan.withdrawn))
        rooms = simulated_rooms(bound, cache, say)
        if store.folder is None or not executor.shares_disk:
            rooms = copied_into(store, rooms, say)
        catalogue = with_withdrawn(with_rooms(given, rooms), store, plan.withdrawn)
        if allowed is not None:
            catalogue = of_allowed_licences(catalogue, allowed, say)
        unavailable = check_material(bound, catalogue, plan.counts)
        for label, splits in unavailable.items():
            say(f"stage {label}: nothing to draw from in split {', '.join(splits)}; left out there")
        begin(store, bound, catalogue, plan)
        digest = corpus_plan_digest(bound.digest, catalogue.as_drawn.digest, seed)
        shards = Shards(plan.steps, recipe.output.samples_per_shard, digest)
        kept = finished_shards(store, shards)
        if kept:
            say(f"{len(kept)} of {len(shards)} shards are there already")
        held = held_manifest(store)
        if held is not None and len(kept) == len(shards) and is_up_to_date(held, store, shards):
            write_companions(store, held)
            return Generated(held, 0, len(kept), time.monotonic() - began)
        inputs = catalogue_inputs(catalogue, catalogue.digest)
        name = corpus_name(recipe.name, bound.digest, catalogue.digest, seed, code_version())
        with told(store, generate_job(recipe.name), inputs, name), Ledger() as ledger:
            old = (task for task in shards if task in kept)
            for report in asked_of(store, lambda task: recalled(task, store), old):
                ledger.add(report)
            progress = Progress(sum(plan.counts.values()), recipe.seconds, len(shards), ledger)
            job = RenderJob(absolute(out), seed)
            lost = render_missing(executor, job, shards, ledger, progress, store, recipe.limits, say)
            asked = asked_shares(bound, plan.counts, unavailable)
            run = Run(progress.elapsed_s, progress.stage_seconds, progress.samples_done)
            remove_companions(store)
            manifest = finish(store, bound, catalogue, seed, shards, asked, ledger, lost, run, plan.replaces)
            write_companions(store, manifest)
    return Generated(manifest, progress.shards_done, len(kept), time.monotonic() - began)


def _total_samples(recipe: Recipe, samples: int | None, hours: float | None) -> int:
    if (samples is None) == (hours is None):
        raise UserError("give either --hours or --samples")
    if samples is not None:
        if samples < 1:
            raise UserError("--samples must be at least 1")
        return samples
    assert hours is not None
    if not (math.isfinite(hours) and hours > 0.0):
        raise UserError("--hours must be above 0")
    return math.ceil(round(hours * 3600.0 / recipe.seconds, 6))


def catalogue_at(place: Place) -> Catalogue:
    """Read a catalogue, from wherever it lies.

    Raises:
        UserError: when there is none, or it holds no usable source.
    """
    catalogue = _read_catalogue(place)
    if not catalogue.usable:
        raise UserError(f"{place}: holds no usable source")
    return catalogue


def _read_catalogue(place: Place) -> Catalogue:
    if not is_remote(place):
        return read_catalogue(Path(str(place).removeprefix("file://")))
    folder, _, name = str(place).rpartition("/")
    try:
        with open_store(folder).local_copy(name) as path:
            return read_catalogue(path)
    except FileNotFoundError as error:
        raise UserError(f"{place}: no such catalogue; make one with 'ssiforge scan'") from error
    except OSError as error:
        raise UserError(f"{place}: cannot be read ({error.strerror or error})") from error


# --- rendering ------------------------------------------------------------------------------------


def render_missing(
    executor: Executor,
    job: Job,
    shards: Shards,
    ledger: Ledger,
    progress: Progress,
    store: Store,
    limits: Limits,
    say: Callable[[str], None],
) -> list[Lost]:
    """Render what the ledger lacks, and enter it there; return the shards that were given up."""
    lost: list[Lost] = []
    state: State = "failed"
    try:
        with interruptible(say) as interrupts, ProgressView(progress, store):
            missing = interrupts.until_stopped(shards.by_cost(without=ledger.finished))
            for outcome in executor.run(job, missing):
                progress.count(outcome)
                if isinstance(outcome, Lost):
                    lost.append(outcome)
                    say(f"{outcome.task.tar_name}: given up after {outcome.tries} tries: {outcome.reason}")
                else:
                    ledger.add(outcome)
                _judge(progress, lost, limits)
        if len(ledger) + len(lost) < progress.shards:
            state = "interrupted"
            raise JobInterrupted(
                f"interrupted; {len(ledger)} of {progress.shards} shards are finished, "
                "run the same command again to go on"
            )
        state = "finished"
    except KeyboardInterrupt:
        state = "interrupted"
        raise
    finally:
        write_progress(progress, store, state)
    return lost


def _judge(progress: Progress, lost: list[Lost], limits: Limits) -> None:
    """Stop a job that loses more than its recipe allows.

    Raises:
        JobError: naming the most frequent reason.
    """
    failed = progress.failures.total()
    drawn = progress.samples_done + failed
    if drawn >= FEWEST_DRAWS_TO_JUDGE and failed > limits.max_failed_share * drawn:
        worst, count = progress.failures.most_common(1)[0]
        raise JobError(
            f"{failed} of {drawn} draws failed, more than limits.max_failed_share="
            f"{limits.max_failed_share:g}; most often: {worst} ({count} times)"
        )
    samples = sum(one.task.count for one in lost)
    if samples > limits.max_failed_share * progress.samples:
        last = lost[-1]
        raise JobError(
            f"{len(lost)} shards were given up, {samples} of {progress.samples} samples, more than "
            f"limits.max_failed_share={limits.max_failed_share:g}; the last, {last.task.split}/{last.task.name}: "
            f"{last.reason}"
        )


def fingerprint(place: Place) -> dict[str, str]:
    """SHA-256 of every shard and record of a corpus, by its name: equal fingerprints, equal corpora."""
    store = open_store(place)
    names = sorted(name for name in store.names() if _SHARD_FILE.search(name))
    return {name: store.sha256(name) for name in names}
