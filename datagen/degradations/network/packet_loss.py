"""Lost packets of plain PCM, and what the receiver plays instead."""

from collections.abc import Mapping
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from datagen.degradations.base import Applied, Audio, CannotApply, Drawn, Inputs, Scene, Tolerance
from datagen.degradations.network.gilbert_elliott import Burst, LossyChannel, loss_severity, runs
from manifests.ranges import one_of
from manifests.recipe import SAMPLE_RATE_HZ
from manifests.sample import Values

Concealment = Literal["zero", "hold", "repeat"]
PacketMs = Literal[5, 10, 20, 30, 40, 60]

SIGNAL_BELOW_PEAK_DB = 40.0
"""A packet carries signal if its peak is within this distance of the clip's peak."""
FADE_SAMPLES = round(2.5e-3 * SAMPLE_RATE_HZ)
"""Of a crossfade: 2.5 ms, or a quarter of a shorter packet."""
HOLD_FADE_SAMPLES = round(10e-3 * SAMPLE_RATE_HZ)
"""Time constant with which a held value decays: 10 ms."""


class PacketLoss(LossyChannel):
    """Loses packets of a Gilbert-Elliott channel and conceals them without changing the length.

    The channel loses exactly the share that was drawn, in whole packets; if that would hit nothing but silence, one
    burst is moved to where there is signal.
    """

    name: ClassVar[str] = "packet_loss"
    promises: ClassVar[Mapping[str, Tolerance]] = {
        "loss_share": Tolerance(relative=0.01),
        "mean_burst_packets": Tolerance(relative=0.01),
    }
    packet_ms: tuple[PacketMs, ...] = Field(default=(10, 20, 40, 60), min_length=1)
    """How much sound a packet holds."""
    concealments: tuple[Concealment, ...] = Field(default=("zero", "hold", "repeat"), min_length=1)
    """`zero` plays silence, with hard edges; `hold` keeps the last value and lets it fade, so that nothing clicks;
    `repeat` plays the last packet again and again, crossfaded (as ITU-T G.711 Appendix I does with pitch periods)."""

    def draw(self, rng: np.random.Generator, scene: Scene) -> Drawn:
        """Draw the packets, the channel and what it loses, and how that is concealed."""
        packet_ms = int(one_of(rng, self.packet_ms))
        losses = self.draw_losses(rng, -(-scene.frames // packet_samples(packet_ms)))
        concealment = one_of(rng, self.concealments)
        moved = {"move_to": float(rng.random())}
        return Drawn({"packet_ms": packet_ms, "concealment": concealment, **losses, **moved})

    @staticmethod
    def apply(audio: Audio, values: Values, inputs: Inputs) -> Applied:
        """Lose and conceal; measures what is gone, packet by packet, by comparing with what was sent.

        Raises:
            CannotApply: when no packet carries signal, or none would arrive.
        """
        size = packet_samples(values["packet_ms"])
        active = carries_signal(audio, size)
        lost = heard_losses(values["bursts"], active, values["move_to"])
        concealed = audio.copy()
        for first, count in runs(lost):
            _conceal(concealed, audio, first * size, (first + count) * size, size, values["concealment"])
        gone = _gone(audio, concealed, lost, size)
        return Applied(concealed, measured=measured_losses(gone, active))

    @staticmethod
    def severity(values: Values, measured: Values) -> float:
        """Rises with the share that was lost (25 % is the worst) and with the length of the gaps."""
        gap_ms = float(measured["mean_burst_packets"]) * float(values["packet_ms"])
        return loss_severity(float(measured["loss_share"]), gap_ms)


def carries_signal(audio: Audio, size: int) -> NDArray[np.bool_]:
    """Say of each packet of `size` samples whether it is within 40 dB of the loudest.

    Raises:
        CannotApply: when none is.
    """
    peaks = np.abs(_packets(audio, size)).max(axis=1)
    carrying: NDArray[np.bool_] = peaks > peaks.max() * 10.0 ** (-SIGNAL_BELOW_PEAK_DB / 20.0)
    if not carrying.any():
        raise CannotApply("no packet carries signal")
    return carrying


def heard_losses(bursts: list[Burst], active: NDArray[np.bool_], move_to: float) -> NDArray[np.bool_]:
    """Say of each packet whether it is lost; one of the bursts is moved if none hits a packet with signal.

    Args:
        bursts: as drawn.
        active: whether each packet carries signal.
        move_to: 0 to 1, which of the possible places is taken.

    Raises:
        CannotApply: when there is no place, or no packet would arrive.
    """
    lost = np.zeros(len(active), bool)
    for first, count in bursts:
        lost[first : first + count] = True
    if lost.all():
        raise CannotApply("no packet would arrive")
    if (lost & active).any():
        return lost
    first, count = min(bursts, key=lambda burst: burst[1])
    lost[first : first + count] = False
    # A place holds signal, and touches no other burst: neither itself nor the packets on both sides.
    fenced = np.convolve(lost, np.ones(3, int), "same") > 0
    taken, heard = (np.concatenate(([0], np.cumsum(flags))) for flags in (fenced, active))
    free = (taken[count:] == taken[:-count]) & (heard[count:] > heard[:-count])
    places = np.flatnonzero(free)
    if not len(places):
        raise CannotApply("no drawn burst fits where there is signal")
    place = int(places[int(move_to * len(places))])
    lost[place : place + count] = True
    return lost


def measured_losses(gone: NDArray[np.bool_], active: NDArray[np.bool_]) -> Values:
    """Return the share that is gone, of all packets and of those with signal, and the mean length of its runs."""
    return {
        "loss_share": float(gone.mean()),
        "mean_burst_packets": float(gone.sum() / max(1, len(runs(gone)))),
        "lost_active_share": float((gone & active).sum() / active.sum()),
    }


def packet_samples(packet_ms: int) -> int:
    """Length of a packet at 48 kHz."""
    return packet_ms * SAMPLE_RATE_HZ // 1_000


def _packets(audio: Audio, size: int) -> Audio:
    """View or pad `audio` as packets, shape (packets, size)."""
    count = -(-len(audio) // size)
    if count * size != len(audio):
        audio = np.concatenate((audio, np.zeros(count * size - len(audio), np.float32)))
    return audio.reshape(count, size)


def _gone(sent: Audio, played: Audio, lost: NDArray[np.bool_], size: int) -> NDArray[np.bool_]:
    """Say of each packet whether its middle half, which no crossfade reaches, is not what was sent.

    Of digital silence it cannot be seen whether it arrived: there the plan is believed.
    """
    middle = slice(size // 4, size - size // 4)
    before, after = _packets(sent, size)[:, middle], _packets(played, size)[:, middle]
    return np.where(before.any(axis=1), (before != after).any(axis=1), lost)


def _conceal(out: Audio, sent: Audio, start: int, end: int, size: int, how: Concealment) -> None:
    """Fill `out[start:end]`; what came before it has been concealed already and is what the receiver knows."""
    end = min(end, len(out))
    if how == "zero" or start == 0:
        out[start:end] = 0.0
        return
    fade = min(FADE_SAMPLES, size // 4)
    ramp = np.linspace(0.0, 1.0, fade + 2, dtype=np.float32)[1:-1]
    count = end - start + fade
    played = _held(out, start, count) if how == "hold" else _repeated(out, start, count, size, ramp)
    out[start:end] = played[: end - start]
    arriving = sent[end : end + fade]
    fading = played[end - start :][: len(arriving)]
    out[end : end + len(arriving)] = fading + ramp[: len(arriving)] * (arriving - fading)


def _held(out: Audio, start: int, count: int) -> Audio:
    decay = np.exp(-np.arange(1, count + 1, dtype=np.float32) / HOLD_FADE_SAMPLES)
    held: Audio = out[start - 1] * decay
    return held


def _repeated(out: Audio, start: int, count: int, size: int, ramp: Audio) -> Audio:
    """Play the packet before `start` again and again, crossfaded at each join.

    The first crossfade lies before `start`: a receiver holds back that much to be able to do it
    (ITU-T G.711 Appendix I, which holds back 3.75 ms).
    """
    fade = len(ramp)
    packet = out[start - size : start].copy()
    # Its end blends into its beginning, so that tiles of this cycle have no edges.
    cycle = packet[fade:]
    cycle[-fade:] += ramp * (packet[:fade] - cycle[-fade:])
    out[start - fade : start] = cycle[-fade:]
    return np.tile(cycle, -(-count // len(cycle)))[:count]
