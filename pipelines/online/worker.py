"""The worker's side of online mode: renders the samples of a recipe one by one, as `generate` would, and keeps none.

Training uses aligned pairs alone. A sample that is not aligned, or that cannot be rendered in any attempt, is replaced
by one whose number no slot reaches by itself: so every slot has its sample, which depends on nothing but its number.
"""

from dataclasses import dataclass

from datagen.chain import StageClock
from datagen.degradations import stage_class
from datagen.degradations.base import Audio
from datagen.file_identity import is_as_scanned
from datagen.plan import plan, sample_key
from datagen.shard import OnDraw, Poisoned, ShardFailed, ShardTask, first_that_renders
from manifests.corpus import Failure
from manifests.errors import UserError
from manifests.sample import SampleSpec
from manifests.store import is_remote
from pipelines.generation.worker import LoadedJob, RenderJob, give_back_memory

REPLACEMENT_STEP = 1 << 40
"""From the number of a sample to that of its replacement: no training takes so many."""
MOST_REPLACEMENTS = 200
"""Of one sample; a recipe whose samples are hardly ever aligned is no recipe for training."""


@dataclass(frozen=True)
class SampleTask(ShardTask):
    """A shard of one sample that is not kept, of which a stretch is wanted."""

    start: int
    """First frame of the stretch at 48 kHz."""
    frames: int
    """Its length."""

    @property
    def name(self) -> str:
        """The sample's key."""
        return sample_key(self.split, self.first_index)


def sample_task(split: str, index: int, start: int, frames: int) -> SampleTask:
    """Ask for a stretch of a sample."""
    return SampleTask(split, index, index, 1, "", start, frames)  # type: ignore[arg-type]


@dataclass(frozen=True, eq=False)
class FreshSample:
    """A stretch of a rendered sample, quantised as a file would hold it."""

    key: str
    """Of the sample that was used."""
    degraded: Audio
    """(frames,), 48 kHz, full scale 1.0."""
    target: Audio
    failures: tuple[Failure, ...]
    """Draws that could not be rendered."""


@dataclass(frozen=True)
class OnlineJob:
    """Samples to be rendered: a folder holds the recipe and the catalogue."""

    place: str
    """Absolute path of the folder."""
    seed: int

    def load(self) -> "LoadedSamples":
        """Read the recipe and the catalogue, once in each process."""
        return LoadedSamples(RenderJob(self.place, self.seed).load())


@dataclass(frozen=True)
class LoadedSamples:
    """A job with everything that rendering needs in memory."""

    job: LoadedJob

    def recall(self, task: SampleTask) -> None:
        """Nothing is kept, so nothing can be recalled."""

    def render(self, task: SampleTask, poisoned: Poisoned, on_draw: OnDraw) -> FreshSample:
        """Render the stretch that a task asks for, of its sample or of that which replaces it.

        Raises:
            ShardFailed: when no replacement is better.
            UserError: when a source is gone or has changed.
        """
        failures: list[Failure] = []
        try:
            for index in range(task.first_index, MOST_REPLACEMENTS * REPLACEMENT_STEP, REPLACEMENT_STEP):
                found = self._stretch(task, index, failures, poisoned, on_draw)
                if found is not None:
                    return found
        finally:
            give_back_memory()
        failed = f"; the last draw that failed: {failures[-1].reason}" if failures else ""
        raise ShardFailed(
            f"recipe {self.job.bound.recipe.name}: {MOST_REPLACEMENTS} samples in a row are not aligned with their "
            f"targets or cannot be rendered{failed}; set target.time_warps to exclude or follow"
        )

    def _stretch(
        self,
        task: SampleTask,
        index: int,
        failures: list[Failure],
        poisoned: Poisoned,
        on_draw: OnDraw,
    ) -> FreshSample | None:
        """Render a sample and cut the stretch; None where it is not aligned or cannot be rendered."""
        job = self.job
        pool, sources = job.pool(task.split), job.catalogue.by_sha256
        if _moves_time(plan(pool, job.bound, job.seed, index)):
            return None  # told without rendering it
        known = len(failures)
        try:
            spec, rendered = first_that_renders(
                index, job.bound, pool, sources, job.seed, failures, poisoned, on_draw, StageClock()
            )
        except ShardFailed:
            return None
        except FileNotFoundError as error:
            raise _lost(str(error.filename), "is gone") from error
        finally:
            self._refuse_changed(failures[known:])
        if not rendered.record.aligned:
            return None
        end = task.start + task.frames
        degraded, target = (wave[task.start : end].copy() for wave in (rendered.degraded, rendered.target))
        return FreshSample(spec.key, degraded, target, tuple(failures))

    def _refuse_changed(self, failures: list[Failure]) -> None:
        """Look whether draws failed because their sources have changed: others would be heard instead.

        Raises:
            UserError: naming the file.
        """
        for sha256 in {sha256 for failure in failures for sha256 in failure.sources}:
            source = self.job.catalogue.by_sha256[sha256]
            if not is_remote(source.path) and not is_as_scanned(source):
                raise _lost(source.path, "has changed")


def _lost(path: str, what: str) -> UserError:
    return UserError(
        f"{path}: {what} since it was scanned, and fresh samples are drawn from it; "
        "bring it back and go on with --resume"
    )


def _moves_time(spec: SampleSpec) -> bool:
    """Whether a drawn sample would not be aligned with its target."""
    return spec.target.time_warps != "follow" and any(
        stage_class(stage.stage).warps_time for stage in spec.stages
    )
