"""One trip through the codecs that libsndfile brings and FFmpeg does not encode: Vorbis, and GSM full rate.

They come in a container, held in memory. Both are written in blocks: the Vorbis encoder takes each write on its
stack, so that a single write of more than 40 s at 48 kHz ends the process.
"""

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datagen.degradations.base import CannotApply
from datagen.degradations.codec.ffmpeg import as_int16, from_int16

BLOCK_S = 0.25
"""Length of one write: no stack is too small for it."""
GSM_BLOCK_BYTES = 65
"""Two frames of 260 bits, in the packing of Microsoft's WAV format 49."""


@dataclass(frozen=True)
class FileTrip:
    """How to get a signal through a codec of libsndfile."""

    container: str
    """libsndfile's name, as for the subtype."""
    subtype: str
    rate_hz: int
    quality: float | None = None
    """Of Vorbis: 0 to 10."""
    packet_samples: int | None = None
    """How much signal a packet holds; None where it varies."""


def there_and_back_in_a_file(
    audio: NDArray[np.float32], trip: FileTrip
) -> tuple[NDArray[np.float32], list[bytes]]:
    """Encode and decode `audio`.

    Args:
        audio: mono at `trip.rate_hz`, shape (N,). What exceeds full scale is clipped by GSM.
        trip: the codec and its settings.

    Returns:
        The decoded signal, shape (M,) with M >= N, on time; and what was coded, without the file's headers.

    Raises:
        CannotApply: when the codec refuses the signal or its settings.
    """
    import soundfile

    try:
        content = _written(as_int16(audio) if trip.subtype == "GSM610" else audio, trip)
        kind = "int16" if trip.subtype == "GSM610" else "float32"
        decoded, _ = soundfile.read(io.BytesIO(content), dtype=kind)
    except soundfile.LibsndfileError as error:
        raise CannotApply(f"{trip.subtype} at {trip.rate_hz} Hz: {error}") from error
    if trip.subtype == "GSM610":
        return from_int16(decoded), _gsm_blocks(content)
    return decoded, vorbis_pages(content)


def _written(samples: NDArray[np.float32] | NDArray[np.int16], trip: FileTrip) -> bytes:
    import soundfile

    memory = io.BytesIO()
    # libsndfile counts Vorbis quality downwards, from 0 (best) to 1.
    level = {} if trip.quality is None else {"compression_level": 1.0 - trip.quality / 10.0}
    block = round(BLOCK_S * trip.rate_hz)
    with soundfile.SoundFile(
        memory, "w", trip.rate_hz, 1, trip.subtype, format=trip.container, **level
    ) as file:
        for first in range(0, len(samples), block):
            file.write(samples[first : first + block])
    return memory.getvalue()


def _gsm_blocks(content: bytes) -> list[bytes]:
    chunk = content.index(b"data") + 4
    first = chunk + 4
    end = first + int.from_bytes(content[chunk:first], "little")
    return [content[at : at + GSM_BLOCK_BYTES] for at in range(first, end, GSM_BLOCK_BYTES)]


def vorbis_pages(content: bytes) -> list[bytes]:
    """Return what each Ogg page with audio holds: those whose granule position is not 0 (RFC 3533, section 6)."""
    pages = []
    at = 0
    while content[at : at + 4] == b"OggS":
        granule = int.from_bytes(content[at + 6 : at + 14], "little", signed=True)
        segments = content[at + 26]
        body = at + 27 + segments
        end = body + sum(content[at + 27 : body])
        if granule != 0:
            pages.append(content[body:end])
        at = end
    return pages
