"""`ssiforge generate`: a recipe and a catalogue become a corpus.

The driver decides what is missing before any worker starts, hands out shards, and writes `corpus.json` last.
Whatever interrupts it, running the same command again goes on from the committed shards.
"""

import math
import re
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from datagen.degradations import BoundRecipe, bind, stage_class
from datagen.degradations.base import NoMaterial, Scene
from datagen.environment import code_version, environment
from datagen.file_identity import is_as_scanned
from datagen.plan import is_excluded, material, samples_of_splits
from datagen.shard import ShardTask, corpus_plan_digest, finished, shard_tasks
from manifests.canonical import canonical_json, file_sha256
from manifests.catalogue import Catalogue, read_catalogue
from manifests.corpus import (
    CORPUS_FILE,
    QUARANTINE_FILE,
    SAMPLES_FILE,
    TABLES,
    CorpusManifest,
    Failure,
    ShardRecord,
    changed_files,
    corpus_id,
    read_manifest,
)
from manifests.documents import check, load_document, with_overrides
from manifests.errors import JobError, UserError
from manifests.files import write_atomically
from manifests.keyed import generator
from manifests.recipe import SAMPLE_RATE_HZ, Recipe, Split
from manifests.sample import SampleRecord
from pipelines.corpus_folder import begin, check_place, corpus_folder
from pipelines.executors import Executor
from pipelines.progress import JobProgress
from pipelines.room_bank import with_simulated_rooms
from pipelines.table import read_records, write_samples_table
from pipelines.worker import RenderJob

_PARTICULARS = re.compile(r"\b[0-9a-f]{12}\b|-?\d+(\.\d+)?")
"""Of the reason of a failure: the beginning of a source's hash, and numbers."""
FEWEST_DRAWS_TO_JUDGE = 50
"""The share of failed draws is compared with the recipe's limit from this many draws on."""


@dataclass(frozen=True)
class Generated:
    """What a run of `generate` did."""

    manifest: CorpusManifest
    rendered_shards: int
    kept_shards: int
    seconds: float


