"""`ssiforge report`. It imports what it needs when it runs."""

from pathlib import Path
from typing import Annotated

import typer

from pipelines.commands.options import say


def report(
    reference: Annotated[
        str,
        typer.Argument(
            metavar="REF",
            help="Folder or URI of a finished corpus; folder of a run, of one stage of it, or of an evaluation; "
            "a run's id in MLflow.",
        ),
    ],
    out: Annotated[
        Path | None, typer.Option(help="Folder for index.html; without it, report/ within REF's folder.")
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(
            metavar="B",
            help="Compare a corpus with another, or with a folder of real degraded recordings: level, bandwidth, "
            "noise floor, clipping and DNSMOS of both.",
        ),
    ] = None,
    samples: Annotated[
        int,
        typer.Option(min=0, help="Of a corpus: samples with players and spectrograms, about 0.25 MB each."),
    ] = 40,
    evaluation: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="DIR",
            help="Of a run: results of 'ssiforge evaluate' for its models, besides those in its folder; repeatable.",
        ),
    ] = None,
    export: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="DIR",
            help="Of a run or an evaluation: what 'ssiforge export' wrote, likewise; repeatable.",
        ),
    ] = None,
) -> None:
    """Write a page about a corpus, a training run or an evaluation.

    Of a corpus: distributions, stages, failures, cost, and samples to hear. Of a run: learning curves, before and
    after, scores by condition, sizes, lineage, settings, the model's card. It is one file that needs no network, and
    the same for the same corpus or run.
    """
    from pipelines.report.run import Sources
    from pipelines.report.subject import report_on

    more = Sources(tuple(evaluation or ()), tuple(export or ()))
    where, size = report_on(reference, out, against, samples, more, say)
    print(f"{where}: {size / 1e6:.1f} MB")
