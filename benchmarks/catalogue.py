"""What a large catalogue costs: to make ready, to open again, and in the memory of a process that plans from it.

    python benchmarks/catalogue.py [--rows 10000000] [--samples 1000] [--recipe ssi48k]

A made-up catalogue (96 % speech of a talker in a hundred rows, 3.5 % noise, 0.5 % impulse responses) is written to a
temporary folder, which needs about 650 bytes a row. Each step then runs in a process of its own, beside the same step
on a catalogue of 1,000 rows:

- first: `read_catalogue` where nothing is cached: what the first process on a machine does;
- again: `read_catalogue` where the arrays are there, then choosing what the recipe admits, then the plans.

Memory is counted three ways, in MB: `private` is what this process alone takes (RssAnon, its highest value seen
between plans), `peak` is VmHWM, which counts mapped pages of the catalogue as well, although all processes share
them and the system may drop them. Seconds are wall time.
"""

import argparse
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from datagen.degradations import bind
from datagen.plan import material, plan
from manifests.catalogue import read_catalogue, write_catalogue
from manifests.documents import check, load_document
from manifests.recipe import Recipe
from manifests.source import Source

SMALL_ROWS = 1_000
SPEECH_SHARE, NOISE_SHARE = 0.96, 0.035
ROWS_A_TALKER, ROWS_A_ROOM = 100, 8
LOOKED_AT_SAMPLES = 20


def made_up(rows: int) -> Iterator[Source]:
    """Yield a catalogue's rows in its order."""
    noises, speech = max(20, round(NOISE_SHARE * rows)), round(SPEECH_SHARE * rows)
    responses = max(20, rows - noises - speech)
    rng = np.random.default_rng(1)
    for kind, count in (("noise", noises), ("rir", responses), ("speech", speech)):
        for number in range(count):
            seconds, level = rng.random(2).tolist()
            yield _row(kind, number, count, seconds, level)


def _row(kind: str, number: int, count: int, seconds: float, level: float) -> Source:
    # Hashes rise with the number, as the order of a catalogue wants; talkers and rooms are spread over them.
    sha256 = f"{(number << 64) // count:016x}{hashlib.md5(f'{kind}{number}'.encode()).hexdigest()}{0:016x}"
    frames = round((1.0 + 14.0 * seconds) * 48_000)
    group = number % max(1, count // (ROWS_A_ROOM if kind == "rir" else ROWS_A_TALKER))
    return Source(
        path=f"/data/{kind}/part-{number % 97:02d}/{group:07d}/{sha256[:16]}.flac",
        kind=kind,
        sha256=sha256,
        bytes=2 * frames,
        mtime_ns=1_700_000_000_000_000_000 + number,
        rate_hz=48_000,
        channels=1,
        frames=frames,
        seconds=frames / 48_000,
        bandwidth_hz=round(24_000.0 - 8_000.0 * level**4, 1),
        active_level_dbfs=round(-40.0 + 25.0 * level, 3),
        clipped_share=0.0,
        dc_offset=0.0,
        silence_share=0.1,
        speaker=f"talker-{group:07d}" if kind == "speech" else None,
        recording=f"recording-{number:07d}" if kind == "noise" else None,
        room=f"room-{group:07d}" if kind == "rir" else None,
        direct_path_frame=480 if kind == "rir" else None,
        rt60_s=round(0.2 + level, 3) if kind == "rir" else None,
        drr_db=3.0 if kind == "rir" else None,
        licence="CC0-1.0",
        split=("val" if group % 20 == 1 else "test") if group % 20 in (1, 2) else "train",
    )


def first(path: Path) -> dict[str, float]:
    """Make a catalogue ready."""
    began = time.perf_counter()
    read_catalogue(path)
    return {"first_s": time.perf_counter() - began, "peak_mb": _status_mb("VmHWM")}


def again(path: Path, recipe: str, samples: int) -> dict[str, float]:
    """Open it and plan."""
    document = load_document(recipe, "recipes")
    bound = bind(check(Recipe, document.content, document), document)
    began = time.perf_counter()
    catalogue = read_catalogue(path)
    opened = time.perf_counter()
    pool = material(catalogue, bound.recipe, "train")
    plan(pool, bound, 1, samples)
    chosen = time.perf_counter()
    private_mb = _status_mb("RssAnon")
    for index in range(samples):
        spec = plan(pool, bound, 1, index)
        for clip in spec.clips:
            assert catalogue.by_sha256[clip.sha256].sha256 == clip.sha256
        if index % LOOKED_AT_SAMPLES == 0:
            private_mb = max(private_mb, _status_mb("RssAnon"))
    planned = time.perf_counter()
    return {
        "open_s": opened - began,
        "choose_s": chosen - opened,
        "plans_a_second": samples / (planned - chosen),
        "private_mb": private_mb,
        "peak_mb": _status_mb("VmHWM"),
        "pyarrow": float("pyarrow" in sys.modules),
    }


def _status_mb(field: str) -> float:
    found = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) / 1024 if found else float("nan")


def in_a_process(folder: Path, *arguments: object) -> dict[str, float]:
    environment = os.environ | {"SSIFORGE_CACHE": str(folder / "cache")}
    command = [sys.executable, __file__, *map(str, arguments)]
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE)
    measured: dict[str, float] = json.loads(done.stdout)
    return measured


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--samples", type=int, default=1_000)
    parser.add_argument("--recipe", default="ssi48k")
    parser.add_argument("--step", choices=("first", "again"), help=argparse.SUPPRESS)
    parser.add_argument("--path", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.step:
        path, recipe, samples = arguments.path, arguments.recipe, arguments.samples
        print(json.dumps(first(path) if arguments.step == "first" else again(path, recipe, samples)))
        return
    measured: dict[int, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for rows in (SMALL_ROWS, arguments.rows):
            path = folder / f"{rows}.parquet"
            began = time.perf_counter()
            write_catalogue(made_up(rows), path)
            print(
                f"{rows:,} rows written in {time.perf_counter() - began:.1f} s, {_mb(path):.0f} MB",
                flush=True,
            )
            cold = in_a_process(folder, "--step", "first", "--path", path)
            print(f"  first: {cold['first_s']:.2f} s, peak {cold['peak_mb']:.0f} MB", flush=True)
            steps = ("--step", "again", "--path", path, "--samples", arguments.samples)
            warm = measured[rows] = in_a_process(folder, *steps, "--recipe", arguments.recipe)
            print(
                f"  again: open {warm['open_s']:.3f} s, choose {warm['choose_s']:.3f} s, "
                f"{warm['plans_a_second']:.0f} plans/s, private {warm['private_mb']:.0f} MB, "
                f"peak {warm['peak_mb']:.0f} MB{', with pyarrow' if warm['pyarrow'] else ''}",
                flush=True,
            )
        arrays = sum(map(_mb, (folder / "cache").rglob("*.arrays")))
        print(f"  arrays: {arrays:.0f} MB, mapped by all processes of a machine")
    more = measured[arguments.rows]["private_mb"] - measured[SMALL_ROWS]["private_mb"]
    print(f"catalogue of {arguments.rows:,} rows: {more:.1f} MB more a worker than one of {SMALL_ROWS:,}")


def _mb(path: Path) -> float:
    return path.stat().st_size / 2**20


if __name__ == "__main__":
    main()
