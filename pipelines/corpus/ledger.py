"""What the driver knows of the finished shards of a job: totals in memory, everything else on this machine's disk."""

import struct
import tempfile
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import IO

from datagen.shard import ShardTask
from pipelines.corpus.outstanding import ShardSet
from pipelines.corpus.shard_result import Details, ShardDone, Tally, unpacked

_HEAD = struct.Struct("<32s32sQ")
"""SHA-256 of the tar and of its record, and the length of the rows that follow."""
_NOWHERE = -1


@dataclass(frozen=True)
class Held:
    """A finished shard."""

    sha256: str
    record_sha256: str
    packed: bytes

    def details(self) -> Details:
        """Unpack its rows."""
        return unpacked(self.packed)


@dataclass
class Ledger:
    """Finished shards: 8 bytes of memory each. Use as a context manager: what was spilled to the disk goes with it."""

    tally: Tally = field(default_factory=Tally)
    finished: ShardSet = field(default_factory=ShardSet)
    _offsets: dict[str, "array[int]"] = field(default_factory=dict)
    """Where a shard's entry begins in the spill file, by split and number."""
    _spill: IO[bytes] = field(default_factory=tempfile.TemporaryFile)

    def __enter__(self) -> "Ledger":
        return self

    def __exit__(self, *error: object) -> None:
        self._spill.close()

    def add(self, done: ShardDone) -> None:
        """Enter a finished shard; one that is known already changes nothing."""
        if done.task in self.finished:
            return
        self.finished.add(done.task)
        offsets = self._offsets.setdefault(done.task.split, array("q"))
        missing = done.task.number + 1 - len(offsets)
        offsets.extend([_NOWHERE] * max(0, missing))
        offsets[done.task.number] = self._spill.seek(0, 2)
        hashes = bytes.fromhex(done.sha256), bytes.fromhex(done.record_sha256)
        self._spill.write(_HEAD.pack(*hashes, len(done.packed)) + done.packed)
        self.tally.add(done.tally)

    def __len__(self) -> int:
        return len(self.finished)

    def held(self, tasks: Iterable[ShardTask]) -> Iterator[tuple[ShardTask, Held]]:
        """Read what is known of those of `tasks` that are finished, in their order."""
        for task in tasks:
            if task in self.finished:
                self._spill.seek(self._offsets[task.split][task.number])
                sha256, record_sha256, length = _HEAD.unpack(self._spill.read(_HEAD.size))
                yield task, Held(sha256.hex(), record_sha256.hex(), self._spill.read(length))
