"""Fresh samples for the trainer: rendered ahead in processes, handed over in whatever order they are asked for.

Each process has a thread that feeds it through `LocalProcesses`: so a process that dies is replaced, and a draw that
kills it is redrawn, by the very rules of `generate`.
"""

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue

from datagen.plan import sample_key
from manifests.canonical import canonical_json
from manifests.corpus import Failure
from manifests.errors import JobError
from manifests.online import OnlineRecord
from manifests.recipe import Recipe, Split
from pipelines.corpus.shard_result import Lost
from pipelines.generation.local_processes import LocalProcesses
from pipelines.online.worker import FreshSample, OnlineJob, SampleTask, sample_task
from training.fresh import FRESH_SHARD, FreshOrder
from training.order import Pick
from training.source import Sample, Stretch

FEWEST_DRAWS_TO_JUDGE = 50
"""The share of failed draws is compared with the recipe's limit from this many draws on."""


class Renderers:
    """Processes that render samples ahead; they start with the first request.

    Args:
        job: what to render.
        workers: number of processes.
        took_note: told of every sample that is rendered, from any thread.
    """

    def __init__(self, job: OnlineJob, workers: int, took_note: Callable[[FreshSample], None]) -> None:
        self._job, self._workers, self._took_note = job, workers, took_note
        self._requests: SimpleQueue[SampleTask | None] = SimpleQueue()
        self._waiting: dict[SampleTask, Future[FreshSample]] = {}
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._broken: BaseException | None = None

    def expect(self, task: SampleTask) -> Future[FreshSample]:
        """Have a sample rendered, unless it already is or was asked for."""
        with self._lock:
            future = self._waiting.get(task)
            if future is None or future.cancelled():
                future = self._waiting[task] = Future()
                if self._broken is not None:
                    future.set_exception(self._broken)
                self._requests.put(task)
                self._start()
        return future

    def take(self, task: SampleTask) -> FreshSample:
        """Wait for a sample, and keep it no longer.

        Raises:
            CancelledError: when it was forgotten.
            JobError: when it, or anything else, cannot be rendered.
            UserError: when a source is gone.
        """
        future = self.expect(task)
        try:
            return future.result()
        finally:
            with self._lock:
                if self._waiting.get(task) is future:
                    del self._waiting[task]

    def forget(self) -> None:
        """Render nothing that was asked for and is not begun; let go of those who wait for it."""
        with self._lock:
            for future in self._waiting.values():
                future.cancel()
            self._waiting = {task: future for task, future in self._waiting.items() if future.cancelled()}

    def close(self) -> None:
        """End the processes."""
        self.forget()
        for _ in self._threads:
            self._requests.put(None)
        for thread in self._threads:
            thread.join()
        self._threads = []

    def _start(self) -> None:
        while len(self._threads) < self._workers:
            thread = threading.Thread(target=self._feed, name="renderer", daemon=True)
            thread.start()
            self._threads.append(thread)

    def _feed(self) -> None:
        """Drive one process until there is nothing more to do."""
        under_way: list[SampleTask] = []
        try:
            for outcome in LocalProcesses(1).run(self._job, self._wanted(under_way)):
                task = under_way.pop()
                if isinstance(outcome, Lost):
                    self._fail(task, JobError(outcome.reason))
                else:
                    self._took_note(outcome)
                    self._finish(task, outcome)
        except Exception as error:  # handed to whoever waits for samples
            self._break(error)

    def _wanted(self, under_way: list[SampleTask]) -> Iterator[SampleTask]:
        """Yield what is to be rendered next, until told to end."""
        while (task := self._requests.get()) is not None:
            with self._lock:
                future = self._waiting.get(task)
                wanted = future is not None and not future.cancelled() and not future.done()
            if wanted:
                under_way.append(task)
                yield task

    def _finish(self, task: SampleTask, sample: FreshSample) -> None:
        with self._lock, suppress(InvalidStateError):  # forgotten meanwhile
            if task in self._waiting:
                self._waiting[task].set_result(sample)

    def _fail(self, task: SampleTask, error: BaseException) -> None:
        with self._lock, suppress(InvalidStateError):
            if task in self._waiting:
                self._waiting[task].set_exception(error)

    def _break(self, error: BaseException) -> None:
        """Nothing can be rendered any more: let everybody know."""
        with self._lock:
            self._broken = error
            waiting = [future for future in self._waiting.values() if not future.done()]
        for future in waiting:
            with suppress(InvalidStateError):
                future.set_exception(error)


