"""The command line. Each command imports what it needs when it runs, so that `--help` answers at once."""

import errno
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from manifests.errors import JobError, JobInterrupted, UserError
from manifests.wording import how_many
from pipelines.commands.ablate import ablate
from pipelines.commands.calibrate import calibrate
from pipelines.commands.card import card
from pipelines.commands.export import export
from pipelines.commands.govern import promote, withdraw
from pipelines.commands.lineage import lineage
from pipelines.commands.options import LOCAL_RAY, AllowLicences, Keep, Overrides, say
from pipelines.commands.report import report
from pipelines.commands.rooms import rooms
from pipelines.commands.training import enhance, evaluate, train
from pipelines.commands.ui import ui

EXIT_FAILED_JOB = 1
EXIT_USER_MISTAKE = 2
EXIT_INTERRUPTED = 130
SHOWN_OF_A_NAME = 80
"""Characters of one that no file can have."""

GOES_ON = {
    **dict.fromkeys(
        ("scan", "generate", "merge", "score", "rooms", "ablate", "demo", "withdraw"),
        "run the same command again to go on",
    ),
    "train": "run the same command with --resume to go on from the last checkpoint",
}
"""What to do after Ctrl-C, for the commands that keep what they have done."""

app = typer.Typer(
    name="ssiforge",
    help="Make training data for speech signal improvement, and train RaD-Net 2 on it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.add_typer(ablate, name="ablate")
app.add_typer(rooms, name="rooms")


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show a traceback when something fails.")] = False,
) -> None:
    if debug:
        os.environ["SSIFORGE_DEBUG"] = "1"


@app.command()
def scan(
    out: Annotated[
        Path, typer.Option(help="The catalogue to write, e.g. sources.parquet; reused if it exists.")
    ],
    speech: Annotated[list[str] | None, typer.Option(help="Folder of clean speech; repeatable.")] = None,
    noise: Annotated[list[str] | None, typer.Option(help="Folder of noise; repeatable.")] = None,
    rir: Annotated[
        list[str] | None, typer.Option(help="Folder of room impulse responses; repeatable.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 2,
    licence: Annotated[
        str | None, typer.Option(help="Licence of files that no table or LICENSE covers.")
    ] = None,
    speaker_from: Annotated[
        str,
        typer.Option(help="Who speaks: folder, file, or a regular expression with one group over the path."),
    ] = "folder",
    table: Annotated[
        Path | None,
        typer.Option(help="TSV with columns path (glob), licence, speaker, for folders you can't edit."),
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="Read unchanged files again as well.")] = False,
) -> None:
    """Measure folders of audio into a catalogue. Scanning again reads only what changed."""
    from pipelines.ray_job import check_written
    from pipelines.scanning.scan import scan as run
    from pipelines.scanning.summary import print_summary

    check_written("--out", out)
    roots = {"speech": speech or [], "noise": noise or [], "rir": rir or []}
    print_summary(run(roots, out, workers, licence, speaker_from, table, full))  # type: ignore[arg-type]


@app.command()
def generate(
    recipe: Annotated[
        str, typer.Argument(help="A shipped recipe (ssi48k, urgent2024, demo) or a YAML file.")
    ],
    sources: Annotated[str, typer.Option(help="Catalogue written by 'ssiforge scan', a path or URI.")],
    out: Annotated[str, typer.Option(help="Folder or URI of the corpus; a begun one is continued.")],
    hours: Annotated[
        float | None, typer.Option(help="Length of the corpus in hours; more than it has makes it larger.")
    ] = None,
    samples: Annotated[int | None, typer.Option(help="Number of samples, instead of --hours.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of every draw.")] = 0,
    workers: Annotated[
        int, typer.Option(min=0, help="Processes on this machine; 0 renders in this one.")
    ] = 2,
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="[ADDRESS]",
            help="Render as Ray tasks: on a local Ray, or on a running cluster (auto, or HOST:PORT).",
        ),
    ] = None,
    cache: Annotated[Path | None, typer.Option(help="Folder for simulated rooms.")] = None,
    allow_licences: AllowLicences = None,
    overrides: Overrides = None,
) -> None:
    """Generate a corpus of degraded and target speech. Run again to finish an interrupted one."""
    from pipelines.executors import Executor, InProcess
    from pipelines.generation.generate import generate as run
    from pipelines.generation.local_processes import LocalProcesses
    from pipelines.generation.ray_tasks import RayTasks
    from pipelines.ray_job import check_read, check_written

    check_read("--sources", sources)
    check_written("--out", out)
    if cache is not None:
        check_written("--cache", cache)
    executor: Executor = LocalProcesses(workers) if workers else InProcess()
    if ray is not None:
        executor = RayTasks(None if ray == LOCAL_RAY else ray, cpus=max(1, workers))
    allowed = tuple(allow_licences or ())
    done = run(
        recipe, sources, out, executor, samples, hours, seed, tuple(overrides or ()), cache, say, allowed
    )
    manifest = done.manifest
    redrawn = sum(manifest.failures.values())
    lost = f", {len(manifest.lost_shards)} shards given up" if manifest.lost_shards else ""
    counts = ", ".join(f"{split} {count}" for split, count in manifest.samples.items())
    print(f"{out}: corpus {manifest.id}, {manifest.hours:.2f} h, {counts} samples")
    print(
        f"  {done.rendered_shards} shards rendered, {done.kept_shards} kept, in {done.seconds:.1f} s; "
        f"{redrawn} draws replaced{lost} (see quarantine.jsonl)"
    )


