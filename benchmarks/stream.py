"""How fast shards are read into batches: times real time a core.

    python benchmarks/stream.py [--corpus CORPUS] [--seconds 8] [--segment 4]

Reads pairs of degraded and target segments in training order, one thread, batches of 16, as the trainer does
without its read-ahead. "Times real time" counts seconds of samples delivered, a pair counting once. Without
`--corpus`, one of synthetic voices is generated first.
"""

import argparse
import tempfile
import time
from pathlib import Path

from datagen.environment import pin_threads

pin_threads()

from manifests.corpus import open_corpus  # noqa: E402
from training.shards import Reader  # noqa: E402
from training.stream import SampleStream  # noqa: E402

BATCH_SIZE = 16


def demo_corpus(folder: Path) -> Path:
    from pipelines.built_in.noises import write_noises
    from pipelines.built_in.voices import write_voices
    from pipelines.generation.generate import generate
    from pipelines.generation.local_processes import LocalProcesses
    from pipelines.scanning.scan import scan

    list(write_voices(folder / "speech"))
    list(write_noises(folder / "noise"))
    sources = folder / "sources.parquet"
    scan({"speech": [str(folder / "speech")], "noise": [str(folder / "noise")]}, sources, workers=2)
    plain = ("seconds=10", "rooms=null", "stages=[{stage: noise}, {stage: final_level}]")
    generate("demo", sources, folder / "corpus", LocalProcesses(2), samples=80, overrides=plain)
    return folder / "corpus"


def measure(root: Path, seconds: float, segment_s: float) -> float:
    corpus = open_corpus(root)
    reader = Reader(corpus, "train")
    with SampleStream(reader, seed=1, batch_size=BATCH_SIZE, segment_s=segment_s) as batches:
        next(batches)
        delivered = 0.0
        began = time.process_time()
        while time.process_time() - began < seconds:
            delivered += next(batches).degraded.numel() / 48_000
        return delivered / (time.process_time() - began)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--corpus", type=Path)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--segment", type=float, default=4.0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = arguments.corpus or demo_corpus(Path(folder))
        whole_s = open_corpus(root).manifest.frames_per_sample / 48_000
        for label, segment_s in (("segments", arguments.segment), ("whole samples", whole_s)):
            speed = measure(root, arguments.seconds / 2, segment_s)
            print(f"stream, {label} of {segment_s:g} s: {speed:.0f} x real time a core")


if __name__ == "__main__":
    main()
