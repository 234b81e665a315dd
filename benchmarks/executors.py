"""One worker, two, and Ray on the same job: whole corpora, one after another on an otherwise idle machine.

    python benchmarks/executors.py [--sources sources.parquet] [--hours 1] [--recipes ssi48k] [--runs 3]

Start-up is what a corpus of one short sample a worker takes: processes, imports, catalogue, Ray. It is stated apart,
and rates are given with and without it. Executors take turns, so that a machine whose speed drifts drifts for all of
them; medians of `--runs` are compared. What Ray's own processes take of the two cores is part of its figure.
"""

import argparse
import contextlib
import re
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from datagen.environment import pin_threads

pin_threads()

from demo_material import ANY_BANDWIDTH, demo_sources  # noqa: E402

from pipelines.executors import Executor  # noqa: E402
from pipelines.generation.generate import generate  # noqa: E402
from pipelines.generation.local_processes import LocalProcesses  # noqa: E402
from pipelines.generation.ray_tasks import RayTasks  # noqa: E402

WATCH_S = 0.2
SHARDS = 64
"""Into which a job is cut, so that no worker waits long for the other at its end."""
EXECUTORS: dict[str, tuple[Callable[[], Executor], int]] = {
    "one worker": (lambda: LocalProcesses(1), 1),
    "two workers": (lambda: LocalProcesses(2), 2),
    "ray": (lambda: RayTasks(cpus=2), 2),
}
TINY = ("seconds=0.5", "splits.train=1", "splits.val=0", "splits.test=0", "output.samples_per_shard=1")


class WorkersPeak:
    """Largest resident size that any worker process has had: of Linux, 0 elsewhere.

    `getrusage` of children would do, but counts what this process held when it forked them.
    """

    def __init__(self) -> None:
        self.mb = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "WorkersPeak":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(WATCH_S):
            for children in Path("/proc/self/task").glob("*/children"):
                for pid in children.read_text().split():
                    with contextlib.suppress(OSError):
                        self._note(Path(f"/proc/{pid}"))

    def _note(self, process: Path) -> None:
        if b"spawn_main" in (process / "cmdline").read_bytes():
            peak = re.search(r"VmHWM:\s+(\d+) kB", (process / "status").read_text())
            self.mb = max(self.mb, int(peak[1]) / 1024 if peak else 0.0)


def seconds_of(
    name: str, recipe: str, sources: Path, hours: float | None, overrides: tuple[str, ...]
) -> float:
    """Generate one corpus; None hours for the one that only shows what starting takes."""
    make, workers = EXECUTORS[name]
    with tempfile.TemporaryDirectory() as folder:
        began = time.monotonic()
        if hours is None:
            generate(
                recipe, sources, Path(folder) / "c", make(), samples=workers, overrides=(*overrides, *TINY)
            )
        else:
            generate(recipe, sources, Path(folder) / "c", make(), hours=hours, overrides=overrides)
        return time.monotonic() - began


def compare(recipe: str, sources: Path, hours: float, overrides: tuple[str, ...], runs: int) -> str:
    """Run all executors in turn; print a table and return a line of ratios."""
    samples = hours * 360
    smaller = (*overrides, f"output.samples_per_shard={max(1, round(samples / SHARDS))}")
    starts: dict[str, list[float]] = {name: [] for name in EXECUTORS}
    wholes: dict[str, list[float]] = {name: [] for name in EXECUTORS}
    seconds_of("one worker", recipe, sources, None, overrides)  # rooms are simulated, files are cached
    for _ in range(runs):
        for name in EXECUTORS:
            starts[name].append(seconds_of(name, recipe, sources, None, overrides))
            wholes[name].append(seconds_of(name, recipe, sources, hours, smaller))
    start = {name: statistics.median(values) for name, values in starts.items()}
    whole = {name: statistics.median(values) for name, values in wholes.items()}
    print(f"\n{recipe}, {hours:g} h, medians of {runs}:")
    for name in EXECUTORS:
        rendering = whole[name] - start[name]
        print(
            f"  {name:12} start-up {start[name]:5.1f} s, rendering {rendering:6.1f} s "
            f"({hours * 3600 / rendering:.0f} x real time), together {whole[name]:6.1f} s"
        )
    alone, two, ray = (whole[name] - start[name] for name in EXECUTORS)
    return (
        f"{recipe}: two workers {alone / two:.2f} x one "
        f"({whole['one worker'] / whole['two workers']:.2f} with start-up); "
        f"ray takes {ray / two:.2f} x the time of two workers "
        f"({whole['ray'] / whole['two workers']:.2f} with start-up)"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sources", type=Path)
    parser.add_argument("--hours", type=float, default=1.0)
    parser.add_argument("--recipes", default="ssi48k")
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, WorkersPeak() as workers:
        sources = arguments.sources or demo_sources(Path(folder))
        overrides = () if arguments.sources else ANY_BANDWIDTH
        lines = [
            compare(name, sources, arguments.hours, overrides, arguments.runs)
            for name in arguments.recipes.split(",")
        ]
    print(f"\npeak memory of the largest local worker: {workers.mb:.0f} MB")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
