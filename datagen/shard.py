"""A shard: samples written into one tar under a temporary name, then renamed, then recorded.

The commit record is written last and is the only sign that a shard exists. Tar headers are fixed (no clock, no
owner), members are FLAC and JSON, so equal samples make equal bytes and any tar or webdataset reader understands them.
"""

import hashlib
import io
import json
import tarfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from datagen.audio import flac_bytes
from datagen.chain import SampleFailed, StageClock
from datagen.degradations import BoundRecipe
from datagen.environment import code_version, environment
from datagen.plan import Material, plan, sample_key
from datagen.render import Rendered, render
from manifests.canonical import canonical_json, digest, file_sha256
from manifests.corpus import FORMAT, Failure, Member, SampleEntry, ShardRecord
from manifests.files import TEMPORARY_SUFFIX
from manifests.recipe import Split
from manifests.sample import SampleRecord, SampleSpec
from manifests.source import Source
from manifests.store import Store

Poisoned = frozenset[tuple[int, int]]
"""(index, attempt) of draws that crashed a worker: they count as failed without being tried again."""
OnDraw = Callable[[int, int], None]
"""Called with (index, attempt) before each draw is rendered."""


Withdrawn = frozenset[str]
"""Content hashes of sources that were taken down: a draw that names one is drawn again."""
MOST_DRAWS = 2_000
"""Of one sample. Only where nearly all material of a split was withdrawn are so many needed."""


@dataclass(frozen=True)
class KeptSample:
    """A sample that is taken over as it was rendered before."""

    entry: SampleEntry
    record: SampleRecord
    contents: Mapping[str, bytes]
    """By extension."""
    failures: tuple[Failure, ...]
    """Draws of it that failed."""


class ShardFailed(Exception):
    """A shard cannot be finished, however often it is tried; the message is the reason."""


@dataclass(frozen=True)
class ShardTask:
    """What one shard is asked to be."""

    split: Split
    number: int
    first_index: int
    count: int
    corpus_plan: str
    """Digest of recipe, catalogue, seed and code version."""

    @property
    def name(self) -> str:
        """`shard-000012`."""
        return f"shard-{self.number:06d}"

    @property
    def plan_digest(self) -> str:
        """Digest that a finished shard's record must carry to be this one."""
        return digest([FORMAT, self.corpus_plan, self.split, self.number, self.first_index, self.count])

    @property
    def tar_name(self) -> str:
        """Name of the shard within the corpus."""
        return f"{self.split}/{self.name}.tar"

    @property
    def record_name(self) -> str:
        """Name of its commit record within the corpus."""
        return f"{self.split}/{self.name}.json"


def corpus_plan_digest(recipe_digest: str, catalogue_digest: str, seed: int) -> str:
    """Digest of everything that decides what the samples of a corpus are."""
    return digest([FORMAT, recipe_digest, catalogue_digest, seed, code_version()])


def shard_tasks(
    steps: Sequence[Mapping[Split, int]], samples_per_shard: int, corpus_plan: str
) -> Iterator[ShardTask]:
    """Cut the samples of each split into shards.

    A corpus that was made larger keeps its shards, the last of them short: each step is cut by itself.

    Args:
        steps: samples of each split that the corpus was to hold when it was begun, and each time it was made larger.
        samples_per_shard: at most so many in one.
        corpus_plan: digest of what decides the samples.
    """
    for split in dict.fromkeys(split for step in steps for split in step):
        number = begun = 0
        for step in steps:
            end = step.get(split, begun)
            for first in range(begun, end, samples_per_shard):
                yield ShardTask(split, number, first, min(samples_per_shard, end - first), corpus_plan)
                number += 1
            begun = max(begun, end)


def is_finished(task: ShardTask, record: bytes, tar_bytes: int) -> bool:
    """Whether a shard was already committed for this very plan.

    Args:
        task: what it is asked to be.
        record: content of its commit record.
        tar_bytes: size of its tar.
    """
    head = _head(record)
    return head.get("plan_digest") == task.plan_digest and head.get("bytes") == tar_bytes


