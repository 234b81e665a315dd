"""The simulated bank: rooms rendered once, kept in a cache by content, and handed on as catalogue rows.

```
CACHE/rooms-0f3a.../bank.json             the settings, for a person who looks
                    room-000012-1.wav     what is heard of position 1 in room 12: float32, written by scipy
                                          (libsndfile puts the time of day into float WAVs)
                    room-000012-1.json    its SHA-256, what was asked for and what was measured; written last
```
The folder's name is a digest of the bank's settings and of the code that renders: another seed, size range or
version of the simulator is another folder. The number of rooms is not part of it, so a bank can grow.
"""

import contextlib
import hashlib
import io
import json
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

from scipy.io import wavfile

from datagen import air, rir, room_plan, room_response, room_simulation
from datagen.room_response import LEAD_SAMPLES
from datagen.room_simulation import SimulatedRoom, simulate
from manifests.canonical import canonical_json, digest, file_sha256
from manifests.errors import UserError
from manifests.files import TEMPORARY_SUFFIX, write_atomically
from manifests.licence_names import SIMULATED
from manifests.recipe import SAMPLE_RATE_HZ, RoomBank
from manifests.source import Source

LICENCE = SIMULATED
STALE_S = 3_600.0
"""A temporary file of this age has no writer any more."""
NAME_PREFIX = "simulated-"
"""Every simulated room's name begins with this; the `room` stage tells simulated and measured rooms apart by it."""
FOLDER_PREFIX = "rooms-"
SETTINGS_NAME = "bank.json"

Rows = tuple[Source, ...]
"""The responses of one room, in order of position."""
Map = Callable[[Callable[[int], Rows], Collection[int]], Iterable[Rows]]
"""`map` or the `map` of a process pool."""


def bank_digest(bank: RoomBank) -> str:
    """Identity of a bank's rooms: its settings but the count, the code that renders them, and the simulator."""
    code = {
        module.__name__: file_sha256(Path(module.__file__ or ""))
        for module in (room_plan, room_simulation, room_response, air, rir)
    }
    libraries = {name: metadata.version(name) for name in ("pyroomacoustics", "numpy", "scipy")}
    return digest({"settings": _identity_settings(bank), "code": code, "libraries": libraries})


def bank_folder(bank: RoomBank, cache: Path) -> Path:
    """Where the rooms of a bank are kept in a cache, there already or not."""
    return cache.absolute() / f"{FOLDER_PREFIX}{bank_digest(bank)}"


def bank_sources(bank: RoomBank, cache: Path, map_: Map = map) -> tuple[Source, ...]:
    """Render the rooms of a bank that the cache lacks, and return all its responses as rows of kind `rir`.

    Files that are damaged are rendered again. May run in several processes at once on one cache.

    Args:
        bank: settings; `bank.count` rooms of `bank.positions` responses are returned, in order of number.
        cache: folder for rendered things, created if missing.
        map_: maps a picklable function over the numbers of missing rooms, in order; not called when none is.

    Raises:
        UserError: when the cache cannot be written, or the settings contradict one another.
    """
    folder = bank_folder(bank, cache)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / SETTINGS_NAME).exists():
            write_atomically(folder / SETTINGS_NAME, canonical_json(_identity_settings(bank)))
    except OSError as error:
        raise UserError(f"{folder}: the cache cannot be created ({error.strerror})") from error
    _sweep(folder)
    rooms = {number: rows for number in range(bank.count) if (rows := _kept(bank, folder, number))}
    missing = [number for number in range(bank.count) if number not in rooms]
    if missing:
        rooms |= zip(missing, map_(partial(_rendered, bank, folder), missing), strict=True)
    return tuple(row for number in range(bank.count) for row in rooms[number])


def bank_records(folder: Path, rooms: int | None = None) -> Iterator[dict[str, Any]]:
    """Read what is recorded of the responses in a bank's folder, in order of room and position.

    Args:
        folder: of the bank, as `bank_folder` has it.
        rooms: only the first so many rooms.
    """
    for path in sorted(folder.glob("room-*.json")):
        record = _valid_record(path.with_suffix(".wav"))
        if record is not None and (rooms is None or record["room"] < rooms):
            yield record