@app.command()
def merge(
    corpora: Annotated[
        list[str], typer.Argument(metavar="CORPUS...", help="Folders or URIs of finished corpora.")
    ],
    out: Annotated[str, typer.Option(help="Folder or URI of the merged corpus.")],
    weight: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CORPUS=WEIGHT",
            help="How often a corpus's training samples are seen an epoch: 1 once, 2 twice, 0.25 a quarter "
            "of them and another quarter the next epoch; 1 if not given; repeatable.",
        ),
    ] = None,
    copy: Annotated[
        bool, typer.Option("--copy", help="Copy the corpora, instead of referring to where they lie.")
    ] = False,
) -> None:
    """Make one corpus of several, with weights. Their shards stay as they are."""
    from pipelines.merging.merge import merge as run

    done = run(corpora, out, weight or (), copy, say)
    manifest = done.manifest
    counts = ", ".join(f"{split} {count}" for split, count in manifest.samples.items())
    print(f"{out}: corpus {manifest.id}, {manifest.hours:.2f} h, {counts} samples")
    for part in manifest.parts:
        print(
            f"  {part.name} {part.recipe}, {part.hours:.2f} h, weight {part.weight:g}, {part.place or 'copied'}"
        )
    if not done.changed:
        print("  all of it was there already")


@app.command()
def verify(
    corpus: Annotated[str, typer.Argument(help="Folder or URI of the corpus.")],
    rerender: Annotated[int, typer.Option(min=0, help="Samples to render again and compare.")] = 0,
    sources: Annotated[
        Path | None, typer.Option(help="A new catalogue, if the source files were moved since.")
    ] = None,
) -> None:
    """Hash every file again, look for leaks and strays, and render samples again."""
    from pipelines.verify import verify as run

    found = run(corpus, rerender, sources, say)
    for remark in found.remarks:
        say(remark)
    for problem in found.problems:
        print(problem)
    if found.problems:
        raise JobError(f"{corpus}: {how_many(len(found.problems), 'problem')} found")
    again = (
        f", {found.identical} of {found.rerendered} re-rendered to the same bytes" if found.rerendered else ""
    )
    counted = f"{how_many(found.shards, 'shard')}, {how_many(found.samples, 'sample')}"
    print(f"{corpus}: sound; {counted}{again}")


@app.command()
def score(
    corpus: Annotated[str, typer.Argument(help="Folder or URI of the corpus.")],
    metrics: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,NAME,...",
            help="dnsmos (of the degraded audio, the default), target_dnsmos, and against the target: "
            "si_sdr_db, estoi, lsd_db, level_error_db, pesq_wb where it is installed.",
        ),
    ] = None,
    split: Annotated[str | None, typer.Option(help="Only train, val or test.")] = None,
    workers: Annotated[int, typer.Option(min=0, help="Processes on this machine; 0 scores in this one.")] = 2,
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="[ADDRESS]",
            help="Score with Ray Data: on a local Ray, or on a running cluster (auto, or HOST:PORT).",
        ),
    ] = None,
    keep: Keep = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="With --keep: write the selection to this file, for 'python -m training --selection'."
        ),
    ] = None,
) -> None:
    """Score every sample into scores.parquet beside samples.parquet; run again to go on, or to add a metric.

    With --keep nothing is scored: it tells how many samples of each split an expression keeps.
    """
    if keep is not None:
        from pipelines.selection.selecting import print_selected

        if metrics is not None or ray is not None:
            raise UserError("--keep scores nothing: give it without --metrics and --ray")
        print_selected(corpus, keep, split, out)
        return
    if out is not None:
        raise UserError("--out writes a selection: it needs --keep")
    from pipelines.scoring.columns import DEFAULT
    from pipelines.scoring.runners import on_processes, on_ray_data
    from pipelines.scoring.score import score as run
    from pipelines.scoring.summary import print_scores

    runner = on_processes(workers)
    if ray is not None:
        runner = on_ray_data(None if ray == LOCAL_RAY else ray, cpus=max(1, workers))
    names = DEFAULT if metrics is None else [name.strip() for name in metrics.split(",") if name.strip()]
    print_scores(corpus, run(corpus, runner, names, split, say))


