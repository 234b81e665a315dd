"""What the driver knows of the finished shards of a job: totals in memory, rows on this machine's disk."""

import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import IO, NamedTuple

from datagen.shard import ShardTask
from pipelines.outstanding import Number, number_of
from pipelines.shard_result import Details, ShardDone, Tally, unpacked


class Held(NamedTuple):
    """A finished shard, without its rows."""

    sha256: str
    record_sha256: str
    offset: int
    """Of its rows in the spill file."""
    bytes: int


@dataclass
class Ledger:
    """Finished shards by (split, number). Use as a context manager: what was spilled to the disk goes with it."""

    tally: Tally = field(default_factory=Tally)
    _held: dict[Number, Held] = field(default_factory=dict)
    _spill: IO[bytes] = field(default_factory=tempfile.TemporaryFile)

    def __enter__(self) -> "Ledger":
        return self

    def __exit__(self, *error: object) -> None:
        self._spill.close()

    def add(self, done: ShardDone) -> None:
        """Enter a finished shard; one that is known already changes nothing."""
        key = number_of(done.task)
        if key in self._held:
            return
        offset = self._spill.seek(0, 2)
        self._spill.write(done.packed)
        self._held[key] = Held(done.sha256, done.record_sha256, offset, len(done.packed))
        self.tally.add(done.tally)

    def __len__(self) -> int:
        return len(self._held)

    @property
    def numbers(self) -> set[Number]:
        """Which shards are finished."""
        return set(self._held)

    def held(self, tasks: Iterable[ShardTask]) -> Iterator[tuple[ShardTask, Held]]:
        """Return what is known of those of `tasks` that are finished, in their order."""
        for task in tasks:
            if (held := self._held.get(number_of(task))) is not None:
                yield task, held

    def details(self, tasks: Iterable[ShardTask]) -> Iterator[Details]:
        """Read the rows of those of `tasks` that are finished, in their order."""
        for _, held in self.held(tasks):
            self._spill.seek(held.offset)
            yield unpacked(self._spill.read(held.bytes))
