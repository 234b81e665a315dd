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

_A = TypeVar("_A")
_B = TypeVar("_B")


class ShardSet:
    """Some of a corpus's shards, a byte each."""

    def __init__(self) -> None:
        self._marks: dict[str, bytearray] = {}
        self._count = 0

    def add(self, task: ShardTask) -> None:
        """Put a shard in."""
        marks = self._marks.setdefault(task.split, bytearray())
        marks.extend(bytes(max(0, task.number + 1 - len(marks))))
        self._count += not marks[task.number]
        marks[task.number] = 1

    def __contains__(self, task: ShardTask) -> bool:
        marks = self._marks.get(task.split, b"")
        return task.number < len(marks) and bool(marks[task.number])

    def __len__(self) -> int:
        return self._count


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

    def by_cost(self, without: ShardSet) -> Iterator[ShardTask]:
        """Return all but some, the expensive ones first: no long shard is begun when the others have ended.

        Shards of one recipe cost by the number of their samples, and but for the last of each split all are full.
        """
        yield from (task for task in self if task.count == self.samples_per_shard and task not in without)
        short = (task for task in self if task.count < self.samples_per_shard and task not in without)
        yield from sorted(short, key=lambda task: -task.count)


def finished_shards(store: Store, shards: Shards) -> ShardSet:
    """Find the shards that are committed already, by a look into each record."""
    finished = ShardSet()
    sizes = store.names() if store.folder is None else None  # one listing instead of a request for each file

    def looked(task: ShardTask) -> tuple[ShardTask, bool]:
        size = store.size(task.tar_name) if sizes is None else sizes.get(task.tar_name)
        if size is None or (sizes is not None and task.record_name not in sizes):
            return task, False
        try:
            return task, is_finished(task, store.read(task.record_name), size)
        except FileNotFoundError:
            return task, False

    for task, is_there in asked_of(store, looked, shards):
        if is_there:
            finished.add(task)
    return finished


def asked_of(store: Store, ask: Callable[[_A], _B], items: Iterable[_A]) -> Iterator[_B]:
    """Map over items in their order: one by one on a disk, many at once where the answers come over a network."""
    if store.folder is not None:
        yield from map(ask, items)
        return
    waiting = iter(items)
    with ThreadPoolExecutor(REQUESTS_AT_ONCE) as pool:
        while some := list(islice(waiting, 16 * REQUESTS_AT_ONCE)):
            yield from pool.map(ask, some)
