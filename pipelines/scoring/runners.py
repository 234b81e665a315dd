"""Where shards are scored: in processes of this machine, or by tasks of Ray Data.

A runner schedules and decides nothing: it yields the scores of each shard in any order, or the shard as lost.
"""

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import Any, Protocol, cast

from datagen.environment import THREAD_PINS
from manifests.errors import JobError, UserError
from pipelines.corpus.shard_result import Lost
from pipelines.executors import InProcess
from pipelines.generation.local_processes import LocalProcesses
from pipelines.generation.ray_tasks import connected
from pipelines.scoring.shard_scores import ShardScores
from pipelines.scoring.worker import ScoreJob, ScoreTask

TASK_MEMORY_BYTES = 700 * 2**20
"""What a task asks of a node beside its CPU: Ray's process and ours, with DNSMOS's networks."""

Scored = ShardScores | Lost
Stopping = Callable[[], bool]
"""Whether the user asked to stop."""


class Runner(Protocol):
    """Scores shards somewhere."""

    def __call__(self, job: ScoreJob, tasks: Sequence[ScoreTask], stopping: Stopping) -> Iterator[Scored]:
        """Score shards, yielding each as it is done; begin no more of them once `stopping`."""
        ...


def on_processes(workers: int) -> Runner:
    """Score in spawned processes, in this one for 0; a sample that keeps killing them gets no score."""
    executor: Any = LocalProcesses(workers) if workers else InProcess()

    def run(job: ScoreJob, tasks: Sequence[ScoreTask], stopping: Stopping) -> Iterator[Scored]:
        unstopped = (task for task in tasks if not stopping())
        return cast(Iterator[Scored], executor.run(job, unstopped))

    return run


def on_ray_data(address: str | None, cpus: int) -> Runner:
    """Score by tasks of Ray Data, one a shard, on a local Ray of some CPUs or on the cluster at an address.

    Tasks and not actors: a pool of actors that may take every CPU leaves none for reading, and hangs. A shard's scores
    come back as one row of text, so Ray writes nothing and the driver keeps each shard the moment it is done.
    """

    def run(job: ScoreJob, tasks: Sequence[ScoreTask], stopping: Stopping) -> Iterator[Scored]:
        if not tasks:
            return
        by_name = {task.tar_name: task for task in tasks}
        with connected(address, cpus):
            import ray

            try:
                for row in _rows(job, tasks):
                    yield _outcome(row, by_name[row["shard"]])
                    if stopping():
                        return
            except ray.exceptions.RayError as error:
                reason = str(error).strip().splitlines()[-1:] or [type(error).__name__]
                raise JobError(
                    f"Ray could not go on ({reason[0]}); what was scored is kept, run the same command again to go on"
                ) from error

    return run


def _rows(job: ScoreJob, tasks: Sequence[ScoreTask]) -> Iterator[dict[str, Any]]:
    import ray.data

    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    items = [{"task": json.dumps(asdict(task))} for task in tasks]
    scored = ray.data.from_items(items, override_num_blocks=len(items)).map(
        _score_with_ray,
        fn_args=(job,),
        num_cpus=1,
        memory=TASK_MEMORY_BYTES,
        runtime_env={"env_vars": THREAD_PINS},
    )
    yield from scored.iter_rows()


def _outcome(row: dict[str, Any], task: ScoreTask) -> Scored:
    if row["mistake"]:
        raise JobError(row["mistake"])
    if row["scores"]:
        return ShardScores.model_validate_json(row["scores"])
    return Lost(cast(Any, task), row["lost"], row["tries"])


# --- on the worker --------------------------------------------------------------------------------


def _score_with_ray(row: dict[str, str], job: ScoreJob) -> dict[str, Any]:
    """Score a shard in a process of its own.

    Ray Data repeats a task whose worker died for ever, which is right for a node that went away and wrong for a sample
    that kills. A process below the task dies instead, and is counted as those of `on_processes` are.
    """
    content = json.loads(row["task"])
    task = ScoreTask(content["tar_name"], content["sha256"], tuple(content["metrics"]))
    answer = {"shard": task.tar_name, "scores": "", "lost": "", "tries": 0, "mistake": ""}
    try:
        (outcome,) = on_processes(1)(job, [task], lambda: False)
    except (JobError, UserError) as error:  # an exception would reach the driver wrapped in one of Ray's
        return answer | {"mistake": str(error)}
    if isinstance(outcome, Lost):
        return answer | {"lost": outcome.reason, "tries": outcome.tries}
    return answer | {"scores": outcome.model_dump_json()}
