"""`ssiforge withdraw`: take sources down, and give a corpus that holds them a new version without them.

The corpus itself is left as it is, since models and runs name it: the new version lies beside it, shares the files of
untouched shards with it where the file system can, and is linked to it by `replaces`. A sample that holds what was
withdrawn is the next of its own draws that does not, so the order of withdrawals changes nothing, and a shard that is
lost later is rendered again to the same bytes. In the shards that are written again, all other samples are taken over
as they were.
"""

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from datagen.shard import corpus_plan_digest
from manifests.canonical import canonical_json, file_sha256
from manifests.catalogue import write_catalogue
from manifests.corpus import (
    PLAN_FILE,
    RECIPE_FILE,
    SOURCES_FILE,
    WITHDRAWALS_FILE,
    CorpusManifest,
    corpus_id,
)
from manifests.errors import JobError, UserError
from manifests.source import Source
from manifests.store import Place, Store, absolute
from manifests.wording import how_many
from pipelines.corpus.companions import remove_companions, write_companions
from pipelines.corpus.folder import corpus_folder, plan_content, rows_to_keep
from pipelines.corpus.ledger import Ledger
from pipelines.corpus.manifest import Run, finish, held_manifest, is_up_to_date
from pipelines.corpus.openlineage import WITHDRAW_JOB, catalogue_inputs, told
from pipelines.corpus.outstanding import Shards, ShardSet, finished_shards
from pipelines.corpus.shard_result import recalled
from pipelines.executors import Executor
from pipelines.generation.checks import asked_shares
from pipelines.generation.generate import render_missing
from pipelines.generation.progress import Progress
from pipelines.governance.stale import Heard
from pipelines.governance.take_down import TakeDown, take_down
from pipelines.governance.withdraw_record import begun_line, completed, lines_of, resealed
from pipelines.governance.withdraw_shards import RewriteJob
from pipelines.openlineage.events import corpus_dataset, corpus_name

HeardBy = Callable[[frozenset[str]], Sequence[Heard]]
"""Returns the models that were trained on sources, given the hashes of these."""


@dataclass(frozen=True)
class Withdrawn:
    """What a run of `withdraw` did."""

    manifest: CorpusManifest
    sources: tuple[Source, ...]
    samples: Mapping[str, tuple[str, ...]]
    """Keys of the samples that were replaced, by name of their shard."""
    models: tuple[Heard, ...]
    """Those that were trained on any of `sources`, as far as they were asked for."""
    reason: str
    """As it stands in the audit record."""


def nobody(hashes: frozenset[str]) -> Sequence[Heard]:
    """Know of no models."""
    return ()


def withdraw(
    references: Sequence[str],
    corpus: Place,
    out: Place,
    executor: Executor,
    reason: str = "",
    say: Callable[[str], None] = lambda line: None,
    heard_by: HeardBy = nobody,
) -> Withdrawn:
    """Make a version of a corpus that holds nothing of some sources, or finish one that was begun.

    Args:
        references: what to withdraw, see `pipelines.governance.withdraw_sources`.
        corpus: folder or URI of a finished corpus, which stays as it is.
        out: folder or URI of the new version.
        executor: where shards are written again.
        reason: kept in the audit record, unless the version was begun with one.
        say: receives lines for people.
        heard_by: asked for models that the audit record is to name, when all shards are there.

    Raises:
        UserError: when nothing is meant, the corpus is not sound, merged or of another version of the code, `out` holds
            something else, or too little would be left to draw from.
        JobError: when rendering fails beyond the recipe's limits, or the disk does.
        JobInterrupted: when it was asked to stop.
    """
    began = time.monotonic()
    meant = take_down(references, corpus)
    meant.check_out(out)
    held, bound = meant.held, meant.bound
    say(
        f"{how_many(len(meant.sources), 'source')} withdrawn: {how_many(meant.samples, 'sample')} in "
        f"{len(meant.affected)} of {how_many(len(held.shards), 'shard')} replaced"
    )
    with corpus_folder(out) as store:
        meant.check_out(out)  # again: nobody else writes there now
        _begin(store, meant, reason, say)
        digest = corpus_plan_digest(bound.digest, meant.after.as_drawn.digest, held.manifest.seed)
        shards = Shards(meant.plan["steps"], bound.recipe.output.samples_per_shard, digest)
        _share_untouched(meant, store, shards)
        models: tuple[Heard, ...] = ()

        def ends(corpus_id: str) -> None:
            nonlocal models
            models = tuple(heard_by(meant.hashes))
            completed(store, corpus_id, [model.bundle_id for model in models])

        done, there = held_manifest(store), finished_shards(store, shards)
        if done is not None and len(there) == len(shards) and is_up_to_date(done, store, shards):
            ends(done.id)
            done = resealed(store, done)
        else:
            inputs = [corpus_dataset(held.manifest)]
            inputs += catalogue_inputs(meant.after, meant.after.digest)
            with told(store, WITHDRAW_JOB, inputs, _name_of(meant)):
                done = _made(store, meant, shards, there, executor, say, ends, began)
        write_companions(store, done)
        kept_reason = str(json.loads(lines_of(store)[-1])["reason"])
    return Withdrawn(done, meant.sources, meant.affected, models, kept_reason)


