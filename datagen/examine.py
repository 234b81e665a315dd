"""Measure one source file, or say in a few words why it cannot be used. One pass, in bounded memory."""

import math
import stat
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datagen.audio import AudioError, Frames, declared_length, decoded_blocks, mixed_down
from datagen.bandwidth import band_powers, bandwidth_of
from datagen.container import missing_end
from datagen.file_identity import identity_of_file
from datagen.level import measure_activity
from datagen.rir import direct_path_index, drr_db, rt60_s
from manifests.canonical import file_sha256
from manifests.files import scratch_file
from manifests.source import Kind, Source
from manifests.store import is_remote, open_store

SHORTEST_S: dict[Kind, float] = {"speech": 0.5, "noise": 0.25, "rir": 0.0}
LONGEST_S: dict[Kind, float] = {"speech": 4 * 3600.0, "noise": 4 * 3600.0, "rir": 30.0}
"""Reading takes as long as a file is: a few kilobytes of FLAC can hold days of silence."""
TOO_LONG: dict[Kind, str] = {
    "speech": "longer than 4 h: cut it into parts",
    "noise": "longer than 4 h: cut it into parts",
    "rir": "longer than 30 s: not an impulse response",
}
RATES_HZ = (4_000, 768_000)
QUIETEST_DBFS = -80.0
"""A file whose active level is below this is silent: the rounding noise of 16 bits has -98 dBFS."""

LOUDEST = 1e6
"""Full scale is 1. Files of floats may exceed it, but values beyond this are damage, and overflow when squared."""

CLIPPED_FROM = 0.999
CLIPPED_RUN = 3
"""Shortest flat top, in samples, that counts as clipped."""
FLAT_TOP_FROM = 0.5
"""Flat tops at a file's own extreme count from here: it may have been clipped first and turned down later."""
MOST_CLIPPED_SHARE: dict[Kind, float] = {"speech": 0.01, "noise": 0.05, "rir": 1.0}
"""Clean speech is what a model is taught to produce: with 1 % of its samples flat, every loud vowel is distorted. Noise
may be harsh. A response is judged by its decay, not by its samples."""

SILENCE_FRAME_S = 0.02
SILENCE_BELOW_ACTIVE_DB = 40.0
MOST_EXCERPTS = 24
"""Decoded blocks of 2^18 frames that level and bandwidth of a longer file are measured on: two minutes at 48 kHz."""


def examine(path: str, kind: Kind) -> Source:
    """Measure one file as a source of a kind. Every trouble with the file ends up in `refused`.

    Groups, licence and split are left open: they depend on more than this file.

    Args:
        path: local path or fsspec URI.
        kind: what it is to be used as.
    """
    if not is_remote(path):
        return _examined(path, kind)
    place, _, name = path.rpartition("/")
    try:
        with scratch_file(PurePosixPath(name).suffix) as copy:
            open_store(place).fetch(name, copy)
            size, mtime_ns = identity_of_file(path)
            return replace(_examined(str(copy), kind), path=path, bytes=size, mtime_ns=mtime_ns)
    except OSError as error:
        return Source(path=path, kind=kind, refused=f"cannot be read ({error.strerror or error})")


def _examined(path: str, kind: Kind) -> Source:
    source = Source(path=path, kind=kind)
    try:
        _check_before_reading(path, kind)
        source = _identified(source)
        return _measured(source, kind)
    except AudioError as error:
        return replace(source, refused=str(error))
    except OSError as error:
        return replace(source, refused=f"cannot be read ({error.strerror or error})")
    except MemoryError:
        return replace(source, refused="takes too much memory to be examined")
    except Exception as error:  # a decoder may raise anything on a stranger's file
        return replace(source, refused=f"cannot be examined ({error})")


def _check_before_reading(path: str, kind: Kind) -> None:
    """Refuse what would block whoever opens it, and what would take minutes to read."""
    if not stat.S_ISREG(Path(path).stat().st_mode):
        raise AudioError("not a regular file")
    if missing_end(Path(path)) is None and _promises_too_much(path, kind):
        raise AudioError(TOO_LONG[kind])


