"""`ssiforge export` on the command line."""

from pathlib import Path
from typing import Annotated

import typer


def export(
    model: Annotated[
        str,
        typer.Option(
            help="Bundle or run folder, shipped, NAME, NAME/VERSION, models:/... or a run; a causal one."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder for model.onnx and the parity report.")],
    int8: Annotated[
        bool, typer.Option("--int8", help="Also write a file with 8-bit weights, and what they cost.")
    ] = False,
    source: Annotated[
        Path | None,
        typer.Option("--input", help="Compare with torch on this recording; a noisy demo voice by default."),
    ] = None,
) -> None:
    """Export a causal model as one streaming ONNX graph, checked against torch."""
    from datagen.audio import AudioError, read_recording
    from manifests.errors import UserError
    from pipelines.commands.options import say
    from pipelines.onnx_export.export import export as run

    checked = None
    if source is not None:
        try:
            checked, _, _ = read_recording(str(source))
        except AudioError as error:
            raise UserError(f"--input {source}: {error}") from error
    done = run(model, out, int8, checked, say)
    for variant in done.variants:
        snr = (
            "equal to torch"
            if variant.snr_db is None
            else f"{variant.snr_db} dB above its difference from torch"
        )
        print(
            f"{out / variant.file}: {variant.megabytes} MB, {snr}, real-time factor {variant.real_time_factor} "
            f"on 1 thread"
        )
