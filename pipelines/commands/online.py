"""The options of `ssiforge train` that ask for fresh samples."""

from typing import TYPE_CHECKING, Annotated

import typer

from manifests.errors import UserError

if TYPE_CHECKING:
    from pipelines.online.online import OnlineRequest

OnlineRecipe = Annotated[
    str | None,
    typer.Option(
        "--online", metavar="RECIPE", help="Render fresh samples of this recipe on the way; needs --sources."
    ),
]
OnlineSources = Annotated[
    str | None, typer.Option("--sources", help="With --online: the catalogue to draw from, a path or URI.")
]
OnlineWeight = Annotated[
    float | None,
    typer.Option(
        help="With --online and --corpus: the share of samples that are fresh, above 0 to 1; 0.5 if not given."
    ),
]
OnlineWorkers = Annotated[
    int | None, typer.Option(help="With --online: processes that render; 2 if not given. Changes no sample.")
]
OnlineSeed = Annotated[
    int | None, typer.Option("--seed", help="With --online: seed of every draw; 0 if not given.")
]


def online_request(
    corpus: str | None,
    recipe: str | None,
    sources: str | None,
    weight: float | None,
    workers: int | None,
    seed: int | None,
    allow_licences: list[str] | None,
) -> "OnlineRequest | None":
    """Return what the options ask for; None for no fresh samples.

    Raises:
        UserError: when options are missing, or mean nothing without --online.
    """
    if recipe is None:
        given = {
            "--sources": sources,
            "--online-weight": weight,
            "--online-workers": workers,
            "--seed": seed,
            "--allow-licences": allow_licences,
        }
        idle = [name for name, value in given.items() if value is not None]
        if idle:
            raise UserError(f"{idle[0]} belongs to fresh samples: give --online RECIPE with it")
        if corpus is None:
            raise UserError("give --corpus, or --online with --sources")
        return None
    if sources is None:
        raise UserError("--online draws from a catalogue: give --sources, written by 'ssiforge scan'")
    from pipelines.online.online import WORKERS, OnlineRequest

    return OnlineRequest(
        recipe,
        sources,
        seed or 0,
        weight,
        WORKERS if workers is None else workers,
        allow_licences=tuple(allow_licences or ()),
    )
