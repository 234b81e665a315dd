"""`ssiforge withdraw`: take sources down, and give a corpus that holds them a new version without them.

The corpus itself is left as it is, since models and runs name it: the new version lies beside it, shares the files of
untouched shards with it where the file system can, and is linked to it by `replaces`. A sample that holds what was
withdrawn is the next of its own draws that does not, so the order of withdrawals changes nothing, and a shard that is
lost later is rendered again to the same bytes. In the shards that are written again, all other samples are taken over
as they were.
"""

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from datagen.degradations import BoundRecipe, bind
from datagen.environment import code_version
from datagen.shard import ShardTask, corpus_plan_digest
from manifests.canonical import canonical_json, file_sha256
from manifests.catalogue import Catalogue, read_catalogue, write_catalogue
from manifests.corpus import (
    PLAN_FILE,
    RECIPE_FILE,
    SAMPLES_FILE,
    SOURCES_FILE,
    WITHDRAWALS_FILE,
    Corpus,
    CorpusManifest,
    changed_files,
    open_corpus,
)
from manifests.documents import check, parse_document
from manifests.errors import JobError, UserError
from manifests.recipe import Recipe
from manifests.source import WITHDRAWN, Source
from manifests.store import Place, Store, absolute
from pipelines.companions import remove_companions, write_companions
from pipelines.corpus_folder import corpus_folder, plan_content, rows_to_keep
from pipelines.corpus_manifest import Run, finish, held_manifest, is_up_to_date
from pipelines.executors import Executor
from pipelines.generate import render_missing
from pipelines.generate_checks import asked_shares, check_material
from pipelines.generate_progress import Progress
from pipelines.ledger import Ledger
from pipelines.outstanding import Shards, ShardSet, finished_shards
from pipelines.shard_result import recalled
from pipelines.withdraw_shards import RewriteJob
from pipelines.withdraw_sources import sources_meant


@dataclass(frozen=True)
class Withdrawn:
    """What a run of `withdraw` did."""

    manifest: CorpusManifest
    sources: tuple[Source, ...]
    samples: Mapping[str, tuple[str, ...]]
    """Keys of the samples that were replaced, by name of their shard."""


def withdraw(
    references: Sequence[str],
    corpus: Place,
    out: Place,
    executor: Executor,
    reason: str = "",
    say: Callable[[str], None] = lambda line: None,
) -> Withdrawn:
    """Make a version of a corpus that holds nothing of some sources, or finish one that was begun.

    Args:
        references: what to withdraw, see `pipelines.withdraw_sources`.
        corpus: folder or URI of a finished corpus, which stays as it is.
        out: folder or URI of the new version.
        executor: where shards are written again.
        reason: kept in the audit record.
        say: receives lines for people.

    Raises:
        UserError: when nothing is meant, the corpus is not sound, merged or of another version of the code, `out` holds
            something else, or too little would be left to draw from.
        JobError: when rendering fails beyond the recipe's limits.
        JobInterrupted: when it was asked to stop.
    """
    began = time.monotonic()
    held = open_corpus(corpus)
    _check(held)
    before = _catalogue_of(held.store)
    sources = tuple(sources_meant(references, before, held.url))
    hashes = frozenset(source.sha256 for source in sources)
    after = before.refusing(lambda source: WITHDRAWN if source.sha256 in hashes else None)
    bound = _recipe_of(held)
    plan = _plan(held, after)
    unavailable = check_material(bound, after, plan["steps"][-1])
    affected = samples_holding(held.store, hashes)
    say(
        f"{len(sources)} sources withdrawn: {sum(map(len, affected.values()))} samples in {len(affected)} of "
        f"{len(held.shards)} shards are replaced"
    )
    if absolute(held.url) == absolute(out):
        raise UserError(f"{out}: is the corpus itself, which runs and models name; choose another --out")
    with corpus_folder(out) as store:
        _begin(store, held, plan, after, _audit_line(held, sources, reason, affected))
        digest = corpus_plan_digest(bound.digest, after.as_drawn.digest, held.manifest.seed)
        shards = Shards(plan["steps"], bound.recipe.output.samples_per_shard, digest)
        _share_untouched(held, store, shards, affected)
        kept = finished_shards(store, shards)
        done = held_manifest(store)
        if done is None or len(kept) < len(shards) or not is_up_to_date(done, store, shards):
            with Ledger() as ledger:
                for task in shards:
                    if task in kept:
                        ledger.add(recalled(task, store))
                progress = Progress(
                    sum(plan["steps"][-1].values()), bound.recipe.seconds, len(shards), ledger
                )
                job = RewriteJob(absolute(out), held.manifest.seed, absolute(held.url))
                lost = render_missing(
                    executor, job, shards, ledger, progress, store, bound.recipe.limits, say
                )
                if lost:
                    raise JobError(f"{lost[0].task.tar_name}: cannot be written again: {lost[0].reason}")
                asked = asked_shares(bound, plan["steps"][-1], unavailable)
                run = Run(time.monotonic() - began, progress.stage_seconds)
                remove_companions(store)
                done = finish(
                    store,
                    bound,
                    after,
                    held.manifest.seed,
                    shards,
                    asked,
                    ledger,
                    lost,
                    run,
                    held.manifest.id,
                )
        write_companions(store, done)
    return Withdrawn(done, sources, affected)