def _head(record: bytes) -> dict[str, Any]:
    """Read a record up to its samples, which are most of it: deciding what is missing reads very many records."""
    end = record.find(b',"samples":')
    if end < 0 or not record.endswith(b"}\n"):
        return {}
    try:
        head: dict[str, Any] = json.loads(record[:end] + b"}")
    except ValueError:
        return {}
    return head


@dataclass(frozen=True)
class WrittenShard:
    """A committed shard, with what its samples became."""

    record: ShardRecord
    record_sha256: str
    """Of the record's file."""
    samples: tuple[SampleRecord, ...]


def write_shard(
    task: ShardTask,
    store: Store,
    bound: BoundRecipe,
    pool: Material,
    sources: Mapping[str, Source],
    seed: int,
    poisoned: Poisoned = frozenset(),
    on_draw: OnDraw = lambda index, attempt: None,
    clock: StageClock | None = None,
    withdrawn: Withdrawn = frozenset(),
    kept: Callable[[int], KeptSample | None] = lambda index: None,
) -> WrittenShard:
    """Render a shard and commit it.

    A draw that cannot be rendered is recorded and replaced by the next attempt of the same sample.

    Args:
        task: which samples.
        store: of the corpus.
        bound: recipe with its stages.
        pool: what may be drawn from in the task's split.
        sources: catalogue rows by content hash.
        seed: seed of the corpus.
        poisoned: draws that are known to kill the process.
        on_draw: called with (index, attempt) before each draw is rendered.
        clock: collects the cost of each part when given.
        withdrawn: sources that no sample may hold.
        kept: returns a sample that was rendered before, by its index, to be written as it is.

    Raises:
        ShardFailed: when a sample fails in every attempt that the recipe allows.
        OSError: when the shard cannot be written.
    """
    clock = clock or StageClock()
    entries: list[SampleEntry] = []
    samples: list[SampleRecord] = []
    failures: list[Failure] = []
    drawn: Counter[str] = Counter()
    with store.new_file(task.tar_name) as temporary:
        with temporary.open("wb") as stream:
            writer = _TarWriter(stream)
            for index in range(task.first_index, task.first_index + task.count):
                if (held := kept(index)) is not None:
                    entries.append(_write_members(writer, held.entry, held.contents))
                    samples.append(held.record)
                    failures.extend(held.failures)
                    drawn.update(stage.label for stage in held.record.stages)
                    continue
                spec, rendered = first_that_renders(
                    index, bound, pool, sources, seed, failures, poisoned, on_draw, clock, withdrawn
                )
                entries.append(_write_sample(writer, spec, rendered, clock))
                samples.append(rendered.record)
                drawn.update(stage.label for stage in spec.stages)
            writer.close()
        record = ShardRecord(
            name=task.name,
            split=task.split,
            plan_digest=task.plan_digest,
            sha256=file_sha256(temporary),
            bytes=temporary.stat().st_size,
            frames_per_sample=bound.recipe.frames,
            samples=tuple(entries),
            failures=tuple(failures),
            drawn=dict(sorted(drawn.items())),
            environment=environment(),
        )
    content = canonical_json(record.model_dump(mode="json")) + b"\n"
    store.write(task.record_name, content)
    return WrittenShard(record, hashlib.sha256(content).hexdigest(), tuple(samples))


