"""Trains on Ray with Ray Train: the ranks are Ray workers, and each of them calls the same `training.run.train`.

Ray Train starts the workers, joins them, and starts all of them again when one is lost, on a cluster that grew, or with
fewer where nothing else is left. Our own checkpoints in RUN_DIR, which every node must reach, are what they go on from:
they hold the whole state, so Ray Train's own are not used.

What rank 0 reports travels to the driver, which alone talks to MLflow and the terminal. A report returns when the
driver has passed it on, so nothing that a checkpoint counts as reported can be lost.
"""

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datagen.environment import THREAD_PINS
from manifests.errors import JobError, UserError
from manifests.experiment import STAGES, Experiment, StageName
from manifests.selection import Selection
from manifests.store import Place, absolute
from pipelines.generation.ray_tasks import connected
from training.bundle import BundleInfo, read_info
from training.named_parents import NO_NAMED_PARENTS, NamedParents
from training.ranks import RankLostError
from training.run import model_dir, refuse_earlier_work, train
from training.tracker import Metric, Several, StageStart, Status, Tracker, ValidationSample

MAX_FAILURES = 10
"""So many times workers are lost or fail for unknown reasons, and all are started again; nodes that say goodbye before
they go, as reclaimed ones do, are not counted."""
REPORTS_AWAITED_S = 0.5
"""So often the driver looks whether training is over."""
RAY_FOLDER = "ray"
"""In RUN_DIR: where Ray Train keeps what it knows of a run; with it Ray checks that every node reaches RUN_DIR."""


@dataclass(frozen=True)
class Workers:
    """How many workers may train together."""

    least: int
    most: int

    @classmethod
    def parse(cls, text: str) -> "Workers":
        """Read `MIN:MAX`, or `N` for a fixed number.

        Raises:
            UserError: when it is neither.
        """
        least, _, most = text.partition(":")
        try:
            workers = cls(int(least), int(most or least))
        except ValueError as error:
            raise UserError(f"--workers {text}: give a number, or MIN:MAX") from error
        if not 1 <= workers.least <= workers.most:
            raise UserError(f"--workers {text}: MIN must be at least 1, and MAX no less than MIN")
        return workers

    def __str__(self) -> str:
        return str(self.least) if self.least == self.most else f"{self.least} to {self.most}"


@dataclass(frozen=True)
class _Work:
    """What every worker is to train."""

    experiment: Experiment
    corpus_place: str
    run_dir: Path
    stages: tuple[StageName, ...]
    on_gpu: bool
    selection: Selection | None
    parents: NamedParents


class RayTraining:
    """Stands in for `training.run.train` where a run is to be trained on Ray.

    Args:
        address: of a running cluster, or `auto`; None starts a local Ray for the run.
        workers: how many train together.
        say: told what is asked of Ray.
    """

    def __init__(self, address: str | None, workers: Workers, say: Callable[[str], None]) -> None:
        self._address, self._workers, self._say = address, workers, say

    def __call__(
        self,
        experiment: Experiment,
        corpus_place: Place,
        run_dir: Path,
        stages: Sequence[StageName] = STAGES,
        resume: bool = False,
        device: str = "auto",
        trackers: Sequence[Tracker] = (),
        selection: Selection | None = None,
        parents: NamedParents = NO_NAMED_PARENTS,
    ) -> dict[StageName, BundleInfo]:
        """Train stages in order, as `training.run.train` does; `device` is `auto`, `cpu` or `cuda`.

        Raises:
            UserError: when the run cannot be what was asked for.
            JobError: when training cannot go on, or workers were lost too often.
        """
        self._check(experiment, stages, device)
        if not resume:
            refuse_earlier_work(run_dir, stages)
        run_dir = run_dir.absolute()
        with connected(self._address, self._workers.most):
            work = _Work(
                experiment,
                absolute(corpus_place),
                run_dir,
                tuple(stages),
                self._on_gpu(device),
                selection,
                {role: place.absolute() for role, place in parents.items()},
            )
            _Driver(Several(trackers)).run(work, self._workers)
        return {stage: read_info(model_dir(run_dir, stage)) for stage in stages}

    def _check(self, experiment: Experiment, stages: Sequence[StageName], device: str) -> None:
        if device not in ("auto", "cpu", "cuda"):
            raise UserError(f"--device {device}: Ray gives each worker its device; give cuda, cpu or auto")
        for stage in stages:
            batch_size = experiment.stages.of(stage).batch_size
            if batch_size < self._workers.most:
                raise UserError(
                    f"--workers: {self._workers.most} workers cannot share the {batch_size} samples of "
                    f"stages.{stage}.batch_size"
                )

    def _on_gpu(self, device: str) -> bool:
        import ray

        held = ray.cluster_resources()
        cpus, gpus = int(held.get("CPU", 0)), int(held.get("GPU", 0))
        on_gpu = device == "cuda" or (device == "auto" and gpus >= self._workers.least)
        each = "a CPU and a GPU" if on_gpu else "a CPU"
        self._say(f"Ray has {cpus} CPUs and {gpus} GPUs; asking for {self._workers} workers with {each} each")
        return on_gpu


