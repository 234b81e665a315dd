"""Lost packets: which ones by a Gilbert-Elliott chain, and what the receiver plays instead.

The chain (E. N. Gilbert, "Capacity of a burst-noise channel", 1960) has a state in which packets arrive and one in
which they are lost. It leaves the lossy state with probability r = 1 / mean burst and enters it with
p = r share / (1 - share), so that in the long run `share` of the packets is lost in bursts of the mean length.
"""

import math
from typing import Annotated, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from datagen.degradations.base import Applied, Audio, CannotApply, Degradation, Drawn, Inputs, Scene
from manifests.ranges import Span, Within, log_uniform, uniform
from manifests.recipe import SAMPLE_RATE_HZ
from manifests.sample import Axis, Values

Concealment = Literal["zero", "hold", "repeat"]
PacketMs = Literal[5, 10, 20, 30, 40, 60]
Burst = tuple[int, int]
"""First lost packet and how many."""

SIGNAL_BELOW_PEAK_DB = 40.0
"""A packet carries signal if its peak is within this distance of the clip's peak."""
FADE_SAMPLES = round(2.5e-3 * SAMPLE_RATE_HZ)
"""Of a crossfade: 2.5 ms."""
HOLD_FADE_SAMPLES = round(10e-3 * SAMPLE_RATE_HZ)
"""Time constant with which a held value decays: 10 ms."""
WORST_SHARE = 0.25
WORST_BURST_MS = 200.0
_RAMP = np.linspace(0.0, 1.0, FADE_SAMPLES + 2, dtype=np.float32)[1:-1]


