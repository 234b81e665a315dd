"""Where shards are rendered: in spawned processes on this machine, or as Ray tasks.

An executor only schedules. It takes tasks, yields commit records in any order, and decides nothing that could change
a byte: killed workers are replaced and their shard is rendered again from its first sample.
"""

import multiprocessing as mp
import signal
import socket
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any, Protocol

from datagen.environment import THREAD_PINS, pin_threads
from datagen.shard import Poisoned, ShardTask
from manifests.corpus import ShardRecord
from manifests.errors import JobError, UserError
from manifests.files import TEMPORARY_SUFFIX
from pipelines.worker import RenderJob

CRASHES_OF_ONE_DRAW = 2
"""A worker that dies twice at the same draw dies of that draw; once may be anybody's kill."""
CRASHES_OF_ONE_SHARD = 20
"""More than this, and something else is wrong: the machine is out of memory, for example."""
TASKS_IN_FLIGHT_PER_CPU = 2
REACHED_WITHIN_S = 10.0


Draw = tuple[int, int]
"""(index, attempt) of a sample."""


class Executor(Protocol):
    """Runs shard tasks somewhere."""

    def run(self, job: RenderJob, tasks: Iterable[ShardTask]) -> Iterator[ShardRecord]:
        """Render `tasks`, yielding each shard's record once it is committed.

        Raises:
            JobError: when a shard cannot be finished.
            UserError: when a worker found a mistake of the user's.
        """
        ...


class InProcess:
    """Renders in the calling process: no isolation, easy to debug."""

    def run(self, job: RenderJob, tasks: Iterable[ShardTask]) -> Iterator[ShardRecord]:
        """Render one task after another."""
        loaded = job.load()
        for task in tasks:
            yield loaded.render(task)


@dataclass
class _Worker:
    """A spawned process, and what the driver knows of it."""

    process: SpawnProcess
    connection: Connection
    task: ShardTask | None = None
    draw: Draw | None = None
    """The one that it last began."""


@dataclass
class _Crashes:
    """What killed workers so far."""

    of_shard: Counter[ShardTask] = field(default_factory=Counter)
    of_draw: Counter[tuple[ShardTask, Draw]] = field(default_factory=Counter)

    def count(self, task: ShardTask, draw: Draw | None, how: str) -> None:
        """Note that a worker died at a draw of a shard.

        Raises:
            JobError: when it was one too many.
        """
        self.of_shard[task] += 1
        if draw is not None:
            self.of_draw[task, draw] += 1
        if self.of_shard[task] > CRASHES_OF_ONE_SHARD:
            raise JobError(
                f"{task.split}/{task.name}: its worker died {self.of_shard[task]} times (last: {how})"
            )

    def poisoned(self, task: ShardTask) -> Poisoned:
        """Draws of a shard that are not to be tried again."""
        return frozenset(
            draw
            for (shard, draw), count in self.of_draw.items()
            if shard == task and count >= CRASHES_OF_ONE_DRAW
        )


class LocalProcesses:
    """Renders in `workers` spawned processes. A worker that dies is replaced; its shard goes back in the queue."""

    def __init__(self, workers: int) -> None:
        self._workers = workers

    def run(self, job: RenderJob, tasks: Iterable[ShardTask]) -> Iterator[ShardRecord]:
        """Render with at most as many tasks in memory as there are workers."""
        pin_threads()
        pending = iter(tasks)
        again: deque[ShardTask] = deque()
        crashes = _Crashes()
        pool: list[_Worker] = []
        try:
            while True:
                while len(pool) < self._workers and (task := _next(again, pending)) is not None:
                    pool.append(worker := _start(job))
                    _hand(worker, task, crashes)
                if not pool:
                    return
                for connection in wait([worker.connection for worker in pool]):
                    worker = next(w for w in pool if w.connection is connection)
                    try:
                        kind, content = worker.connection.recv()
                    except (EOFError, OSError):
                        again.append(_bury(worker, pool, crashes))
                        continue
                    if kind == "draw":
                        worker.draw = content
                    elif kind == "error":
                        raise content
                    else:
                        yield content
                        if (task := _next(again, pending)) is not None:
                            _hand(worker, task, crashes)
                        else:
                            _dismiss(worker, pool)
        finally:
            for worker in pool:
                worker.process.kill()
                worker.process.join()


def _next(again: deque[ShardTask], pending: Iterator[ShardTask]) -> ShardTask | None:
    return again.popleft() if again else next(pending, None)


def _start(job: RenderJob) -> _Worker:
    context = mp.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(job, theirs), daemon=True, name="ssiforge-worker")
    process.start()
    theirs.close()
    return _Worker(process, ours)


def _hand(worker: _Worker, task: ShardTask, crashes: _Crashes) -> None:
    worker.task, worker.draw = task, None
    try:
        worker.connection.send((task, crashes.poisoned(task)))
    except OSError:  # it died idle; the next wait reports its end, and the task goes back in the queue
        return


def _dismiss(worker: _Worker, pool: list[_Worker]) -> None:
    pool.remove(worker)
    worker.connection.close()
    worker.process.join()


def _bury(worker: _Worker, pool: list[_Worker], crashes: _Crashes) -> ShardTask:
    pool.remove(worker)
    worker.connection.close()
    worker.process.join()
    task = worker.task
    assert task is not None
    crashes.count(task, worker.draw, f"exit code {worker.process.exitcode}")
    return task


