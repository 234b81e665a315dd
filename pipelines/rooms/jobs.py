"""`ssiforge rooms`: build a bank of simulated rooms ahead of time, look into one, hand one on."""

import json
import shutil
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from datagen.rooms import (
    FOLDER_PREFIX,
    LICENCE,
    NAME_PREFIX,
    SETTINGS_NAME,
    Rows,
    bank_digest,
    bank_folder,
    bank_records,
    bank_sources,
    response_path,
)
from manifests.cache import cache_directory
from manifests.documents import Document, check, load_document, with_overrides
from manifests.errors import UserError
from manifests.recipe import RoomBank
from pipelines.rooms.bank import in_processes

QUANTILES = (0.0, 0.05, 0.5, 0.95, 1.0)
ID_LENGTH = 8
"""Characters of a bank's digest that name it to a person, and its rooms in a catalogue."""


@dataclass(frozen=True)
class BankSummary:
    """What a bank is and how well its responses are what was asked for. Quantiles are those of `QUANTILES`."""

    bank: str
    folder: str
    settings: dict[str, Any]
    rooms: int
    responses: int
    rendered: int
    """Rooms that this run made; the others were there."""
    seconds: float
    """That this run took."""
    methods: dict[str, int]
    """Responses by how they were computed."""
    redrawn: int
    """Rooms of which at least one draw did not become what was asked for."""
    worst_error: float
    """Largest difference of realised and asked RT60, as a share of the asked one."""
    asked_rt60_s: tuple[float, ...]
    rt60_s: tuple[float, ...]
    drr_db: tuple[float, ...]
    distance_m: tuple[float, ...]


def bank_settings(recipe: str | None, options: dict[str, Any], overrides: Iterable[str] = ()) -> RoomBank:
    """The bank of a recipe, or the default one, with options in the place of its own settings.

    Args:
        recipe: a shipped recipe's name or a YAML file; None for the defaults.
        options: fields of the bank; those that are None are left alone.
        overrides: further ones as `field=value`.

    Raises:
        UserError: when the recipe has no bank, or a setting is wrong.
    """
    document = Document("rooms", {}, {})
    if recipe is not None:
        document = _bank_of_recipe(recipe)
    given = {name: value for name, value in options.items() if value is not None}
    document = with_overrides(Document(document.name, document.content | given, document.lines), overrides)
    return check(RoomBank, document.content, document)


def build(bank: RoomBank, cache: Path | None, workers: int) -> BankSummary:
    """Render what a bank lacks, and say what it holds.

    Raises:
        UserError: when the cache cannot be written, or the settings contradict one another.
        JobError: when a worker dies.
    """
    began = time.monotonic()
    rendered = 0

    def in_workers(simulate: Callable[[int], Rows], numbers: Collection[int]) -> Iterable[Rows]:
        nonlocal rendered
        rendered = len(numbers)
        return in_processes(workers, simulate, numbers)

    folder = cache or cache_directory()
    bank_sources(bank, folder, in_workers)
    return summary(bank, bank_folder(bank, folder), rendered, time.monotonic() - began)


def summary(bank: RoomBank, folder: Path, rendered: int = 0, seconds: float = 0.0) -> BankSummary:
    """Say what a bank's folder holds of its first `bank.count` rooms."""
    records = list(bank_records(folder, bank.count))
    return BankSummary(
        bank=bank_id(folder),
        folder=str(folder),
        settings=bank.model_dump(mode="json"),
        rooms=len({record["room"] for record in records}),
        responses=len(records),
        rendered=rendered,
        seconds=round(seconds, 1),
        methods=dict(sorted(Counter(record["method"] for record in records).items())),
        redrawn=len({record["room"] for record in records if record["attempt"]}),
        worst_error=max((abs(record["rt60_error"]) for record in records), default=0.0),
        asked_rt60_s=_quantiles(records, "asked_rt60_s"),
        rt60_s=_quantiles(records, "rt60_s"),
        drr_db=_quantiles(records, "drr_db"),
        distance_m=_quantiles(records, "distance_m"),
    )


