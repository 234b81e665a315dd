"""Progress of a long job: a live bar on a terminal, a plain line now and then elsewhere."""

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

PLAIN_LINE_EVERY_S = 30.0


class JobProgress:
    """Shows how far a job is. Use as a context manager; writes to stderr, so that stdout stays clean."""

    def __init__(self, label: str, total: float, unit: str) -> None:
        self._label = label
        self._total = total
        self._unit = unit
        self._done = 0.0
        self._said_of = -1.0
        self._said_at = self._began_at = time.monotonic()
        console = Console(stderr=True)
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        if console.is_terminal:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.completed:g}/{task.total:g} " + unit),
                TextColumn("{task.fields[note]}"),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
            )
            self._bar = Progress(*columns, console=console)

    def __enter__(self) -> "JobProgress":
        if self._bar is not None:
            self._bar.start()
            self._task = self._bar.add_task(self._label, total=self._total, note="")
        return self

    def advance(self, amount: float, note: str = "") -> None:
        """Say that `amount` more units are done."""
        self._done += amount
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, advance=amount, note=note)
        elif (now := time.monotonic()) - self._said_at >= PLAIN_LINE_EVERY_S:
            self._said_at = now
            self._say(note)

    def _say(self, note: str) -> None:
        elapsed = time.monotonic() - self._began_at
        line = f"{self._label}: {self._done:g} of {self._total:g} {self._unit} after {elapsed:.0f} s {note}"
        print(line.rstrip(), file=sys.stderr, flush=True)
        self._said_of = self._done

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
        elif kind is None and self._said_of != self._done:
            self._say("")
