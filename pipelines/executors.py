"""Where shards are rendered: the contract of an executor, what counts as one try too many, and the simplest executor.

An executor only schedules. It takes tasks, yields what became of them in any order, and decides nothing that could
change a byte: killed workers are replaced and their shard is rendered again from its first sample. The others are in
`local_processes.py` and `ray_tasks.py`.
"""

import errno
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeVar

from datagen.shard import OnDraw, Poisoned, ShardFailed, ShardTask
from manifests.errors import JobError, UserError
from pipelines.corpus.shard_result import Lost, ShardDone

TRIES_OF_A_SHARD = 3
"""Of a shard at which workers fail with an exception; then it is given up and the job goes on."""
DEATHS_OF_ONE_DRAW = 2
"""A worker that crashes twice at the same draw dies of that draw."""
KILLS_OF_ONE_DRAW = 4
"""A worker that is killed, as the kernel does when memory runs out, may be anybody's victim; four are no chance."""
DEATHS_OF_ONE_SHARD = 40
"""More workers than this die of no single draw: the shard is given up."""
LOST_NODES_OF_ONE_SHARD = 100
"""Machines that went away under one shard, as cheap ones do."""

_PLACE_IS_UNFIT = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}
"""What no other shard would fare better with."""

Draw = tuple[int, int]
"""(index, attempt) of a sample."""
How = Literal["crashed", "killed", "lost"]
"""How a worker ended: by itself, from outside, or with its machine."""


Outcome = ShardDone | Lost


Task = TypeVar("Task", bound=ShardTask, contravariant=True)
Done = TypeVar("Done", covariant=True)
_Any = TypeVar("_Any")


class Loaded(Protocol[Task, Done]):
    """A job in a worker's memory."""

    def render(self, task: Task, poisoned: Poisoned, on_draw: OnDraw) -> Done:
        """Do one task: render and commit a shard, for example."""
        ...

    def recall(self, task: Task) -> Done | None:
        """Report a task that is done already; None when it is not."""
        ...


class Loadable(Protocol[Task, Done]):
    """What is to be rendered; small enough to be sent with every task."""

    def load(self) -> Loaded[Task, Done]:
        """Bring what rendering needs into memory, once in each process."""
        ...


class Job(Loadable[ShardTask, ShardDone], Protocol):
    """Shards to be rendered, wherever that is."""

    def mark(self, task: ShardTask, draw: Draw | None) -> None:
        """Leave word, where the driver finds it, of the draw that a worker is at; None takes it back."""
        ...

    def marked(self, task: ShardTask) -> Draw | None:
        """Take the word that a worker left before it died."""
        ...


class Executor(Protocol):
    """Runs shard tasks somewhere."""

    @property
    def shares_disk(self) -> bool:
        """Whether its workers see the files of this machine."""
        ...

    def run(self, job: Job, tasks: Iterable[ShardTask]) -> Iterator[Outcome]:
        """Render `tasks`, yielding what became of each; those that are not handed out yet are taken one by one.

        Raises:
            JobError: when no shard can be finished.
            UserError: when a worker found a mistake of the user's.
        """
        ...


@dataclass(frozen=True)
class Failure:
    """Why a worker could not finish a shard, in a form that survives being sent."""

    kind: Literal["shard", "user", "place", "other"]
    """`shard`: however often it is tried; `user`: a mistake; `place`: nothing can be written; `other`: may pass."""
    reason: str


def failure_of(error: Exception) -> Failure:
    """Put an exception of a worker into words."""
    if isinstance(error, ShardFailed):
        return Failure("shard", str(error))
    if isinstance(error, UserError):
        return Failure("user", str(error))
    if isinstance(error, OSError):
        place = f"{error.filename}: " if error.filename else ""
        kind: Literal["place", "other"] = "place" if error.errno in _PLACE_IS_UNFIT else "other"
        return Failure(kind, f"{place}{error.strerror or error}")
    return Failure("other", f"a worker failed: {type(error).__name__}: {error}")


@dataclass
class Tries:
    """What went wrong with shards so far, and when it was once too often."""

    failures: Counter[ShardTask] = field(default_factory=Counter)
    deaths: Counter[ShardTask] = field(default_factory=Counter)
    lost: Counter[ShardTask] = field(default_factory=Counter)
    of_draw: dict[ShardTask, dict[How, Counter[Draw]]] = field(default_factory=dict)

    def begun(self, task: ShardTask) -> bool:
        """Whether a shard was tried before."""
        return bool(self.failures[task] or self.deaths[task] or self.lost[task])

    def watched(self, task: ShardTask) -> bool:
        """Whether a worker has died of a shard, so that it is worth knowing at which draw."""
        return bool(self.deaths[task])

    def poisoned(self, task: ShardTask) -> Poisoned:
        """Draws of a shard that are not to be tried again."""
        deaths = self.of_draw.get(task, {})
        limits: tuple[tuple[How, int], ...] = (("crashed", DEATHS_OF_ONE_DRAW), ("killed", KILLS_OF_ONE_DRAW))
        return frozenset(
            draw
            for how, limit in limits
            for draw, count in deaths.get(how, Counter()).items()
            if count >= limit
        )

    def died(self, task: ShardTask, draw: Draw | None, how: How, described: str) -> Lost | None:
        """Note that the worker of a shard is gone; return the shard as lost when it was once too often."""
        counter, limit = (
            (self.lost, LOST_NODES_OF_ONE_SHARD) if how == "lost" else (self.deaths, DEATHS_OF_ONE_SHARD)
        )
        counter[task] += 1
        if draw is not None:
            self.of_draw.setdefault(task, {}).setdefault(how, Counter())[draw] += 1
        if counter[task] < limit:
            return None
        return Lost(task, f"its worker died {counter[task]} times (last: {described})", counter[task])

    def failed(self, task: ShardTask, failure: Failure) -> Lost | None:
        """Note that a worker could not finish a shard; return the shard as lost when it is not to be tried again.

        Raises:
            JobError: when no other shard would fare better.
            UserError: when it is a mistake of the user's.
        """
        if failure.kind == "user":
            raise UserError(failure.reason)
        if failure.kind == "place":
            raise JobError(
                f"{task.tar_name}: {failure.reason}; what was finished is kept, run the same command again to go on"
            )
        self.failures[task] += 1
        if failure.kind == "shard" or self.failures[task] >= TRIES_OF_A_SHARD:
            return Lost(task, failure.reason, self.failures[task])
        return None


class InProcess:
    """Renders in the calling process: no isolation, easy to debug."""

    shares_disk = True

    def run(self, job: Job, tasks: Iterable[ShardTask]) -> Iterator[Outcome]:
        """Render one task after another."""
        loaded = job.load()
        tries = Tries()
        for task in tasks:
            outcome: Outcome | None = None
            while outcome is None:
                outcome = _rendered_here(loaded, task, tries)
            yield outcome


def _rendered_here(loaded: Loaded[ShardTask, ShardDone], task: ShardTask, tries: Tries) -> Outcome | None:
    try:
        return loaded.render(task, frozenset(), unwatched)
    except Exception as error:
        return tries.failed(task, failure_of(error))


def unwatched(index: int, attempt: int) -> None:
    """Tell nobody which draw is begun."""


def next_of(again: deque[_Any], pending: Iterator[_Any]) -> _Any | None:
    """Return the task to hand out next: one that has to be repeated, or a new one."""
    return again.popleft() if again else next(pending, None)
