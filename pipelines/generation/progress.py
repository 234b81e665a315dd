"""How far a generation is: a live view on a terminal, plain lines elsewhere, and `progress.json` for machines."""

import json
import sys
import threading
import time
from collections import Counter, deque
from contextlib import suppress
from dataclasses import InitVar, dataclass, field
from typing import Any, Literal

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from manifests.corpus import PROGRESS_FILE
from manifests.store import Store
from pipelines.corpus.ledger import Ledger
from pipelines.corpus.shard_result import Lost
from pipelines.executors import Outcome

PLAIN_LINE_EVERY_S = 30.0
WRITTEN_EVERY_S = 5.0
"""`progress.json`; in an object store as rarely as plain lines, since each time is a request."""
RATE_OVER_S = 120.0
"""Speed and remaining time are those of the last so many seconds: what was long ago says nothing of them."""
LOOKED_EVERY_S = 1.0
"""At the counts, for that: thousands of shards may end in a second."""
SHOWN_REASONS = 4
SHOWN_STAGES = 8

State = Literal["running", "interrupted", "failed", "finished"]


@dataclass
class Progress:
    """Counts of one run of a job."""

    samples: int
    """In the whole corpus."""
    seconds_each: float
    """Length of a sample."""
    shards: int
    """Likewise."""
    ledger: InitVar[Ledger]
    """What is there already."""
    job: str = "generate"
    has_speed: bool = True
    """Whether a line says how fast it is: not where samples are copied."""
    kept_samples: int = field(init=False)
    kept_shards: int = field(init=False)
    shards_done: int = 0
    """In this run."""
    samples_done: int = 0
    """In this run."""
    failures: Counter[str] = field(default_factory=Counter)
    """Failed draws of this run by kind."""
    lost: Counter[str] = field(default_factory=Counter)
    """Shards that were given up, by reason."""
    stage_seconds: Counter[str] = field(default_factory=Counter)
    """Time of workers by stage and part."""
    _began: float = field(init=False)
    _recent: deque[tuple[float, int]] = field(default_factory=deque)
    _lock: threading.RLock = field(default_factory=threading.RLock)
    """A view may be drawn while a shard is being counted."""

    def __post_init__(self, ledger: Ledger) -> None:
        self._began = time.monotonic()
        self.kept_samples, self.kept_shards = ledger.tally.samples.total(), len(ledger)

    def count(self, outcome: Outcome) -> None:
        """Count what became of a shard."""
        with self._lock:
            self._count(outcome)

    def _count(self, outcome: Outcome) -> None:
        if isinstance(outcome, Lost):
            self.lost[outcome.reason] += 1
            return
        self.shards_done += 1
        self.samples_done += outcome.tally.samples.total()
        self.failures.update(outcome.tally.failures)
        self.stage_seconds.update(outcome.seconds)
        now = time.monotonic()
        if not self._recent or now - self._recent[-1][0] >= LOOKED_EVERY_S:
            self._recent.append((now, self.samples_done))
        while len(self._recent) > 1 and self._recent[1][0] < now - RATE_OVER_S:
            self._recent.popleft()

    @property
    def elapsed_s(self) -> float:
        """Since the run began."""
        return time.monotonic() - self._began

    @property
    def samples_a_second(self) -> float:
        """Of late; workers end shards in bursts, so all of the run counts until it has lasted for a while."""
        now = time.monotonic()
        if now - self._began < RATE_OVER_S:
            return self.samples_done / max(now - self._began, 1e-9)
        since, before = self._recent[0] if self._recent else (self._began, 0)
        return (self.samples_done - before) / max(now - since, 1e-9)

    @property
    def left_s(self) -> float | None:
        """Time that the rest will take at this speed; None before anything is known."""
        rate = self.samples_a_second
        return (self.samples - self.kept_samples - self.samples_done) / rate if rate else None

    def plain(self, state: State) -> dict[str, Any]:
        """Return everything for a machine."""
        with self._lock:
            return self._plain(state)

    def _plain(self, state: State) -> dict[str, Any]:
        hours = self.seconds_each / 3600.0
        left_s = self.left_s if state == "running" else None
        return {
            "state": state,
            "samples": self.samples,
            "samples_done": self.kept_samples + self.samples_done,
            "hours": round(self.samples * hours, 6),
            "hours_done": round((self.kept_samples + self.samples_done) * hours, 6),
            "shards": self.shards,
            "shards_done": self.kept_shards + self.shards_done,
            "elapsed_s": round(self.elapsed_s, 3),
            "left_s": None if left_s is None else round(left_s, 1),
            "x_real_time": round(self.samples_a_second * self.seconds_each, 2),
            "failures": dict(self.failures.most_common()),
            "lost_shards": dict(self.lost.most_common()),
            "stage_seconds": {name: round(s, 3) for name, s in self.stage_seconds.most_common()},
        }

    def line(self) -> str:
        """Return everything that fits a line."""
        now = self.plain("running")
        parts = [_hours(now["hours_done"], now["hours"])]
        if self.has_speed:
            parts.append(f"{now['x_real_time']:.0f} x real time")
        if now["left_s"] is not None:
            parts.append(f"{_clock(now['left_s'])} left")
        parts.append(f"{self.failures.total()} draws replaced")
        if self.lost:
            parts.append(f"{self.lost.total()} shards given up")
        return f"{self.job}: {', '.join(parts)} after {_clock(self.elapsed_s)}"