class _Driver:
    """Runs Ray Train beside this thread, in which the trackers are told what the workers report."""

    def __init__(self, tracker: Tracker) -> None:
        self._tracker = tracker
        self._in_stage = False
        self._failure: Exception | None = None

    def run(self, work: _Work, workers: Workers) -> None:
        """Train; return when all stages are finished."""
        import ray

        here = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
            ray.get_runtime_context().get_node_id(), soft=False
        )
        post = ray.remote(num_cpus=0, scheduling_strategy=here)(_Post).remote()
        # In a thread, Ray Train leaves Ctrl-C to us.
        fitting = threading.Thread(target=self._fit, args=(work, workers, post), daemon=True)
        fitting.start()
        try:
            for name, arguments in _reports(post, fitting):
                self._pass_on(name, arguments)
            if self._failure is not None:
                reason = str(self._failure).strip().splitlines()[-1]
                raise JobError(
                    f"{work.run_dir}: Ray Train gave up ({reason}); --resume goes on"
                ) from self._failure
        except KeyboardInterrupt:
            self._end_stage("stopped", "interrupted")
            raise
        except ray.exceptions.RayError as error:
            self._end_stage("failed", str(error))
            raise JobError(
                f"{work.run_dir}: Ray is gone ({type(error).__name__}); --resume goes on"
            ) from error
        except BaseException as error:
            self._end_stage("failed", str(error))
            raise

    def _fit(self, work: _Work, workers: Workers, post: Any) -> None:
        try:
            _trainer(work, workers, post).fit()
        except Exception as error:
            self._failure = error

    def _pass_on(self, name: str, arguments: tuple[Any, ...]) -> None:
        if name == "gave_up":
            error: UserError | JobError = arguments[0]
            raise error
        if name == "stage_started":
            self._end_stage("failed", "its worker was lost")
        self._in_stage = name != "stage_ended"
        getattr(self._tracker, name)(*arguments)

    def _end_stage(self, status: Status, message: str) -> None:
        if self._in_stage:
            self._in_stage = False
            self._tracker.stage_ended(status, message)


def _trainer(work: _Work, workers: Workers, post: Any) -> Any:
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    fixed = workers.least == workers.most
    return TorchTrainer(
        _train_on_worker,
        train_loop_config={"work": work, "post": post},
        scaling_config=ScalingConfig(
            num_workers=workers.most if fixed else (workers.least, workers.most), use_gpu=work.on_gpu
        ),
        run_config=RunConfig(
            name=RAY_FOLDER,
            storage_path=str(work.run_dir),
            failure_config=FailureConfig(max_failures=MAX_FAILURES),
            worker_runtime_env={"env_vars": THREAD_PINS},
        ),
    )


def _reports(post: Any, fitting: threading.Thread) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Yield reports as they come, until training is over."""
    import ray

    asked = post.next.remote()
    while True:
        here, _ = ray.wait([asked], timeout=REPORTS_AWAITED_S)
        if here:
            yield ray.get(asked)
            asked = post.next.remote()
        elif not fitting.is_alive():
            return


class _Post:
    """An actor on the driver's node that hands reports over, one by one."""

    def __init__(self) -> None:
        self._waiting: asyncio.Queue[tuple[str, tuple[Any, ...], asyncio.Event]] = asyncio.Queue()
        self._handed_over = asyncio.Event()

    async def report(self, name: str, arguments: tuple[Any, ...]) -> None:
        """Hand over a report; return when the driver has passed it on."""
        done = asyncio.Event()
        await self._waiting.put((name, arguments, done))
        await done.wait()

    async def next(self) -> tuple[str, tuple[Any, ...]]:
        """Return the next report; asking for it means that the one before was passed on."""
        self._handed_over.set()
        name, arguments, self._handed_over = await self._waiting.get()
        return name, arguments


# --- on the worker --------------------------------------------------------------------------------


def _train_on_worker(config: dict[str, Any]) -> None:
    """Be one rank; a mistake or a failure that another try would only repeat ends the run."""
    import ray
    import ray.train.torch

    work, post = config["work"], config["post"]
    device = str(ray.train.torch.get_device()) if work.on_gpu else "cpu"
    try:
        # A first try finds nothing to resume: the driver saw to that.
        train(
            work.experiment,
            work.corpus_place,
            work.run_dir,
            work.stages,
            resume=True,
            device=device,
            trackers=[_PostTracker(post)],
            selection=work.selection,
            parents=work.parents,
        )
    except RankLostError:
        raise
    except (UserError, JobError) as error:
        ray.get(post.report.remote("gave_up", (type(error)(str(error)),)))
        raise


class _PostTracker:
    """A `training.tracker.Tracker` on rank 0 that posts every report to the driver."""

    def __init__(self, post: Any) -> None:
        self._post = post

    def stage_started(self, start: StageStart) -> None:
        """Post."""
        self._report("stage_started", start)

    def metrics(self, batch: Sequence[Metric]) -> None:
        """Post."""
        self._report("metrics", batch)

    def validation_samples(self, step: int, samples: Sequence[ValidationSample]) -> None:
        """Post."""
        self._report("validation_samples", step, samples)

    def model_finished(self, bundle_dir: Path, info: BundleInfo) -> None:
        """Post."""
        self._report("model_finished", bundle_dir, info)

    def stage_ended(self, status: Status, message: str = "") -> None:
        """Post."""
        self._report("stage_ended", status, message)

    def _report(self, name: str, *arguments: Any) -> None:
        import ray

        ray.get(self._post.report.remote(name, arguments))
