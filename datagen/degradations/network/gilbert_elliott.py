"""Which packets a channel loses: a Gilbert-Elliott chain that loses exactly as many as it was asked to.

The chain (E. N. Gilbert, "Capacity of a burst-noise channel", 1960) has a state in which packets arrive and one in
which they are lost. It leaves the lossy state with probability 1 / mean burst, so bursts have a geometric length, and
so have the gaps between them. Over the ten seconds of a sample its share of losses scatters widely: asked for 10 % in
bursts of 4 packets of 20 ms, it delivers 4 to 17 %. So the numbers of lost packets and of bursts are fixed first, and
the chain is drawn given these. Geometric lengths with a given number and sum are all equally likely: the bursts are a
random composition of the lost packets, the gaps one of those that arrive, and the whole is turned on its circle by a
random angle, so that no packet, not the first nor the last, is lost more often than another.
"""

import math
from typing import Annotated, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from datagen.degradations.base import Degradation
from manifests.ranges import Span, Within, log_uniform, uniform
from manifests.sample import Axis, Values

Burst = tuple[int, int]
"""First lost packet and how many."""
Lengths = Literal["geometric", "uniform"]

WORST_SHARE = 0.25
WORST_BURST_MS = 200.0
_SWEEPS = 32
"""Each brings lengths that had to be made valid by a third nearer to chance: 32 leave nothing of the beginning."""
_EXACT = 1e-9
"""Room for the rounding of a product such as 0.1 x 500, which is a little more than 50."""


