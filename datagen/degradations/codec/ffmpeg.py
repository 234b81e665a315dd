"""One trip through an encoder and its decoder, on bare packets: no container, no file, one thread.

Containers hide delays, each in its own way (MP3 in one library comes out 1105 samples late, in another on time);
bare packets show the codec as it is.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datagen.degradations.base import CannotApply

PCM16_SCALE = 32_768.0
_KINDS: dict[str, type[np.int16] | type[np.float32]] = {
    "s16": np.int16,
    "s16p": np.int16,
    "flt": np.float32,
    "fltp": np.float32,
}
"""What decoders give back, by FFmpeg's name of the sample format."""


@dataclass(frozen=True)
class Trip:
    """How to get a signal through a codec of FFmpeg."""

    encoder: str
    """FFmpeg's name, as for the decoder."""
    decoder: str
    sample_format: str
    """What the encoder takes: `s16`, `s16p`, `flt` or `fltp`."""
    rate_hz: int
    bitrate_kbps: float | None = None
    encoder_options: Mapping[str, str] = field(default_factory=dict)
    decoder_options: Mapping[str, str] = field(default_factory=dict)
    packet_samples: int | None = None
    """How much signal a packet holds; None where every sample is coded on its own."""


def there_and_back(audio: NDArray[np.float32], trip: Trip) -> tuple[NDArray[np.float32], list[bytes]]:
    """Encode and decode `audio`.

    Args:
        audio: mono at `trip.rate_hz`, shape (N,). What exceeds full scale is clipped by 16-bit codecs.
        trip: the codec and its settings.

    Returns:
        The decoded signal, later than `audio` by the codec's delay, shape (M,), and the packets.

    Raises:
        CannotApply: when the codec refuses the signal or its settings.
    """
    import av

    try:
        packets, extradata = _encode(audio, trip)
        return _decode(packets, extradata, trip), [bytes(packet) for packet in packets]
    except (av.FFmpegError, ValueError) as error:
        raise CannotApply(f"{trip.encoder} at {trip.rate_hz} Hz: {error}") from error


def as_int16(audio: NDArray[np.float32]) -> NDArray[np.int16]:
    """Round to 16 bits; what exceeds full scale is clipped."""
    pcm = np.rint(audio * np.float32(PCM16_SCALE))
    clipped: NDArray[np.int16] = np.clip(pcm, -PCM16_SCALE, PCM16_SCALE - 1).astype(np.int16)
    return clipped


def from_int16(audio: NDArray[np.int16]) -> NDArray[np.float32]:
    """Return full scale 1.0."""
    return audio.astype(np.float32) / np.float32(PCM16_SCALE)


def _encode(audio: NDArray[np.float32], trip: Trip) -> tuple[list[Any], bytes | None]:
    import av

    encoder: Any = av.CodecContext.create(trip.encoder, "w")
    encoder.sample_rate = trip.rate_hz
    encoder.format = trip.sample_format
    encoder.layout = "mono"
    encoder.time_base = Fraction(1, trip.rate_hz)
    encoder.thread_count = 1
    if trip.bitrate_kbps is not None:
        encoder.bit_rate = round(trip.bitrate_kbps * 1_000)
    encoder.options = {"flags": "+bitexact", **trip.encoder_options}
    samples = as_int16(audio) if trip.sample_format.startswith("s16") else audio
    # One frame holds everything: PyAV cuts it to the encoder's frame size in C.
    frame = av.AudioFrame.from_ndarray(samples[None], format=trip.sample_format, layout="mono")
    frame.sample_rate = trip.rate_hz
    frame.pts = 0
    frame.time_base = encoder.time_base
    return [*encoder.encode(frame), *encoder.encode(None)], encoder.extradata


def _decode(packets: list[Any], extradata: bytes | None, trip: Trip) -> NDArray[np.float32]:
    import av

    decoder: Any = av.CodecContext.create(trip.decoder, "r")
    decoder.sample_rate = trip.rate_hz
    decoder.layout = "mono"
    decoder.thread_count = 1
    decoder.options = {"flags": "+bitexact", **trip.decoder_options}
    if (
        extradata and trip.decoder != "libopus"
    ):  # Opus packets need no header, and its header asks for trimming
        decoder.extradata = extradata
    frames = [frame for packet in [*packets, None] for frame in decoder.decode(packet)]
    if not frames:
        raise CannotApply(f"{trip.decoder} gave nothing back")
    if frames[0].sample_rate != trip.rate_hz:
        raise CannotApply(f"{trip.decoder} came back at {frames[0].sample_rate} Hz instead of {trip.rate_hz}")
    kind = _KINDS[frames[0].format.name]
    # Mono has one plane, which may be longer than what it holds.
    decoded = np.concatenate([np.frombuffer(frame.planes[0], kind)[: frame.samples] for frame in frames])
    return from_int16(decoded) if kind is np.int16 else decoded
