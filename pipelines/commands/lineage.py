"""`ssiforge lineage`. It imports what it needs when it runs."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from manifests.errors import UserError


def lineage(
    reference: Annotated[
        str,
        typer.Argument(
            metavar="REF",
            help="A model, run, corpus, sample key, shard, source hash or path, recipe digest, speaker:NAME or "
            "licence:TEXT.",
        ),
    ],
    corpus: Annotated[
        list[str] | None, typer.Option(help="Look into this corpus as well; repeatable.")
    ] = None,
    up: Annotated[bool, typer.Option("--up", help="Only what it came from.")] = False,
    down: Annotated[bool, typer.Option("--down", help="Only what was made of it.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, complete.")] = False,
    as_mermaid: Annotated[bool, typer.Option("--mermaid", help="Print a Mermaid graph.")] = False,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a page with the graph drawn; it works offline.")
    ] = None,
) -> None:
    """Walk from a model back to its sources, or from a source forward to corpora and models.

    It needs no MLflow: models, runs, corpora and evaluations in folders below the current one tell the same.
    """
    from pipelines.lineage.answer import lineage as run

    if as_json and as_mermaid:
        raise UserError("give either --json or --mermaid")
    if as_json and html is not None:
        raise UserError("give either --json or --html")
    found = run(reference, corpus or [], up or not down, down or not up)
    for said in found.not_read:
        print(f"not read: {said}", file=sys.stderr)
    if html is not None:
        from pipelines.lineage.page import write_page

        write_page(found, html)
        print(f"{html}: lineage of {found.start.kind} {found.start.label!r}")
    elif as_json:
        print(found.json_text())
    elif as_mermaid:
        print(found.mermaid())
    else:
        from pipelines.lineage.tree import print_lineage

        print_lineage(found)
