"""How fast samples are rendered: times real time a core, for the shipped recipes, with the cost of each stage.

    python benchmarks/render.py [--sources sources.parquet] [--samples 60] [--recipes urgent2024,ssi48k] [--workers]

Everything that `generate` does for a sample is in the figure: planning, reading and resampling sources, every
stage, every measurement, FLAC encoding and the record. One process, one thread; seconds are CPU seconds, which
other programs on the machine do not stretch. Simulated rooms are made before the clock starts (they are cached).

Without `--sources` the demo's synthetic material is used. With `--workers`, one and two worker processes are
compared on a whole corpus as well (wall time, on an otherwise idle machine).
"""

import argparse
import contextlib
import re
import resource
import tempfile
import threading
import time
from pathlib import Path

from datagen.environment import pin_threads

pin_threads()

from datagen.audio import flac_bytes  # noqa: E402
from datagen.chain import SampleFailed, StageClock  # noqa: E402
from datagen.degradations import BoundRecipe, bind  # noqa: E402
from datagen.plan import Material, material, plan  # noqa: E402
from datagen.render import render  # noqa: E402
from manifests.canonical import canonical_json  # noqa: E402
from manifests.catalogue import Catalogue, read_catalogue  # noqa: E402
from manifests.documents import check, load_document, with_overrides  # noqa: E402
from manifests.recipe import Recipe  # noqa: E402
from pipelines.room_bank import simulated_rooms  # noqa: E402

SEED = 1
WATCH_S = 0.2
WARM_UP_SAMPLES = 3
LONGER = 8
"""Workers are compared on a job of so many times the samples: each takes seconds to start."""
SHARDS = 64
"""Into which that job is cut, so that no worker waits long for the other at its end."""


def bound_recipe(name: str, overrides: tuple[str, ...]) -> BoundRecipe:
    document = with_overrides(load_document(name, "recipes"), overrides)
    return bind(check(Recipe, document.content, document), document)


def render_some(
    bound: BoundRecipe, pool: Material, catalogue: Catalogue, first: int, count: int
) -> StageClock:
    clock = StageClock()
    for index in range(first, first + count):
        for attempt in range(bound.recipe.limits.max_attempts):
            now = time.perf_counter()
            spec = plan(pool, bound, SEED, index, attempt)
            clock.charge("plan", now)
            try:
                rendered = render(spec, catalogue.by_sha256, clock)
            except SampleFailed:
                continue
            now = time.perf_counter()
            for audio in (rendered.degraded, rendered.target, *rendered.stems.values()):
                flac_bytes(audio, spec.bits)
            canonical_json(rendered.record.model_dump(mode="json"))
            clock.charge("encode", now)
            break
    return clock


def measure(name: str, catalogue: Catalogue, samples: int, overrides: tuple[str, ...]) -> str:
    bound = bound_recipe(name, overrides)
    catalogue = catalogue.extended(simulated_rooms(bound, None, print))
    pool = material(catalogue, bound.recipe, "train")
    render_some(bound, pool, catalogue, 10_000, WARM_UP_SAMPLES)
    began = time.process_time()
    clock = render_some(bound, pool, catalogue, 0, samples)
    seconds = time.process_time() - began
    speed = samples * bound.recipe.seconds / seconds
    print(
        f"\n{name}: {samples} samples of {bound.recipe.seconds:g} s, {1000 * seconds / samples:.1f} ms a sample"
    )
    print(f"  {'part':<16}{'ms a call':>10}{'calls':>8}{'ms a sample':>13}")
    for part, spent in sorted(clock.seconds.items(), key=lambda item: -item[1]):
        calls = clock.calls[part]
        print(f"  {part:<16}{1000 * spent / calls:>10.2f}{calls:>8}{1000 * spent / samples:>13.2f}")
    return f"{name}: {speed:.1f} x real time a core"


def compare_workers(name: str, sources: Path, samples: int, overrides: tuple[str, ...]) -> str:
    from pipelines.generate import generate
    from pipelines.local_processes import LocalProcesses

    seconds = {}
    with tempfile.TemporaryDirectory() as folder:
        for workers in (1, 2):
            smaller = (*overrides, f"output.samples_per_shard={max(1, samples // SHARDS)}")
            out = Path(folder) / str(workers)
            done = generate(name, sources, out, LocalProcesses(workers), samples, overrides=smaller)
            seconds[workers] = done.seconds
    return f"{name}: two workers {seconds[1] / seconds[2]:.2f} x one (start-up included)"


def demo_sources(folder: Path) -> Path:
    from pipelines.demo.noises import write_noises
    from pipelines.demo.voices import write_voices
    from pipelines.scan import scan

    list(write_voices(folder / "speech"))
    list(write_noises(folder / "noise"))
    scan(
        {"speech": [str(folder / "speech")], "noise": [str(folder / "noise")]},
        folder / "sources.parquet",
        workers=2,
    )
    return folder / "sources.parquet"


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


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


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sources", type=Path)
    parser.add_argument("--samples", type=int, default=60)
    parser.add_argument("--recipes", default="urgent2024,ssi48k")
    parser.add_argument("--workers", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        sources = arguments.sources or demo_sources(Path(folder))
        # Synthetic voices end at 11 kHz; the work is the same for full-band ones.
        overrides = () if arguments.sources else ("speech.min_bandwidth_hz=0",)
        catalogue = read_catalogue(sources)
        names = arguments.recipes.split(",")
        lines = [measure(name, catalogue, arguments.samples, overrides) for name in names]
        print(f"\npeak memory of this process: {_peak_mb():.0f} MB")
        if arguments.workers:
            with WorkersPeak() as workers:
                lines += [
                    compare_workers(name, sources, LONGER * arguments.samples, overrides) for name in names
                ]
            print(f"peak memory of the largest worker: {workers.mb:.0f} MB")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