def banks(cache: Path | None) -> list[dict[str, Any]]:
    """List the banks in a cache, in order of id: what they are, how large, and whether this version still uses them."""
    found = []
    for folder in sorted((cache or cache_directory()).glob(f"{FOLDER_PREFIX}*")):
        settings = _settings(folder)
        wavs = list(folder.glob("room-*.wav"))
        found.append(
            {
                "bank": bank_id(folder),
                "rooms": len({path.stem.rsplit("-", 1)[0] for path in wavs}),
                "responses": len(wavs),
                "megabytes": round(sum(path.stat().st_size for path in wavs) / 1e6, 1),
                "current": settings is not None and bank_digest(settings) == _digest(folder),
                "settings": settings.model_dump(mode="json", exclude={"count"}) if settings else None,
            }
        )
    return found


def find_bank(reference: str, cache: Path | None) -> Path:
    """Return the folder of a built bank.

    Args:
        reference: the beginning of its id, or a recipe that uses it.
        cache: folder for rendered things; the user's by default.

    Raises:
        UserError: when there is none, or more than one.
    """
    where = cache or cache_directory()
    found = [folder for folder in where.glob(f"{FOLDER_PREFIX}*") if _digest(folder).startswith(reference)]
    if len(found) == 1:
        return found[0]
    if found:
        raise UserError(f"{reference}: {len(found)} banks in {where} begin so; give more of the id")
    try:
        settings = bank_settings(reference, {})
    except UserError as error:
        raise UserError(
            f"no bank in {where} has an id that begins with {reference!r}, and {error}"
        ) from error
    folder = bank_folder(settings, where)
    if not folder.is_dir():
        raise UserError(
            f"{reference}: its rooms are not in {where}; 'ssiforge rooms build {reference}' makes them"
        )
    return folder


def records_of(folder: Path, room: int | None = None) -> list[dict[str, Any]]:
    """Return the records of a bank's responses, or of one of its rooms.

    Raises:
        UserError: when the bank lacks it.
    """
    records = [record for record in bank_records(folder) if room in (None, record["room"])]
    if not records:
        what = "whole response" if room is None else f"room {room}"
        raise UserError(f"bank {bank_id(folder)} in {folder} holds no {what}")
    return records


def export(folder: Path, out: Path) -> int:
    """Copy a bank's responses into a folder that `ssiforge scan --rir` and other programs read; return how many.

    Each room gets a folder, with a WAV and its record for each position; `sources.tsv` names rooms and licence.

    Raises:
        UserError: when the folder holds something already, or cannot be written.
    """
    records = records_of(folder)
    if out.exists() and not out.is_dir():
        raise UserError(f"{out}: is a file; give a new folder")
    if out.exists() and any(out.iterdir()):
        raise UserError(f"{out}: is not empty; give a new folder")
    table = ["path\tlicence\troom"]
    try:
        for record in records:
            room = f"room-{record['room']:06d}"
            source = response_path(folder, record["room"], record["position"])
            (out / room).mkdir(parents=True, exist_ok=True)
            target = out / room / f"position-{record['position']}.wav"
            shutil.copyfile(source, target)
            shutil.copyfile(source.with_suffix(".json"), target.with_suffix(".json"))
            row = f"{room}/*\t{LICENCE}\t{NAME_PREFIX}{bank_id(folder)}-{record['room']:06d}"
            if row != table[-1]:
                table.append(row)
        (out / "sources.tsv").write_text("\n".join(table) + "\n", encoding="utf-8")
    except OSError as error:
        raise UserError(f"{out}: cannot be written ({error.strerror})") from error
    return len(records)


def bank_id(folder: Path) -> str:
    """The short name of a bank."""
    return _digest(folder)[:ID_LENGTH]


def plain(found: BankSummary) -> dict[str, Any]:
    """Return a summary as JSON values."""
    return asdict(found)


def _digest(folder: Path) -> str:
    return folder.name.removeprefix(FOLDER_PREFIX)


def _settings(folder: Path) -> RoomBank | None:
    try:
        return RoomBank.model_validate(json.loads((folder / SETTINGS_NAME).read_bytes()))
    except (OSError, ValueError):
        return None


def _bank_of_recipe(recipe: str) -> Document:
    document = load_document(recipe, "recipes")
    content = document.content.get("rooms")
    if not isinstance(content, dict):
        raise UserError(f"{document.name}: has no 'rooms', so it uses no simulated ones")
    lines = {at[1:]: line for at, line in document.lines.items() if at[:1] == ("rooms",)}
    return Document(f"{document.name}, rooms", content, lines)


def _quantiles(records: Sequence[dict[str, Any]], name: str) -> tuple[float, ...]:
    if not records:
        return ()
    return tuple(round(float(x), 3) for x in np.quantile([record[name] for record in records], QUANTILES))