def response_path(folder: Path, number: int, position: int) -> Path:
    """Where the response of a position in a room is kept."""
    return folder / f"room-{number:06d}-{position}.wav"


def _identity_settings(bank: RoomBank) -> dict[str, Any]:
    return bank.model_dump(mode="json", exclude={"count"})


def _sweep(folder: Path) -> None:
    """Remove what killed processes left behind; what is young may belong to one that is at work."""
    for stale in folder.glob(f".*{TEMPORARY_SUFFIX}"):
        with contextlib.suppress(OSError):
            if time.time() - stale.stat().st_mtime > STALE_S:
                stale.unlink()


def _kept(bank: RoomBank, folder: Path, number: int) -> Rows | None:
    paths = [response_path(folder, number, position) for position in range(bank.positions)]
    records = [_valid_record(path) for path in paths]
    rows = tuple(_row(path, record) for path, record in zip(paths, records, strict=True) if record)
    return rows if len(rows) == len(paths) else None


def _rendered(bank: RoomBank, folder: Path, number: int) -> Rows:
    room = simulate(bank, number)
    return tuple(_written(room, folder, number, position) for position in range(len(room.responses)))


def _written(room: SimulatedRoom, folder: Path, number: int, position: int) -> Source:
    path = response_path(folder, number, position)
    content = _wav_bytes(room, position)
    record = _record(room, number, position, content)
    try:
        write_atomically(path, content)
        write_atomically(path.with_suffix(".json"), canonical_json(record))
    except OSError as error:
        raise UserError(f"{path}: the cache cannot be written ({error.strerror})") from error
    return _row(path, record)


def _row(path: Path, record: dict[str, Any]) -> Source:
    identity = path.parent.name.removeprefix(FOLDER_PREFIX)
    return Source(
        path=str(path),
        kind="rir",
        sha256=record["sha256"],
        bytes=record["bytes"],
        mtime_ns=path.stat().st_mtime_ns,
        rate_hz=SAMPLE_RATE_HZ,
        channels=1,
        frames=record["frames"],
        seconds=record["frames"] / SAMPLE_RATE_HZ,
        bandwidth_hz=SAMPLE_RATE_HZ / 2.0,
        room=f"{NAME_PREFIX}{identity[:8]}-{record['room']:06d}",
        direct_path_frame=LEAD_SAMPLES,
        rt60_s=record["rt60_s"],
        drr_db=record["drr_db"],
        licence=LICENCE,
    )


def _valid_record(path: Path) -> dict[str, Any] | None:
    """Return the record of a rendered response, or None when it or its audio is missing or damaged."""
    try:
        record: dict[str, Any] = json.loads(path.with_suffix(".json").read_bytes())
        return record if record["sha256"] == file_sha256(path) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _record(room: SimulatedRoom, number: int, position: int, content: bytes) -> dict[str, Any]:
    """What was asked for, what came out, and by how much they differ."""
    plan, response = room.plan, room.responses[position]
    return {
        "room": number,
        "position": position,
        "sha256": hashlib.sha256(content).hexdigest(),
        "bytes": len(content),
        "frames": len(response.rir),
        "asked_rt60_s": round(plan.rt60_s, 4),
        "rt60_s": round(response.rt60_s, 4),
        "rt60_error": round(response.rt60_s / plan.rt60_s - 1.0, 4),
        "drr_db": round(response.drr_db, 3),
        "distance_m": round(plan.distances_m[position], 4),
        "direct_error_db": round(response.direct_error_db, 3),
        "attempt": room.attempt,
        "method": room.method,
        "absorption": round(room.absorption, 5),
        "size_m": [round(side, 4) for side in plan.size_m],
        "position_m": [round(x, 4) for x in plan.positions_m[position]],
        "microphone_m": [round(x, 4) for x in plan.microphone_m],
    }


def _wav_bytes(room: SimulatedRoom, position: int) -> bytes:
    stream = io.BytesIO()
    wavfile.write(stream, SAMPLE_RATE_HZ, room.responses[position].rir)
    return stream.getvalue()
