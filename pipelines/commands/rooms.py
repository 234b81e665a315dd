"""`ssiforge rooms ...`: the commands about simulated rooms. Each imports what it needs when it runs."""

import json
from pathlib import Path
from typing import Annotated

import typer

from manifests.errors import UserError

rooms = typer.Typer(help="Simulate rooms ahead of time, and look at them.", no_args_is_help=True)
Cache = Annotated[Path | None, typer.Option(help="Folder for simulated rooms.")]
Bank = Annotated[str, typer.Argument(help="The beginning of a bank's id, or a recipe that uses it.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@rooms.command("build")
def rooms_build(
    recipe: Annotated[
        str | None, typer.Argument(help="Begin with the rooms of this recipe; the defaults without.")
    ] = None,
    count: Annotated[int | None, typer.Option(help="Number of rooms.")] = None,
    positions: Annotated[int | None, typer.Option(help="Responses of each room, 1 to 8.")] = None,
    rt60: Annotated[
        tuple[float, float] | None, typer.Option(metavar="LOW HIGH", help="Reverberation times in seconds.")
    ] = None,
    distance: Annotated[
        tuple[float, float] | None,
        typer.Option(metavar="LOW HIGH", help="Metres from talkers to microphone."),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of every draw.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 2,
    cache: Cache = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="E.g. height_m=[2.4,3].")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Simulate the rooms that a bank lacks: those that 'generate' then finds. Run again to go on."""
    from pipelines.rooms.jobs import bank_settings, build, plain
    from pipelines.rooms.tables import print_summary

    given = {"count": count, "positions": positions, "rt60_s": rt60, "distance_m": distance, "seed": seed}
    done = build(bank_settings(recipe, given, settings or ()), cache, workers)
    print(json.dumps(plain(done), indent=2)) if as_json else print_summary(done)


@rooms.command("show")
def rooms_show(
    bank: Annotated[
        str | None, typer.Argument(help="A bank's id, or a recipe that uses it; all without.")
    ] = None,
    room: Annotated[int | None, typer.Argument(min=0, help="Number of a room.")] = None,
    out: Annotated[Path | None, typer.Option(help="PNG of the room: plan, decay, spectrograms.")] = None,
    cache: Cache = None,
    as_json: AsJson = False,
) -> None:
    """List the banks, the responses of a bank, or one room with a picture of it."""
    from pipelines.rooms.jobs import banks, find_bank, records_of
    from pipelines.rooms.tables import print_banks, print_responses, print_room

    if out is not None and room is None:
        raise UserError("--out draws one room: give a bank and the number of a room")
    if bank is None:
        found = banks(cache)
        print(json.dumps(found, indent=2)) if as_json else print_banks(found)
        return
    folder = find_bank(bank, cache)
    records = records_of(folder, room)
    if out is not None:
        from pipelines.rooms.picture import draw_room

        draw_room(out, folder, records)
    if as_json:
        print(json.dumps(records, indent=2))
    elif room is None:
        print_responses(records)
    else:
        print_room(records)


@rooms.command("export")
def rooms_export(
    bank: Bank,
    out: Annotated[Path, typer.Option(help="A new folder.")],
    cache: Cache = None,
) -> None:
    """Copy a bank's responses as WAV files, with a sources.tsv that 'ssiforge scan --rir' reads."""
    from pipelines.rooms.jobs import export, find_bank

    print(f"{out}: {export(find_bank(bank, cache), out)} responses")
