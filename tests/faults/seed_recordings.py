"""Small sound recordings of every container and encoding that scan takes: what mutations start from."""

import io
from fractions import Fraction
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from datagen.audio import resampled
from pipelines.built_in.voices import SENTENCES, TALKERS, Synthesizer, Talker

SECONDS = 1.0
RIR_SECONDS = 0.3

Audio = NDArray[np.float32]

# suffix, libsndfile's format, its subtype, rate in Hz, channels
_BY_SNDFILE = (
    ("wav", "WAV", "PCM_U8", 8_000, 1),
    ("wav", "WAV", "PCM_16", 22_050, 1),
    ("wav", "WAV", "PCM_16", 16_000, 2),
    ("wav", "WAVEX", "PCM_24", 16_000, 1),
    ("wav", "WAV", "PCM_32", 11_025, 1),
    ("wav", "WAV", "FLOAT", 16_000, 1),
    ("wav", "WAV", "DOUBLE", 8_000, 1),
    ("wav", "WAV", "ULAW", 8_000, 1),
    ("wav", "WAV", "ALAW", 8_000, 1),
    ("wav", "WAV", "IMA_ADPCM", 16_000, 1),
    ("wav", "WAV", "MS_ADPCM", 16_000, 1),
    ("wav", "WAV", "GSM610", 8_000, 1),
    ("wav", "RF64", "PCM_16", 16_000, 1),
    ("w64", "W64", "PCM_16", 16_000, 1),
    ("aiff", "AIFF", "PCM_16", 22_050, 1),
    ("aifc", "AIFF", "FLOAT", 16_000, 1),
    ("au", "AU", "PCM_16", 16_000, 1),
    ("au", "AU", "ULAW", 8_000, 1),
    ("caf", "CAF", "PCM_24", 16_000, 1),
    ("caf", "CAF", "ALAC_16", 22_050, 1),
    ("flac", "FLAC", "PCM_16", 22_050, 1),
    ("flac", "FLAC", "PCM_24", 48_000, 2),
    ("ogg", "OGG", "VORBIS", 44_100, 1),
    ("opus", "OGG", "OPUS", 48_000, 1),
    ("mp3", "MP3", "MPEG_LAYER_III", 22_050, 1),
)
# suffix, PyAV's encoder, rate in Hz
_BY_AV = (
    ("m4a", "aac", 44_100),
    ("aac", "aac", 16_000),
    ("webm", "libopus", 48_000),
    ("mka", "flac", 22_050),
    ("wma", "wmav2", 44_100),
    ("mp3", "libmp3lame", 44_100),
)
# For a response, what keeps its first sample in place.
_RIR_SUFFIXES = ("wav", "w64", "aiff", "caf", "flac", "au")


def seed_recordings(scratch: Path) -> dict[str, dict[str, bytes]]:
    """For each kind, content of sound files by a name that ends in its suffix. No two have the same content."""
    synthesizer = Synthesizer()
    return {
        "speech": _spoken(synthesizer, scratch, first_sentence=0),
        "noise": _spoken(synthesizer, scratch, first_sentence=1),
        "rir": _responses(),
    }


def _spoken(synthesizer: Synthesizer, scratch: Path, first_sentence: int) -> dict[str, bytes]:
    """One talker after another speaks. Voices serve as noise, too."""
    recordings = {}
    for number, (suffix, container, subtype, rate_hz, channels) in enumerate(_BY_SNDFILE):
        voice = _voice(synthesizer, TALKERS[number % len(TALKERS)], first_sentence + number, rate_hz)
        name = f"{container}-{subtype}-{channels}.{suffix}"
        recordings[name] = _by_sndfile(np.stack([voice] * channels, axis=1), rate_hz, container, subtype)
    for number, (suffix, encoder, rate_hz) in enumerate(_BY_AV):
        voice = _voice(synthesizer, TALKERS[number], first_sentence + number + 3, rate_hz)
        name = f"{encoder}.{suffix}"
        write_with_av(scratch / name, encoder, voice, rate_hz)
        recordings[name] = (scratch / name).read_bytes()
        (scratch / name).unlink()
    return recordings


def _responses() -> dict[str, bytes]:
    """Noise that decays."""
    rng = np.random.default_rng(5)
    made = {}
    for suffix, container, subtype, rate_hz, channels in _BY_SNDFILE:
        if suffix in _RIR_SUFFIXES and "ADPCM" not in subtype and subtype != "GSM610":
            time_s = np.arange(int(RIR_SECONDS * rate_hz)) / rate_hz
            decay = 0.1 * rng.standard_normal((len(time_s), channels)) * np.exp(-20.0 * time_s)[:, None]
            decay[20] = 0.9
            made[f"rir-{container}-{subtype}-{channels}.{suffix}"] = _by_sndfile(
                decay.astype(np.float32), rate_hz, container, subtype
            )
    return made


def write_with_av(path: Path, encoder: str, audio: Audio, rate_hz: int) -> None:
    """Encode mono audio with FFmpeg, in the container that the path's suffix names."""
    import av

    container_format = {".m4a": "mp4", ".aac": "adts", ".mka": "matroska", ".wma": "asf"}.get(path.suffix)
    with av.open(str(path), "w", format=container_format) as container:
        stream = container.add_stream(encoder, rate=rate_hz, layout="mono", bit_rate=64_000)
        frame = av.AudioFrame.from_ndarray(audio[None], format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = rate_hz, 0, Fraction(1, rate_hz)
        context = stream.codec_context
        convert = av.AudioResampler(context.format.name, "mono", rate_hz, context.frame_size or 1024)
        for part in (*convert.resample(frame), *convert.resample(None)):
            container.mux(stream.encode(part))
        container.mux(stream.encode(None))


def _voice(synthesizer: Synthesizer, talker: Talker, number: int, rate_hz: int) -> Audio:
    spoken = synthesizer.speak(talker, SENTENCES[number % len(SENTENCES)])
    return resampled(spoken, synthesizer.rate_hz, rate_hz)[: int(SECONDS * rate_hz)]


def _by_sndfile(audio: Audio, rate_hz: int, container: str, subtype: str) -> bytes:
    stream = io.BytesIO()
    soundfile.write(stream, audio, rate_hz, format=container, subtype=subtype)
    return stream.getvalue()
