"""Renders shards as Ray tasks, one a shard, on a local Ray or on a cluster whose nodes all reach the corpus."""

import signal
import socket
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from datagen.environment import THREAD_PINS
from datagen.shard import ShardTask
from manifests.errors import JobError, UserError
from pipelines.corpus.shard_result import ShardDone
from pipelines.executors import Draw, Failure, How, Job, Outcome, Tries, failure_of, next_of, unwatched

TASKS_IN_FLIGHT_PER_CPU = 2
"""One at work and one waiting: a worker never waits for the driver, and an autoscaler sees what is asked for."""
WORKER_MEMORY_BYTES = 400 * 2**20
"""What a task asks of a node beside its CPU: more than any recipe was seen to need."""
CAPACITY_ASKED_EVERY_S = 2.0
"""Nodes come and go; so often the number of tasks in flight follows them."""
REACHED_WITHIN_S = 10.0


class RayTasks:
    """Renders as Ray tasks.

    Ray's own retries are off: it would not know which draw took a worker down.

    Args:
        address: of a running cluster, or `auto`; None starts a local Ray for the job.
        cpus: of the local Ray.
    """

    def __init__(self, address: str | None = None, cpus: int | None = None) -> None:
        self._address = address
        self._cpus = cpus

    @property
    def shares_disk(self) -> bool:
        """Whether all tasks run on this machine."""
        return self._address is None

    def run(self, job: Job, tasks: Iterable[ShardTask]) -> Iterator[Outcome]:
        """Render with a bounded number of tasks in flight; those whose worker or node is lost are handed out again."""
        import ray

        started = not ray.is_initialized()
        if started:
            _connect(ray, self._address, self._cpus)
        flying = _Flight(ray, job)
        pending = iter(tasks)
        again: deque[ShardTask] = deque()
        try:
            while True:
                while flying.has_room() and (task := next_of(again, pending)) is not None:
                    flying.launch(task)
                if not flying.tasks:
                    return
                for task, outcome in flying.landed():
                    if outcome is None:
                        again.append(task)
                    else:
                        yield outcome
        finally:
            flying.cancel()
            if started:
                ray.shutdown()


class _Flight:
    """The tasks that Ray has and has not answered yet."""

    def __init__(self, ray: Any, job: Job) -> None:
        self._ray = ray
        self._job = job
        options = {"num_cpus": 1, "memory": WORKER_MEMORY_BYTES, "max_retries": 0}
        remote = ray.remote(**options)(_render_with_ray)
        self._remote = remote.options(runtime_env={"env_vars": THREAD_PINS})
        self._tries = Tries()
        self._asked_at = 0.0
        self._room = 0
        self.tasks: dict[Any, ShardTask] = {}

    def has_room(self) -> bool:
        """Whether more tasks should be given to Ray."""
        now = time.monotonic()
        if now - self._asked_at > CAPACITY_ASKED_EVERY_S:
            self._asked_at = now
            cpus = int(self._ray.cluster_resources().get("CPU", 0))
            self._room = max(1, cpus) * TASKS_IN_FLIGHT_PER_CPU
        return len(self.tasks) < self._room

    def launch(self, task: ShardTask) -> None:
        """Give a task to Ray."""
        tries = self._tries
        reference = self._remote.remote(
            self._job, task, tries.poisoned(task), tries.begun(task), tries.watched(task)
        )
        self.tasks[reference] = task

    def landed(self) -> Iterator[tuple[ShardTask, Outcome | None]]:
        """Wait for tasks to end; yield what became of each, None for one that is to be tried again."""
        ended, _ = self._ray.wait(list(self.tasks), num_returns=1, timeout=CAPACITY_ASKED_EVERY_S)
        for reference in ended:
            task = self.tasks.pop(reference)
            yield task, self._outcome(reference, task)

    def _outcome(self, reference: Any, task: ShardTask) -> Outcome | None:
        exceptions = self._ray.exceptions
        try:
            result = self._ray.get(reference)
        except (exceptions.RayTaskError, exceptions.RuntimeEnvSetupError) as error:
            cause = getattr(error, "cause", None) or error
            reason = str(cause).strip().splitlines()[-1:] or [type(cause).__name__]
            raise JobError(f"{task.tar_name}: Ray could not run it ({reason[0]})") from error
        except exceptions.RayError as error:
            lost_with = (
                exceptions.NodeDiedError,
                exceptions.ObjectLostError,
                exceptions.LocalRayletDiedError,
            )
            how: How = "lost" if isinstance(error, lost_with) else "killed"
            draw = self._job.marked(task) if how == "killed" else None
            return self._tries.died(task, draw, how, type(error).__name__)
        if isinstance(result, Failure):
            return self._tries.failed(task, result)
        done: ShardDone = result
        return done

    def cancel(self) -> None:
        """Stop what is still at work."""
        for reference in self.tasks:
            self._ray.cancel(reference, force=True)


@contextmanager
def connected(address: str | None, cpus: int | None) -> Iterator[None]:
    """Connect to Ray for a block, unless this process is connected already.

    Args:
        address: of a running cluster, or `auto`; None starts a local Ray.
        cpus: of the local Ray.

    Raises:
        UserError: when there is nobody at the address.
    """
    import ray

    if ray.is_initialized():
        yield
        return
    _connect(ray, address, cpus)
    try:
        yield
    finally:
        ray.shutdown()


def _connect(ray: Any, address: str | None, cpus: int | None) -> None:
    import logging

    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address is None:
        options |= {"include_dashboard": False, "num_cpus": cpus, "object_store_memory": 100 * 2**20}
    elif address != "auto":
        _knock(address)
    ends_by = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(address=address or "local", **options)  # None would join a cluster that runs here by chance
    except ray.exceptions.AuthenticationError as error:
        raise UserError(
            f"--ray {address or ''}: the cluster asks for a token; set RAY_AUTH_MODE=token, and put its token into "
            "~/.ray/auth_token or RAY_AUTH_TOKEN"
        ) from error
    except (ConnectionError, ValueError, RuntimeError) as error:
        hint = (
            ""
            if address is None
            else "; if the cluster has a token, it must be here too: RAY_AUTH_MODE=token"
        )
        raise UserError(f"--ray {address or ''}: cannot reach Ray ({error}{hint})") from error
    if threading.current_thread() is threading.main_thread():
        signal.signal(
            signal.SIGTERM, ends_by
        )  # Ray sets a handler of its own, which would end the job at once


def _knock(address: str) -> None:
    """Ask whether anybody is there: Ray itself keeps trying for many minutes without a word."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), REACHED_WITHIN_S).close()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise UserError(f"--ray {address}: cannot reach Ray ({reason})") from error


# --- on the worker --------------------------------------------------------------------------------


def _render_with_ray(
    job: Job, task: ShardTask, poisoned: frozenset[Draw], begun: bool, watched: bool
) -> ShardDone | Failure:
    """Render a shard; a failure is returned, for Ray would wrap an exception in one of its own."""
    try:
        loaded = job.load()
        if begun and (done := loaded.recall(task)) is not None:
            return done
        if not watched:
            # The first death of a shard's worker may be anybody's; marks are left from the second try on.
            return loaded.render(task, poisoned, unwatched)
        done = loaded.render(task, poisoned, lambda index, attempt: job.mark(task, (index, attempt)))
        job.mark(task, None)
        return done
    except Exception as error:  # whatever it is, the driver must be able to say it in a sentence
        return failure_of(error)
