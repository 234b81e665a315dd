"""What the outside of an audio file says about its completeness: decoders accept truncated files in silence."""

from pathlib import Path

_UNKNOWN_SIZE = 0xFFFFFFFF
"""What programs write that stream a WAV and cannot go back to fill in its size."""
_MOST_CHUNKS = 10_000
"""Zeros read as empty chunks: hundreds of megabytes of them would keep this busy for minutes."""
_OGG_HEADER_BYTES = 27
_OGG_LARGEST_PAGE_BYTES = 65_307
_OGG_LAST_PAGE = 4


def missing_end(path: Path) -> str | None:
    """Say what is missing from a WAV, AIFF or Ogg file that was cut off; None for a complete one or another format.

    Raises:
        OSError: when the file cannot be read.
    """
    with path.open("rb") as stream:
        magic = stream.read(4)
    if magic == b"RIFF":
        return _missing_in_chunks(path, b"data", "little")
    if magic == b"FORM":
        return _missing_in_chunks(path, b"SSND", "big")
    if magic == b"OggS":
        return _missing_in_ogg(path)
    return None


def _missing_in_chunks(path: Path, audio_chunk: bytes, order: str) -> str | None:
    """Walk the chunks up to the one that holds the audio, and compare its size with what the file holds."""
    size = path.stat().st_size
    at = 12
    with path.open("rb") as stream:
        for _ in range(_MOST_CHUNKS):
            if at + 8 > size:
                break
            stream.seek(at)
            name = stream.read(4)
            claimed = int.from_bytes(stream.read(4), "little" if order == "little" else "big")
            if name == audio_chunk:
                held = size - at - 8
                if claimed > held and claimed < _UNKNOWN_SIZE - 1_000:
                    return f"{held} of {claimed} bytes of audio"
                return None
            at += 8 + claimed + claimed % 2
    return "no audio chunk"


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