app.command()(train)
app.command()(evaluate)
app.command()(enhance)
app.command()(calibrate)
app.command()(card)
app.command()(export)
app.command()(lineage)
app.command()(promote)
app.command()(withdraw)
app.command()(report)
app.command()(ui)


@app.command()
def degradations(
    name: Annotated[str | None, typer.Argument(help="A stage to show, or to try with --input.")] = None,
    source: Annotated[
        Path | None, typer.Option("--input", help="Try the stage on this recording; any rate, any channels.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="The result, .wav or .flac; spectrograms are drawn beside it.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="SETTING=VALUE", help="Set what to draw from, e.g. snr_db=5."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of every draw.")] = 0,
    noise: Annotated[Path | None, typer.Option(help="Noise to draw from: a file or folder.")] = None,
    rir: Annotated[Path | None, typer.Option(help="Room impulse responses, likewise.")] = None,
    speech: Annotated[Path | None, typer.Option(help="Other talkers, likewise.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List all degradations, show one in full, or hear one on a recording of your own."""
    from pipelines.stages.degradations import print_stage, print_stages, print_trial

    material = {"noise": noise, "rir": rir, "speech": speech}
    given = {kind: path for kind, path in material.items() if path}
    if source is None and out is None:
        if settings or given:
            raise UserError("--set, --noise, --rir and --speech need --input and --out")
        print_stage(name, as_json) if name else print_stages(as_json)
        return
    if name is None or source is None or out is None:
        raise UserError("to try a degradation, give its name, --input and --out")
    from pipelines.stages.try_stage import try_stage

    trial = try_stage(name, source, out, settings or (), seed, given, say)  # type: ignore[arg-type]
    print_trial(trial, out, as_json)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for everything that the demo makes.")] = Path("demo"),
) -> None:
    """Run the whole chain on a small built-in corpus."""
    from pipelines.demo.chain import demo as run

    run(out, say)


def _normalised(arguments: list[str]) -> list[str]:
    """Let `--ray` stand without an address, and `--debug` anywhere."""
    normal = []
    for position, argument in enumerate(arguments):
        following = arguments[position + 1] if position + 1 < len(arguments) else ""
        if argument == "--ray" and following not in ("auto", LOCAL_RAY) and ":" not in following:
            normal.append(f"--ray={LOCAL_RAY}")
        elif argument == "--debug":
            normal.insert(0, argument)
        else:
            normal.append(argument)
    return normal


def main() -> None:
    """Run the command line; turn every failure into one sentence and an exit code."""
    try:
        code = app(_normalised(sys.argv[1:]), standalone_mode=False)
        if code == EXIT_INTERRUPTED:  # Typer catches Ctrl-C itself and returns what the exit code should be.
            raise KeyboardInterrupt
    except (UserError, JobError) as error:
        _fail(str(error), error, EXIT_USER_MISTAKE if isinstance(error, UserError) else EXIT_FAILED_JOB)
    except JobInterrupted as stopped:
        _fail(str(stopped), stopped, EXIT_INTERRUPTED)
    except (KeyboardInterrupt, typer.Abort) as error:
        command = next((argument for argument in sys.argv[1:] if not argument.startswith("-")), "")
        _fail("; ".join(["interrupted", *filter(None, [GOES_ON.get(command)])]), error, EXIT_INTERRUPTED)
    except Exception as error:
        if hasattr(error, "format_message"):  # click's own complaint about the command line
            _fail(str(error.format_message()), error, EXIT_USER_MISTAKE)
        if (
            isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG
        ):  # text that was meant as something else
            _fail(
                f"{str(error.filename)[:SHOWN_OF_A_NAME]}…: too long for a file's name",
                error,
                EXIT_USER_MISTAKE,
            )
        from pipelines.tracking.store import refusal

        if said := refusal(error):
            _fail(said, error, EXIT_FAILED_JOB)
        _fail(f"unexpected {type(error).__name__}: {error} (--debug shows where)", error, EXIT_FAILED_JOB)


def _fail(message: str, error: BaseException, code: int) -> None:
    if os.environ.get("SSIFORGE_DEBUG"):
        import traceback

        traceback.print_exception(error)
    if message:  # without arguments, the help has been shown already
        print(f"ssiforge: {message}", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
