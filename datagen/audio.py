"""Audio in and out: sample-exact stretches of any file, resampling, and the FLAC bytes that shards hold.

Plain WAV and FLAC are sought in. Everything else is decoded from its beginning to the end of the stretch: libsndfile
lands on wrong samples when it seeks in MP3 and near the end of Vorbis, and a stretch must not depend on earlier reads.
What was decoded last is kept, so a noise that is used again costs nothing.
"""

import io
import os
from collections import OrderedDict
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from datagen.container import missing_end

RATE_HZ = 48_000
"""Rate of every sample and shard."""

BLOCK_FRAMES = 1 << 18
"""Frames decoded at a time: bounds memory whatever the length of a file."""
MOST_CHANNELS = 64
"""Bounds memory as well: a block of so many is 64 MiB. It is what a microphone array of the seventh order has."""
SOUGHT_VALUES = 1 << 24
"""Values, over all channels, read at a time from a file that can be sought in."""
MOST_VALUE = 32.0
"""30 dB above full scale: no gain before a float file was written explains more."""
KEPT_BYTES = 24 << 20
"""Decoded audio kept in each process."""
FLAC_LEVEL = 0.5
"""libFLAC level 4: the first level with adaptive linear prediction; lower ones are larger and save no time."""

_EXACT_FORMATS = {"WAV", "WAVEX", "RF64", "W64", "AIFF", "AU", "CAF", "FLAC"}
_EXACT_SUBTYPES = {"PCM_S8", "PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW"}
_MP3_PADDING_FRAMES = 2 * 1152
_UNKNOWN_FRAMES = 1 << 62
"""libsndfile says about twice that of FLAC whose header leaves the length open, and then loses the last block."""
_AV_SUFFIXES = {".m4a", ".m4b", ".mp4", ".aac", ".webm", ".mka", ".wma"}
# FFmpeg follows playlists and concat scripts to other files and hosts unless told which containers to accept.
_AV_CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,aac,mp3,ogg,wav,w64,flac,aiff,caf,au,amr,asf"

Frames = NDArray[np.float32]
"""Audio of shape (frames, channels)."""
_Key = tuple[str, int, int]
_Blocks = Generator[tuple[Frames, int], None, None]


class AudioError(Exception):
    """A file cannot be used; the message is a reason of a few words."""


def check_complete(path: str) -> None:
    """Refuse a file that was cut off: decoders take what is there.

    Raises:
        AudioError: when it was, as far as its container tells; or it cannot be read.
    """
    try:
        missing = missing_end(Path(path))
    except OSError as error:
        raise AudioError(f"cannot be read ({error.strerror})") from error
    if missing:
        raise AudioError(f"truncated: {missing}")


def read_stretch(
    path: str, start: int, frames: int, channel: int | None = None
) -> tuple[NDArray[np.float32], int]:
    """Read a stretch of a file, at the file's own rate.

    Args:
        path: of a local file.
        start: first frame.
        frames: how many; exactly so many are returned.
        channel: which channel; None for the mean of all.

    Returns:
        The audio, shape (frames,), read-only, and its rate in Hz.

    Raises:
        AudioError: when the file cannot be decoded, ends too early, lacks the channel, or is not finite.
    """
    mono, rate_hz = _read_channel(path, start, frames, channel)
    if len(mono) < frames:
        raise AudioError(f"ends {frames - len(mono)} frames too early")
    if not np.isfinite(mono).all():
        raise AudioError("contains NaN or infinity")
    mono.flags.writeable = False
    return mono, rate_hz


def read_all(path: str) -> tuple[Frames, int]:
    """Read a whole file: (frames, channels) and its rate in Hz. Values are not checked.

    Raises:
        AudioError: when the file cannot be decoded, or was cut off.
    """
    check_complete(path)
    parts = list(decoded_blocks(path))
    return np.concatenate([part for part, _ in parts]), parts[0][1]


def check_values(audio: Frames) -> None:
    """Refuse what is no audio of full scale 1.

    Raises:
        AudioError: when it is not finite, or as loud as integers kept as float are.
    """
    if not np.isfinite(audio).all():
        raise AudioError("contains NaN or infinity")
    if len(audio) and (peak := np.abs(audio).max()) > MOST_VALUE:
        raise AudioError(
            f"holds values of {peak:.3g}, and full scale is 1; are they integers, kept as float?"
        )


def read_recording(path: str, to_hz: int = RATE_HZ) -> tuple[NDArray[np.float32], int, int]:
    """Read a whole recording, mixed down and resampled: (N,), and the rate and channels that it had.

    Raises:
        AudioError: when it cannot be decoded, was cut off, is empty or holds no audio of full scale 1.
    """
    audio, rate_hz = read_all(path)
    check_values(audio)
    if not len(audio):
        raise AudioError("holds no audio")
    return resampled(mixed_down(audio), rate_hz, to_hz), rate_hz, audio.shape[1]


