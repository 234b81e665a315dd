"""Scoring samples in this process or in several: the same rows in the same order, however many there are."""

import multiprocessing as mp
import signal
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from manifests.errors import JobError
from pipelines.quality.metrics import Audio
from pipelines.quality.scores import Row, Sample, score_all

AHEAD = 2
"""Samples that wait or are scored, for each process: enough to keep it busy, and memory stays bounded."""

Enhanced = tuple[Sample, Mapping[str, Audio]]
"""A sample, and each system's estimate of its target."""


def scored(enhanced: Iterable[Enhanced], sigmos: Path | None, workers: int) -> Iterator[tuple[Row, ...]]:
    """Score samples in their order.

    Args:
        enhanced: taken one by one, a few ahead of what is scored.
        sigmos: network of `pipelines.quality.sigmos`, if there is one.
        workers: processes; with 0 this one does it.

    Raises:
        JobError: when a process dies.
    """
    if not workers:
        for sample, estimates in enhanced:
            yield score_all(sample, estimates, sigmos)
        return
    # Spawned, not forked: torch and onnxruntime have threads, and a fork of a process with threads may hang.
    pool = ProcessPoolExecutor(workers, mp.get_context("spawn"), _leave_ctrl_c_to_the_driver)
    waiting: deque[Future[tuple[Row, ...]]] = deque()
    try:
        for sample, estimates in enhanced:
            waiting.append(pool.submit(score_all, sample, estimates, sigmos))
            while len(waiting) > AHEAD * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool as error:
        raise JobError(
            "a process died while scoring; it may have run out of memory: use fewer --workers"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _leave_ctrl_c_to_the_driver() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
