"""`ssiforge ui`. It imports what it needs when it runs."""

from pathlib import Path
from typing import Annotated

import typer

from pipelines.commands.options import say


def ui(
    folders: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[FOLDER]...",
            help="Look for reports below these folders; below the current one by default.",
        ),
    ] = None,
    port: Annotated[
        int,
        typer.Option(
            min=1, max=65_535, help="Of the reports; MLflow has the next. Taken ones are passed over."
        ),
    ] = 5050,
    host: Annotated[
        str,
        typer.Option(
            help="Address to listen on. Others than loopback let anyone in who reaches it: no password."
        ),
    ] = "127.0.0.1",
) -> None:
    """Show reports and MLflow's pages in a browser, on this machine alone; Ctrl-C stops both."""
    from pipelines.report.ui import ui as run

    run(folders or [Path()], host, port, lambda line: print(line, flush=True), say)
