"""`ssiforge card`. It imports what it needs when it runs."""

from pathlib import Path
from typing import Annotated

import typer


def card(
    model: Annotated[
        str,
        typer.Option(help="Bundle or run folder, NAME, NAME/VERSION, models:/..., a run or shipped:NAME."),
    ],
    out: Annotated[Path, typer.Option(help="The card to write, e.g. MODEL_CARD.md.")],
    evaluation: Annotated[
        list[Path] | None,
        typer.Option(metavar="DIR", help="Results of 'ssiforge evaluate' for this model; repeatable."),
    ] = None,
    licence: Annotated[
        str | None, typer.Option(metavar="SPDX", help="Licence of the weights, e.g. Apache-2.0.")
    ] = None,
) -> None:
    """Write a model's card: data with licences, scores, size, latency, limits and use."""
    from pipelines.model_cards.card import write_card

    info = write_card(model, evaluation or (), licence, out)
    print(f"{out}: card of {info.stage} model {info.id}")
