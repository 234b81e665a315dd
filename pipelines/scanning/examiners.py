"""Examine files in processes of their own: a decoder that crashes or never returns costs its own file alone."""

import math
import multiprocessing as mp
import os
import resource
import signal
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess

from datagen.environment import pin_threads
from datagen.examine import examine
from datagen.file_identity import identity_of_file
from manifests.source import Kind, Source

Task = tuple[str, Kind]
"""Path and kind of a file."""
Examine = Callable[[str, Kind], Source]

CRASHED = "the decoder crashed"
CRASHES_OF_ONE_FILE = 2
"""A process that dies twice at the same file dies of that file; once may be anybody's kill."""
NOT_FINISHED = "the decoder did not finish within "
LONGEST_LOOK_S = 600.0
"""Ten times what four hours of stereo at 96 kHz take, for slow disks and stores."""

BEGUN = None
"""What a process sends when it begins with a file; starting a process may take long, and is no fault of the file."""
MOST_MEMORY_BYTES = 768 << 20
"""Of one process, libraries included. FFmpeg takes twice the size of an MP3 that is nothing but zeros."""


@dataclass
class _Examiner:
    """A spawned process, and the file that it was handed last."""

    process: SpawnProcess
    connection: Connection
    task: Task
    until: float = math.inf
    """When it is given up, by the monotonic clock; known once it began with the file."""


def examined(
    tasks: Iterable[Task], workers: int, look: Examine = examine, longest_look_s: float = LONGEST_LOOK_S
) -> Iterator[tuple[Task, Source]]:
    """Examine files in spawned processes, in order of completion.

    A process that dies is replaced and its file tried once more, then refused. One that does not return is killed,
    and its file refused.

    Args:
        tasks: path and kind of each file.
        workers: processes.
        look: what examines a file.
        longest_look_s: how long it may take.
    """
    pin_threads()
    waiting = iter(tasks)
    again: deque[Task] = deque()
    crashes: Counter[Task] = Counter()
    pool: list[_Examiner] = []
    try:
        while True:
            while len(pool) < workers and (task := _next(again, waiting)) is not None:
                pool.append(_start(look, task))
            if not pool:
                return
            earliest = min(examiner.until for examiner in pool)
            patience_s = None if earliest == math.inf else max(0.0, earliest - time.monotonic())
            heard = wait([examiner.connection for examiner in pool], patience_s)
            for examiner in [examiner for examiner in pool if examiner.connection in heard]:
                done = examiner.task
                try:
                    source = examiner.connection.recv()
                except (EOFError, OSError):
                    _end(examiner, pool)
                    crashes[done] += 1
                    if crashes[done] < CRASHES_OF_ONE_FILE:
                        again.append(done)
                    else:
                        yield done, _refused(done, CRASHED)
                    continue
                if source is BEGUN:
                    examiner.until = time.monotonic() + longest_look_s
                    continue
                if (task := _next(again, waiting)) is not None:
                    _hand(examiner, task)
                else:
                    _end(examiner, pool)
                yield done, source
            now = time.monotonic()
            for examiner in [examiner for examiner in pool if examiner.until <= now]:
                _end(examiner, pool)
                yield examiner.task, _refused(examiner.task, f"{NOT_FINISHED}{longest_look_s:g} s")
    finally:
        for examiner in list(pool):
            _end(examiner, pool)


def _next(again: deque[Task], waiting: Iterator[Task]) -> Task | None:
    return again.popleft() if again else next(waiting, None)


def _start(look: Examine, task: Task) -> _Examiner:
    context = mp.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(look, theirs), daemon=True, name="ssiforge-examiner")
    process.start()
    theirs.close()
    examiner = _Examiner(process, ours, task)
    _hand(examiner, task)
    return examiner


def _hand(examiner: _Examiner, task: Task) -> None:
    examiner.task, examiner.until = task, math.inf
    with suppress(OSError):  # it died idle; the next wait reports its end
        examiner.connection.send(task)


def _end(examiner: _Examiner, pool: list[_Examiner]) -> None:
    pool.remove(examiner)
    examiner.connection.close()
    examiner.process.kill()
    examiner.process.join()


def _refused(task: Task, reason: str) -> Source:
    size, mtime_ns = identity_of_file(task[0])
    return Source(path=task[0], kind=task[1], bytes=size, mtime_ns=mtime_ns, refused=reason)


def _serve(look: Examine, connection: Connection) -> None:
    """Body of a process: look at one file after another until the driver hangs up."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the driver, which then ends its processes
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 2)  # decoders write warnings of their own, between the driver's lines
    os.close(nothing)
    _limit_memory()
    with suppress(EOFError, BrokenPipeError):
        while True:
            task = connection.recv()
            connection.send(BEGUN)
            connection.send(look(*task))


def _limit_memory() -> None:
    """Let a decoder that asks for more be told that there is none: its file is refused, and the machine goes on."""
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    if most == resource.RLIM_INFINITY or most > MOST_MEMORY_BYTES:
        resource.setrlimit(resource.RLIMIT_DATA, (MOST_MEMORY_BYTES, most))
