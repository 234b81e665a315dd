"""How fast fresh samples come, beside reading the same samples from shards: samples a second.

    python benchmarks/online.py [--recipe ssi48k] [--sources sources.parquet] [--samples 60] [--workers 1]

Three figures, each for stretches of 4 s: what a renderer does alone (CPU seconds, which other programs do not stretch),
what arrives in training order through processes (seconds of the clock), and what one thread reads from shards that
`generate` wrote of the same recipe (CPU seconds). Without `--sources` the demo's synthetic material is used.
"""

import argparse
import tempfile
import time
from pathlib import Path

from datagen.environment import pin_threads

pin_threads()

from demo_material import ANY_BANDWIDTH, demo_sources  # noqa: E402

from datagen.degradations import bind  # noqa: E402
from manifests.corpus import open_corpus  # noqa: E402
from manifests.documents import check, load_document, with_overrides  # noqa: E402
from manifests.recipe import Recipe  # noqa: E402
from pipelines.corpus.folder import recipe_yaml  # noqa: E402
from pipelines.generation.generate import generate  # noqa: E402
from pipelines.generation.local_processes import LocalProcesses  # noqa: E402
from pipelines.online.online import OnlineRequest, Prepared, prepare  # noqa: E402
from pipelines.online.worker import OnlineJob, sample_task  # noqa: E402
from training.shards import Reader  # noqa: E402
from training.stream import SampleStream  # noqa: E402

BATCH_SIZE = 4
SEGMENT_S = 4.0
FRAMES = round(SEGMENT_S * 48_000)
WARM_UP_SAMPLES = 3
READ_SAMPLES = 400


def recipe_file(name: str, overrides: tuple[str, ...], folder: Path) -> Path:
    document = with_overrides(load_document(name, "recipes"), overrides)
    path = folder / "recipe.yaml"
    path.write_bytes(recipe_yaml(bind(check(Recipe, document.content, document), document)))
    return path


def rendered_alone(prepared: Prepared, run_dir: Path, samples: int) -> float:
    with prepared.rendering(run_dir, 1) as online:
        loaded = OnlineJob(online.place, prepared.record.seed).load()
    for index in range(WARM_UP_SAMPLES):
        loaded.render(sample_task("train", samples + index, 0, FRAMES), frozenset(), lambda *draw: None)
    began = time.process_time()
    for index in range(samples):
        loaded.render(sample_task("train", index, 0, FRAMES), frozenset(), lambda *draw: None)
    return samples / (time.process_time() - began)


def arriving(prepared: Prepared, run_dir: Path, samples: int, workers: int) -> float:
    with (
        prepared.rendering(run_dir, workers) as online,
        SampleStream(online.source("train"), 1, BATCH_SIZE, SEGMENT_S, threads=2) as stream,
    ):
        for _ in range(3):  # until every process has loaded, and what it made meanwhile is taken
            next(stream)
        began = time.perf_counter()
        for _ in range(samples // BATCH_SIZE):
            next(stream)
        return samples // BATCH_SIZE * BATCH_SIZE / (time.perf_counter() - began)


def read_from_shards(corpus: Path) -> float:
    with SampleStream(Reader(open_corpus(corpus), "train"), 1, BATCH_SIZE, SEGMENT_S) as stream:
        next(stream)
        began = time.process_time()
        for _ in range(READ_SAMPLES // BATCH_SIZE):
            next(stream)
        return READ_SAMPLES / (time.process_time() - began)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--recipe", default="ssi48k")
    parser.add_argument("--sources", type=Path)
    parser.add_argument("--samples", type=int, default=60)
    parser.add_argument("--workers", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sources = arguments.sources or demo_sources(folder)
        recipe = recipe_file(arguments.recipe, () if arguments.sources else ANY_BANDWIDTH, folder)
        prepared = prepare(OnlineRequest(str(recipe), sources, seed=1), None, False, print)
        alone = rendered_alone(prepared, folder / "alone", arguments.samples)
        through = arriving(prepared, folder / "run", arguments.samples, arguments.workers)
        generate(str(recipe), sources, folder / "corpus", LocalProcesses(2), samples=40, seed=1)
        shards = read_from_shards(folder / "corpus")
        seconds = prepared.bound.recipe.seconds
    print(
        f"renderer alone: {alone:.1f} samples of {seconds:g} s a second, {alone * seconds:.0f} x real time a core"
    )
    print(f"through {arguments.workers} processes: {through:.1f} samples a second of the clock")
    print(f"shards: {shards:.0f} stretches of {SEGMENT_S:g} s a second and thread")
    print(f"online: {alone:.1f} samples a second a worker, 1/{shards / alone:.0f} of reading shards")


if __name__ == "__main__":
    main()
