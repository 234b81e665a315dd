"""What the outside of an audio file says about its completeness: decoders accept truncated files in silence."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

_UNKNOWN_WITHIN = 1_000
"""So close below the largest number is the size that programs write that stream and cannot go back to fill it in."""
_MOST_CHUNKS = 10_000
"""Zeros read as empty chunks: hundreds of megabytes of them would keep this busy for minutes."""
_OGG_HEADER_BYTES = 27
_OGG_LARGEST_PAGE_BYTES = 65_307
_OGG_LAST_PAGE = 4


@dataclass(frozen=True)
class _Chunks:
    """How a container lays out its chunks: a name, a size, and so many bytes."""

    audio: bytes
    """First four bytes of the name of the chunk that holds the audio."""
    first: int
    """Where the first chunk is."""
    name_bytes: int
    size_bytes: int
    order: Literal["little", "big"]
    size_counts_head: bool = False
    aligned_to: int = 2


_LAYOUTS = {
    b"RIFF": _Chunks(b"data", 12, 4, 4, "little"),
    b"RF64": _Chunks(b"data", 12, 4, 4, "little"),
    b"FORM": _Chunks(b"SSND", 12, 4, 4, "big"),
    b"riff": _Chunks(b"data", 40, 16, 8, "little", size_counts_head=True, aligned_to=8),
    b"caff": _Chunks(b"data", 8, 4, 8, "big", aligned_to=1),
}
"""By the first four bytes of a file: WAV, its two 64-bit descendants (EBU Tech 3306, Sony Wave64), AIFF, CAF."""


def missing_end(path: Path) -> str | None:
    """Say what is missing from a WAV, AIFF, CAF, AU or Ogg file that was cut off; None for a complete or other one.

    Raises:
        OSError: when the file cannot be read.
    """
    with path.open("rb") as stream:
        magic = stream.read(4)
        offset, claimed = (int.from_bytes(stream.read(4), "big") for _ in range(2))
    if layout := _LAYOUTS.get(magic):
        return _missing_in_chunks(path, layout)
    if magic == b".snd":
        return _missing(path.stat().st_size - offset, None if _is_unknown(claimed, 4) else claimed)
    if magic == b"OggS":
        return _missing_in_ogg(path)
    return None


def _missing_in_chunks(path: Path, layout: _Chunks) -> str | None:
    """Walk the chunks up to the one that holds the audio, and compare its size with what the file holds."""
    size = path.stat().st_size
    head_bytes = layout.name_bytes + layout.size_bytes
    at, long_size = layout.first, None
    with path.open("rb") as stream:
        for _ in range(_MOST_CHUNKS):
            if at + head_bytes > size:
                break
            stream.seek(at)
            name = stream.read(layout.name_bytes)[:4]
            claimed = int.from_bytes(stream.read(layout.size_bytes), layout.order)
            unknown = _is_unknown(claimed, layout.size_bytes)
            if name == b"ds64":  # RF64 keeps sizes of 64 bits here: of the file, then of the audio
                stream.seek(at + head_bytes + 8)
                long_size = int.from_bytes(stream.read(8), "little")
            if layout.size_counts_head:
                claimed = max(0, claimed - head_bytes)
            if name == layout.audio:
                return _missing(size - at - head_bytes, long_size if unknown else claimed)
            at += head_bytes + claimed + -claimed % layout.aligned_to
    return "no audio chunk"


def _is_unknown(claimed: int, size_bytes: int) -> bool:
    return claimed >= (1 << 8 * size_bytes) - _UNKNOWN_WITHIN


def _missing(held: int, claimed: int | None) -> str | None:
    return f"{max(0, held)} of {claimed} bytes of audio" if claimed is not None and claimed > held else None


def _missing_in_ogg(path: Path) -> str | None:
    """The last page of an Ogg stream is marked as such."""
    with path.open("rb") as stream:
        size = path.stat().st_size
        stream.seek(max(0, size - _OGG_LARGEST_PAGE_BYTES - _OGG_HEADER_BYTES))
        tail = stream.read()
    at = tail.rfind(b"OggS")
    if at < 0 or len(tail) < at + _OGG_HEADER_BYTES:
        return "the Ogg stream has no last page"
    segments = tail[at + 26]
    body = tail[at + 27 : at + 27 + segments]
    complete = len(body) == segments and len(tail) >= at + 27 + segments + sum(body)
    return None if complete and tail[at + 5] & _OGG_LAST_PAGE else "the Ogg stream has no last page"
