"""`ssiforge withdraw` and `promote`. They import what they need when they run."""

from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli_options import LOCAL_RAY, AllowLicences, say


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
    out: Annotated[str, typer.Option(help="Folder or URI of the new version; a begun one is continued.")],
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
) -> None:
    """Take sources down: a new version of a corpus without them, and marks on the models that heard them.

    Only samples that hold a source are replaced; all others keep their bytes. When you are done with the old version,
    delete its folder: until then it still holds the recordings.
    """
    from pipelines.executors import Executor, InProcess
    from pipelines.local_processes import LocalProcesses
    from pipelines.ray_job import check_read, check_written
    from pipelines.ray_tasks import RayTasks
    from pipelines.stale import mark_stale
    from pipelines.withdraw import withdraw as run

    check_read("--corpus", corpus)
    check_written("--out", out)
    executor: Executor = LocalProcesses(workers) if workers else InProcess()
    if ray is not None:
        executor = RayTasks(None if ray == LOCAL_RAY else ray, cpus=max(1, workers))
    done = run(sources, corpus, out, executor, reason, say)
    marked = mark_stale(
        [source.sha256 for source in done.sources],
        [corpus, out, *(look_into or ())],
        [Path().resolve()],
        done.manifest.replaces,
        reason,
    )
    count = sum(map(len, done.samples.values()))
    print(f"{out}: corpus {done.manifest.id}, replaces {done.manifest.replaces}")
    print(f"  {len(done.sources)} sources withdrawn, {count} samples in {len(done.samples)} shards replaced")
    for model in marked:
        places = ", ".join((*model.registered, *model.folders)) or "nowhere known"
        print(f"  stale: {model.label} ({places})")
    print(f"  {corpus} still holds the recordings: delete it when nothing needs it any more")


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
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list the checks.")] = False,
) -> None:
    """Set an alias in MLflow's registry, if the model is evaluated, its lineage whole, not stale, and licensed."""
    from pipelines.promote import promote as run

    done = run(model, alias, allow_licences or (), corpus or (), dry_run)
    for check in done.checks if dry_run else ():
        print(
            f"{'no ' if check.problem else 'yes'}  {check.name}{': ' if check.problem else ''}{check.problem}"
        )
    if dry_run:
        return
    before = f", before {done.before}" if done.before else ""
    print(f"{done.version}: {alias} now{before}")
