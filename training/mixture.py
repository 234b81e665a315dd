"""Which sample comes next out of several corpora with weights: arithmetic again, on top of `training.order`.

A part of n samples and weight w has m = ceil(n w) slots in every epoch. It walks its own endless order: pass after
pass through all its samples, m of them an epoch. So a weight of 2 brings each sample twice an epoch; with 0.25 an epoch
brings a quarter of them, the next another quarter, and all were there after four. Whatever the weight: after any number
of epochs, no sample of a part was seen more than once more often than another.

An epoch is cut into blocks, and every block takes an even share of each part's slots and shuffles them. So
any slot can be computed without those before it, and any stretch of some hundred slots holds the parts as weighted.
"""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property, lru_cache
from math import ceil

import numpy as np
from numpy.typing import NDArray

from manifests.keyed import generator
from training.order import EndlessOrder, Order, Pick, Slot

BLOCK_SLOTS = 256
"""Slots of a block, more or less."""


@dataclass(frozen=True)
class _Part:
    order: Order
    slots: int
    """In each epoch."""
    first_shard: int
    """Its place in the list of all parts' shards."""


@dataclass(frozen=True, eq=False)
class Mixture(EndlessOrder):
    """The order in which the samples of several corpora are seen.

    Args:
        sizes: samples in each shard of each part, in the merged corpus's order.
        weights: of the parts: how often their samples are seen an epoch, relative to their number.
        seed: what is drawn depends on it alone.
        window_shards: samples of a part are shuffled among so many of its shards.

    Raises:
        ValueError: there are no samples, or a weight is not above 0.
    """

    sizes: tuple[tuple[int, ...], ...]
    weights: tuple[Fraction, ...]
    seed: int
    window_shards: int = 8

    def __post_init__(self) -> None:
        if not self._parts or min(self.weights) <= 0:
            raise ValueError(f"cannot mix shards of sizes {self.sizes} with weights {self.weights}")

    @cached_property
    def samples(self) -> int:
        """Slots of an epoch."""
        return sum(part.slots for part in self._parts)

    def pick(self, slot: Slot) -> Pick:
        """Return the sample at a slot."""
        self._check(slot)
        block = self._block_of(slot.position)
        place = int(self._shuffled(slot.epoch, block)[slot.position - self._begin(block)])
        for part in self._parts:
            first, last = self._taken(part, block), self._taken(part, block + 1)
            if place < last - first:
                at = part.order.pick(part.order.slot(slot.epoch * part.slots + first + place))
                return Pick(part.first_shard + at.shard, at.sample)
            place -= last - first
        raise AssertionError("unreachable: a block is as long as its parts together")

    @cached_property
    def _parts(self) -> tuple[_Part, ...]:
        """Those that have samples."""
        parts = []
        first_shard = 0
        for number, (sizes, weight) in enumerate(zip(self.sizes, self.weights, strict=True)):
            if sum(sizes):
                seed = int(generator(self.seed, "part", number).integers(2**63))
                order = Order(sizes, seed, self.window_shards)
                parts.append(_Part(order, ceil(order.samples * weight), first_shard))
            first_shard += len(sizes)
        return tuple(parts)

    @cached_property
    def _blocks(self) -> int:
        return ceil(self.samples / BLOCK_SLOTS)

    def _taken(self, part: _Part, block: int) -> int:
        """Slots of a part's epoch that lie before a block: an even share, rounded down."""
        return part.slots * block // self._blocks

    def _begin(self, block: int) -> int:
        """Position at which a block begins."""
        return sum(self._taken(part, block) for part in self._parts)

    def _block_of(self, position: int) -> int:
        # Rounding down makes blocks begin too early by less than a slot a part: the block is this one or a later one.
        block = position * self._blocks // self.samples
        while self._begin(block + 1) <= position:
            block += 1
        return block

    @cached_property
    def _shuffled(self) -> Callable[[int, int], NDArray[np.int64]]:
        """Return how a block's slots are shuffled; the last few blocks are kept."""
        return lru_cache(maxsize=8)(self._drawn_block)

    def _drawn_block(self, epoch: int, block: int) -> NDArray[np.int64]:
        slots = self._begin(block + 1) - self._begin(block)
        return generator(self.seed, "block", epoch, block).permutation(slots)
