"""`ssiforge report`. It imports what it needs when it runs."""

from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli_options import say


def report(
    reference: Annotated[str, typer.Argument(metavar="REF", help="Folder or URI of a finished corpus.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder for index.html; without it, report/ within the corpus.")
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(
            metavar="B",
            help="Compare with another corpus, or with a folder of real degraded recordings: level, bandwidth, "
            "noise floor, clipping and DNSMOS of both.",
        ),
    ] = None,
    samples: Annotated[
        int, typer.Option(min=0, help="Samples with players and spectrograms, about 0.25 MB each.")
    ] = 40,
) -> None:
    """Write a page about a corpus: distributions, stages, failures, cost, and samples to hear.

    It is one file that needs no network, and the same for the same corpus.
    """
    from pipelines.report.corpus_report import write_report

    where, size = write_report(reference, out, against, samples, say)
    print(f"{where}: {size / 1e6:.1f} MB")