class LossyChannel(Degradation):
    """A stage that loses packets: how many of them and in what bursts, for all ways to conceal them."""

    axis: ClassVar[Axis | None] = "discontinuity"
    loss_share: Annotated[Span, Within(0.001, 0.7)] = (0.01, 0.25)
    """Lost packets over all; drawn evenly on a logarithmic axis, with `uniform` bursts on a linear one."""
    burst_lengths: Lengths = "geometric"
    """Of a Gilbert-Elliott chain (`geometric`), or evenly from 1 to `max_burst_packets` (`uniform`)."""
    mean_burst_packets: Annotated[Span, Within(1.0, 50.0)] = (1.0, 6.0)
    """Of `geometric` bursts: how many packets are lost in a row on average."""
    max_burst_packets: int = Field(default=25, ge=1, le=500)
    """A longer outage would be a dropped call; the packet after it arrives."""

    @model_validator(mode="after")
    def _possible(self) -> "LossyChannel":
        longest = self.max_burst_packets
        if self.burst_lengths == "geometric" and self.mean_burst_packets[1] > longest:
            raise ValueError(f"mean_burst_packets goes beyond max_burst_packets, {longest}")
        most = self._means()[1]
        if self.loss_share[1] > most / (1.0 + most) + _EXACT:
            raise ValueError(
                f"loss_share {self.loss_share[1]:g} would need longer bursts: those of {most:g} packets, with one "
                f"that arrives between them, lose {most / (1.0 + most):.3g} at most"
            )
        return self

    def _means(self) -> Span:
        """Shortest and longest mean burst."""
        middle = 0.5 * (1 + self.max_burst_packets)
        return self.mean_burst_packets if self.burst_lengths == "geometric" else (middle, middle)

    def draw_losses(self, rng: np.random.Generator, packets: int) -> Values:
        """Draw what the channel loses of `packets` packets.

        Share and mean burst are drawn from their ranges and rounded to whole packets and whole bursts, up or down
        at random, so that the mean over many samples is the asked one. What is recorded is what is lost.

        Returns:
            `loss_share`, `mean_burst_packets`, and `bursts`: each first lost packet and how many.
        """
        chosen = log_uniform if self.burst_lengths == "geometric" else uniform
        share = chosen(rng, self.loss_share)
        shortest, longest = self._means()
        mean_burst = uniform(rng, (min(max(shortest, share / (1.0 - share)), longest), longest))
        low, high = self.loss_share
        lost = _whole(rng, share * packets, low * packets, high * packets)
        lost = max(1, min(lost, packets * self.max_burst_packets // (1 + self.max_burst_packets)))
        count = _whole(rng, lost / mean_burst, lost / longest, lost / shortest)
        bursts = lose(rng, packets, lost, count, self.max_burst_packets)
        return {
            "loss_share": lost / packets,
            "mean_burst_packets": lost / len(bursts),
            "bursts": [list(burst) for burst in bursts],
        }


def lose(rng: np.random.Generator, packets: int, lost: int, bursts: int, longest: int) -> list[Burst]:
    """Draw which packets a Gilbert-Elliott channel loses, given how many and in how many bursts.

    With `longest` below the number that is lost, lengths are those of a chain whose bursts are cut off there; where
    their mean is the middle of 1 to `longest`, they are uniform.

    Args:
        rng: the only randomness.
        packets: how many are sent.
        lost: how many of them are lost, at least 1.
        bursts: in how many bursts, moved to what is possible. A burst that runs over the end goes on at the start,
            so one more may be returned.
        longest: no burst is longer; `lost` bursts of it with one packet between them must fit into `packets`.

    Returns:
        The bursts in order of time, none touching another.
    """
    if lost >= packets:
        return [(0, packets)]
    bursts = min(max(bursts, -(-lost // longest)), lost, packets - lost)
    lengths = composition(rng, lost, bursts, longest)
    gaps = composition(rng, packets - lost, bursts, packets)
    ends = np.cumsum(lengths + gaps) - gaps
    circle = np.zeros(packets, bool)
    for first, end in zip(ends - lengths, ends, strict=True):
        circle[first:end] = True
    return runs(np.roll(circle, int(rng.integers(packets))))


def composition(rng: np.random.Generator, total: int, parts: int, longest: int) -> NDArray[np.int64]:
    """Draw one of the ways to write `total` as a sum of `parts` numbers from 1 to `longest`, all equally likely.

    Without the limit they are the ways to cut a row of `total` in `parts - 1` places. Where a part then is too
    long, an even division is shuffled instead: two parts at a time are divided anew, evenly among the ways that
    are allowed, which leaves the uniform distribution as it is and leads to it from anywhere.
    """
    cuts = np.sort(rng.choice(total - 1, parts - 1, replace=False)) + 1
    sizes: NDArray[np.int64] = np.diff(cuts, prepend=0, append=total)
    if sizes.max() <= longest:
        return sizes
    sizes = np.full(parts, total // parts)
    sizes[: total % parts] += 1
    half = parts // 2
    for _ in range(_SWEEPS):
        order = rng.permutation(parts)
        one, other = order[:half], order[half : 2 * half]
        both = sizes[one] + sizes[other]
        sizes[one] = rng.integers(np.maximum(1, both - longest), np.minimum(longest, both - 1) + 1)
        sizes[other] = both - sizes[one]
    return sizes


def runs(lost: NDArray[np.bool_]) -> list[Burst]:
    """Return each run of lost packets as its first and its length."""
    edges = np.flatnonzero(np.diff(lost.astype(np.int8), prepend=0, append=0))
    return [(int(first), int(end - first)) for first, end in zip(edges[::2], edges[1::2], strict=True)]


def loss_severity(loss_share: float, mean_burst_ms: float) -> float:
    """Rises with the share that was lost (25 % is the worst) and with the length of the gaps."""
    by_share = math.sqrt(min(1.0, loss_share / WORST_SHARE))
    return 0.7 * by_share + 0.3 * min(1.0, mean_burst_ms / WORST_BURST_MS)


def _whole(rng: np.random.Generator, wanted: float, low: float, high: float) -> int:
    """Round up or down at random, so that the mean stays, and within the range where it holds whole numbers."""
    count = math.floor(wanted + rng.random())
    first, last = math.ceil(low - _EXACT), math.floor(high + _EXACT)
    return min(max(count, first), last) if first <= last else count
