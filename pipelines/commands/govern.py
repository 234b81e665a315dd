"""`ssiforge withdraw` and `promote`. They import what they need when they run."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from manifests.errors import JobError, UserError
from manifests.wording import how_many
from pipelines.commands.options import LOCAL_RAY, AllowLicences, say
from pipelines.models.stale_mark import STALE_FILE

if TYPE_CHECKING:
    from pipelines.governance.stale import Marked
    from pipelines.governance.take_down import TakeDown


def withdraw(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE...",
            help="A file, a path as the catalogue has it or its end, a SHA-256 or its beginning, speaker:NAME, "
            "recording:NAME or room:NAME.",
        ),
    ],
    corpus: Annotated[str, typer.Option(help="Folder or URI of the corpus; it stays as it is.")],
    out: Annotated[
        str | None, typer.Option(help="Folder or URI of the new version; a begun one is continued.")
    ] = None,
    reason: Annotated[str, typer.Option(help="Kept in the audit record and with stale models.")] = "",
    look_into: Annotated[
        list[str] | None,
        typer.Option(
            "--also", help="Look into this corpus as well (a merged one, for example) for models; repeatable."
        ),
    ] = None,
    workers: Annotated[
        int, typer.Option(min=0, help="Processes on this machine; 0 renders in this one.")
    ] = 2,
    ray: Annotated[
        str | None,
        typer.Option(metavar="[ADDRESS]", help="Render as Ray tasks: on a local Ray, or a running cluster."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be replaced and marked, and change nothing.")
    ] = False,
) -> None:
    """Take sources down: a new version of a corpus without them, and marks on the models that heard them.

    Only samples that hold a source are replaced; all others keep their bytes. When you are done with the old version,
    delete its folder: until then it still holds the recordings.
    """
    from pipelines.governance.stale import Heard, mark, where_marked, who_else_holds, who_heard
    from pipelines.ray_job import check_read, check_written

    check_read("--corpus", corpus)

    def heard_by(hashes: frozenset[str]) -> list[Heard]:
        return who_heard(hashes, [corpus, *(look_into or ())], [Path().resolve()], say)

    def print_other_holders(hashes: frozenset[str], *besides: str) -> None:
        others = who_else_holds(hashes, besides, look_into or (), [Path().resolve()])
        for place, count in others.items():
            print(f"  {place} holds them too, in {how_many(count, 'sample')}: withdraw them there as well")

    if dry_run:
        from pipelines.governance.take_down import take_down

        meant = take_down(sources, corpus)
        if out is not None:
            meant.check_out(out)
        _print_take_down(meant, where_marked(heard_by(meant.hashes)))
        print_other_holders(meant.hashes, meant.held.manifest.id)
        return
    if out is None:
        raise UserError("--out is needed: the new version of the corpus goes there (or give --dry-run)")
    from manifests.interrupts import terminable
    from pipelines.executors import Executor, InProcess
    from pipelines.generation.local_processes import LocalProcesses
    from pipelines.generation.ray_tasks import RayTasks
    from pipelines.governance.audit import WITHDRAWALS_FILE, append_new
    from pipelines.governance.withdraw import withdraw as run
    from pipelines.models.stale_mark import stale_sentence
    from pipelines.tracking.store import store_location

    check_written("--out", out)
    executor: Executor = LocalProcesses(workers) if workers else InProcess()
    if ray is not None:
        executor = RayTasks(None if ray == LOCAL_RAY else ray, cpus=max(1, workers))
    with terminable():
        done = run(sources, corpus, out, executor, reason, say, heard_by)
        marked = mark(done.models, stale_sentence(done.manifest.replaces, done.reason))
        if store_location().exists:
            line = {
                "replaces": done.manifest.replaces,
                "corpus": done.manifest.id,
                "reason": done.reason,
                "sources": [source.sha256 for source in done.sources],
                "models": [model.bundle_id for model in marked],
                "versions": [version for model in marked for version in model.registered],
            }
            append_new(WITHDRAWALS_FILE, line)
    count = sum(map(len, done.samples.values()))
    print(f"{out}: corpus {done.manifest.id}, replaces {done.manifest.replaces}")
    print(
        f"  {how_many(len(done.sources), 'source')} withdrawn, {how_many(count, 'sample')} in "
        f"{how_many(len(done.samples), 'shard')} replaced"
    )
    _print_stale("stale:", marked)
    print(f"  {corpus} still holds the recordings: delete it when nothing needs it any more")
    hashes = frozenset(source.sha256 for source in done.sources)
    print_other_holders(hashes, done.manifest.replaces, done.manifest.id)
    if unwritten := [place for model in marked for place in model.unwritten]:
        raise JobError(f"{STALE_FILE} cannot be written beside every stale model: {', '.join(unwritten)}")


def _print_take_down(meant: "TakeDown", stale: "Sequence[Marked]") -> None:
    from pipelines.lineage.tree import printable

    print(f"{meant.held.url}: corpus {meant.held.manifest.id}; nothing is changed")
    print(f"  {how_many(len(meant.sources), 'source')} would be withdrawn:")
    for source in meant.sources:
        said = f"{source.sha256[:12]}  {source.kind}  {source.group}  {source.licence}  {source.path}"
        print(f"    {printable(said)}")
    shards = f"{len(meant.affected)} of {how_many(len(meant.held.shards), 'shard')}"
    print(f"  {how_many(meant.samples, 'sample')} in {shards} would be replaced")
    for shard, keys in sorted(meant.affected.items()):
        print(f"    {shard}: {', '.join(keys)}")
    for label, splits in meant.unavailable.items():
        print(f"  stage {label}: nothing would be left to draw from in split {', '.join(splits)}")
    _print_stale("would be stale:", stale)


def _print_stale(word: str, models: "Sequence[Marked]") -> None:
    for model in models:
        places = ", ".join((*model.registered, *model.folders)) or "nowhere known"
        print(f"  {word} {model.label} ({places})")
        if model.exports:
            print(f"    exported as {', '.join(model.exports)}")
    if not models:
        print("  no known model was trained on such a sample")


def promote(
    model: Annotated[
        str,
        typer.Argument(help="Bundle or run folder, NAME, NAME/VERSION, NAME@ALIAS, models:/... or a run."),
    ],
    alias: Annotated[
        str, typer.Option("--as", metavar="ALIAS", help="candidate, champion or any other name.")
    ],
    allow_licences: AllowLicences = None,
    corpus: Annotated[
        list[str] | None, typer.Option(help="Look into this corpus as well; repeatable.")
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Only list the checks; the exit code is 2 if one of them fails."),
    ] = False,
) -> None:
    """Set an alias in MLflow's registry, if the model is evaluated, its lineage whole, not stale, and licensed.

    A model that a run made and nobody registered is registered on the way. Every change is on record: in
    promotions.ndjson beside MLflow's database (in the current folder with a server) and in tags of the model there.
    """
    from pipelines.governance.audit import PROMOTIONS_FILE, audit_file
    from pipelines.governance.promote import promote as run

    done = run(model, alias, allow_licences or (), corpus or (), dry_run, say)
    if dry_run:
        for check in done.checks:
            said = check.problem or check.note
            print(f"{'no ' if check.problem else 'yes'}  {check.name}{': ' if said else ''}{said}")
        if done.problems:
            raise UserError(f"{model}: would not be promoted: {done.problems[0]}")
        return
    before = f", before {done.before}" if done.before else ""
    print(f"{done.version}: {alias} now{before}{', registered now' if done.registered_now else ''}")
    print(f"  recorded in {audit_file(PROMOTIONS_FILE)}")
