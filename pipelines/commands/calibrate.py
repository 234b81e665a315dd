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
    ] = "0,0.1,0.2,0.3,0.4,0.5,0.6,0.7",
    recordings: Annotated[
        Path | None, typer.Option(help="Folder of real recordings to which no share should do harm either.")
    ] = None,
) -> None:
    """Choose by DNSMOS how much of its input a model leaves in, set its level, and write the model that does so.

    The share is that of clean speech: of what is mostly noise nothing is left in.
    """
    from manifests.errors import UserError
    from pipelines.commands.options import say
    from pipelines.evaluation.calibrate import calibrate as run

    try:
        wanted = [float(share) for share in shares.split(",")]
    except ValueError as error:
        raise UserError(f"--shares {shares}: must be numbers, e.g. 0,0.2,0.4") from error
    done = run(model, corpus, out, split, limit, wanted, recordings, say)
    for trials, what in ((done.trials, "samples"), (done.heard, "recordings")):
        if trials:
            print(f"{'share':>6}  SIG   BAK   OVRL   mean of {len(trials[0].ovrls)} {what}")
        for trial in trials:
            mark = "  <- chosen" if trial.name == done.chosen.name else ""
            print(f"{trial.name:>6}  {trial.sig:.2f}  {trial.bak:.2f}  {trial.ovrl:.2f}{mark}")
    print(f"level: {done.makeup_db:+.2f} dB, which makes it that of the targets on average")
    print(f"{out}: model {done.info.id}")
