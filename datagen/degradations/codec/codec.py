"""Speech and music codecs, aligned to the sample whatever they are."""

import math
from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import soxr

from datagen.degradations.base import Applied, Audio, Degradation, Drawn, Inputs, Scene, Tolerance
from datagen.degradations.codec.ffmpeg import Trip, there_and_back
from datagen.degradations.codec.lag import SEARCH_SAMPLES, best_match
from datagen.degradations.codec.mix import CodecMix, every_codec
from datagen.degradations.codec.opus import opus_modes
from datagen.degradations.codec.phase import AMR_HIGHPASS, opus_voip_highpass, without_phase_of
from datagen.degradations.codec.severity import coding_severity
from datagen.degradations.codec.sndfile import there_and_back_in_a_file
from datagen.degradations.codec.trips import trip_for
from datagen.frequency_response import bandwidth_severity
from manifests.recipe import SAMPLE_RATE_HZ
from manifests.sample import Axis, Values

DELAY_SAMPLES: dict[str, int] = {
    "opus": 312,
    "opus lowdelay": 120,
    "mp3": 0,
    "mp3_vbr": 0,
    "aac": 1_024,
    "vorbis": 0,
    "g711": 0,
    "g722": 22,
    "g723_1": 60,
    "g726": 0,
    "gsm": 0,
    "amr_nb": 40,
    "adpcm": 0,
    "sbc": 73,
}
"""Delay of each codec in samples at its own rate, the same at all rates and bitrates.

Each was measured by cross-correlation on speech through the bare packets of FFmpeg 8 (`tests/degradations/
test_codec.py` measures them again), and each has a reason: Opus reports 6.5 ms and 2.5 ms as its look-ahead; the
decoder drops the 1105 samples that LAME marks as padding; AAC overlaps frames of 1024; Vorbis counts its samples;
the two QMF banks of G.722 delay by 22; G.723.1 looks 7.5 ms ahead, AMR 5 ms; GSM, G.726 and ADPCM code what is
there; the filter bank of SBC has 80 taps for 8 bands, 80 - 8 + 1 there and back.
"""
LOOKED_UP = ("opus", "amr_nb", "g723_1", "g726", "gsm", "adpcm", "aac")
"""These model speech instead of its waveform, lag behind its steepest edges (ADPCM), or leave so little of it that
the rest has another phase (AAC at 16 kbit/s); and SILK within Opus resamples (-2 samples at 8 kHz of bandwidth, +3 at
4 kHz). Where the waveforms match best can be a few samples at 48 kHz from the table. It is looked up."""

AMR_FRAME_HEADER_BYTES = 1
"""RFC 4867, section 5.3: not part of the bitrate."""
G722_CHANNEL_KBPS = 64
"""Always sent; at 48 and 56 kbit/s the low bits carry something else."""
CONSTANT_RATE = Tolerance(relative=0.03)
"""For packets of one size. AMR is the furthest off: its frames are rounded up to bytes (7.95 kbit/s is sent as 8)."""
VARIABLE_RATE = Tolerance(relative=0.6)
"""Encoders that follow the signal spend up to half more than they were told on lively speech (1.41 times, Opus, and
1.45, AAC, were measured), and as little as they like in pauses: only more than this is wrong."""

G726_GAIN = 0.5
"""G.726 is fed 6 dB lower: what it predicts for a clipped wave exceeds 16 bits, and its decoders wrap there (that of
FFmpeg and Sun's alike). Its steps adapt to the level, so nothing else changes."""


class Codec(Degradation):
    """Encodes and decodes with one of several codecs, at a rate, bitrate and mode of its own; its delay is removed.

    A bitrate is the mean over what the packets hold. Codecs with packets of one size keep theirs within 3 %.
    Those that follow the signal (Opus unless it is `cbr`, AAC) promise only not to spend 60 % more than was drawn;
    `mp3_vbr` and `vorbis` are asked for a quality instead, and what they spend is measured. Opus promises not to
    exceed the bandwidth it is allowed.
    """

    name: ClassVar[str] = "codec"
    axis: ClassVar[Axis | None] = "coloration"
    promises: ClassVar[Mapping[str, Tolerance]] = {
        "bitrate_kbps": CONSTANT_RATE,
        "bandwidth_hz": Tolerance(),
    }
    codecs: CodecMix = every_codec()

    def draw(self, rng: np.random.Generator, scene: Scene) -> Drawn:
        """Draw a codec by weight, then its settings."""
        values = self.codecs.draw(rng)
        return Drawn(values, bandwidth_hz=widest_hz(values))

    @staticmethod
    def apply(audio: Audio, values: Values, inputs: Inputs) -> Applied:
        """Send `audio` through the codec; measures the delivered bitrate, and what Opus chose to do."""
        return through_codec(audio, values)

    @staticmethod
    def severity(values: Values, measured: Values) -> float:
        """Rises as the bitrate falls, and as the bandwidth falls that the codec can carry."""
        return codec_severity(values, measured)

    @classmethod
    def broken_promises(cls, values: Values, measured: Values) -> tuple[str, ...]:
        """Name what was not delivered: the bitrate, and of Opus a bandwidth within the one that was allowed."""
        return broken_codec_promises(values, measured)


