"""Which shards a corpus consists of, and which of them are still to be rendered."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

from datagen.shard import ShardTask, is_finished, shard_tasks
from manifests.recipe import Split
from manifests.store import Store

REQUESTS_AT_ONCE = 16
"""To an object store, while it is asked what is there."""

Number = tuple[str, int]
"""Split and number of a shard."""

_A = TypeVar("_A")
_B = TypeVar("_B")


@dataclass(frozen=True)
class Shards:
    """All shards of a corpus in its order: drawn out on demand, never held."""

    steps: Sequence[Mapping[Split, int]]
    """Samples of each split when the corpus was begun, and each time it was made larger."""
    samples_per_shard: int
    plan: str
    """Digest of what decides the samples."""

    def __iter__(self) -> Iterator[ShardTask]:
        return shard_tasks(self.steps, self.samples_per_shard, self.plan)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def only(self, numbers: set[Number]) -> Iterator[ShardTask]:
        """Some of them, in order."""
        return (task for task in self if number_of(task) in numbers)

    def by_cost(self, without: set[Number]) -> Iterator[ShardTask]:
        """Return all but some, the expensive ones first: no long shard is begun when the others have ended.

        Shards of one recipe cost by the number of their samples, and but for the last of each split all are full.
        """
        wanted = [task for task in self._short() if number_of(task) not in without]
        full = (task for task in self if task.count == self.samples_per_shard)
        yield from (task for task in full if number_of(task) not in without)
        yield from sorted(wanted, key=lambda task: -task.count)

    def _short(self) -> Iterator[ShardTask]:
        return (task for task in self if task.count < self.samples_per_shard)


def number_of(task: ShardTask) -> Number:
    """Return what tells a shard from the others of its corpus."""
    return task.split, task.number


def finished_shards(store: Store, shards: Shards) -> set[Number]:
    """Find the shards that are committed already: one listing, and a look into each record."""
    sizes = store.names()

    def looked(task: ShardTask) -> Number | None:
        there = task.tar_name in sizes and task.record_name in sizes
        record = store.read(task.record_name) if there else None
        return number_of(task) if is_finished(task, record, sizes.get(task.tar_name)) else None

    return {number for number in asked_of(store, looked, shards) if number is not None}


def asked_of(store: Store, ask: Callable[[_A], _B], items: Iterable[_A]) -> Iterator[_B]:
    """Map over items in their order: one by one on a disk, many at once where the answers come over a network."""
    if store.folder is not None:
        yield from map(ask, items)
        return
    waiting = iter(items)
    with ThreadPoolExecutor(REQUESTS_AT_ONCE) as pool:
        while some := list(islice(waiting, 16 * REQUESTS_AT_ONCE)):
            yield from pool.map(ask, some)
