"""The simulated bank: rooms rendered once, kept in a cache by content, and handed on as catalogue rows.

```
CACHE/rooms-0f3a.../room-000012.wav     float32, written by scipy (libsndfile puts the time of day into float WAVs)
                    room-000012.json    its SHA-256 and what was measured; written last
```
The folder's name is a digest of the bank's settings and of the code that renders: another seed, size range or
version of the simulator is another folder. The number of rooms is not part of it, so a bank can grow.
"""

import contextlib
import hashlib
import io
import json
import os
import time
from collections.abc import Callable, Collection, Iterable
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

from scipy.io import wavfile

from datagen import air, rir, room_simulation
from datagen.room_simulation import LEAD_SAMPLES, SimulatedRoom, simulate
from manifests.canonical import canonical_json, digest, file_sha256
from manifests.errors import UserError
from manifests.files import TEMPORARY_SUFFIX, write_atomically
from manifests.recipe import SAMPLE_RATE_HZ, RoomBank
from manifests.source import Source

LICENCE = "CC0-1.0 (simulated)"
STALE_S = 3_600.0
"""A temporary file of this age has no writer any more."""
NAME_PREFIX = "simulated-"
"""Every simulated room's name begins with this; the `room` stage tells simulated and measured rooms apart by it."""

Map = Callable[[Callable[[int], Source], Collection[int]], Iterable[Source]]
"""`map` or the `map` of a process pool."""


def cache_directory() -> Path:
    """Return where rendered things are kept: `$SSIFORGE_CACHE`, `$XDG_CACHE_HOME/ssiforge` or `~/.cache/ssiforge`."""
    if own := os.environ.get("SSIFORGE_CACHE"):
        return Path(own)
    if shared := os.environ.get("XDG_CACHE_HOME"):
        return Path(shared) / "ssiforge"
    return Path.home() / ".cache" / "ssiforge"


def bank_digest(bank: RoomBank) -> str:
    """Identity of a bank's rooms: its settings but the count, the code that renders them, and the simulator."""
    code = {
        module.__name__: file_sha256(Path(module.__file__ or "")) for module in (room_simulation, air, rir)
    }
    libraries = {name: metadata.version(name) for name in ("pyroomacoustics", "numpy", "scipy")}
    return digest(
        {"settings": bank.model_dump(mode="json", exclude={"count"}), "code": code, "libraries": libraries}
    )


def bank_sources(bank: RoomBank, cache: Path, map_: Map = map) -> tuple[Source, ...]:
    """Render the rooms of a bank that the cache lacks, and return all of them as rows of kind `rir`.

    Files that are damaged are rendered again. May run in several processes at once on one cache.

    Args:
        bank: settings; `bank.count` rooms are returned, in order of number.
        cache: folder for rendered things, created if missing.
        map_: maps a picklable function over the numbers of missing rooms, in order; not called when none is.

    Raises:
        UserError: when the cache cannot be written, or the settings contradict one another.
    """
    identity = bank_digest(bank)
    folder = cache.absolute() / f"rooms-{identity}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: the cache cannot be created ({error.strerror})") from error
    _sweep(folder)
    numbers = range(bank.count)
    rows = {number: row for number in numbers if (row := _kept(identity, folder, number))}
    missing = [number for number in numbers if number not in rows]
    if missing:
        rows |= zip(missing, map_(partial(_rendered, bank, identity, folder), missing), strict=True)
    return tuple(rows[number] for number in numbers)


def _sweep(folder: Path) -> None:
    """Remove what killed processes left behind; what is young may belong to one that is at work."""
    for stale in folder.glob(f".*{TEMPORARY_SUFFIX}"):
        with contextlib.suppress(OSError):
            if time.time() - stale.stat().st_mtime > STALE_S:
                stale.unlink()


def _kept(identity: str, folder: Path, number: int) -> Source | None:
    path = _path(folder, number)
    record = _valid_record(path)
    return _row(path, record, identity, number) if record else None


def _rendered(bank: RoomBank, identity: str, folder: Path, number: int) -> Source:
    path = _path(folder, number)
    room = simulate(bank, number)
    content = _wav_bytes(room)
    record = _record(room, content)
    try:
        write_atomically(path, content)
        write_atomically(path.with_suffix(".json"), canonical_json(record))
    except OSError as error:
        raise UserError(f"{path}: the cache cannot be written ({error.strerror})") from error
    return _row(path, record, identity, number)


def _path(folder: Path, number: int) -> Path:
    return folder / f"room-{number:06d}.wav"


def _row(path: Path, record: dict[str, Any], identity: str, number: int) -> Source:
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
        room=f"{NAME_PREFIX}{identity[:8]}-{number:06d}",
        direct_path_frame=LEAD_SAMPLES,
        rt60_s=record["rt60_s"],
        drr_db=record["drr_db"],
        licence=LICENCE,
    )


def _valid_record(path: Path) -> dict[str, Any] | None:
    """Return the record of a rendered room, or None when it or its audio is missing or damaged."""
    try:
        record: dict[str, Any] = json.loads(path.with_suffix(".json").read_bytes())
        return record if record["sha256"] == file_sha256(path) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _record(room: SimulatedRoom, content: bytes) -> dict[str, Any]:
    return {
        "sha256": hashlib.sha256(content).hexdigest(),
        "bytes": len(content),
        "frames": len(room.rir),
        "rt60_s": round(room.rt60_s, 4),
        "drr_db": round(room.drr_db, 3),
        "asked_rt60_s": round(room.plan.rt60_s, 4),
        "method": room.method,
        "absorption": round(room.absorption, 5),
        "distance_m": round(room.plan.distance_m, 4),
        "size_m": [round(side, 4) for side in room.plan.size_m],
        "source_m": [round(x, 4) for x in room.plan.source_m],
        "microphone_m": [round(x, 4) for x in room.plan.microphone_m],
    }


def _wav_bytes(room: SimulatedRoom) -> bytes:
    stream = io.BytesIO()
    wavfile.write(stream, SAMPLE_RATE_HZ, room.rir)
    return stream.getvalue()
