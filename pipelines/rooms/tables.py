"""Banks of simulated rooms as tables for a person."""

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from pipelines.rooms.jobs import QUANTILES, BankSummary

PLAIN_WIDTH = 160
"""Lines of a file or a pipe are not broken."""


def print_summary(found: BankSummary) -> None:
    """Print what a bank holds, and how well it is what was asked for."""
    table = Table(f"bank {found.bank}", *(_quantile_name(share) for share in QUANTILES), title_justify="left")
    for title, values in (
        ("RT60 asked for, s", found.asked_rt60_s),
        ("RT60 realised, s", found.rt60_s),
        ("DRR, dB", found.drr_db),
        ("distance, m", found.distance_m),
    ):
        table.add_row(title, *(f"{value:.2f}" for value in values))
    console = _console()
    console.print(table)
    methods = ", ".join(f"{count} {method}" for method, count in found.methods.items())
    console.print(
        f"{found.responses} responses of {found.rooms} rooms ({methods}); {found.redrawn} rooms drawn more than once; "
        f"RT60 off by {100.0 * found.worst_error:.1f} % at most",
        f"{found.rendered} rooms rendered in {found.seconds:.1f} s, kept in {found.folder}",
        sep="\n",
        highlight=False,
        soft_wrap=True,
    )


def print_banks(found: Sequence[dict[str, Any]]) -> None:
    """Print the banks of a cache, a line each."""
    table = Table("bank", "rooms", "responses", "MB", "RT60 s", "distance m", "seed", "of this version")
    for bank in found:
        settings = bank["settings"] or {}
        table.add_row(
            bank["bank"],
            str(bank["rooms"]),
            str(bank["responses"]),
            f"{bank['megabytes']:.1f}",
            _span(settings.get("rt60_s")),
            _span(settings.get("distance_m")),
            str(settings.get("seed", "-")),
            "yes" if bank["current"] else "no",
        )
    _console().print(table if found else "no bank yet; 'ssiforge rooms build' makes one")


def print_responses(records: Sequence[dict[str, Any]]) -> None:
    """Print the responses of a bank, a line each."""
    table = Table(
        "room", "position", "asked s", "RT60 s", "error", "DRR dB", "distance m", "size m", "method"
    )
    for record in records:
        table.add_row(
            str(record["room"]),
            str(record["position"]),
            f"{record['asked_rt60_s']:.3f}",
            f"{record['rt60_s']:.3f}",
            f"{100.0 * record['rt60_error']:+.1f} %",
            f"{record['drr_db']:.1f}",
            f"{record['distance_m']:.2f}",
            _metres(record["size_m"]),
            record["method"],
        )
    _console().print(table)


def print_room(records: Sequence[dict[str, Any]]) -> None:
    """Print the plan of one room and what is heard of each of its positions."""
    first = records[0]
    console = _console()
    console.print(
        f"room {first['room']}: {_metres(first['size_m'])} m, microphone at {_metres(first['microphone_m'])}; "
        f"{first['method']}, walls absorb {100.0 * first['absorption']:.1f} %, draw {first['attempt'] + 1}",
        highlight=False,
        soft_wrap=True,
    )
    table = Table("position", "at m", "distance m", "asked s", "RT60 s", "error", "DRR dB", "seconds")
    for record in records:
        table.add_row(
            str(record["position"]),
            _metres(record["position_m"]),
            f"{record['distance_m']:.2f}",
            f"{record['asked_rt60_s']:.3f}",
            f"{record['rt60_s']:.3f}",
            f"{100.0 * record['rt60_error']:+.1f} %",
            f"{record['drr_db']:.1f}",
            f"{record['frames'] / 48_000:.2f}",
        )
    console.print(table)


def _console() -> Console:
    console = Console()
    return console if console.is_terminal else Console(width=PLAIN_WIDTH)


def _quantile_name(share: float) -> str:
    return {0.0: "least", 0.5: "median", 1.0: "most"}.get(share, f"{100.0 * share:.0f} %")


def _metres(values: Sequence[float]) -> str:
    return " x ".join(f"{value:.2f}" for value in values)


def _span(bounds: Sequence[float] | None) -> str:
    return f"{bounds[0]:g} to {bounds[1]:g}" if bounds else "-"
