"""The last step of `generate`: tables and `corpus.json`, written from what workers reported, shard after shard."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from datagen.degradations import BoundRecipe
from datagen.environment import code_version, environment
from manifests.canonical import canonical_json
from manifests.catalogue import Catalogue
from manifests.corpus import (
    CORPUS_FILE,
    QUARANTINE_FILE,
    SAMPLES_FILE,
    TABLES,
    WITHDRAWALS_FILE,
    CorpusManifest,
    changed_files,
    corpus_id,
    read_manifest,
)
from manifests.errors import UserError
from manifests.recipe import SAMPLE_RATE_HZ, SPLITS
from manifests.store import Store
from pipelines.corpus.ledger import Ledger
from pipelines.corpus.outstanding import Shards
from pipelines.corpus.shard_result import Lost, Tally
from pipelines.corpus.table import write_table


def held_manifest(store: Store) -> CorpusManifest | None:
    """Return the manifest that lies there; None where there is none, or it is damaged."""
    try:
        return read_manifest(store)
    except UserError:
        return None


def is_up_to_date(held: CorpusManifest | None, store: Store, shards: Shards) -> bool:
    """Whether a manifest names just these shards, and every record and table is what it was when it was written."""
    names = (task.tar_name for task in shards)
    if held is None or len(shards) != len(held.shards) or any(name not in held.shards for name in names):
        return False
    return not any(changed_files(store, held))


@dataclass(frozen=True)
class Run:
    """What a run of the job took."""

    wall_s: float
    stage_seconds: Mapping[str, float]
    """Time of workers, by stage and part."""
    samples: int
    """Those in the shards that it wrote: others were there already."""


def finish(
    store: Store,
    bound: BoundRecipe,
    catalogue: Catalogue,
    seed: int,
    shards: Shards,
    asked: dict[str, float],
    ledger: Ledger,
    lost: list[Lost],
    run: Run,
    replaces: str = "",
) -> CorpusManifest:
    """Write the tables and, last, `corpus.json`.

    Args:
        store: of the corpus.
        bound: its recipe.
        catalogue: what it was drawn from, refused sources included.
        seed: of every draw.
        shards: all of them, in order.
        asked: share of the samples to which each stage should be applied.
        ledger: of the finished shards.
        lost: shards that were given up.
        run: what it took.
        replaces: id of the version from which sources were withdrawn to make this one.
    """
    tally = ledger.tally
    with store.new_file(SAMPLES_FILE) as path:
        rows = (row for _, one in ledger.held(shards) for row in one.details().rows)
        write_table(path, rows, tally.columns)
    with store.new_file(QUARANTINE_FILE) as path, path.open("wb") as stream:
        stream.writelines(
            canonical_json(line) + b"\n" for line in _quarantine(catalogue, shards, ledger, lost)
        )
    tars, records = {}, {}
    for task, one in ledger.held(shards):
        tars[task.tar_name], records[task.record_name] = one.sha256, one.record_sha256
    identity = corpus_id(bound.digest, catalogue.digest, seed, tars)
    total = tally.samples.total()
    held = held_manifest(store)
    timings = {"wall_s": round(run.wall_s, 3), "samples": float(run.samples)}
    stage_seconds = {name: round(seconds, 3) for name, seconds in sorted(run.stage_seconds.items())}
    if held is not None and not run.stage_seconds:  # nothing was rendered: the tables alone are written anew
        timings, stage_seconds = held.timings, held.stage_seconds
    manifest = CorpusManifest(
        id=identity,
        recipe=bound.recipe.name,
        recipe_digest=bound.digest,
        catalogue_digest=catalogue.digest,
        seed=seed,
        code_version=code_version(),
        sample_rate_hz=SAMPLE_RATE_HZ,
        frames_per_sample=bound.recipe.frames,
        samples={split: tally.samples[split] for split in SPLITS if tally.samples[split]},
        hours=round(total * bound.recipe.seconds / 3600.0, 6),
        shards=tars,
        splits={
            split: {word: len(names) for word, names in tally.groups[split].items()}
            for split in SPLITS
            if split in tally.groups
        },
        licences=dict(sorted(tally.licences.items())),
        stages={
            label: {"asked": round(share, 6), "drawn": round(tally.drawn[label] / max(total, 1), 6)}
            for label, share in asked.items()
        },
        tolerances=_tolerances(tally),
        failures=dict(sorted(tally.failures.items())),
        lost_shards={
            one.task.tar_name: one.reason for one in sorted(lost, key=lambda one: one.task.tar_name)
        },
        grown_from=_grown_from(held, tars, identity),
        replaces=replaces,
        environment=environment(),
        timings=timings,
        stage_seconds=stage_seconds,
        files={name: store.sha256(name) for name in _tables(store)} | records,
    ).sealed()
    store.write(CORPUS_FILE, manifest.written())
    return manifest


def _tables(store: Store) -> tuple[str, ...]:
    return (*TABLES, WITHDRAWALS_FILE) if store.size(WITHDRAWALS_FILE) is not None else TABLES


def _tolerances(tally: Tally) -> dict[str, dict[str, int]]:
    """How often each promised value was delivered, and how often it was not."""
    return {
        name: {"checked": tally.checked[name], "out": tally.out_of_tolerance[name]}
        for name in sorted(tally.checked)
    }


def _grown_from(held: CorpusManifest | None, shards: dict[str, str], identity: str) -> str:
    """Name the corpus that lay here before, if all its shards are still there; else what it had named itself."""
    if held is None:
        return ""
    is_part = held.id != identity and held.shards.items() <= shards.items()
    return held.id if is_part else held.grown_from


def _quarantine(
    catalogue: Catalogue, shards: Shards, ledger: Ledger, lost: list[Lost]
) -> Iterator[dict[str, Any]]:
    for source in catalogue.refused:
        yield {
            "what": "source",
            "kind": source.kind,
            "path": source.path,
            "sha256": source.sha256,
            "reason": source.refused,
        }
    for _, done in ledger.held(shards):
        yield from done.details().failures
    for one in sorted(lost, key=lambda one: (SPLITS.index(one.task.split), one.task.number)):
        yield {
            "what": "shard",
            "shard": one.task.tar_name,
            "samples": one.task.count,
            "tries": one.tries,
            "reason": one.reason,
        }