class PacketLoss(Degradation):
    """Loses packets and conceals them without changing the length.

    `zero` plays silence, with hard edges. `hold` keeps the last value and lets it fade, so that nothing clicks.
    `repeat` plays the last packet again and again, with short crossfades at its joins. At least one packet that
    carries signal is lost.
    """

    name: ClassVar[str] = "packet_loss"
    axis: ClassVar[Axis | None] = "discontinuity"
    loss_share: Annotated[Span, Within(0.001, 0.7)] = (0.01, 0.25)
    mean_burst_packets: Annotated[Span, Within(1.0, 50.0)] = (1.0, 6.0)
    max_burst_packets: int = Field(default=25, ge=1, le=500)
    """A longer outage would be a dropped call; the packet after it arrives."""
    packet_ms: tuple[PacketMs, ...] = Field(default=(10, 20, 40, 60), min_length=1)
    concealments: tuple[Concealment, ...] = Field(default=("zero", "hold", "repeat"), min_length=1)

    def draw(self, rng: np.random.Generator, scene: Scene) -> Drawn:
        """Draw the channel and what it loses: `bursts` lists each first lost packet and how many."""
        packet_ms = int(self.packet_ms[int(rng.integers(len(self.packet_ms)))])
        share = log_uniform(rng, self.loss_share)
        mean_burst = uniform(rng, self.mean_burst_packets)
        packets = -(-scene.frames // _packet_samples(packet_ms))
        return Drawn(
            {
                "packet_ms": packet_ms,
                "loss_share": share,
                "mean_burst_packets": mean_burst,
                "concealment": self.concealments[int(rng.integers(len(self.concealments)))],
                "bursts": [
                    list(burst)
                    for burst in gilbert_elliott(rng, packets, share, mean_burst, self.max_burst_packets)
                ],
                "at_least": float(rng.random()),
            }
        )

    @staticmethod
    def apply(audio: Audio, values: Values, inputs: Inputs) -> Applied:
        """Lose and conceal; measures the share, the mean burst, and the share of packets with signal that is lost.

        When the drawn bursts hit nothing but silence, the packet at the share `at_least` of those that carry
        signal is lost as well.
        """
        size = _packet_samples(values["packet_ms"])
        active = _carries_signal(audio, size)
        if not active.any():
            raise CannotApply("no packet carries signal")
        lost = np.zeros(len(active), bool)
        for first, count in values["bursts"]:
            lost[first : first + count] = True
        if not (lost & active).any():
            carrying = np.flatnonzero(active)
            lost[carrying[int(values["at_least"] * len(carrying))]] = True
        bursts = _runs(lost)
        concealed = audio.copy()
        for first, count in bursts:
            _conceal(concealed, audio, first * size, (first + count) * size, size, values["concealment"])
        return Applied(
            concealed,
            measured={
                "lost_share": float(lost.mean()),
                "mean_burst_packets": float(lost.sum() / len(bursts)),
                "lost_active_share": float((lost & active).sum() / active.sum()),
            },
        )

    @staticmethod
    def severity(values: Values, measured: Values) -> float:
        """Rises with the share that was lost (25 % is the worst) and with the length of the gaps."""
        by_share = math.sqrt(min(1.0, float(measured["lost_share"]) / WORST_SHARE))
        by_gap = min(1.0, float(measured["mean_burst_packets"]) * float(values["packet_ms"]) / WORST_BURST_MS)
        return 0.7 * by_share + 0.3 * by_gap


def gilbert_elliott(
    rng: np.random.Generator, packets: int, share: float, mean_burst: float, max_burst: int
) -> list[Burst]:
    """Draw what a Gilbert-Elliott channel loses of `packets` packets, starting in its long-run state.

    Args:
        rng: used in a fixed order: one draw for the start, one for each stay in a state.
        packets: how many are sent.
        share: long-run share of lost packets, below 1.
        mean_burst: mean number of packets lost in a row, 1 or more.
        max_burst: longer bursts are cut.
    """
    leave = 1.0 / mean_burst
    enter = min(1.0, leave * share / (1.0 - share))
    bursts = []
    at = 0
    lossy = bool(rng.random() < share)
    while at < packets:
        # The time in a state is geometric, so whole stays are drawn instead of single packets.
        stay = int(rng.geometric(leave if lossy else enter))
        if lossy:
            stay = min(stay, max_burst)
            bursts.append((at, min(stay, packets - at)))
        at += stay
        lossy = not lossy
    return bursts


def _packet_samples(packet_ms: int) -> int:
    return packet_ms * SAMPLE_RATE_HZ // 1_000


def _carries_signal(audio: Audio, size: int) -> NDArray[np.bool_]:
    padded = np.zeros(-(-len(audio) // size) * size, np.float32)
    np.abs(audio, out=padded[: len(audio)])
    peaks = padded.reshape(-1, size).max(axis=1)
    carrying: NDArray[np.bool_] = peaks > peaks.max() * 10.0 ** (-SIGNAL_BELOW_PEAK_DB / 20.0)
    return carrying


def _runs(lost: NDArray[np.bool_]) -> list[Burst]:
    edges = np.flatnonzero(np.diff(lost.astype(np.int8), prepend=0, append=0))
    return [(int(first), int(end - first)) for first, end in zip(edges[::2], edges[1::2], strict=True)]


def _conceal(out: Audio, sent: Audio, start: int, end: int, size: int, how: Concealment) -> None:
    """Fill `out[start:end]`; what came before it has been concealed already and is what the receiver knows."""
    end = min(end, len(out))
    if how == "zero" or start == 0:
        out[start:end] = 0.0
        return
    count = end - start + FADE_SAMPLES
    played = _held(out, start, count) if how == "hold" else _repeated(out, start, count, size)
    out[start:end] = played[: end - start]
    arriving = sent[end : end + FADE_SAMPLES]
    fading = played[end - start :][: len(arriving)]
    out[end : end + len(arriving)] = fading + _RAMP[: len(arriving)] * (arriving - fading)


def _held(out: Audio, start: int, count: int) -> Audio:
    decay = np.exp(-np.arange(1, count + 1, dtype=np.float32) / HOLD_FADE_SAMPLES)
    held: Audio = out[start - 1] * decay
    return held


def _repeated(out: Audio, start: int, count: int, size: int) -> Audio:
    """Play the packet before `start` again and again, crossfaded at each join.

    The first crossfade lies before `start`: a receiver holds back that much to be able to do it
    (ITU-T G.711 Appendix I, which holds back 3.75 ms).
    """
    packet = out[start - size : start].copy()
    # Its end blends into its beginning, so that tiles of this cycle have no edges.
    cycle = packet[FADE_SAMPLES:]
    cycle[-FADE_SAMPLES:] += _RAMP * (packet[:FADE_SAMPLES] - cycle[-FADE_SAMPLES:])
    out[start - FADE_SAMPLES : start] = cycle[-FADE_SAMPLES:]
    return np.tile(cycle, -(-count // len(cycle)))[:count]
