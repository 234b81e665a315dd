"""The worker's side of `ssiforge withdraw`: a shard is written again, its other samples as they were."""

from dataclasses import dataclass
from functools import lru_cache

from datagen.shard import KeptSample, OnDraw, Poisoned, ShardTask
from manifests.canonical import file_sha256
from manifests.corpus import ShardRecord, read_shard_record
from manifests.sample import SampleRecord
from manifests.store import Store, open_store
from pipelines.corpus.shard_result import ShardDone
from pipelines.generation.worker import LoadedJob, RenderJob


@dataclass(frozen=True)
class RewriteJob(RenderJob):
    """A version of a corpus that is to be made out of another."""

    origin: str = ""
    """Absolute path or URI of the version before."""

    def load(self) -> "LoadedRewrite":  # type: ignore[override]  # it renders the same tasks
        """Read the recipe and the catalogue, once in each process."""
        return _load(self)


@lru_cache(maxsize=2)
def _load(job: RewriteJob) -> "LoadedRewrite":
    return LoadedRewrite(RenderJob(job.place, job.seed).load(), open_store(job.origin))


@dataclass(frozen=True)
class LoadedRewrite:
    """A rewriting with everything that it needs in memory."""

    loaded: LoadedJob
    origin: Store

    def render(self, task: ShardTask, poisoned: Poisoned, on_draw: OnDraw) -> ShardDone:
        """Write one shard again: only samples that hold what was withdrawn are drawn anew.

        Raises:
            OSError: when a shard cannot be read or written, or is not what its record says.
        """
        record = read_shard_record(self.origin, task.record_name)
        withdrawn = self.loaded.withdrawn
        with self.origin.local_copy(task.tar_name) as tar:
            if file_sha256(tar) != record.sha256:
                raise OSError(f"{self.origin.where(task.tar_name)}: damaged; 'ssiforge verify' says more")
            held = {entry.index: number for number, entry in enumerate(record.samples)}

            def kept(index: int) -> KeptSample | None:
                number = held.get(index)
                return None if number is None else _unless_withdrawn(self.origin, record, number, withdrawn)

            return self.loaded.render(task, poisoned, on_draw, kept)

    def recall(self, task: ShardTask) -> ShardDone | None:
        """Report a shard that another worker wrote before it was lost."""
        return self.loaded.recall(task)


def _unless_withdrawn(
    origin: Store, record: ShardRecord, number: int, withdrawn: frozenset[str]
) -> KeptSample | None:
    entry = record.samples[number]
    contents = {
        extension: origin.read(record.tar_name, at.offset, at.bytes)
        for extension, at in entry.members.items()
    }
    sample = SampleRecord.model_validate_json(contents["json"])
    clips = (*sample.speech, *(clip for stage in sample.stages for clip in stage.clips))
    if any(clip.sha256 in withdrawn for clip in clips):
        return None
    failures = tuple(failure for failure in record.failures if failure.key == entry.key)
    return KeptSample(entry, sample, contents, failures)