class Tally:
    """Notes the draws that failed, and says when they are more than the recipe allows.

    Args:
        recipe: for its limits.
        quarantine: a file to which each failed draw is appended as a line of JSON.
    """

    def __init__(self, recipe: Recipe, quarantine: Path) -> None:
        self._limit, self._quarantine = recipe.limits.max_failed_share, quarantine
        self._lock = threading.Lock()
        self._rendered = 0
        self._reasons: Counter[str] = Counter()

    def add(self, sample: FreshSample) -> None:
        """Take note of a rendered sample.

        Raises:
            JobError: when too many draws failed, naming the most frequent reason.
        """
        with self._lock:
            self._rendered += 1
            self._write(sample.failures)
            self._reasons.update(f"{failure.stage}: {failure.reason}" for failure in sample.failures)
            failed = self._reasons.total()
            drawn = self._rendered + failed
            if drawn >= FEWEST_DRAWS_TO_JUDGE and failed > self._limit * drawn:
                worst, count = self._reasons.most_common(1)[0]
                raise JobError(
                    f"{failed} of {drawn} draws of fresh samples failed, more than limits.max_failed_share="
                    f"{self._limit:g}; most often: {worst} ({count} times)"
                )

    def _write(self, failures: Sequence[Failure]) -> None:
        if failures:
            lines = [canonical_json(failure.model_dump(mode="json")) + b"\n" for failure in failures]
            with self._quarantine.open("ab") as stream:
                stream.writelines(lines)


class FreshSource:
    """Fresh samples of one split, as `training.source.SampleSource`."""

    def __init__(self, renderers: Renderers, recipe: Recipe, record: OnlineRecord, split: Split) -> None:
        self._renderers, self._recipe, self._record, self._split = renderers, recipe, record, split

    @property
    def name(self) -> str:
        """The recipe."""
        return f"recipe {self._recipe.name}"

    @property
    def data_id(self) -> str:
        """Of everything that decides the samples."""
        return self._record.data_id

    @property
    def split(self) -> Split:
        """Which samples it gives."""
        return self._split

    @property
    def shortest_frames(self) -> int:
        """Length of every sample."""
        return self._recipe.frames

    def order(self, seed: int, window_shards: int) -> FreshOrder:
        """Return the order of the recipe's samples; there are no shards to shuffle."""
        return FreshOrder(seed)

    def spread(self, samples: int) -> list[Pick]:
        """Return the first so many."""
        return [Pick(FRESH_SHARD, index) for index in range(samples)]

    def frames(self, pick: Pick) -> int:
        """Return the length of every sample."""
        return self._recipe.frames

    def where(self, pick: Pick) -> str:
        """Name a sample for a message."""
        return f"{self.name}, sample {sample_key(self._split, pick.sample)}"

    def expect(self, stretches: Sequence[Stretch]) -> None:
        """Have stretches rendered ahead."""
        for stretch in stretches:
            self._renderers.expect(self._task(stretch))

    def forget(self) -> None:
        """Render nothing that is not begun."""
        self._renderers.forget()

    def sample(self, stretch: Stretch) -> Sample:
        """Wait for a stretch of a sample."""
        fresh = self._renderers.take(self._task(stretch))
        return Sample(fresh.degraded, fresh.target, fresh.key)

    def _task(self, stretch: Stretch) -> SampleTask:
        return sample_task(self._split, stretch.pick.sample, stretch.start, stretch.frames)
