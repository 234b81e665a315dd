"""`ssiforge calibrate` on the command line."""

from pathlib import Path
from typing import Annotated

import typer


def calibrate(
    model: Annotated[
        str, typer.Option(help="Bundle or run folder, shipped, NAME, NAME/VERSION, models:/... or a run.")
    ],
    corpus: Annotated[str, typer.Option(help="Folder or URI of the corpus whose held-out samples decide.")],
    out: Annotated[Path, typer.Option(help="Folder of the calibrated model.")],
    split: Annotated[str, typer.Option(help="Of the corpus: val, train or test.")] = "val",
    limit: Annotated[int, typer.Option(min=1, help="So many samples, evenly spread.")] = 60,
    shares: Annotated[
        str, typer.Option(metavar="S,S,...", help="Shares of the levelled input to try.")
    ] = "0,0.1,0.2,0.3,0.4,0.5,0.6",
) -> None:
    """Choose by DNSMOS how much of its input a model leaves in, and write the model that does so."""
    from manifests.errors import UserError
    from pipelines.commands.options import say
    from pipelines.evaluation.calibrate import calibrate as run

    try:
        wanted = [float(share) for share in shares.split(",")]
    except ValueError as error:
        raise UserError(f"--shares {shares}: must be numbers, e.g. 0,0.2,0.4") from error
    done = run(model, corpus, out, split, limit, wanted, say)
    print(f"{'share':>6}  SIG   BAK   OVRL   mean of {done.samples} samples")
    for trial in done.trials:
        mark = "  <- chosen" if trial is done.chosen else ""
        print(f"{trial.name:>6}  {trial.sig:.2f}  {trial.bak:.2f}  {trial.ovrl:.2f}{mark}")
    print(f"{out}: model {done.info.id}")