def _promises_too_much(path: str, kind: Kind) -> bool:
    try:
        declared = declared_length(path)
    except AudioError:  # what is wrong with the file is found out when it is read
        return False
    return declared is not None and declared[0] > LONGEST_S[kind] * declared[1]


def _identified(source: Source) -> Source:
    sha256 = file_sha256(Path(source.path))
    size, mtime_ns = identity_of_file(source.path)
    return replace(source, bytes=size, mtime_ns=mtime_ns, sha256=sha256)


@dataclass
class _Listener:
    """What is gathered block by block."""

    frames: int = 0
    rate_hz: int = 0
    channels: int = 0
    total: float = 0.0
    clipping: "_Clipping" = field(default_factory=lambda: _Clipping())
    excerpts: list[NDArray[np.float32]] = field(default_factory=list)
    stride: int = 1
    blocks: int = 0

    def hear(self, block: Frames, rate_hz: int) -> None:
        """Take the next block, shape (frames, channels)."""
        self.rate_hz, self.channels = rate_hz, block.shape[1]
        if not len(block):
            return
        if not np.isfinite(block).all():
            raise AudioError("contains NaN or infinity")
        if (peak := max(float(block.max()), -float(block.min()))) > LOUDEST:
            raise AudioError(f"contains values of {peak:.0e}, full scale is 1")
        self.frames += len(block)
        self.clipping.hear(block)
        mono = mixed_down(block)
        self.total += float(mono.sum(dtype=np.float64))
        if self.blocks % self.stride == 0:
            self.excerpts.append(mono)
        self.blocks += 1
        if len(self.excerpts) > MOST_EXCERPTS:
            self.excerpts = self.excerpts[::2]
            self.stride *= 2


class _Clipping:
    """Counts samples in flat tops by their value; which value is the file's extreme is known at the end."""

    def __init__(self) -> None:
        self.samples = 0
        self.low = self.high = 0.0
        self.over = 0
        self.flat: dict[float, int] = {}

    def hear(self, block: Frames) -> None:
        self.samples += block.size
        self.high = max(self.high, float(block.max()))
        self.low = min(self.low, float(block.min()))
        if max(self.high, -self.low) < FLAT_TOP_FROM:
            return
        for channel in block.T:
            self.over += in_runs(np.abs(channel) >= CLIPPED_FROM)
            for extreme in (float(channel.max()), float(channel.min())):
                if FLAT_TOP_FROM <= abs(extreme) < CLIPPED_FROM:
                    flat = in_runs(channel == np.float32(extreme))
                    self.flat[extreme] = self.flat.get(extreme, 0) + flat

    @property
    def share(self) -> float:
        """Share of all samples, 0 to 1."""
        at_extremes = sum(self.flat.get(value, 0) for value in {self.low, self.high})
        return (self.over + at_extremes) / max(1, self.samples)


def in_runs(mask: NDArray[np.bool_]) -> int:
    """Count the true values that stand in runs of at least `CLIPPED_RUN`."""
    if np.count_nonzero(mask) < CLIPPED_RUN:
        return 0
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    lengths = edges[1::2] - edges[::2]
    return int(lengths[lengths >= CLIPPED_RUN].sum())