def mixed_down(audio: Frames) -> NDArray[np.float32]:
    """Return the mean of the channels: (frames, channels) -> (frames,)."""
    if audio.shape[1] == 1:
        return audio[:, 0]
    mono: NDArray[np.float32] = audio.mean(axis=1, dtype=np.float32)
    return mono


def _one_channel(audio: Frames, channel: int | None) -> NDArray[np.float32]:
    if channel is None:
        return mixed_down(audio)
    if not 0 <= channel < audio.shape[1]:
        raise AudioError(f"has no channel {channel}")
    return np.ascontiguousarray(audio[:, channel])


def decoded_blocks(path: str) -> _Blocks:
    """Decode a file from its beginning, block by block: (frames, channels) and the rate in Hz.

    Yields at least one block, which is empty when the file is.

    Raises:
        AudioError: when the file cannot be decoded.
    """
    return _blocks(path, _opened(path))


def _blocks(path: str, handle: soundfile.SoundFile | None) -> _Blocks:
    if handle is None:
        yield from _av_blocks(path)
        return
    with handle:
        _check_channels(handle.channels)
        try:
            while True:
                block = handle.read(BLOCK_FRAMES, dtype="float32", always_2d=True)
                yield block, handle.samplerate
                if len(block) < BLOCK_FRAMES:
                    return
        except (soundfile.LibsndfileError, RuntimeError, OSError) as error:
            raise AudioError("the decoder stopped at an error") from error


def _check_channels(channels: int) -> None:
    if channels > MOST_CHANNELS:
        raise AudioError(f"has {channels} channels, at most {MOST_CHANNELS}")


def declared_length(path: str) -> tuple[int, int] | None:
    """How many frames the header promises at least, and their rate in Hz; None where it does not say.

    Raises:
        AudioError: when the file cannot be opened.
    """
    handle = _opened(path)
    if handle is None:
        with _av_opened(path) as container:
            stream = container.streams.audio[0]
            frames = _declared_by_container(stream) if "mov" in container.format.name else None
            return None if frames is None else (frames, stream.rate)
    with handle:
        # MP3 headers count the encoder's padding too.
        padding = _MP3_PADDING_FRAMES if handle.format in ("MP3", "MPEG") else 0
        return max(0, int(handle.frames) - padding), handle.samplerate


def resampled(audio: NDArray[np.float32], from_hz: float, to_hz: int) -> NDArray[np.float32]:
    """Resample mono audio with soxr HQ: linear phase, no delay, round(len * to / from) samples."""
    if from_hz == to_hz or not len(audio):
        return audio
    length = round(len(audio) * to_hz / from_hz)
    result: NDArray[np.float32] = soxr.resample(audio, from_hz, to_hz, quality="HQ")
    if len(result) >= length:
        return result[:length]
    return np.pad(result, (0, length - len(result)))


def quantised(audio: NDArray[np.float32], bits: Literal[16, 24]) -> NDArray[np.int32]:
    """Return integer PCM: x * 2^(bits-1) rounded half to even, clipped to what the format can hold."""
    full_scale = 1 << (bits - 1)
    scaled = audio.astype(np.float64) * full_scale if bits == 24 else audio * np.float32(full_scale)
    np.rint(scaled, out=scaled)
    np.clip(scaled, -full_scale, full_scale - 1, out=scaled)
    return scaled.astype(np.int32)


def flac_bytes(audio: NDArray[np.float32], bits: Literal[16, 24] = 16) -> bytes:
    """Encode mono audio at 48 kHz as FLAC; the same samples give the same bytes."""
    pcm = quantised(audio, bits)
    stream = io.BytesIO()
    data = pcm.astype(np.int16) if bits == 16 else pcm << 8
    soundfile.write(stream, data, RATE_HZ, format="FLAC", subtype=f"PCM_{bits}", compression_level=FLAC_LEVEL)
    return stream.getvalue()


def decode_flac(content: bytes) -> NDArray[np.float32]:
    """Decode what `flac_bytes` made: shape (N,), the integer PCM divided by its full scale, without loss.

    Raises:
        AudioError: when the bytes are not mono FLAC.
    """
    try:
        audio: NDArray[np.float32] = soundfile.read(io.BytesIO(content), dtype="float32")[0]
    except (soundfile.LibsndfileError, RuntimeError) as error:
        raise AudioError("not a FLAC file") from error
    if audio.ndim != 1:
        raise AudioError("not mono")
    return audio


@dataclass(frozen=True)
class _Decoded:
    """A file from its beginning on."""

    audio: Frames
    rate_hz: int
    complete: bool
    """Whether the file ends where this does."""


_kept: OrderedDict[_Key, _Decoded] = OrderedDict()


