"""A shard: samples written into one tar under a temporary name, then renamed, then recorded.

The commit record is written last and is the only sign that a shard exists. Tar headers are fixed (no clock, no
owner), members are FLAC and JSON, so equal samples make equal bytes and any tar or webdataset reader understands them.
"""

import io
import os
import tarfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from datagen.audio import flac_bytes
from datagen.chain import SampleFailed
from datagen.degradations import BoundRecipe
from datagen.environment import code_version, environment
from datagen.plan import Material, plan
from datagen.render import Rendered, render
from manifests.canonical import canonical_json, digest, file_sha256
from manifests.corpus import FORMAT, Failure, Member, SampleEntry, ShardRecord, read_shard_record
from manifests.errors import JobError, UserError
from manifests.files import TEMPORARY_SUFFIX, temporary_beside, write_atomically
from manifests.recipe import Split
from manifests.sample import SampleSpec
from manifests.source import Source

Poisoned = frozenset[tuple[int, int]]
"""(index, attempt) of draws that crashed a worker: they count as failed without being tried again."""


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

    def tar(self, root: Path) -> Path:
        """Final path of the shard."""
        return root / self.split / f"{self.name}.tar"

    def record(self, root: Path) -> Path:
        """Final path of its commit record."""
        return root / self.split / f"{self.name}.json"


def corpus_plan_digest(recipe_digest: str, catalogue_digest: str, seed: int) -> str:
    """Digest of everything that decides what the samples of a corpus are."""
    return digest([FORMAT, recipe_digest, catalogue_digest, seed, code_version()])


def shard_tasks(
    samples: Mapping[Split, int], samples_per_shard: int, corpus_plan: str
) -> Iterator[ShardTask]:
    """Cut the samples of each split into shards."""
    for split, count in samples.items():
        for number, first in enumerate(range(0, count, samples_per_shard)):
            yield ShardTask(split, number, first, min(samples_per_shard, count - first), corpus_plan)


def finished(task: ShardTask, root: Path) -> ShardRecord | None:
    """Return the record of a shard that was already committed for this very plan, or None."""
    path = task.record(root)
    if not path.is_file():
        return None
    try:
        record = read_shard_record(path)
    except UserError:
        return None
    tar = task.tar(root)
    whole = tar.is_file() and tar.stat().st_size == record.bytes
    return record if whole and record.plan_digest == task.plan_digest else None


def write_shard(
    task: ShardTask,
    root: Path,
    bound: BoundRecipe,
    pool: Material,
    sources: Mapping[str, Source],
    seed: int,
    poisoned: Poisoned = frozenset(),
    on_draw: Callable[[int, int], None] = lambda index, attempt: None,
) -> ShardRecord:
    """Render a shard and commit it.

    A draw that cannot be rendered is recorded and replaced by the next attempt of the same sample.

    Args:
        task: which samples.
        root: the corpus folder.
        bound: recipe with its stages.
        pool: what may be drawn from in the task's split.
        sources: catalogue rows by content hash.
        seed: seed of the corpus.
        poisoned: draws that are known to kill the process.
        on_draw: called with (index, attempt) before each draw is rendered.

    Raises:
        JobError: when a sample fails in every attempt that the recipe allows.
    """
    tar_path = task.tar(root)
    tar_path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_beside(tar_path)
    entries: list[SampleEntry] = []
    failures: list[Failure] = []
    drawn: Counter[str] = Counter()
    try:
        with temporary.open("wb") as stream:
            writer = _TarWriter(stream)
            for index in range(task.first_index, task.first_index + task.count):
                spec, rendered = _first_that_renders(
                    index, bound, pool, sources, seed, failures, poisoned, on_draw
                )
                entries.append(_write_sample(writer, spec, rendered))
                drawn.update(stage.label for stage in spec.stages)
            writer.close()
            stream.flush()
            os.fsync(stream.fileno())
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
        temporary.replace(tar_path)
    finally:
        temporary.unlink(missing_ok=True)
    write_atomically(task.record(root), canonical_json(record.model_dump(mode="json")) + b"\n")
    return record


def _first_that_renders(
    index: int,
    bound: BoundRecipe,
    pool: Material,
    sources: Mapping[str, Source],
    seed: int,
    failures: list[Failure],
    poisoned: Poisoned,
    on_draw: Callable[[int, int], None],
) -> tuple[SampleSpec, Rendered]:
    for attempt in range(bound.recipe.limits.max_attempts):
        spec = plan(pool, bound, seed, index, attempt)
        try:
            if (index, attempt) in poisoned:
                raise SampleFailed("worker", "the process died while rendering this draw")
            on_draw(index, attempt)
            return spec, render(spec, sources)
        except SampleFailed as failed:
            involved = tuple(sorted({clip.sha256 for clip in spec.clips}))
            failures.append(
                Failure(
                    key=spec.key, attempt=attempt, stage=failed.stage, reason=failed.reason, sources=involved
                )
            )
    last = failures[-1]
    raise JobError(
        f"sample {last.key} could not be rendered in {bound.recipe.limits.max_attempts} attempts; "
        f"the last failed in {last.stage}: {last.reason}"
    )


def _write_sample(writer: "_TarWriter", spec: SampleSpec, rendered: Rendered) -> SampleEntry:
    contents = {
        "degraded.flac": flac_bytes(rendered.degraded, spec.bits),
        "json": canonical_json(rendered.record.model_dump(mode="json")),
        "target.flac": flac_bytes(rendered.target, spec.bits),
        **{f"{name}.flac": flac_bytes(audio, spec.bits) for name, audio in rendered.stems.items()},
    }
    members = {
        extension: writer.add(f"{spec.key}.{extension}", content)
        for extension, content in sorted(contents.items())
    }
    return SampleEntry(
        key=spec.key,
        index=spec.index,
        attempt=spec.attempt,
        spec_digest=spec.digest,
        members=members,
        aligned=rendered.record.aligned,
    )


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


def sweep_temporaries(root: Path) -> int:
    """Remove what killed workers left behind; return how many files that were."""
    stale = [path for path in root.rglob(f".*{TEMPORARY_SUFFIX}") if path.is_file()]
    for path in stale:
        path.unlink(missing_ok=True)
    return len(stale)
