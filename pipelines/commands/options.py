"""Options that several commands share, and how commands speak."""

import sys
from pathlib import Path
from typing import Annotated

import typer

LOCAL_RAY = "local"
"""What a `--ray` without an address means."""

Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="FIELD=VALUE", help="Override a field, e.g. target.kind=early."),
]

Keep = Annotated[
    str | None,
    typer.Option(
        metavar="EXPR",
        help="Only samples for which this holds, over the columns of samples.parquet and scores.parquet, e.g. "
        "\"dnsmos_ovrl < 2.5 and measured.snr_db > 0 and not 'codec' in stages\".",
    ),
]

AllowLicences = Annotated[
    list[str] | None,
    typer.Option(
        "--allow-licences",
        metavar="LIST",
        help="Licences that data may have, separated by commas: SPDX ids, CC-BY-* (any version), exact texts, "
        "'unknown' (nothing is said of it), 'unrecognised' (any text that is no known licence); repeatable.",
    ),
]


def named_path(text: str) -> Path:
    """Return the path that an argument names; an empty one would mean the current folder."""
    if not text:
        raise typer.BadParameter("is empty")
    return Path(text)


def say(line: str) -> None:
    """Tell a person something, on stderr, so that stdout stays the command's result."""
    print(line, file=sys.stderr, flush=True)
