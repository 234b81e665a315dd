"""A call over Opus that loses packets: concealed, or repaired, by the decoder itself."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from datagen.degradations.base import Applied, Audio, Drawn, Inputs, Scene, Tolerance
from datagen.degradations.codec.lag import best_match
from datagen.degradations.codec.opus import opus_modes
from datagen.degradations.codec.phase import opus_voip_highpass, without_phase_of
from datagen.degradations.codec.settings import OpusApplication, OpusBandwidth
from datagen.degradations.network.gilbert_elliott import LossyChannel, loss_severity
from datagen.degradations.network.libopus import (
    OpusDecoder,
    OpusEncoder,
    holds_previous,
    library,
)
from datagen.degradations.network.packet_loss import (
    carries_signal,
    heard_losses,
    measured_losses,
    packet_samples,
)
from manifests.ranges import Probability, Span, Whole, Within, integer, log_uniform, one_of
from manifests.recipe import SAMPLE_RATE_HZ
from manifests.sample import Values

PacketMs = Literal[10, 20, 40, 60]

LONGEST_LOOKAHEAD_SAMPLES = 312
"""6.5 ms; the `lowdelay` application looks 2.5 ms ahead."""
UNSENT_BYTES = 2
"""With DTX, what is no longer than this is not sent (opus.h, `OPUS_SET_DTX`)."""
CONCEALED = 0.8
"""A gap that is concealed well is less bad than one of silence."""
REPAIRED = 0.2
"""A packet that was decoded from its copy at a lower bitrate is as bad as this part of a lost one."""


class OpusPacketLoss(LossyChannel):
    """Encodes with Opus, loses packets of a Gilbert-Elliott channel, and decodes as a receiver does.

    The decoder of libopus conceals what is missing by going on with the pitch and the spectrum that it knows, ever
    quieter, and joins the next packet to that. With in-band FEC (RFC 6716, section 2.1.7) a packet carries a copy of
    the one before at a lower bitrate where it pays: the last packet of a burst is then decoded from it. With DTX no
    packets are sent in pauses, and the decoder makes comfort noise. Needs the libopus that the wheels of PyAV hold.
    """

    name: ClassVar[str] = "opus_packet_loss"
    promises: ClassVar[Mapping[str, Tolerance]] = {
        "loss_share": Tolerance(relative=0.01),
        "mean_burst_packets": Tolerance(relative=0.01),
    }
    packet_ms: tuple[PacketMs, ...] = Field(default=(10, 20, 20, 40, 60), min_length=1)
    """How much sound a packet holds; one that stands twice is drawn twice as often."""
    bitrate_kbps: Annotated[Span, Within(6.0, 256.0)] = (12.0, 48.0)
    """Asked of the encoder, which spends less in pauses; drawn on a logarithmic axis."""
    bandwidths_hz: tuple[OpusBandwidth, ...] = Field(default=(8_000, 12_000, 20_000, 20_000), min_length=1)
    """What limits the audio bandwidth (Opus may choose less at low bitrates)."""
    applications: tuple[OpusApplication, ...] = Field(
        default=("voip", "voip", "audio", "lowdelay"), min_length=1
    )
    """What Opus is set up for: calls, music, or the shortest delay (without its speech coder)."""
    complexity: Annotated[Span, Whole(0, 10)] = (0, 9)
    """Of the encoder: 0 is the quickest, 10 the best."""
    fec: Probability = 0.5
    """How often the encoder adds copies; it expects as many losses as there are. `lowdelay` has none."""
    dtx: Probability = 0.1
    """How often pauses are not sent."""

    def draw(self, rng: np.random.Generator, scene: Scene) -> Drawn:
        """Draw the call's settings, and what the channel loses.

        Raises:
            UserError: when there is no libopus.
        """
        library()
        packet_ms = int(one_of(rng, self.packet_ms))
        sent = scene.frames + LONGEST_LOOKAHEAD_SAMPLES
        losses = self.draw_losses(rng, -(-sent // packet_samples(packet_ms)))
        values: Values = {
            "packet_ms": packet_ms,
            "application": one_of(rng, self.applications),
            "bitrate_kbps": round(log_uniform(rng, self.bitrate_kbps), 1),
            "bandwidth_hz": int(one_of(rng, self.bandwidths_hz)),
            "complexity": integer(rng, self.complexity),
            "fec": bool(rng.random() < self.fec),
            "dtx": bool(rng.random() < self.dtx),
            "move_to": float(rng.random()),
        }
        return Drawn(values | losses, bandwidth_hz=float(values["bandwidth_hz"]))

    @staticmethod
    def apply(audio: Audio, values: Values, inputs: Inputs) -> Applied:
        """Encode, lose, decode; measures what the decoder missed and what it got from copies, and the bitrate.

        Raises:
            CannotApply: when no packet carries signal, or none would arrive.
        """
        size = packet_samples(values["packet_ms"])
        sent = -(-(len(audio) + LONGEST_LOOKAHEAD_SAMPLES) // size)
        padded = np.concatenate((audio, np.zeros(sent * size - len(audio), np.float32)))
        active = carries_signal(padded, size)
        lost = heard_losses(values["bursts"], active, values["move_to"])
        packets, delay_samples = _encoded(padded, size, values)
        received = _received(packets, lost, size)
        decoded = received.audio
        if values["application"] == "voip":
            decoded = without_phase_of(decoded, (opus_voip_highpass(SAMPLE_RATE_HZ),), SAMPLE_RATE_HZ)
        # SILK resamples inside: -2 samples at 8 kHz of bandwidth, +3 at 4 kHz.
        delay_samples += best_match(audio, decoded, delay_samples)[0]
        travelled = [packet for packet in packets if len(packet) > UNSENT_BYTES]
        coded = opus_modes(travelled)
        measured = measured_losses(received.missing, active) | {
            "repaired_share": received.repaired / max(1, int(received.missing.sum())),
            "unsent_share": 1.0 - len(travelled) / len(packets),
            "delivered_kbps": round(_kbps(travelled, len(packets) * size), 2),
            "mode": coded["mode"],
            "delivered_bandwidth_hz": coded["bandwidth_hz"],
        }
        return Applied(decoded, delay_samples=float(delay_samples), measured=measured)

    @staticmethod
    def severity(values: Values, measured: Values) -> float:
        """As of `packet_loss`, relieved by the concealment, and more so by what was repaired."""
        left = 1.0 - (1.0 - REPAIRED) * float(measured["repaired_share"])
        gap_ms = left * float(measured["mean_burst_packets"]) * float(values["packet_ms"])
        return CONCEALED * loss_severity(left * float(measured["loss_share"]), gap_ms)


@dataclass(frozen=True)
class _Received:
    """What came out of the decoder."""

    audio: Audio
    missing: NDArray[np.bool_]
    """Of each packet, whether the decoder had to do without it."""
    repaired: int
    """How many of these were decoded from the copy in the next one."""


def _encoded(audio: Audio, size: int, values: Values) -> tuple[list[bytes], int]:
    encoder = OpusEncoder(
        values["application"],
        values["bitrate_kbps"],
        values["bandwidth_hz"],
        values["complexity"],
        expected_loss_percent=max(1, round(100 * values["loss_share"])),
        fec=values["fec"],
        dtx=values["dtx"],
    )
    return encoder.packets(audio, size), encoder.lookahead_samples


def _received(packets: Sequence[bytes], lost: NDArray[np.bool_], size: int) -> _Received:
    """Decode what arrives, and let the decoder find something for the rest."""
    played = np.zeros(len(packets) * size, np.float32)
    missing = np.zeros(len(packets), bool)
    arrived = [
        None if gone or len(packet) <= UNSENT_BYTES else packet
        for packet, gone in zip(packets, lost, strict=True)
    ]
    repaired = 0
    decoder = OpusDecoder()
    for number, packet in enumerate(arrived):
        out = played[number * size : (number + 1) * size]
        following = arrived[number + 1] if number + 1 < len(arrived) else None
        missing[number] = packet is None and bool(lost[number])
        if missing[number] and following is not None and holds_previous(following):
            decoder.decode(following, out, from_next=True)
            repaired += 1
        else:
            decoder.decode(packet, out)
    return _Received(played, missing, repaired)


def _kbps(packets: Sequence[bytes], frames: int) -> float:
    return sum(map(len, packets)) * 8 / 1_000 / (frames / SAMPLE_RATE_HZ)