def _hours(done: float, total: float) -> str:
    if total < 1.0 / 60.0:
        return f"{3600.0 * done:.0f} of {3600.0 * total:.0f} s"
    if total < 1.0:
        return f"{60.0 * done:.1f} of {60.0 * total:.1f} min"
    return f"{done:.2f} of {total:.2f} h"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


class ProgressView:
    """Shows and writes progress while a job runs, from a thread of its own. Use as a context manager."""

    def __init__(self, progress: Progress, store: Store) -> None:
        self._progress = progress
        self._store = store
        self._written_every_s = WRITTEN_EVERY_S if store.folder else PLAIN_LINE_EVERY_S
        self._ended = threading.Event()
        self._ticking = threading.Thread(target=self._tick, daemon=True)
        console = Console(stderr=True)
        self._live = Live(console=console, get_renderable=self._view) if console.is_terminal else None

    def __enter__(self) -> "ProgressView":
        if self._live is not None:
            self._live.start()
        self._ticking.start()
        return self

    def _tick(self) -> None:
        said_at = written_at = time.monotonic()
        while not self._ended.wait(0.5):
            now = time.monotonic()
            if self._live is None and now - said_at >= PLAIN_LINE_EVERY_S:
                said_at = now
                print(self._progress.line(), file=sys.stderr, flush=True)
            if now - written_at >= self._written_every_s:
                written_at = now
                write_progress(self._progress, self._store, "running")

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self._ended.set()
        self._ticking.join()
        if self._live is not None:
            self._live.stop()
        elif kind is None:
            print(self._progress.line(), file=sys.stderr, flush=True)

    def _view(self) -> Group:
        progress = self._progress
        done = progress.kept_samples + progress.samples_done
        head = Table.grid(padding=(0, 1))
        head.add_row(ProgressBar(total=progress.samples, completed=done, width=40), Text(progress.line()))
        return Group(head, self._costs(), *self._reasons())

    def _costs(self) -> Table:
        spent = self._progress.stage_seconds
        total = spent.total() or 1.0
        table = Table("stage", "time", "share", box=None, pad_edge=False, header_style="dim")
        for name, seconds in spent.most_common(SHOWN_STAGES):
            table.add_row(name, f"{seconds:.1f} s", f"{100.0 * seconds / total:.0f} %")
        return table

    def _reasons(self) -> list[Text]:
        shown = [
            f"{count} x {reason}" for reason, count in self._progress.failures.most_common(SHOWN_REASONS)
        ]
        shown += [
            f"{count} shards given up: {reason}" for reason, count in self._progress.lost.most_common(2)
        ]
        return [Text(line, style="yellow", overflow="ellipsis", no_wrap=True) for line in shown]


def write_progress(progress: Progress, store: Store, state: State) -> None:
    """Write `progress.json`. A place that cannot be written does not fail the job here: its shards will say it."""
    with suppress(OSError):
        store.write(PROGRESS_FILE, json.dumps(progress.plain(state), indent=2).encode() + b"\n")
