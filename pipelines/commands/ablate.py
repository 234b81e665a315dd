"""`ssiforge ablate ...`: do distillation and attention help? Each command imports what it needs when it runs."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

ablate = typer.Typer(
    help="Compare equal trainings that differ in one thing, on several seeds.", no_args_is_help=True
)

Experiment = Annotated[
    str, typer.Argument(help="A shipped experiment (tiny, small, paper) or a YAML file; all arms share it.")
]
Corpus = Annotated[str, typer.Option(help="Folder or URI of a finished corpus.")]
Seeds = Annotated[int, typer.Option(min=1, help="How many, counted up from the experiment's.")]
Steps = Annotated[int | None, typer.Option(min=1, help="Of each arm; the experiment's if not given.")]
Out = Annotated[
    Path | None, typer.Option(help="Folder for runs and results; ablations/EXPERIMENT-NAME by default.")
]
Split = Annotated[str, typer.Option(help="Score on this split: train, val or test.")]
Samples = Annotated[int | None, typer.Option(min=1, help="Score only the first so many samples.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="FIELD=VALUE", help="Override a field of the experiment, in all arms."),
]


@ablate.command("kd")
def ablate_kd(
    experiment: Experiment,
    corpus: Corpus,
    teacher: Annotated[
        str | None,
        typer.Option(help="The teacher of all arms, any model reference; trained first if not given."),
    ] = None,
    arms: Annotated[
        str,
        typer.Option(
            metavar="NAME,NAME,...",
            help="none, output, features, similarity, attention; the first is what others are compared with.",
        ),
    ] = "none,output,features,similarity",
    seeds: Seeds = 3,
    steps: Steps = None,
    out: Out = None,
    split: Split = "test",
    samples: Samples = None,
    device: Device = "auto",
    overrides: Settings = None,
) -> None:
    """Train students with and without distillation from one teacher. Run again to go on."""
    names = [name.strip() for name in arms.split(",")]
    shared: dict[str, Any] = {"seeds": seeds, "steps": steps, "out": out, "split": split, "samples": samples}
    _ablate("kd", experiment, corpus, teacher, arms=names, device=device, overrides=overrides or (), **shared)


@ablate.command("asa")
def ablate_asa(
    experiment: Experiment,
    corpus: Corpus,
    student: Annotated[
        str | None,
        typer.Option(
            help="The student before all denoisers, any model reference; it and its teacher are trained first if not "
            "given."
        ),
    ] = None,
    seeds: Seeds = 3,
    steps: Steps = None,
    out: Out = None,
    split: Split = "test",
    samples: Samples = None,
    device: Device = "auto",
    overrides: Settings = None,
) -> None:
    """Train denoisers with and without complex axial self-attention behind one student. Run again to go on."""
    shared: dict[str, Any] = {"seeds": seeds, "steps": steps, "out": out, "split": split, "samples": samples}
    _ablate("asa", experiment, corpus, student, device=device, overrides=overrides or (), **shared)


def _ablate(name: Any, experiment: str, corpus: str, parent: str | None, **options: Any) -> None:
    from pipelines.ablation.ablate import ablate as run
    from pipelines.ablation.report import markdown

    result = run(name, experiment, corpus, parent, say=_say, **options)
    print(markdown(result))


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
