"""How each drawn setting gets through its codec: which library, which options, how much signal a packet holds."""

from datagen.degradations.codec.ffmpeg import Trip
from datagen.degradations.codec.settings import MPEG1_FROM_HZ
from datagen.degradations.codec.sndfile import FileTrip
from datagen.degradations.codec.telephone import (
    MSBC_PACKET_SAMPLES,
    SBC_PACKET_SAMPLES,
    adpcm_block,
)
from manifests.sample import Values

OPUS_PACKET_MS = 20
QP2LAMBDA = 118
"""FFmpeg's scale for qualities."""
_OPUS_RATE_MODES = {"vbr": "on", "constrained_vbr": "constrained", "cbr": "off"}


def trip_for(values: Values) -> Trip | FileTrip:
    """Return how to get a signal at `values["rate_hz"]` through the codec that `values` tell.

    Raises:
        ValueError: for a codec that there is not.
    """
    rate_hz: int = values["rate_hz"]
    bitrate_kbps: float = values.get("bitrate_kbps", 0.0)
    match values["codec"]:
        case "opus":
            return _opus(values)
        case "mp3":
            return _mp3(rate_hz, bitrate_kbps, {"compression_level": str(values["effort"])})
        case "mp3_vbr":
            quality = str(round(values["quality"] * QP2LAMBDA))
            return _mp3(rate_hz, None, {"flags": "+bitexact+qscale", "global_quality": quality})
        case "aac":
            coder = {"aac_coder": values["coder"]}
            return Trip("aac", "aac", "fltp", rate_hz, bitrate_kbps, coder, packet_samples=1_024)
        case "vorbis":
            return FileTrip("OGG", "VORBIS", rate_hz, quality=values["quality"])
        case "gsm":
            return FileTrip("WAV", "GSM610", rate_hz, packet_samples=320)
        case "g711":
            law = "pcm_mulaw" if values["law"] == "mu" else "pcm_alaw"
            return Trip(law, law, "s16", rate_hz)
        case "g722":
            bits = {"bits_per_codeword": str(round(bitrate_kbps / 8))}
            return Trip("g722", "g722", "s16", rate_hz, decoder_options=bits)
        case "g723_1":
            return Trip("g723_1", "g723_1", "s16", rate_hz, bitrate_kbps, packet_samples=240)
        case "g726":
            bits = {"bits_per_coded_sample": str(round(bitrate_kbps / 8))}
            return Trip("g726", "g726", "s16", rate_hz, bitrate_kbps, decoder_options=bits)
        case "amr_nb":
            return Trip("libopencore_amrnb", "amrnb", "s16", rate_hz, bitrate_kbps, packet_samples=160)
        case "adpcm":
            return _adpcm(values)
        case "sbc":
            return _sbc(values)
    raise ValueError(f"no codec is called {values['codec']!r}")


def _opus(values: Values) -> Trip:
    options = {
        "application": values["application"],
        "cutoff": str(values["bandwidth_hz"]),
        "compression_level": str(values["complexity"]),
        "frame_duration": str(OPUS_PACKET_MS),
        "vbr": _OPUS_RATE_MODES[values["rate_mode"]],
    }
    rate_hz = values["rate_hz"]
    packet = OPUS_PACKET_MS * rate_hz // 1_000
    return Trip("libopus", "libopus", "flt", rate_hz, values["bitrate_kbps"], options, packet_samples=packet)


def _mp3(rate_hz: int, bitrate_kbps: float | None, options: dict[str, str]) -> Trip:
    packet = 1_152 if rate_hz >= MPEG1_FROM_HZ else 576
    return Trip("libmp3lame", "mp3float", "fltp", rate_hz, bitrate_kbps, options, packet_samples=packet)


def _adpcm(values: Values) -> Trip:
    kind, rate_hz = values["kind"], values["rate_hz"]
    size, samples = adpcm_block(kind, rate_hz)
    name, sample_format = ("adpcm_ima_wav", "s16p") if kind == "ima" else ("adpcm_ms", "s16")
    return Trip(
        name,
        name,
        sample_format,
        rate_hz,
        encoder_options={"block_size": str(size)},
        decoder_options={"bits_per_coded_sample": "4"},
        packet_samples=samples,
    )


def _sbc(values: Values) -> Trip:
    rate_hz = values["rate_hz"]
    if rate_hz == 16_000:
        mode = {"msbc": "1"}
        return Trip("sbc", "sbc", "s16", rate_hz, encoder_options=mode, packet_samples=MSBC_PACKET_SAMPLES)
    return Trip("sbc", "sbc", "s16", rate_hz, values["bitrate_kbps"], packet_samples=SBC_PACKET_SAMPLES)