def generate(
    recipe_reference: str,
    sources: Path,
    out: Path,
    executor: Executor,
    samples: int | None = None,
    hours: float | None = None,
    seed: int = 0,
    overrides: tuple[str, ...] = (),
    cache: Path | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Generated:
    """Generate a corpus, or finish one that was begun with the same arguments.

    Args:
        recipe_reference: a shipped recipe's name, or the path of a YAML file.
        sources: the catalogue written by `ssiforge scan`.
        out: folder of the corpus; made when missing.
        executor: where shards are rendered.
        samples: number of samples; give either this or `hours`.
        hours: length of the corpus.
        seed: seed of every draw.
        overrides: `field=value` settings that replace fields of the recipe.
        cache: folder for simulated rooms; the user's cache folder by default.
        say: receives lines for people.

    Raises:
        UserError: for a mistake in the arguments, the recipe or the catalogue.
        JobError: when rendering fails beyond the recipe's limits.
    """
    began = time.monotonic()
    document = with_overrides(load_document(recipe_reference, "recipes"), overrides)
    bound = bind(check(Recipe, document.content, document), document)
    counts = samples_of_splits(bound.recipe, _total_samples(bound.recipe, samples, hours))
    given = read_catalogue(sources)
    if not given.usable:
        raise UserError(f"{sources}: holds no usable source")
    check_files(given, sources)
    with corpus_folder(out):
        check_place(out, bound, counts, seed)
        catalogue = with_simulated_rooms(given, bound, cache, say)
        unavailable = check_material(bound, catalogue, counts)
        for label, splits in unavailable.items():
            say(f"stage {label}: nothing to draw from in split {', '.join(splits)}; left out there")
        begin(out, bound, catalogue, counts, seed)
        plan = corpus_plan_digest(bound.digest, catalogue.digest, seed)
        tasks = list(shard_tasks(counts, bound.recipe.output.samples_per_shard, plan))
        missing = [task for task in tasks if finished(task, out) is None]
        kept = len(tasks) - len(missing)
        if kept:
            say(f"{kept} of {len(tasks)} shards are there already")
        if missing:
            _render(RenderJob(out.resolve(), seed), missing, executor, bound.recipe)
        records = [record for task in tasks if (record := finished(task, out)) is not None]
        if len(records) != len(tasks):
            raise JobError(f"{out}: {len(tasks) - len(records)} shards are missing after rendering")
        asked = asked_shares(bound, counts, unavailable)
        seconds = time.monotonic() - began
        manifest = _finish(out, bound, asked, catalogue, seed, records, seconds, bool(missing))
    return Generated(manifest, len(missing), kept, time.monotonic() - began)


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


# --- before anything is rendered ------------------------------------------------------------------

MOST_FILES_LOOKED_FOR = 2_000


def check_files(catalogue: Catalogue, path: Path) -> None:
    """Look whether the catalogue's files still are what was scanned: all, or an even spread of a large catalogue.

    Those that are not looked at, or change later, are noticed by whoever renders them.
    """
    step = max(1, len(catalogue.usable) // MOST_FILES_LOOKED_FOR)
    local = [source for source in catalogue.usable[::step] if "://" not in source.path]
    gone = [source.path for source in local if not Path(source.path).exists()]
    if gone:
        raise UserError(
            f"{path}: {gone[0]} is gone ({len(gone)} files in all); scan again, where the files are now"
        )
    changed = [source.path for source in local if not is_as_scanned(source)]
    if changed:
        raise UserError(
            f"{path}: {changed[0]} has changed since it was scanned ({len(changed)} files in all); scan again"
        )


def check_material(
    bound: BoundRecipe, catalogue: Catalogue, counts: dict[Split, int]
) -> dict[str, list[Split]]:
    """Let every stage that may fire draw once in every split, so that what is missing is said before rendering.

    Returns:
        For each optional stage that finds nothing to draw from, the splits in which it will be left out.

    Raises:
        UserError: when a stage that is not optional finds nothing.
    """
    unavailable: dict[str, list[Split]] = {}
    for split in counts:
        pool = material(catalogue, bound.recipe, split)
        widest = pool.speech.highest("bandwidth_hz")
        scene = Scene(
            bound.recipe.frames, widest.bandwidth_hz or 0.0, pool.sources, speaker=widest.speaker or ""
        )
        for step in bound.steps:
            for choice in step.choices:
                if choice.stage is None or not step.fires or choice.weight == 0.0:
                    continue
                try:
                    choice.stage.draw(generator("check", choice.label), scene)
                except NoMaterial as error:
                    if not choice.optional:
                        raise UserError(f"split '{split}', stage '{choice.label}': {error}") from error
                    unavailable.setdefault(choice.label, []).append(split)
                except UserError as error:
                    raise UserError(f"split '{split}', stage '{choice.label}': {error}") from error
    return unavailable


def asked_shares(
    bound: BoundRecipe, counts: dict[Split, int], unavailable: dict[str, list[Split]]
) -> dict[str, float]:
    """Share of the corpus's samples to which each stage should be applied, by label."""
    total = sum(counts.values())
    shares = {}
    for step in bound.steps:
        of_step = step.shares()
        for choice in step.choices:
            if choice.stage is None:
                continue
            without = sum(counts[split] for split in unavailable.get(choice.label, ()))
            possible = 0.0 if is_excluded(choice.stage, bound.recipe) else 1.0 - without / total
            shares[choice.label] = of_step[choice.label] * possible
    return shares


# --- rendering ------------------------------------------------------------------------------------


def _render(job: RenderJob, tasks: list[ShardTask], executor: Executor, recipe: Recipe) -> None:
    hours_each = recipe.seconds / 3600.0
    drawn = failed = 0
    total = sum(task.count for task in tasks)
    with JobProgress("generate", total, "samples") as progress:
        for record in executor.run(job, tasks):
            drawn += len(record.samples) + len(record.failures)
            failed += len(record.failures)
            progress.advance(
                len(record.samples), f"{len(record.samples) * hours_each:.2f} h more, {failed} redrawn"
            )
            if drawn >= FEWEST_DRAWS_TO_JUDGE and failed > recipe.limits.max_failed_share * drawn:
                worst, count = Counter(f"{f.stage}: {f.reason}" for f in record.failures).most_common(1)[0]
                raise JobError(
                    f"{failed} of {drawn} draws failed, more than limits.max_failed_share="
                    f"{recipe.limits.max_failed_share:g}; most often in the last shard: {worst} ({count} times)"
                )


# --- after everything is rendered -----------------------------------------------------------------


def _finish(
    out: Path,
    bound: BoundRecipe,
    asked: dict[str, float],
    catalogue: Catalogue,
    seed: int,
    records: list[ShardRecord],
    seconds: float,
    rendered: bool,
) -> CorpusManifest:
    shards = {record.tar_name: record.sha256 for record in records}
    identity = corpus_id(bound.digest, catalogue.digest, seed, shards)
    held = _held_manifest(out)
    if not rendered and held is not None and held.id == identity and not list(changed_files(out, held)):
        return held
    samples = list(read_records(out, records))
    write_samples_table(out / SAMPLES_FILE, samples, records)
    _write_quarantine(out / QUARANTINE_FILE, catalogue, records)
    counted = Counter(record.split for record in records for _ in record.samples)
    total = sum(counted.values())
    drawn = Counter[str]()
    for record in records:
        drawn.update(record.drawn)
    manifest = CorpusManifest(
        id=identity,
        recipe=bound.recipe.name,
        recipe_digest=bound.digest,
        catalogue_digest=catalogue.digest,
        seed=seed,
        code_version=code_version(),
        sample_rate_hz=SAMPLE_RATE_HZ,
        frames_per_sample=bound.recipe.frames,
        samples=dict(counted),
        hours=round(total * bound.recipe.seconds / 3600.0, 6),
        shards=shards,
        splits=_groups_of_splits(samples),
        licences=dict(sorted(Counter(licence for s in samples for licence in s.licences).items())),
        stages={
            label: {"asked": round(share, 6), "drawn": round(drawn[label] / total, 6)}
            for label, share in asked.items()
        },
        tolerances=_tolerances(samples),
        failures=dict(sorted(Counter(_kind_of_failure(f) for r in records for f in r.failures).items())),
        environment=environment(),
        timings=held.timings if held and not rendered else {"wall_s": round(seconds, 3)},
        files={name: file_sha256(out / name) for name in (*TABLES, *(r.record_name for r in records))},
    ).sealed()
    write_atomically(out / CORPUS_FILE, manifest.model_dump_json(indent=2).encode() + b"\n")
    return manifest


def _kind_of_failure(failure: Failure) -> str:
    """Stage and reason without the numbers and hashes in it: one entry for a kind, however large the corpus."""
    return f"{failure.stage}: {_PARTICULARS.sub('#', failure.reason)}"


def _held_manifest(out: Path) -> CorpusManifest | None:
    try:
        return read_manifest(out)
    except UserError:
        return None


def _tolerances(samples: list[SampleRecord]) -> dict[str, dict[str, int]]:
    """How often each promised value was delivered, and how often it was not."""
    checked, out = Counter[str](), Counter[str]()
    for sample in samples:
        for stage in sample.stages:
            promises = stage_class(stage.stage).promises
            checked.update(f"{stage.label}.{name}" for name in promises if stage.values.get(name) is not None)
            out.update(f"{stage.label}.{name}" for name in stage.out_of_tolerance)
    return {name: {"checked": checked[name], "out": out[name]} for name in sorted(checked)}


def _groups_of_splits(samples: list[SampleRecord]) -> dict[Split, dict[str, int]]:
    words = {"speech": "speakers", "noise": "noise_recordings", "rir": "rooms"}
    groups: dict[Split, dict[str, set[str]]] = {}
    for sample in samples:
        of_split = groups.setdefault(sample.split, {word: set() for word in words.values()})
        for source in sample.sources:
            of_split[words[source.kind]].add(source.group)
    return {split: {word: len(names) for word, names in kinds.items()} for split, kinds in groups.items()}


def _write_quarantine(path: Path, catalogue: Catalogue, records: list[ShardRecord]) -> None:
    lines = [
        {"what": "source", "kind": s.kind, "path": s.path, "sha256": s.sha256, "reason": s.refused}
        for s in catalogue.refused
    ]
    lines += [
        {"what": "draw", "shard": record.tar_name, **failure.model_dump(mode="json")}
        for record in records
        for failure in record.failures
    ]
    write_atomically(path, b"".join(canonical_json(line) + b"\n" for line in lines))


def fingerprint(root: Path) -> dict[str, str]:
    """SHA-256 of every shard and record of a corpus, by relative path: equal fingerprints, equal corpora."""
    files = sorted(p for p in root.rglob("shard-*") if p.suffix in (".tar", ".json"))
    return {str(path.relative_to(root)): file_sha256(path) for path in files}