def through_codec(audio: Audio, values: Values) -> Applied:
    """Send `audio`, shape (N,) at 48 kHz, through the codec that `values` tell.

    Raises:
        CannotApply: when the codec refuses the signal or its settings.
    """
    name, rate_hz = values["codec"], values["rate_hz"]
    delay = DELAY_SAMPLES["opus lowdelay" if values.get("application") == "lowdelay" else name]
    lead = _lead(name, delay, rate_hz)
    delay_samples = (lead + delay) * SAMPLE_RATE_HZ // rate_hz
    sent = _prepared(audio, rate_hz, lead, delay)
    if name == "g726":
        sent = np.clip(sent, -1.0, 1.0) * np.float32(G726_GAIN)
    trip = trip_for(values)
    decoded, packets = (
        there_and_back(sent, trip) if isinstance(trip, Trip) else there_and_back_in_a_file(sent, trip)
    )
    held = len(packets) * trip.packet_samples if trip.packet_samples else len(sent)
    measured: Values = {"bitrate_kbps": round(_bitrate_kbps(values, packets, held), 3)}
    if name == "opus":
        measured |= opus_modes(packets)
    if highpass := _highpass(values):
        decoded = without_phase_of(decoded, highpass, rate_hz)
    if name == "g726":
        decoded = decoded / np.float32(G726_GAIN)
    if rate_hz != SAMPLE_RATE_HZ:
        decoded = soxr.resample(decoded, rate_hz, SAMPLE_RATE_HZ)
    if name in LOOKED_UP:
        moved, rest = best_match(audio, decoded, delay_samples)
        delay_samples += moved
        measured["residual_lag_samples"] = round(rest, 3)
    return Applied(decoded, delay_samples=float(delay_samples), measured=measured)


def codec_severity(values: Values, measured: Values) -> float:
    """Rises as the bitrate or the quality falls, and as the bandwidth falls that the codec can carry."""
    return 1.0 - (1.0 - coding_severity(values)) * (1.0 - bandwidth_severity(widest_hz(values)))


def widest_hz(values: Values) -> float:
    """Bandwidth that a codec can carry at most, by its rate and by what it was allowed."""
    return float(min(values["rate_hz"] / 2, values.get("bandwidth_hz", SAMPLE_RATE_HZ / 2)))


def broken_codec_promises(values: Values, measured: Values) -> tuple[str, ...]:
    """Name what a codec was told to deliver and did not: `bitrate_kbps`, and of Opus `bandwidth_hz`."""
    broken = []
    if values.get("bitrate_kbps") is not None:
        drawn, delivered = float(values["bitrate_kbps"]), float(measured.get("bitrate_kbps", math.inf))
        if follows_the_signal(values):
            kept = delivered <= drawn or VARIABLE_RATE.holds(drawn, delivered)
        else:
            kept = CONSTANT_RATE.holds(drawn, delivered)
        broken += [] if kept else ["bitrate_kbps"]
    if values.get("bandwidth_hz") is not None:
        # Opus may use less than it was allowed at low bitrates; never more.
        broken += [] if measured.get("bandwidth_hz", math.inf) <= values["bandwidth_hz"] else ["bandwidth_hz"]
    return tuple(broken)


def follows_the_signal(values: Values) -> bool:
    """Whether the drawn bitrate is a mean that the encoder aims at, and not the size of each packet."""
    name: str = values["codec"]
    return name == "aac" or str(values.get("rate_mode", "cbr")) != "cbr"


def _lead(name: str, delay: int, rate_hz: int) -> int:
    """Zeros to put in front, so that codec delay and zeros together are whole samples at 48 kHz.

    Where the best match is looked up, there are enough of them to find one that comes earlier than the table.
    """
    step = rate_hz // math.gcd(rate_hz, SAMPLE_RATE_HZ)
    least = SEARCH_SAMPLES * rate_hz // SAMPLE_RATE_HZ + 1 if name in LOOKED_UP else 0
    return -(-max(delay, least) // step) * step - delay


def _prepared(audio: Audio, rate_hz: int, lead: int, delay: int) -> Audio:
    """Resample to the codec's rate, with zeros before, and enough after to flush out the last sample."""
    narrow = audio if rate_hz == SAMPLE_RATE_HZ else soxr.resample(audio, SAMPLE_RATE_HZ, rate_hz)
    flush = delay + rate_hz // 50
    return np.concatenate((np.zeros(lead, np.float32), narrow, np.zeros(flush, np.float32)))


def _highpass(values: Values) -> tuple[tuple[float, ...], ...]:
    """Biquads of the high-pass that the codec applies; none for most."""
    if values["codec"] == "amr_nb":
        return AMR_HIGHPASS
    if values.get("application") == "voip":
        return (opus_voip_highpass(values["rate_hz"]),)
    return ()


def _bitrate_kbps(values: Values, packets: list[bytes], held_samples: int) -> float:
    """Mean over the signal that the packets hold, which is a little more than was to be sent."""
    coded = sum(map(len, packets))
    if values["codec"] == "amr_nb":
        coded -= AMR_FRAME_HEADER_BYTES * len(packets)
    if values["codec"] == "g722":
        coded = coded * values["bitrate_kbps"] // G722_CHANNEL_KBPS
    return coded * 8 / 1_000 / (held_samples / float(values["rate_hz"]))
