"""How long it takes to write what lies beside the shards of a corpus, and how large it is.

    python benchmarks/companions.py [--corpus CORPUS] [--samples 100000] [--shards 30000]

Without `--corpus`, the tables of a corpus of so many samples are made up, like those of `ssi48k` in columns and kinds
of value; no audio is. Each file is written twice: the first time pays for imports.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from manifests.canonical import canonical_json, digest
from manifests.corpus import (
    PLAN_FILE,
    SAMPLES_FILE,
    SOURCES_FILE,
    CorpusManifest,
    Member,
    SampleEntry,
    ShardRecord,
    read_manifest,
)
from manifests.folder import Folder
from manifests.sample import AXES
from manifests.source import Source
from manifests.store import Store, open_store
from pipelines.corpus.companions import COMPANIONS
from pipelines.corpus.openlineage import write_lineage
from pipelines.corpus.table import Row, kinds_of, write_table
from pipelines.openlineage.log import LINEAGE_FILE

STAGES = [f"stage{number}" for number in range(40)]
STAGES_EACH = 7
TALKERS = 500
SOURCES = 10_000


def made_up(folder: Path, samples: int, shards: int) -> tuple[Store, CorpusManifest]:
    from manifests.catalogue import Catalogue, write_catalogue

    rng = np.random.default_rng(1)
    hashes = [digest(number) * 2 for number in range(SOURCES)]
    names = [f"train/shard-{number:06d}.tar" for number in range(shards)]
    rows = [_row(rng, index, names[index * shards // samples], hashes) for index in range(samples)]
    write_table(folder / SAMPLES_FILE, rows, kinds_of(rows))
    catalogue = Catalogue(
        Source(f"/speech/{sha256}.flac", "speech", sha256, bytes=10**6, licence="CC-BY-4.0", split="train")
        for sha256 in hashes
    )
    write_catalogue(catalogue.usable, folder / SOURCES_FILE)
    (folder / PLAN_FILE).write_bytes(canonical_json({"steps": [{"train": samples}]}))
    members = {name: Member(offset=512, bytes=1) for name in ("degraded.flac", "json", "target.flac")}
    entry = SampleEntry(key="train-00000000", index=0, attempt=0, spec_digest="0" * 32, members=members)
    record = ShardRecord(
        name="shard-000000",
        split="train",
        plan_digest="0" * 32,
        sha256="0" * 64,
        bytes=1,
        frames_per_sample=480_000,
        samples=(entry,),
        environment={},
    )
    (folder / "train").mkdir()
    (folder / record.record_name).write_bytes(canonical_json(record.model_dump(mode="json")))
    manifest = CorpusManifest(
        id="0" * 32,
        recipe="made-up",
        recipe_digest="1" * 32,
        catalogue_digest=catalogue.digest,
        seed=1,
        code_version="0",
        sample_rate_hz=48_000,
        frames_per_sample=480_000,
        samples={"train": samples},
        hours=samples / 360,
        shards=dict.fromkeys(names, "0" * 64),
        splits={"train": {"speakers": TALKERS}},
        licences={"CC-BY-4.0": samples},
        stages={label: {"asked": 0.2, "drawn": 0.2} for label in STAGES},
        failures={},
        environment={},
        timings={},
    )
    return Folder(folder), manifest


def _row(rng: np.random.Generator, index: int, shard: str, hashes: list[str]) -> Row:
    stages = [STAGES[place] for place in sorted(rng.choice(len(STAGES), STAGES_EACH, replace=False))]
    values = iter(rng.standard_normal(80).round(4).tolist())
    return {
        "key": f"train-{index:08d}",
        "split": "train",
        "index": index,
        "attempt": 0,
        "shard": shard,
        "seconds": 10.0,
        "speaker": f"talker {rng.integers(TALKERS)}",
        "aligned": True,
        "target": "dry",
        "licences": ["CC-BY-4.0", "CC0-1.0"],
        "source_sha256": [hashes[place] for place in rng.integers(SOURCES, size=3)],
        "stages": stages,
        **{f"measured.value{number}": next(values) for number in range(14)},
        **{f"severity.{axis}": next(values) for axis in AXES},
        **{f"{label}.value{number}": next(values) for label in stages for number in range(8)},
    }


def measure(store: Store, manifest: CorpusManifest) -> float:
    """Write each file twice, say how long it took, and return the seconds of the second time."""
    total = 0.0
    print(f"{sum(manifest.samples.values())} samples, {len(manifest.shards)} shards")
    writers = {**COMPANIONS, (LINEAGE_FILE,): write_lineage}
    for names, write in writers.items():
        seconds = []
        for _ in range(2):
            store.remove(names[0])
            began = time.perf_counter()
            write(store, manifest)
            seconds.append(time.perf_counter() - began)
        total += seconds[1]
        size = sum(store.size(name) or 0 for name in names)
        print(f"{names[0]:20} {seconds[0]:7.2f} s, again {seconds[1]:7.2f} s, {size:12,} bytes")
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--corpus", help="a finished corpus, into which they are written")
    parser.add_argument("--samples", type=int, default=100_000)
    parser.add_argument("--shards", type=int, default=30_000)
    arguments = parser.parse_args()
    if arguments.corpus:
        store = open_store(arguments.corpus)
        print(f"COMPANIONS: {measure(store, read_manifest(store)):.2f} s")
        return
    with tempfile.TemporaryDirectory() as folder:
        store, manifest = made_up(Path(folder), arguments.samples, arguments.shards)
        print(f"COMPANIONS: {measure(store, manifest):.2f} s")


if __name__ == "__main__":
    main()
