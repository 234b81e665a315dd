"""A corpus that takes long enough for its rendering to be disturbed in the middle of a shard."""

import time
from pathlib import Path

from pipelines.executors import Executor
from pipelines.generation.generate import Generated, generate

BIG = 80
BIG_SEED = 7
LONG = ("seconds=4", "output.samples_per_shard=20")
"""Such a corpus takes seconds, and each shard half of one."""


def generate_big(recipe: Path, sources: Path, out: Path, executor: Executor) -> Generated:
    """Generate it, or go on with it."""
    return generate(str(recipe), sources, out, executor, samples=BIG, seed=BIG_SEED, overrides=LONG)


def wait_for_half_a_shard(out: Path) -> None:
    """Return as soon as some shard is begun and not finished."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if any(path.stat().st_size > 100_000 for path in out.rglob(".shard-*.tmp")):
            return
        time.sleep(0.005)
    raise AssertionError("no shard was begun")
