"""What the driver hears of a finished shard: totals that add up, and the rows of its samples, packed.

Everything that `corpus.json` and `samples.parquet` say is told by the worker that rendered a shard, so that the driver
reads no shard again and holds nothing but totals, whatever the size of the corpus.
"""

import hashlib
import json
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from datagen.degradations import stage_class
from datagen.shard import ShardTask, WrittenShard
from manifests.canonical import canonical_json
from manifests.corpus import Failure, ShardRecord
from manifests.sample import SampleRecord
from manifests.store import Store
from pipelines.corpus.table import Kinds, kinds_of, row_of

_PARTICULARS = re.compile(r"\b[0-9a-f]{12}\b|-?\d+(\.\d+)?")
"""Of the reason of a failure: the beginning of a source's hash, and numbers."""
GROUP_WORDS = {"speech": "speakers", "noise": "noise_recordings", "rir": "rooms"}
"""What must not be shared between splits, by kind of source."""
_QUICK = 1
"""zlib level: rows shrink to an eighth, in a millisecond a shard."""

Groups = dict[str, dict[str, set[str]]]


@dataclass
class Tally:
    """What is counted, of one shard or of a corpus."""

    samples: Counter[str] = field(default_factory=Counter)
    """By split."""
    drawn: Counter[str] = field(default_factory=Counter)
    """Samples to which each stage was applied."""
    licences: Counter[str] = field(default_factory=Counter)
    """Samples that hold material under each licence."""
    checked: Counter[str] = field(default_factory=Counter)
    """By promised value."""
    out_of_tolerance: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    """Failed draws by kind."""
    groups: Groups = field(default_factory=dict)
    """Speakers, noise recordings and rooms, by split."""
    columns: dict[str, Kinds] = field(default_factory=dict)
    """Kinds of value in each column of `samples.parquet`."""

    def add(self, other: "Tally") -> None:
        """Add the counts of another shard."""
        for mine, more in (
            (self.samples, other.samples),
            (self.drawn, other.drawn),
            (self.licences, other.licences),
            (self.checked, other.checked),
            (self.out_of_tolerance, other.out_of_tolerance),
            (self.failures, other.failures),
        ):
            mine.update(more)
        for split, kinds in other.groups.items():
            of_split = self.groups.setdefault(split, {})
            for word, names in kinds.items():
                of_split.setdefault(word, set()).update(names)
        for name, kinds_here in other.columns.items():
            self.columns[name] = self.columns.get(name, frozenset()) | kinds_here


@dataclass(frozen=True)
class ShardDone:
    """A committed shard as its worker reports it."""

    task: ShardTask
    sha256: str
    """Of the tar."""
    record_sha256: str
    tally: Tally
    packed: bytes
    """Rows of `samples.parquet` and lines of `quarantine.jsonl`."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Time spent by stage and part; empty for a shard that was there already."""


@dataclass(frozen=True)
class Lost:
    """A shard that was given up."""

    task: ShardTask
    reason: str
    tries: int


@dataclass(frozen=True)
class Details:
    """What is written of a shard into the tables of its corpus."""

    rows: list[dict[str, Any]]
    failures: list[dict[str, Any]]


def unpacked(packed: bytes) -> Details:
    """Return what a worker packed."""
    content = json.loads(zlib.decompress(packed))
    return Details(content["rows"], content["failures"])


def reported(task: ShardTask, written: WrittenShard, seconds: dict[str, float]) -> ShardDone:
    """Report a shard that was rendered just now."""
    return _done(task, written.record, written.record_sha256, written.samples, seconds)


def recalled(task: ShardTask, store: Store) -> ShardDone:
    """Report a shard that was committed earlier, from its record and the `KEY.json` in it.

    Raises:
        OSError: when it cannot be read.
        ValueError: when the record does not lead to the samples.
    """
    content = store.read(task.record_name)
    record = ShardRecord.model_validate_json(content)
    samples = [
        SampleRecord.model_validate_json(store.read(record.tar_name, at.offset, at.bytes))
        for at in (entry.members["json"] for entry in record.samples)
    ]
    return _done(task, record, hashlib.sha256(content).hexdigest(), samples, {})


def _done(
    task: ShardTask,
    record: ShardRecord,
    record_sha256: str,
    samples: Sequence[SampleRecord],
    seconds: dict[str, float],
) -> ShardDone:
    rows = [row_of(sample, record.tar_name) for sample in samples]
    tally = Tally(
        samples=Counter({record.split: len(samples)}),
        drawn=Counter(record.drawn),
        licences=Counter(licence for sample in samples for licence in sample.licences),
        checked=Counter(_promised(samples)),
        out_of_tolerance=Counter(_out_of_tolerance(samples)),
        failures=Counter(kind_of_failure(failure) for failure in record.failures),
        groups={record.split: _groups(samples)},
        columns=kinds_of(rows),
    )
    failures = [
        {"what": "draw", "shard": record.tar_name, **failure.model_dump(mode="json")}
        for failure in record.failures
    ]
    packed = zlib.compress(canonical_json({"rows": rows, "failures": failures}), _QUICK)
    return ShardDone(task, record.sha256, record_sha256, tally, packed, seconds)


def kind_of_failure(failure: Failure) -> str:
    """Stage and reason without the numbers and hashes in it: one entry for a kind, however large the corpus."""
    return f"{failure.stage}: {_PARTICULARS.sub('#', failure.reason)}"


def _promised(samples: Iterable[SampleRecord]) -> Iterator[str]:
    for stage in (stage for sample in samples for stage in sample.stages):
        for name in stage_class(stage.stage).promises:
            if stage.values.get(name) is not None:
                yield f"{stage.label}.{name}"


def _out_of_tolerance(samples: Iterable[SampleRecord]) -> Iterator[str]:
    for stage in (stage for sample in samples for stage in sample.stages):
        yield from (f"{stage.label}.{name}" for name in stage.out_of_tolerance)


def _groups(samples: Iterable[SampleRecord]) -> dict[str, set[str]]:
    groups: dict[str, set[str]] = {word: set() for word in GROUP_WORDS.values()}
    for source in (source for sample in samples for source in sample.sources):
        groups[GROUP_WORDS[source.kind]].add(source.group)
    return groups