def first_that_renders(
    index: int,
    bound: BoundRecipe,
    pool: Material,
    sources: Mapping[str, Source],
    seed: int,
    failures: list[Failure],
    poisoned: Poisoned,
    on_draw: OnDraw,
    clock: StageClock,
    withdrawn: Withdrawn = frozenset(),
) -> tuple[SampleSpec, Rendered]:
    """Render a sample in the first of its attempts that can be rendered.

    Args:
        index: number of the sample within its split.
        bound: recipe with its stages.
        pool: what may be drawn from.
        sources: catalogue rows by content hash.
        seed: seed of every draw.
        failures: draws that failed are added to it.
        poisoned: draws that are known to kill the process.
        on_draw: called with (index, attempt) before each draw is rendered.
        clock: collects the cost of each part.
        withdrawn: sources that no sample may hold; draws that name one count as no failure.

    Raises:
        ShardFailed: when no attempt that the recipe allows can be rendered.
    """
    left = bound.recipe.limits.max_attempts
    for attempt in range(MOST_DRAWS if withdrawn else left):
        now = time.perf_counter()
        spec = plan(pool, bound, seed, index, attempt)
        clock.charge("plan", now)
        if withdrawn and any(clip.sha256 in withdrawn for clip in spec.clips):
            continue
        try:
            if (index, attempt) in poisoned:
                raise SampleFailed("worker", "the process died while rendering this draw")
            on_draw(index, attempt)
            return spec, render(spec, sources, clock)
        except SampleFailed as failed:
            involved = tuple(sorted({clip.sha256 for clip in spec.clips}))
            failures.append(
                Failure(
                    key=spec.key, attempt=attempt, stage=failed.stage, reason=failed.reason, sources=involved
                )
            )
            left -= 1
            if not left:
                break
    if left:
        raise ShardFailed(
            f"sample {sample_key(pool.split, index)} could not be drawn without what was withdrawn, in "
            f"{MOST_DRAWS} draws"
        )
    last = failures[-1]
    raise ShardFailed(
        f"sample {last.key} could not be rendered in {bound.recipe.limits.max_attempts} attempts; "
        f"the last failed in {last.stage}: {last.reason}"
    )


def _write_sample(
    writer: "_TarWriter", spec: SampleSpec, rendered: Rendered, clock: StageClock
) -> SampleEntry:
    now = time.perf_counter()
    contents = {
        "degraded.flac": flac_bytes(rendered.degraded, spec.bits),
        "json": canonical_json(rendered.record.model_dump(mode="json")),
        "target.flac": flac_bytes(rendered.target, spec.bits),
        **{f"{name}.flac": flac_bytes(audio, spec.bits) for name, audio in rendered.stems.items()},
    }
    entry = SampleEntry(
        key=spec.key,
        index=spec.index,
        attempt=spec.attempt,
        spec_digest=spec.digest,
        members={},
        aligned=rendered.record.aligned,
    )
    written = _write_members(writer, entry, contents)
    clock.charge("write", now)
    return written


def _write_members(writer: "_TarWriter", entry: SampleEntry, contents: Mapping[str, bytes]) -> SampleEntry:
    members = {
        extension: writer.add(f"{entry.key}.{extension}", content)
        for extension, content in sorted(contents.items())
    }
    return entry.model_copy(update={"members": members})


class _TarWriter:
    """Writes USTAR members with fixed headers and says where each content lies."""

    def __init__(self, stream: io.BufferedWriter) -> None:
        self._stream = stream
        self._tar = tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT)  # noqa: SIM115

    def add(self, name: str, content: bytes) -> Member:
        info = tarfile.TarInfo(name)
        info.size = len(content)
        info.mtime = 0
        info.mode = 0o644
        self._tar.addfile(info, io.BytesIO(content))
        padded = -(-len(content) // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
        return Member(offset=self._tar.offset - padded, bytes=len(content))

    def close(self) -> None:
        self._tar.close()


def sweep_temporaries(store: Store) -> int:
    """Remove what killed workers left behind; return how many files that were."""
    stale = [name for name in store.names() if is_temporary(name)]
    for name in stale:
        store.remove(name)
    return len(stale)


def is_temporary(name: str) -> bool:
    """Whether a file of a corpus is one that a worker has not finished."""
    last = name.rpartition("/")[2]
    return last.startswith(".") and last.endswith(TEMPORARY_SUFFIX)