# --- the new version ------------------------------------------------------------------------------


def _name_of(meant: TakeDown) -> str:
    """Name the new version as a data set."""
    held = meant.held.manifest
    return corpus_name(held.recipe, held.recipe_digest, meant.after.digest, held.seed, held.code_version)


def _begin(store: Store, meant: TakeDown, reason: str, say: Callable[[str], None]) -> None:
    """Write down what the version is going to be; what is there already stays."""
    if plan_content(store) is not None and (lines := lines_of(store)):
        given = json.loads(lines[-1])["reason"]
        if reason and reason != given:
            say(f"it was begun with another reason, which is kept: {given or 'none'}")
        return
    store.write(PLAN_FILE, canonical_json(meant.plan) + b"\n")
    with store.new_file(SOURCES_FILE) as path:
        write_catalogue(rows_to_keep(meant.after), path)
    store.write(RECIPE_FILE, meant.held.store.read(RECIPE_FILE))
    store.write(WITHDRAWALS_FILE, b"".join((*lines_of(meant.held.store), begun_line(meant, reason))))


def _made(
    store: Store,
    meant: TakeDown,
    shards: Shards,
    there: ShardSet,
    executor: Executor,
    say: Callable[[str], None],
    ends: Callable[[str], None],
    began: float,
) -> CorpusManifest:
    """Write the shards that are missing, let the version's end be recorded by its id, and write `corpus.json`."""
    held, bound, counts = meant.held.manifest, meant.bound, meant.plan["steps"][-1]
    with Ledger() as ledger:
        for task in shards:
            if task in there:
                ledger.add(recalled(task, store))
        # Most samples of a shard are copied, so hours a second would say nothing of rendering.
        progress = Progress(
            sum(counts.values()), bound.recipe.seconds, len(shards), ledger, "withdraw", has_speed=False
        )
        job = RewriteJob(absolute(store.url), held.seed, absolute(meant.held.url))
        lost = render_missing(executor, job, shards, ledger, progress, store, bound.recipe.limits, say)
        if lost:
            raise JobError(f"{lost[0].task.tar_name}: cannot be written again: {lost[0].reason}")
        tars = {task.tar_name: one.sha256 for task, one in ledger.held(shards)}
        ends(corpus_id(bound.digest, meant.after.digest, held.seed, tars))
        asked = asked_shares(bound, counts, meant.unavailable)
        run = Run(time.monotonic() - began, progress.stage_seconds, progress.samples_done)
        remove_companions(store)
        return finish(store, bound, meant.after, held.seed, shards, asked, ledger, lost, run, held.id)


def _share_untouched(meant: TakeDown, store: Store, shards: Shards) -> None:
    held, there = meant.held, finished_shards(store, shards)
    for task in shards:
        if task.tar_name in meant.affected or task in there:
            continue
        for name, expected in (
            (task.tar_name, held.manifest.shards[task.tar_name]),
            (task.record_name, held.manifest.files[task.record_name]),
        ):
            _share(held.store, store, name, expected)


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
