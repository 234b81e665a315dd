"""Speech and music codecs, aligned to the sample whatever they are."""

import math
from typing import ClassVar

import numpy as np
import soxr

from datagen.degradations.base import Applied, Audio, Degradation, Drawn, Inputs, Scene
from datagen.degradations.codec_av import Trip, there_and_back
from datagen.degradations.codec_phase import AMR_HIGHPASS, opus_voip_highpass, without_phase_of
from datagen.degradations.codec_settings import CodecMix, every_codec
from datagen.degradations.frequency_response import bandwidth_severity
from manifests.recipe import SAMPLE_RATE_HZ
from manifests.sample import Axis, Values

DELAY_SAMPLES: dict[str, int] = {
    "opus": 312,
    "opus lowdelay": 120,
    "mp3": 0,
    "aac": 1_024,
    "g711": 0,
    "g722": 22,
    "amr_nb": 40,
}
"""Delay of each codec in samples at its own rate, the same at all rates and bitrates.

Each was measured by cross-correlation on speech through the bare packets of FFmpeg 8 (`tests/degradations/
test_codec.py` measures them again), and each has a reason: Opus reports 6.5 ms and 2.5 ms as its look-ahead; the
decoder drops the 1105 samples that LAME marks as padding; AAC overlaps frames of 1024; the two QMF banks of G.722
delay by 22; AMR looks 5 ms ahead.
"""
MODELLING = ("opus", "amr_nb")
"""These model speech instead of its waveform, and SILK within Opus resamples (-2 samples at 8 kHz of bandwidth, +3
at 4 kHz): where the waveforms match best can be a few samples at 48 kHz from the table. It is looked up."""
SEARCH_SAMPLES = 5
"""How far from the table to look, at 48 kHz: a tenth of a millisecond, in which speech does not repeat."""
SURE_LIKENESS = 0.3
"""Below this correlation the waveforms say nothing, and the table stands."""

TRANSPARENT_KBPS = {"opus": 96.0, "mp3": 192.0, "aac": 160.0, "g711": 128.0, "g722": 128.0, "amr_nb": 24.0}
"""From about here on a codec is not heard on speech."""
WORST_OCTAVES = 4.5
"""As many halvings of the bitrate below it are the worst."""

OPUS_BANDWIDTHS_HZ = (4_000, 6_000, 8_000, 12_000, 20_000)
_SILK_CONFIGS = 12
_HYBRID_CONFIGS = 16


class Codec(Degradation):
    """Encodes and decodes with one of several codecs, at a rate, bitrate and mode of its own."""

    name: ClassVar[str] = "codec"
    axis: ClassVar[Axis | None] = "coloration"
    codecs: CodecMix = every_codec()

    def draw(self, rng: np.random.Generator, scene: Scene) -> Drawn:
        """Draw a codec by weight, then its settings."""
        present = self.codecs.present()
        weights = np.array([settings.weight for settings in present.values()])
        name = list(present)[int(rng.choice(len(weights), p=weights / weights.sum()))]
        return Drawn({"codec": name, **present[name].draw(rng)})

    @staticmethod
    def apply(audio: Audio, values: Values, inputs: Inputs) -> Applied:
        """Send `audio` through the codec; measures the delivered bitrate, and what Opus chose to do."""
        name, rate_hz = values["codec"], values["rate_hz"]
        delay = DELAY_SAMPLES["opus lowdelay" if values.get("application") == "lowdelay" else name]
        lead = _lead_for_whole_delay(delay, rate_hz)
        delay_samples = (lead + delay) * SAMPLE_RATE_HZ // rate_hz
        decoded, packets = there_and_back(_prepared(audio, rate_hz, lead, delay), _trip(values))
        if highpass := _highpass(values):
            decoded = without_phase_of(decoded, highpass, rate_hz)
        if rate_hz != SAMPLE_RATE_HZ:
            decoded = soxr.resample(decoded, rate_hz, SAMPLE_RATE_HZ)
        measured: Values = {"bitrate_kbps": round(_bitrate_kbps(packets, len(audio)), 2)}
        if name == "opus":
            measured |= _opus_modes(packets)
        if name in MODELLING:
            delay_samples += _best_match(audio, decoded, delay_samples)
        return Applied(decoded, delay_samples=float(delay_samples), measured=measured)

    @staticmethod
    def severity(values: Values, measured: Values) -> float:
        """Rises as the bitrate falls, and as the bandwidth falls that the codec can carry."""
        heard_hz = min(values["rate_hz"] / 2, values.get("bandwidth_hz", SAMPLE_RATE_HZ / 2))
        octaves = math.log2(TRANSPARENT_KBPS[values["codec"]] / float(values["bitrate_kbps"]))
        coding = min(1.0, max(0.02, octaves / WORST_OCTAVES))
        return 1.0 - (1.0 - coding) * (1.0 - bandwidth_severity(heard_hz))