def _read_channel(path: str, start: int, frames: int, channel: int | None) -> tuple[NDArray[np.float32], int]:
    key = _key(path)
    known = _kept.get(key)
    if known is not None and (known.complete or start + frames <= len(known.audio)):
        _kept.move_to_end(key)
        return _one_channel(known.audio[start : start + frames], channel), known.rate_hz
    handle = _opened(path)
    if handle is not None and handle.format in _EXACT_FORMATS and handle.subtype in _EXACT_SUBTYPES:
        with handle:
            return _sought(handle, start, frames, channel), handle.samplerate
    with closing(_blocks(path, handle)) as blocks:
        stretch, rate_hz = _decoded_stretch(blocks, key, start, frames)
    return _one_channel(stretch, channel), rate_hz


def _sought(handle: soundfile.SoundFile, start: int, frames: int, channel: int | None) -> NDArray[np.float32]:
    step = max(1, SOUGHT_VALUES // handle.channels)
    try:
        handle.seek(min(start, handle.frames))
        parts = [
            _one_channel(handle.read(min(step, frames - at), dtype="float32", always_2d=True), channel)
            for at in range(0, frames, step)
        ]
    except (soundfile.LibsndfileError, RuntimeError, OSError) as error:
        raise AudioError("the decoder stopped at an error") from error
    return parts[0] if len(parts) == 1 else np.concatenate([np.zeros(0, np.float32), *parts])


def _decoded_stretch(blocks: _Blocks, key: _Key, start: int, frames: int) -> tuple[Frames, int]:
    """Decode as far as the stretch goes; keep all of that if it is small enough."""
    parts: list[Frames] = []
    rate_hz, first, end, size = 0, 0, 0, 0
    complete = True
    for block, block_rate_hz in blocks:
        rate_hz = block_rate_hz
        parts.append(block)
        end += len(block)
        size += block.nbytes
        if size > KEPT_BYTES:
            while parts and first + len(parts[0]) <= start:
                first += len(parts.pop(0))
        if end >= start + frames:
            complete = False
            break
    audio = np.concatenate(parts) if parts else np.zeros((0, 1), np.float32)
    audio.flags.writeable = False
    if size <= KEPT_BYTES:
        _keep(key, _Decoded(audio, rate_hz, complete))
    return audio[max(0, start - first) :][:frames], rate_hz


def _keep(key: _Key, decoded: _Decoded) -> None:
    _kept[key] = decoded
    _kept.move_to_end(key)
    while sum(held.audio.nbytes for held in _kept.values()) > KEPT_BYTES:
        _kept.popitem(last=False)


def _key(path: str) -> _Key:
    try:
        status = os.stat(path)  # noqa: PTH116 - a hot path
    except OSError as error:
        raise AudioError("cannot be opened") from error
    return path, status.st_size, status.st_mtime_ns


def _opened(path: str) -> soundfile.SoundFile | None:
    """Open with libsndfile; None for what PyAV has to read."""
    if PurePosixPath(path).suffix.lower() in _AV_SUFFIXES:
        return None
    try:
        handle = soundfile.SoundFile(path)
    except UnicodeEncodeError as error:
        raise AudioError("its name is not valid UTF-8") from error
    except (soundfile.LibsndfileError, RuntimeError, OSError, TypeError):
        return None
    if handle.frames < _UNKNOWN_FRAMES:
        return handle
    handle.close()
    return None


def _av_opened(path: str) -> Any:
    import av

    try:
        container = av.open(path, options={"format_whitelist": _AV_CONTAINERS})
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise AudioError("not an audio file that can be read") from error
    if not container.streams.audio:
        container.close()
        raise AudioError("holds no audio")
    if container.streams.audio[0].codec_context is None:
        container.close()
        raise AudioError("its encoding is unknown")
    return container


def _declared_by_container(stream: Any) -> int | None:
    if not stream.duration or not stream.time_base or not stream.rate:
        return None
    return int(round(stream.duration * stream.time_base * stream.rate))


def _av_blocks(path: str) -> _Blocks:
    """Decode with PyAV. MP4 says how long its audio is: what the last frame holds beyond it is padding."""
    import av

    with _av_opened(path) as container:
        stream = container.streams.audio[0]
        left = _declared_by_container(stream) if "mov" in container.format.name else None
        convert: Any = None
        rate_hz = stream.rate
        try:
            for frame in container.decode(stream):
                if convert is None:
                    _check_channels(frame.layout.nb_channels)
                    rate_hz = frame.sample_rate
                    convert = av.AudioResampler(format="fltp", layout=frame.layout, rate=rate_hz)
                    # HE-AAC: the header may give half the rate that comes out of the decoder.
                    left = None if left is None else round(left * rate_hz / stream.rate)
                for planar in convert.resample(frame):
                    block = np.ascontiguousarray(planar.to_ndarray().T[:left])
                    left = None if left is None else left - len(block)
                    yield block, rate_hz
        except (av.error.FFmpegError, ValueError) as error:
            raise AudioError("the decoder stopped at an error") from error
        if convert is None:
            raise AudioError("holds no audio")