def _serve(job: RenderJob, connection: Connection) -> None:
    """Body of a worker process: take tasks until the driver hangs up."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the driver, which then ends its workers
    task: ShardTask | None = None
    try:
        loaded = job.load()
        while True:
            task, poisoned = connection.recv()
            record = loaded.render(
                task, poisoned, lambda index, attempt: connection.send(("draw", (index, attempt)))
            )
            connection.send(("record", record))
    except (EOFError, BrokenPipeError):
        return
    except (UserError, JobError) as error:
        connection.send(("error", error))
    except Exception as error:  # whatever it is, the driver must hear of it; silence would look like a crash
        connection.send(("error", _told(error, task)))


def _told(error: Exception, task: ShardTask | None) -> JobError:
    """Say what went wrong in a worker, as an exception that survives being sent."""
    shard = f"{task.split}/{task.name}" if task else "loading the corpus"
    if isinstance(error, OSError) and error.strerror:
        return JobError(
            f"{shard}: {error.strerror}; what was finished is kept, run the same command again to go on"
        )
    return JobError(f"{shard}: a worker failed: {type(error).__name__}: {error}")


class RayTasks:
    """Renders as one Ray task a shard, on a local Ray or a cluster that shares the corpus folder.

    Ray's own retries are off: it would not know which draw took a worker down.
    """

    def __init__(self, address: str | None = None, cpus: int | None = None) -> None:
        self._address = address
        self._cpus = cpus

    def run(self, job: RenderJob, tasks: Iterable[ShardTask]) -> Iterator[ShardRecord]:
        """Render with a bounded number of tasks in flight; those whose worker or node is lost are handed out again."""
        import ray

        started = not ray.is_initialized()
        if started:
            _connect(ray, self._address, self._cpus)
        remote = ray.remote(num_cpus=1, max_retries=0)(_render_with_ray)
        remote = remote.options(runtime_env={"env_vars": THREAD_PINS})
        window = max(1, int(ray.cluster_resources().get("CPU", 1))) * TASKS_IN_FLIGHT_PER_CPU
        pending = iter(tasks)
        again: deque[ShardTask] = deque()
        crashes = _Crashes()
        flying: dict[Any, ShardTask] = {}
        try:
            while True:
                while len(flying) < window and (task := _next(again, pending)) is not None:
                    flying[remote.remote(job, task, crashes.poisoned(task))] = task
                if not flying:
                    return
                for reference in ray.wait(list(flying), num_returns=1)[0]:
                    task = flying.pop(reference)
                    record = _fetch(ray, reference, job, task, crashes)
                    if record is None:
                        again.append(task)
                    else:
                        yield record
        finally:
            for reference in flying:
                ray.cancel(reference, force=True)
            if started:
                ray.shutdown()


def _connect(ray: Any, address: str | None, cpus: int | None) -> None:
    import logging

    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address is None:
        options |= {"include_dashboard": False, "num_cpus": cpus, "object_store_memory": 100 * 2**20}
    elif address != "auto":
        _knock(address)
    try:
        ray.init(address=address, **options)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise UserError(f"--ray {address or ''}: cannot reach Ray ({error})") from error


def _knock(address: str) -> None:
    """Ask whether anybody is there: Ray itself keeps trying for many minutes without a word."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), REACHED_WITHIN_S).close()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise UserError(f"--ray {address}: cannot reach Ray ({reason})") from error


def _draw_mark(job: RenderJob, task: ShardTask) -> Path:
    """A file in which a worker leaves the draw that it is at, should it die; swept like every temporary."""
    return job.root / task.split / f".{task.name}.draw{TEMPORARY_SUFFIX}"


def _render_with_ray(
    job: RenderJob, task: ShardTask, poisoned: Poisoned
) -> ShardRecord | UserError | JobError:
    mark = _draw_mark(job, task)
    try:
        mark.parent.mkdir(parents=True, exist_ok=True)
        record = job.load().render(task, poisoned, partial(_leave_mark, mark))
        mark.unlink(missing_ok=True)
    except (UserError, JobError) as error:
        return error  # as a value: Ray would wrap an exception in one of its own
    except Exception as error:  # whatever it is, the driver must be able to say it in a sentence
        return _told(error, task)
    return record


def _leave_mark(mark: Path, index: int, attempt: int) -> None:
    mark.write_text(f"{index} {attempt}")


def _fetch(
    ray: Any, reference: Any, job: RenderJob, task: ShardTask, crashes: _Crashes
) -> ShardRecord | None:
    """Return what a task made, or None when its worker was lost."""
    try:
        result = ray.get(reference)
    except (ray.exceptions.RayTaskError, ray.exceptions.RuntimeEnvSetupError) as error:
        cause = getattr(error, "cause", None) or error
        reason = str(cause).strip().splitlines()[-1:] or [type(cause).__name__]
        raise JobError(f"{task.split}/{task.name}: Ray could not run it ({reason[0]})") from error
    except ray.exceptions.RayError as error:
        crashes.count(task, _draw_at_death(_draw_mark(job, task)), type(error).__name__)
        return None
    if isinstance(result, (UserError, JobError)):
        raise result
    record: ShardRecord = result
    return record


def _draw_at_death(mark: Path) -> Draw | None:
    try:
        index, attempt = mark.read_text().split()
        mark.unlink()
        return int(index), int(attempt)
    except (OSError, ValueError):
        return None
