"""Renders shards in spawned processes of this machine."""

import multiprocessing as mp
import signal
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any, Generic, TypeVar

from datagen.environment import pin_threads
from datagen.shard import ShardTask
from manifests.errors import JobError
from pipelines.corpus.shard_result import Lost
from pipelines.executors import Draw, Failure, How, Loadable, Tries, failure_of, next_of

Task = TypeVar("Task", bound=ShardTask)
Done = TypeVar("Done")


@dataclass
class _Worker(Generic[Task]):
    """A spawned process, and what the driver knows of it."""

    process: SpawnProcess
    connection: Connection
    task: Task
    draw: Draw | None = None
    """The one that it last began."""


class LocalProcesses:
    """Renders in `workers` processes. One that dies is replaced; its shard goes back in the queue."""

    shares_disk = True

    def __init__(self, workers: int) -> None:
        self._workers = workers

    def run(self, job: Loadable[Task, Done], tasks: Iterable[Task]) -> Iterator[Done | Lost]:
        """Render with at most as many tasks in memory as there are workers."""
        pin_threads()
        pending = iter(tasks)
        again: deque[Task] = deque()
        tries = Tries()
        pool: list[_Worker[Task]] = []
        try:
            while True:
                while len(pool) < self._workers and (task := next_of(again, pending)) is not None:
                    pool.append(_started(job, task, tries))
                if not pool:
                    return
                for connection in wait([worker.connection for worker in pool]):
                    worker = next(w for w in pool if w.connection is connection)
                    outcome, is_free = _heard(worker, pool, tries, again)
                    if outcome is not None:
                        yield outcome
                    if is_free and (task := next_of(again, pending)) is not None:
                        _hand(worker, task, tries)
                    elif is_free:
                        _dismiss(worker, pool)
        finally:
            for worker in pool:
                worker.process.kill()
                worker.process.join()


def _heard(
    worker: _Worker[Task], pool: list[_Worker[Task]], tries: Tries, again: deque[Task]
) -> tuple[Any | Lost | None, bool]:
    """Take a worker's message: what became of its shard, if that is known, and whether it waits for another."""
    lost: Lost | None = None
    try:
        kind, content = worker.connection.recv()
    except (EOFError, OSError):
        lost = _buried(worker, pool, tries)
    else:
        if kind == "draw":
            worker.draw = content
            return None, False
        if kind == "done":
            return content, True
        _dismiss(worker, pool)
        if kind == "unloadable":
            raise JobError(f"a worker could not load the corpus: {content.reason}")
        lost = tries.failed(worker.task, content)
    if lost is None:
        again.append(worker.task)
    return lost, False


def _started(job: Loadable[Task, Any], task: Task, tries: Tries) -> _Worker[Task]:
    context = mp.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(job, theirs), daemon=True, name="ssiforge-worker")
    process.start()
    theirs.close()
    worker = _Worker(process, ours, task)
    _hand(worker, task, tries)
    return worker


def _hand(worker: _Worker[Task], task: Task, tries: Tries) -> None:
    worker.task, worker.draw = task, None
    try:
        worker.connection.send((task, tries.poisoned(task), tries.begun(task)))
    except OSError:  # it died idle; the next wait reports its end, and the task goes back in the queue
        return


def _dismiss(worker: _Worker[Task], pool: list[_Worker[Task]]) -> None:
    pool.remove(worker)
    worker.connection.close()
    worker.process.join()


def _buried(worker: _Worker[Task], pool: list[_Worker[Task]], tries: Tries) -> Lost | None:
    _dismiss(worker, pool)
    code = worker.process.exitcode
    how: How = "killed" if code in (-signal.SIGKILL, -signal.SIGTERM) else "crashed"
    return tries.died(worker.task, worker.draw, how, f"exit code {code}")


def _serve(job: Loadable[Any, Any], connection: Connection) -> None:
    """Body of a worker process: take tasks until the driver hangs up."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the driver, which then ends its workers
    try:
        try:
            loaded = job.load()
        except (
            Exception
        ) as error:  # whatever it is, the driver must hear of it; silence would look like a crash
            connection.send(("unloadable", failure_of(error)))
            return
        while True:
            task, poisoned, begun = connection.recv()
            try:
                done = (loaded.recall(task) if begun else None) or loaded.render(
                    task, poisoned, lambda index, attempt: connection.send(("draw", (index, attempt)))
                )
            except Exception as error:  # likewise; the process ends, for nobody knows what is left of it
                failure: Failure = failure_of(error)
                connection.send(("failed", failure))
                return
            connection.send(("done", done))
    except (EOFError, ConnectionError):  # the driver is gone
        return
