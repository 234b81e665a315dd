"""Fresh samples without end, alone or between those of shards: which comes next, by arithmetic, and from where.

The n-th fresh sample that a stage hears is number n of the recipe's samples, so none comes twice and any can be looked
up. In a mixture every block of 100 slots holds its share of fresh ones, in shuffled places; shards go on in an endless
order of their own. A share that is no whole number of a block's slots is carried over to the next.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from manifests.keyed import generator
from manifests.online import EPOCH_SAMPLES
from manifests.recipe import Split
from training.order import EndlessOrder, Pick, Slot
from training.source import Sample, SampleSource, Stretch

FRESH_SHARD = -1
"""Stands in a pick where the number of a shard would: the sample lies in none."""
BLOCK_SLOTS = 100


@dataclass(frozen=True, eq=False)
class FreshOrder(EndlessOrder):
    """Sample after sample of a recipe, each once.

    Args:
        seed: decides the cuts alone; which samples there are is decided by whoever renders them.
    """

    seed: int

    @property
    def samples(self) -> int:
        """Slots of an epoch."""
        return EPOCH_SAMPLES

    def pick(self, slot: Slot) -> Pick:
        """Return the sample at a slot."""
        self._check(slot)
        return Pick(FRESH_SHARD, slot.epoch * self.samples + slot.position)


@dataclass(frozen=True, eq=False)
class MixedOrder(EndlessOrder):
    """Fresh samples between those of shards.

    Args:
        fresh: order of the fresh ones.
        shards: order of the others.
        weight: share of the slots that are fresh, above 0 and below 1.
        seed: decides which slots of a block those are.
    """

    fresh: EndlessOrder
    shards: EndlessOrder
    weight: Fraction
    seed: int

    @property
    def samples(self) -> int:
        """Slots of an epoch."""
        return EPOCH_SAMPLES

    def pick(self, slot: Slot) -> Pick:
        """Return the sample at a slot."""
        self._check(slot)
        order, number = self._within(slot)
        return order.pick(order.slot(number))

    def replacement(self, slot: Slot, tried: int) -> Pick:
        """Return what takes the place of an unreadable sample: the next of its own kind."""
        order, number = self._within(slot)
        return order.replacement(order.slot(number), tried)

    def _within(self, slot: Slot) -> tuple[EndlessOrder, int]:
        """Return the order to which a slot belongs, and how many slots of that order lie before it."""
        block, place = divmod(slot.epoch * self.samples + slot.position, BLOCK_SLOTS)
        before = self._fresh_before(block)
        # The first so many of a block are the fresh ones, before they are shuffled.
        rank = int(self._shuffled(block)[place])
        fresh = self._fresh_before(block + 1) - before
        if rank < fresh:
            return self.fresh, before + rank
        return self.shards, block * BLOCK_SLOTS - before + rank - fresh

    def _fresh_before(self, block: int) -> int:
        return int(self.weight * BLOCK_SLOTS * block)

    @cached_property
    def _shuffled(self) -> Callable[[int], NDArray[np.int64]]:
        """Return how a block's slots are shuffled; the last few blocks are kept."""
        return lru_cache(maxsize=8)(
            lambda block: generator(self.seed, "mixed", block).permutation(BLOCK_SLOTS)
        )


@dataclass(frozen=True)
class MixedSource:
    """A source of fresh samples and one of shards, as one.

    Args:
        fresh: its picks have the shard `FRESH_SHARD`.
        shards: must not be empty.
        weight: share of the samples that are fresh.
    """

    fresh: SampleSource
    shards: SampleSource
    weight: Fraction

    @property
    def name(self) -> str:
        """That of the shards: what can be wrong with samples is wrong with theirs."""
        return self.shards.name

    @property
    def data_id(self) -> str:
        """That of the fresh samples, whose record names the corpus."""
        return self.fresh.data_id

    @property
    def split(self) -> Split:
        """That of both."""
        return self.shards.split

    @property
    def shortest_frames(self) -> int:
        """Of both; 0 where the shards hold nothing."""
        return min(self.fresh.shortest_frames, self.shards.shortest_frames)

    def order(self, seed: int, window_shards: int) -> MixedOrder:
        """Return the order in which samples are seen."""
        fresh, shards = (source.order(seed, window_shards) for source in (self.fresh, self.shards))
        return MixedOrder(fresh, shards, self.weight, seed)

    def spread(self, samples: int) -> list[Pick]:
        """Return picks of shards."""
        return self.shards.spread(samples)

    def frames(self, pick: Pick) -> int:
        """Return a sample's length."""
        return self._of(pick).frames(pick)

    def where(self, pick: Pick) -> str:
        """Name a sample for a message."""
        return self._of(pick).where(pick)

    def expect(self, stretches: Sequence[Stretch]) -> None:
        """Tell each source what will be asked of it."""
        for source in (self.fresh, self.shards):
            source.expect([stretch for stretch in stretches if self._of(stretch.pick) is source])

    def forget(self) -> None:
        """Tell each source that nothing of it is needed any more."""
        for source in (self.fresh, self.shards):
            source.forget()

    def sample(self, stretch: Stretch) -> Sample:
        """Return a stretch of a sample."""
        return self._of(stretch.pick).sample(stretch)

    def _of(self, pick: Pick) -> SampleSource:
        return self.fresh if pick.shard == FRESH_SHARD else self.shards
