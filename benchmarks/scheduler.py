"""How many shards can a driver hand out, how much memory does it take, and how fast does it see what is done?

    python benchmarks/scheduler.py                  # 100,000 shards on each executor: some minutes
    python benchmarks/scheduler.py --shards 5000    # quicker

Workers render nothing: they answer at once with the report of a real shard of 32 samples, so all that is measured is
the driver of `ssiforge generate`: handing out, counting, entering into the ledger. Then records as real ones are laid
down for all shards, and the driver decides what is missing. Last it is said what this means for 100,000 hours.
"""

import argparse
import json
import os
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

# Ray's workers import the job from here.
os.environ["PYTHONPATH"] = os.pathsep.join(
    [str(Path(__file__).resolve().parent), os.environ.get("PYTHONPATH", "")]
)

from datagen.environment import pin_threads

pin_threads()

from demo_material import ANY_BANDWIDTH, demo_sources  # noqa: E402
from no_rendering import SAMPLES_PER_SHARD, NoRendering, report  # noqa: E402

from manifests.recipe import Limits  # noqa: E402
from manifests.store import open_store  # noqa: E402
from pipelines.corpus.ledger import Ledger  # noqa: E402
from pipelines.corpus.outstanding import Shards, finished_shards  # noqa: E402
from pipelines.executors import Executor, InProcess, Outcome  # noqa: E402
from pipelines.generation.generate import generate, render_missing  # noqa: E402
from pipelines.generation.local_processes import LocalProcesses  # noqa: E402
from pipelines.generation.progress import Progress  # noqa: E402
from pipelines.generation.ray_tasks import RayTasks  # noqa: E402

SECONDS_EACH = 10.0
MOMENTS = 10
"""How often memory is looked at."""
HOURS, CORES = 100_000, 1_000
X_REAL_TIME = 70.0
"""Of one core with recipe ssi48k on compressed recordings, as `benchmarks/render.py --sources` prints it."""
LARGER_SHARD = 256


def memory_mib() -> float:
    """Resident memory of this process that no file backs."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) / 1024.0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0


def all_shards(count: int) -> Shards:
    return Shards(({"train": count * SAMPLES_PER_SHARD},), SAMPLES_PER_SHARD, "benchmark")


class Watched:
    """An executor whose driver's memory is looked at now and then."""

    def __init__(self, executor: Executor, every: int) -> None:
        self.shares_disk = True
        self.memory_mib: list[float] = []
        self.first_at = 0.0
        self._executor = executor
        self._every = every

    def run(self, job, tasks) -> Iterator[Outcome]:  # type: ignore[no-untyped-def]
        for number, outcome in enumerate(self._executor.run(job, tasks)):
            if number == 0:
                self.first_at = time.monotonic()
            if number % self._every == 0:
                self.memory_mib.append(memory_mib())
            yield outcome


def measured(name: str, executor: Executor, template: str, count: int, folder: Path) -> tuple[float, float]:
    """Run the driver; print tasks a second, return them and how much memory grew in the second half, in MiB a shard."""
    watched = Watched(executor, max(1, count // MOMENTS))
    with Ledger() as ledger:
        shards = all_shards(count)
        progress = Progress(count * SAMPLES_PER_SHARD, SECONDS_EACH, count, ledger)
        began = time.monotonic()
        lost = render_missing(
            watched, NoRendering(template), shards, ledger, progress, open_store(folder), Limits(), print
        )
        took = time.monotonic() - watched.first_at
        assert not lost and len(ledger) == count
        rate = (count - 1) / took
        memory = ", ".join(f"{mib:.0f}" for mib in watched.memory_mib)
        print(f"{name}: {rate:.0f} tasks/s, first answer after {watched.first_at - began:.1f} s")
        print(f"  driver's memory in MiB, in {MOMENTS} equal steps: {memory}")
    half = len(watched.memory_mib) // 2
    return rate, max(0.0, watched.memory_mib[-1] - watched.memory_mib[half]) / max(1, count // 2)


def lay_down(folder: Path, template: str, count: int) -> None:
    """Write tars and records as real ones, each with its own plan digest; tars take no room on the disk."""
    store = open_store(template)
    content = json.loads(store.read("train/shard-000000.json"))
    tail = store.read("train/shard-000000.json")
    tail = tail[tail.index(b',"samples":') :]
    head = {key: value for key, value in content.items() if key < "samples"}
    (folder / "train").mkdir()
    for task in all_shards(count):
        head["name"], head["plan_digest"] = task.name, task.plan_digest
        text = json.dumps(head, sort_keys=True, separators=(",", ":"))
        (folder / task.record_name).write_bytes(text[:-1].encode() + tail)
        with (folder / task.tar_name).open("wb") as stream:
            stream.truncate(head["bytes"])


def real_shard(folder: Path) -> str:
    """Render one shard of the default recipe on the demo's material."""
    sources = demo_sources(folder)
    only_train = ("splits.train=1", "splits.val=0", "splits.test=0")
    out = folder / "template"
    overrides = (*only_train, *ANY_BANDWIDTH, "rooms.count=4")
    generate("ssi48k", sources, out, InProcess(), SAMPLES_PER_SHARD, overrides=overrides)
    return str(out)


def predict(rates: dict[str, float], mib_a_shard: float) -> None:
    """Say what the numbers mean for a large job, with the arithmetic."""
    samples = HOURS * 3600.0 / SECONDS_EACH
    wall_h = HOURS / (X_REAL_TIME * CORES)
    print(f"\n{HOURS:,} hours on {CORES:,} cores at {X_REAL_TIME:.0f} x real time a core:")
    print(f"  {HOURS:,} h / ({X_REAL_TIME:.0f} x {CORES:,}) = {wall_h:.2f} h of rendering")
    for size in (SAMPLES_PER_SHARD, LARGER_SHARD):
        shards = samples / size
        needed = shards / (wall_h * 3600.0)
        print(
            f"  {samples:,.0f} samples / {size} a shard = {shards:,.0f} shards; / {wall_h * 3600.0:,.0f} s "
            f"= {needed:.0f} tasks/s, {100.0 * needed / rates['ray']:.0f} % of what the driver does with Ray; "
            f"{shards * mib_a_shard:.0f} MiB more memory"
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shards", type=int, default=100_000)
    parser.add_argument("--executors", default="local,ray")
    options = parser.parse_args()
    count: int = options.shards
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        template = real_shard(folder)
        print(
            f"{count:,} shards; {os.cpu_count()} cores; a report holds {len(report(template).packed):,} bytes"
        )
        executors = {"local": LocalProcesses(2), "ray": RayTasks(cpus=2)}
        rates, grown = {}, 0.0
        for name in options.executors.split(","):
            rates[name], grown = measured(name, executors[name], template, count, folder)
        lay_down(folder, template, count)
        began = time.monotonic()
        finished = finished_shards(open_store(folder), all_shards(count))
        took = time.monotonic() - began
        assert len(finished) == count
        print(
            f"deciding what to skip, all {count:,} shards done: {took:.1f} s (target 10); {memory_mib():.0f} MiB"
        )
        if "ray" in rates:
            predict(rates, grown)
        print("\nscheduler: " + ", ".join(f"{name} {rate:.0f} tasks/s" for name, rate in rates.items()))


if __name__ == "__main__":
    main()
