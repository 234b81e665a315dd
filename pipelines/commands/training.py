"""`ssiforge train`, `evaluate` and `enhance`. They import what they need when they run."""

from pathlib import Path
from typing import Annotated

import typer

from manifests.errors import UserError
from manifests.store import absolute
from pipelines.commands.online import (
    OnlineRecipe,
    OnlineSeed,
    OnlineSources,
    OnlineWeight,
    OnlineWorkers,
    online_request,
)
from pipelines.commands.options import LOCAL_RAY, AllowLicences, Keep, Overrides, named_path, say


def train(
    experiment: Annotated[
        str,
        typer.Argument(
            help="A shipped experiment (tiny, small, small-gpu, small-cpu, paper) or a YAML file."
        ),
    ],
    corpus: Annotated[str | None, typer.Option(help="Folder or URI of a finished corpus.")] = None,
    stage: Annotated[
        str, typer.Option(help="teacher, student, denoiser, joint, or all in this order.")
    ] = "all",
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted run.")] = False,
    out: Annotated[Path | None, typer.Option(help="Folder of the run; runs/EXPERIMENT by default.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="[ADDRESS]",
            help="Train with Ray Train: on a local Ray, or on a running cluster (auto, or HOST:PORT).",
        ),
    ] = None,
    workers: Annotated[
        str | None,
        typer.Option(metavar="MIN[:MAX]", help="With --ray: workers that share each batch; 2 by default."),
    ] = None,
    keep: Keep = None,
    online: OnlineRecipe = None,
    sources: OnlineSources = None,
    online_weight: OnlineWeight = None,
    online_workers: OnlineWorkers = None,
    seed: OnlineSeed = None,
    allow_licences: AllowLicences = None,
    overrides: Overrides = None,
    parents: Annotated[
        list[str] | None,
        typer.Option(
            "--from",
            metavar="ROLE=MODEL",
            help="Build on this model, e.g. teacher=runs/small/teacher; with the name of the one --stage, "
            "begin with its weights.",
        ),
    ] = None,
) -> None:
    """Train RaD-Net 2's stages on a corpus, on fresh samples or both, each tracked as an MLflow run."""
    fresh = online_request(corpus, online, sources, online_weight, online_workers, seed, allow_licences)
    from pipelines.ray_job import check_written
    from pipelines.trainer.train import train as run

    on_ray = None
    if ray is not None:
        from pipelines.trainer.ray_train import RayTraining, Workers

        check_written("--out", out or "runs")
        on_ray = RayTraining(None if ray == LOCAL_RAY else ray, Workers.parse(workers or "2"), say)
    elif workers is not None:
        raise UserError("--workers shares training among Ray's workers: it needs --ray")
    models = run(
        experiment,
        corpus,
        stage,
        resume,
        out,
        device,
        overrides or (),
        say,
        keep=keep,
        online=fresh,
        parents=parents or (),
        elsewhere=on_ray,
    )
    for name, info in models.items():
        print(f"{name}: model {info.id}")


def evaluate(
    model: Annotated[
        list[str],
        typer.Option(
            help="Bundle or run folder, NAME, NAME/VERSION, models:/..., a run or shipped:NAME; repeatable."
        ),
    ],
    corpus: Annotated[str | None, typer.Option(help="Score against the targets of this corpus.")] = None,
    input_dir: Annotated[
        Path | None,
        typer.Option("--input", help="Score recordings without references: DNSMOS, level, bandwidth."),
    ] = None,
    split: Annotated[str, typer.Option(help="Of the corpus: train, val or test.")] = "test",
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many samples.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the results; evaluations/NAME by default.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    workers: Annotated[
        int, typer.Option(min=0, help="Processes that score; 0 scores in this one. Scores are the same.")
    ] = 0,
    sigmos: Annotated[
        Path | None,
        typer.Option(help="ONNX file of the ICASSP 2024 challenge's SIGMOS, to score with it too."),
    ] = None,
    keep: Keep = None,
    listen: Annotated[
        int, typer.Option(min=0, max=100, help="Keep the audio of so many samples, for 'ssiforge report'.")
    ] = 4,
) -> None:
    """Score models on a corpus or on a folder of recordings, broken down by degradation."""
    from pipelines.evaluation.evaluate import evaluate as run
    from pipelines.evaluation.table import print_evaluation

    where = absolute(corpus or input_dir or "none")
    folder = out or Path("evaluations") / where.rpartition("/")[2]
    found = run(
        model, folder, corpus, input_dir, split, limit, device, say, keep, workers, sigmos, listen=listen
    )
    print_evaluation(found)
    say(f"{folder}: holds the scores of every sample, their means and the comparisons")


def enhance(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="INPUT",
            help="A file or a folder, any rate, any channels; - with --stream.",
            parser=named_path,
        ),
    ],
    output: Annotated[
        Path,
        typer.Argument(
            metavar="OUTPUT", help="A .wav or .flac file, or a folder; - with --stream.", parser=named_path
        ),
    ],
    model: Annotated[
        str | None,
        typer.Option(
            help="Bundle or run folder, NAME, NAME/VERSION, models:/..., a run or shipped:NAME; "
            "the shipped model if not given."
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    file_format: Annotated[str, typer.Option("--format", help="wav or flac, for folders.")] = "wav",
    stream: Annotated[
        bool,
        typer.Option(
            "--stream",
            help="Frame by frame through the exported model, on one core; also INPUT - and OUTPUT -: raw mono "
            "16-bit PCM at 48 kHz from stdin to stdout, 20 ms late. --model may be a model.onnx.",
        ),
    ] = False,
) -> None:
    """Enhance recordings; writes 48 kHz."""
    if str(source) == "-" or str(output) == "-":
        from pipelines.enhancement.pcm_pipe import enhance_pipe

        enhance_pipe(source, output, model, device, stream, say)
        return
    from pipelines.enhancement.enhance import enhance as run

    done = run(source, output, model, device, file_format, say, stream)
    count = len(done.written)
    print(f"{output}: {count} {'file' if count == 1 else 'files'} enhanced")
