"""Which sample comes next: pure arithmetic on (shard sizes, seed, epoch, position), no files, no memory.

All ranks together walk one endless sequence of slots, numbered from 0; each epoch is `samples` of them
and holds every sample once. In an epoch the shards stand in a drawn order; they are taken in windows of a
few, and samples are shuffled within a window, so that readers touch few shards at a time. Any slot can be
computed without those before it, which is what makes resuming exact: one number is the whole state,
whatever the number of ranks.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from manifests.keyed import generator


class Slot(NamedTuple):
    """One place in the endless sequence."""

    epoch: int
    position: int
    """Within the epoch, 0 to samples - 1."""


class Pick(NamedTuple):
    """A sample by where it lies."""

    shard: int
    """Number in the list of shards."""
    sample: int
    """Number within the shard."""


class EndlessOrder(ABC):
    """An endless sequence of samples in epochs of equally many slots, any of which can be looked up."""

    seed: int
    """What is drawn depends on it alone."""

    @property
    @abstractmethod
    def samples(self) -> int:
        """Slots of an epoch."""

    @abstractmethod
    def pick(self, slot: Slot) -> Pick:
        """Return the sample at a slot."""

    def replacement(self, slot: Slot, tried: int) -> Pick:
        """Return what takes the place of a sample after `tried` could not be read: the next of its epoch."""
        return self.pick(Slot(slot.epoch, (slot.position + tried) % self.samples))

    def slot(self, number: int) -> Slot:
        """Return the epoch and the position of a slot of the endless sequence."""
        return Slot(*divmod(number, self.samples))

    def crop_start(self, slot: Slot, frames: int, wanted: int) -> int:
        """Return where the stretch of `wanted` of `frames` samples begins that is used at a slot."""
        spare = max(0, frames - wanted)
        return int(generator(self.seed, "crop", slot.epoch, slot.position).integers(spare + 1))

    def _check(self, slot: Slot) -> None:
        if not 0 <= slot.position < self.samples:
            raise IndexError(f"position {slot.position} is not in an epoch of {self.samples} samples")


@dataclass(frozen=True, eq=False)
class Order(EndlessOrder):
    """The order in which the samples of some shards are seen.

    Args:
        sizes: samples in each shard, in the corpus's order.
        seed: what is drawn depends on it alone.
        window_shards: samples are shuffled among so many shards.

    Raises:
        ValueError: there are no samples.
    """

    sizes: tuple[int, ...]
    seed: int
    window_shards: int = 8

    def __post_init__(self) -> None:
        if sum(self.sizes) == 0 or min(self.sizes) < 0 or self.window_shards < 1:
            raise ValueError(f"cannot order shards of sizes {self.sizes} in windows of {self.window_shards}")

    @cached_property
    def samples(self) -> int:
        """Samples in an epoch."""
        return sum(self.sizes)

    def pick(self, slot: Slot) -> Pick:
        """Return the sample at a slot."""
        self._check(slot)
        shards, ends = self._shards(slot.epoch)
        first = int(np.searchsorted(ends, slot.position, side="right"))
        first -= first % self.window_shards
        before = int(ends[first - 1]) if first else 0
        shuffled = before + int(self._window(slot.epoch, first)[slot.position - before])
        at = int(np.searchsorted(ends, shuffled, side="right"))
        return Pick(int(shards[at]), shuffled - (int(ends[at - 1]) if at else 0))

    @cached_property
    def _shards(self) -> Callable[[int], tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Return an epoch's order of shards, and where each would end without shuffling; the last few are kept."""
        return lru_cache(maxsize=4)(self._drawn_shards)

    def _drawn_shards(self, epoch: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        shards = generator(self.seed, "shards", epoch).permutation(len(self.sizes))
        return shards, np.cumsum(np.asarray(self.sizes)[shards])

    @cached_property
    def _window(self) -> Callable[[int, int], NDArray[np.int64]]:
        """Return the shuffled sample numbers of the window that begins with a place in an epoch's order of shards."""
        return lru_cache(maxsize=8)(self._drawn_window)

    def _drawn_window(self, epoch: int, first: int) -> NDArray[np.int64]:
        _, ends = self._shards(epoch)
        last = min(first + self.window_shards, len(ends)) - 1
        samples = int(ends[last]) - (int(ends[first - 1]) if first else 0)
        return generator(self.seed, "window", epoch, first).permutation(samples)


def step_slots(first: int, batch_size: int, rank: int = 0, ranks: int = 1) -> range:
    """Return the slots of one rank's batch in the step that begins at slot `first`.

    Ranks are striped: together they take the next `batch_size` slots, whatever their number, so that a step
    sees the same samples with any number of ranks. Where it does not divide the batch, the first ranks take
    one slot more than the last.
    """
    if not 0 <= rank < ranks:
        raise ValueError(f"rank {rank} is not one of {ranks}")
    return range(first + rank, first + batch_size, ranks)