def _measured(source: Source, kind: Kind) -> Source:
    if not source.bytes:
        raise AudioError("empty file")
    if missing := missing_end(Path(source.path)):
        raise AudioError(f"truncated: {missing}")
    heard = _Listener()
    response: list[NDArray[np.float32]] = []
    try:
        for block, rate_hz in decoded_blocks(source.path):
            heard.hear(block, rate_hz)
            if heard.frames > LONGEST_S[kind] * rate_hz:
                raise AudioError(TOO_LONG[kind])
            if kind == "rir":
                response.append(block[:, 0].copy())
    except AudioError as error:
        if "decoder" in str(error):
            heard_s = heard.frames / heard.rate_hz if heard.rate_hz else 0.0
            raise AudioError(f"damaged or truncated: {error} after {heard_s:.2f} s") from error
        raise
    source = replace(
        source,
        rate_hz=heard.rate_hz,
        channels=heard.channels,
        frames=heard.frames,
        seconds=heard.frames / heard.rate_hz if heard.rate_hz else 0.0,
    )
    _check_length(source, kind)
    measured = _rir_facts(np.concatenate(response), heard) if kind == "rir" else _facts(heard)
    source = replace(source, clipped_share=round(heard.clipping.share, 6), **measured)
    refused = _unfit(source, kind)
    return replace(source, refused=refused)


def _check_length(source: Source, kind: Kind) -> None:
    if not source.frames:
        raise AudioError("holds no audio")
    declared = declared_length(source.path)
    if declared is not None and source.frames < declared[0]:
        raise AudioError(f"truncated: {source.frames} of {declared[0]} frames")
    if not RATES_HZ[0] <= source.rate_hz <= RATES_HZ[1]:
        raise AudioError(f"sample rate of {source.rate_hz} Hz")
    if source.seconds < SHORTEST_S[kind]:
        raise AudioError(f"too short: {source.seconds:.2f} s, {kind} needs {SHORTEST_S[kind]:g} s")


def _facts(heard: _Listener) -> dict[str, Any]:
    audio = np.concatenate(heard.excerpts)
    level_dbfs, _ = measure_activity(audio, heard.rate_hz)
    powers = np.concatenate([band_powers(excerpt) for excerpt in heard.excerpts])
    return {
        "bandwidth_hz": round(bandwidth_of(powers, heard.rate_hz), 1),
        "active_level_dbfs": round(level_dbfs, 3) if math.isfinite(level_dbfs) else None,
        "dc_offset": round(heard.total / heard.frames, 8),
        "silence_share": round(_silence_share(audio, heard.rate_hz, level_dbfs), 6),
    }


def _silence_share(audio: NDArray[np.float32], rate_hz: int, level_dbfs: float) -> float:
    """Share of 20 ms frames that lie 40 dB or more below the active level."""
    step = max(1, round(SILENCE_FRAME_S * rate_hz))
    count = len(audio) // step
    if not count or not math.isfinite(level_dbfs):
        return 1.0
    power = np.square(audio[: count * step], dtype=np.float64).reshape(count, step).mean(axis=1)
    return float(np.mean(power < 10.0 ** ((level_dbfs - SILENCE_BELOW_ACTIVE_DB) / 10.0)))


def _rir_facts(rir: NDArray[np.float32], heard: _Listener) -> dict[str, Any]:
    """Facts of a response are those of its first channel, shape (N,): the mean of two ears is no room."""
    if not rir.any():
        raise AudioError("all silent: no peak")
    rt60 = rt60_s(rir, heard.rate_hz)
    drr = drr_db(rir, heard.rate_hz)
    return {
        "bandwidth_hz": round(bandwidth_of(band_powers(rir), heard.rate_hz), 1),
        "dc_offset": round(heard.total / heard.frames, 8),
        "direct_path_frame": direct_path_index(rir),
        "rt60_s": None if rt60 is None else round(rt60, 4),
        "drr_db": round(drr, 3) if math.isfinite(drr) else None,
    }


def _unfit(source: Source, kind: Kind) -> str | None:
    """Say why a file that can be read should not be used."""
    if kind == "rir":
        return None
    if source.active_level_dbfs is None or source.active_level_dbfs < QUIETEST_DBFS:
        return "all silent"
    clipped = source.clipped_share or 0.0
    if clipped > MOST_CLIPPED_SHARE[kind]:
        return f"clipped: {100 * clipped:.1f} % of its samples, at most {100 * MOST_CLIPPED_SHARE[kind]:g} % for {kind}"
    return None