def samples_holding(store: Store, hashes: frozenset[str]) -> dict[str, tuple[str, ...]]:
    """Return the keys of the samples that hold any of some sources, by name of their shard, from `samples.parquet`."""
    import pyarrow.parquet as pq

    found: dict[str, list[str]] = {}
    with store.local_copy(SAMPLES_FILE) as path, pq.ParquetFile(path) as table:
        for group in range(table.num_row_groups):
            rows = table.read_row_group(group, columns=["key", "shard", "source_sha256"])
            columns = (rows[name].to_pylist() for name in ("key", "shard", "source_sha256"))
            for key, shard, held in zip(*columns, strict=True):
                if not hashes.isdisjoint(held):
                    found.setdefault(shard, []).append(key)
    return {shard: tuple(keys) for shard, keys in found.items()}


# --- what is withdrawn from -----------------------------------------------------------------------


def _check(held: Corpus) -> None:
    manifest = held.manifest
    if manifest.parts:
        names = ", ".join(part.corpus.url for part in held.merged)
        raise UserError(
            f"{held.url}: was merged from others; withdraw from each of them that holds the source and merge "
            f"again ({names})"
        )
    if problem := next(changed_files(held.store, manifest), None):
        raise UserError(f"{held.url}: {problem}; run 'ssiforge generate' again first")
    if manifest.lost_shards:
        raise UserError(
            f"{held.url}: lacks {len(manifest.lost_shards)} shards; run 'ssiforge generate' first"
        )
    if manifest.code_version != code_version():
        raise UserError(
            f"{held.url}: was made by ssiforge {manifest.code_version}; replacements can be drawn by that version "
            f"only, this is {code_version()}"
        )


def _catalogue_of(store: Store) -> Catalogue:
    with store.local_copy(SOURCES_FILE) as path:
        return read_catalogue(path)


def _recipe_of(held: Corpus) -> BoundRecipe:
    document = parse_document(held.store.read(RECIPE_FILE).decode(), held.store.where(RECIPE_FILE))
    bound = bind(check(Recipe, document.content, document), document)
    if bound.digest != held.manifest.recipe_digest:
        raise UserError(
            f"{held.url}: the code of its stages is another now, so replacements would be drawn differently; use the "
            "packages that it was made with"
        )
    return bound


def _plan(held: Corpus, after: Catalogue) -> dict[str, Any]:
    content = plan_content(held.store)
    assert content is not None  # its file is among those that were checked
    taken = sorted({source.sha256 for source in after.withdrawn})
    return content | {"withdrawn": taken, "replaces": held.manifest.id}


def _audit_line(
    held: Corpus, sources: Sequence[Source], reason: str, affected: Mapping[str, Sequence[str]]
) -> bytes:
    return canonical_json(
        {
            "replaces": held.manifest.id,
            "reason": reason,
            "sources": [
                {
                    "sha256": source.sha256,
                    "kind": source.kind,
                    "group": source.group,
                    "name": source.name,
                    "licence": source.licence,
                }
                for source in sources
            ],
            "samples": {shard: list(keys) for shard, keys in sorted(affected.items())},
        }
    )


# --- the new version ------------------------------------------------------------------------------


def _begin(store: Store, held: Corpus, plan: dict[str, Any], after: Catalogue, line: bytes) -> None:
    """Write down what the version is going to be, or check that the place holds that very one.

    Raises:
        UserError: when the place holds something else.
    """
    there = plan_content(store)
    if there is not None and there != plan:
        raise UserError(f"{store.url}: holds another corpus; choose another --out")
    lines = held.store.read(WITHDRAWALS_FILE) if held.store.size(WITHDRAWALS_FILE) is not None else b""
    if there is not None and store.size(WITHDRAWALS_FILE) is not None:
        return
    store.write(PLAN_FILE, canonical_json(plan) + b"\n")
    with store.new_file(SOURCES_FILE) as path:
        write_catalogue(rows_to_keep(after), path)
    store.write(RECIPE_FILE, held.store.read(RECIPE_FILE))
    store.write(WITHDRAWALS_FILE, lines + line + b"\n")


def _share_untouched(
    held: Corpus, store: Store, shards: Shards, affected: Mapping[str, Sequence[str]]
) -> None:
    there = finished_shards(store, shards)
    for task in _untouched(shards, affected, there):
        for name, expected in (
            (task.tar_name, held.manifest.shards[task.tar_name]),
            (task.record_name, held.manifest.files[task.record_name]),
        ):
            _share(held.store, store, name, expected)


def _untouched(shards: Shards, affected: Mapping[str, Sequence[str]], there: ShardSet) -> Iterator[ShardTask]:
    return (task for task in shards if task.tar_name not in affected and task not in there)


def _share(origin: Store, store: Store, name: str, expected: str) -> None:
    """Link a file where both places are folders of one file system, else copy it; its hash is checked."""
    with store.new_file(name) as path:
        if origin.folder is not None and store.folder is not None:
            with suppress(OSError):
                os.link(origin.folder / name, path)
        if not path.is_file() or not path.stat().st_size:
            origin.fetch(name, path)
        if file_sha256(path) != expected:
            raise UserError(f"{origin.where(name)}: is not what its corpus names; run 'ssiforge verify'")