def _lead_for_whole_delay(delay: int, rate_hz: int) -> int:
    """Zeros to put in front, so that codec delay and zeros together are whole samples at 48 kHz."""
    step = rate_hz // math.gcd(rate_hz, SAMPLE_RATE_HZ)
    return -delay % step


def _prepared(audio: Audio, rate_hz: int, lead: int, delay: int) -> Audio:
    """Resample to the codec's rate, with zeros before, and enough after to flush out the last sample."""
    narrow = audio if rate_hz == SAMPLE_RATE_HZ else soxr.resample(audio, SAMPLE_RATE_HZ, rate_hz)
    flush = delay + rate_hz // 50
    return np.concatenate((np.zeros(lead, np.float32), narrow, np.zeros(flush, np.float32)))


def _trip(values: Values) -> Trip:
    rate_hz, bitrate_kbps = values["rate_hz"], values["bitrate_kbps"]
    match values["codec"]:
        case "opus":
            options = {
                "application": values["application"],
                "cutoff": str(values["bandwidth_hz"]),
                "compression_level": str(values["complexity"]),
                "frame_duration": "20",
            }
            return Trip("libopus", "libopus", "flt", rate_hz, bitrate_kbps, options)
        case "mp3":
            options = {"compression_level": str(values["effort"])}
            return Trip("libmp3lame", "mp3float", "fltp", rate_hz, bitrate_kbps, options)
        case "aac":
            return Trip("aac", "aac", "fltp", rate_hz, bitrate_kbps, {"aac_coder": values["coder"]})
        case "g711":
            law = "pcm_mulaw" if values["law"] == "mu" else "pcm_alaw"
            return Trip(law, law, "s16", rate_hz)
        case "g722":
            bits = {"bits_per_codeword": str(bitrate_kbps // 8)}
            return Trip("g722", "g722", "s16", rate_hz, decoder_options=bits)
        case "amr_nb":
            return Trip("libopencore_amrnb", "amrnb", "s16", rate_hz, bitrate_kbps)
    raise ValueError(f"no codec is called {values['codec']!r}")


def _highpass(values: Values) -> tuple[tuple[float, ...], ...]:
    """Biquads of the high-pass that the codec applies; none for most."""
    if values["codec"] == "amr_nb":
        return AMR_HIGHPASS
    if values.get("application") == "voip":
        return (opus_voip_highpass(values["rate_hz"]),)
    return ()


def _bitrate_kbps(packets: list[bytes], frames: int) -> float:
    return sum(map(len, packets)) * 8 / 1_000 / (frames / SAMPLE_RATE_HZ)


def _opus_modes(packets: list[bytes]) -> Values:
    """Read what the encoder chose out of the first byte of each packet (RFC 6716, section 3.1)."""
    configs = [packet[0] >> 3 for packet in packets if packet]
    modes = [_opus_mode(config) for config in configs]
    bandwidths_hz = [_opus_bandwidth_hz(config) for config in configs]
    return {
        "mode": max(sorted(set(modes)), key=modes.count),
        "bandwidth_hz": max(sorted(set(bandwidths_hz)), key=bandwidths_hz.count),
    }


def _opus_mode(config: int) -> str:
    return "silk" if config < _SILK_CONFIGS else "hybrid" if config < _HYBRID_CONFIGS else "celt"


def _opus_bandwidth_hz(config: int) -> int:
    if config < _SILK_CONFIGS:
        return OPUS_BANDWIDTHS_HZ[config // 4]
    if config < _HYBRID_CONFIGS:
        return (12_000, 20_000)[(config - _SILK_CONFIGS) // 2]
    return (4_000, 8_000, 12_000, 20_000)[(config - _HYBRID_CONFIGS) // 4]


def _best_match(audio: Audio, decoded: Audio, delay_samples: int) -> int:
    """Find where `decoded` correlates best with `audio`, in samples from `delay_samples`; 0 if it hardly does."""
    length = min(len(audio), len(decoded) - delay_samples - SEARCH_SAMPLES)
    if length <= 0:
        return 0
    sent = audio[:length]
    lags = range(-min(SEARCH_SAMPLES, delay_samples), SEARCH_SAMPLES + 1)
    likeness = [float(np.dot(sent, decoded[delay_samples + lag :][:length])) for lag in lags]
    best = int(np.argmax(likeness))
    energy = float(np.dot(sent, sent)) * float(np.dot(decoded, decoded))
    return lags[best] if likeness[best] > SURE_LIKENESS * math.sqrt(energy) > 0.0 else 0
