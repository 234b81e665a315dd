"""What a scan found, as tables for a person."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from manifests.recipe import SPLITS
from manifests.source import KINDS, Kind, Source
from pipelines.scanning.scan import ScanSummary

_GROUPS = {"speech": "speakers", "noise": "recordings", "rir": "rooms"}
_SHOWN = 10


def print_summary(summary: ScanSummary, console: Console | None = None) -> None:
    """Print what a scan found: files, hours, bandwidths, splits, licences, and what was refused and why."""
    console = console or Console()
    console.print(_counts(summary))
    console.print(_distributions(summary))
    _print_licences(summary, console)
    _print_refused(summary, console)
    console.print(f"{summary.examined} files read, {summary.reused} unchanged since the last scan.")


def _counts(summary: ScanSummary) -> Table:
    table = Table("kind", "files", "refused", "hours", "groups", *SPLITS)
    for kind, usable, refused in _by_kind(summary):
        groups = [len({source.group for source in usable if source.split == split}) for split in SPLITS]
        hours = sum(source.seconds for source in usable) / 3600
        table.add_row(
            kind,
            str(len(usable)),
            str(refused),
            f"{hours:.2f}",
            _GROUPS[kind],
            *(str(count) for count in groups),
        )
    return table


def _distributions(summary: ScanSummary) -> Table:
    table = Table("quartiles", "bandwidth kHz", "level dBFS", "RT60 s", "DRR dB")
    for kind, usable, _ in _by_kind(summary):
        table.add_row(
            kind,
            _quartiles([(source.bandwidth_hz or 0.0) / 1000 for source in usable], 1),
            _quartiles([source.active_level_dbfs for source in usable], 1),
            _quartiles([source.rt60_s for source in usable], 2),
            _quartiles([source.drr_db for source in usable], 1),
        )
    return table


def _by_kind(summary: ScanSummary) -> Iterator[tuple[Kind, list[Source], int]]:
    """Each kind that was scanned, with its usable rows and the number of refused ones."""
    for kind in KINDS:
        rows = summary.catalogue.of_kind(kind)
        usable = [source for source in rows if source.refused is None]
        if rows:
            yield kind, usable, len(rows) - len(usable)


def _quartiles(values: Sequence[float | None], digits: int) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return "-"
    return " / ".join(f"{value:.{digits}f}" for value in np.quantile(known, [0.25, 0.5, 0.75]))


def _print_licences(summary: ScanSummary, console: Console) -> None:
    counts = Counter(source.licence for source in summary.catalogue.usable)
    shown = ", ".join(f"{licence} {count}" for licence, count in counts.most_common(_SHOWN))
    more = f", and {len(counts) - _SHOWN} more" if len(counts) > _SHOWN else ""
    console.print(escape(f"Licences: {shown}{more}"), highlight=False, soft_wrap=True)


def _print_refused(summary: ScanSummary, console: Console) -> None:
    refused = summary.refused
    if not refused:
        return
    # `truncated: 9 of 12 frames` and `duplicate of a.wav` count with their like.
    reasons = Counter(re.split(r":| of | \(", source.refused or "")[0] for source in refused)
    console.print(
        escape("Refused: " + ", ".join(f"{reason} {count}" for reason, count in reasons.most_common()))
    )
    for source in refused[:_SHOWN]:
        console.print(escape(f"  {source.path}: {source.refused}"), highlight=False, soft_wrap=True)
    if len(refused) > _SHOWN:
        console.print(
            f"  and {len(refused) - _SHOWN} more; the column 'refused' of the catalogue holds all of them"
        )
