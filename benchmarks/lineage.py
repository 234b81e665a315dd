"""How long does `ssiforge lineage` take, as a user waits for it, in a large house?

    python benchmarks/lineage.py [--samples 1000000] [--models 50] [--repeats 1]

A made-up corpus without audio (115,000 sources; one noise in 300,000 of a million samples) and the records of models of
twelve runs, in an MLflow store and in folders, are written to a temporary folder. Each question is then asked by a
process of its own; the middle of its wall times is printed, imports and all, and of its CPU times, which a busy machine
changes less. The models of two runs heard every second sample alone (`train --keep`). Some questions are asked again
with the MLflow store gone, and with the corpus as old ones are, without its index.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from manifests.canonical import digest
from manifests.corpus import CORPUS_FILE, SAMPLES_FILE, SOURCES_FILE, CorpusManifest, corpus_id
from manifests.experiment import STAGES, StageName
from manifests.folder import Folder
from manifests.packages import locked_packages
from manifests.recipe import SPLITS
from manifests.run_record import StageRun, write_run
from manifests.selection import SELECTION_FILE, Selection
from pipelines.corpus.lineage_index import INDEX_FILE, write_index
from pipelines.corpus.table import ROWS_AT_A_TIME
from pipelines.tracking.registry import model_tags
from pipelines.tracking.store import KEEP_DIGEST_TAG, KEEP_TAG, TAG, Store, experiment_id, open_store
from training.bundle_info import MODEL_FILE, BundleInfo

SPEECH, NOISE, RIR = 100_000, 10_000, 5_000
TALKERS = 2_000
LICENCES = ("CC-BY-4.0", "CC0-1.0", "GPL V3+", "unknown")
SHARES = {"train": 0.9, "val": 0.05, "test": 0.05}
SAMPLES_A_SHARD = 64
OTHER_COLUMNS = 380
"""As many as `ssi48k` has beside those of identity; empty here, but they are in the footer of the file."""
SELECTIVE_RUNS = (1, 2)
"""Numbers of the runs that left samples out."""
EVERYWHERE_SHARE = 0.3
"""Of the samples, those that hold one and the same noise."""


def hashes() -> list[str]:
    """Return a hash for each source: speech, then noise, then rooms."""
    words = np.random.default_rng(1).bytes(32 * (SPEECH + NOISE + RIR)).hex()
    return [words[at : at + 64] for at in range(0, len(words), 64)]


def write_sources(root: Path, names: Sequence[str]) -> None:
    """Write the catalogue of the corpus."""
    number = np.arange(len(names))
    kinds = ["speech"] * SPEECH + ["noise"] * NOISE + ["rir"] * RIR
    speech = number < SPEECH
    content: dict[str, Any] = {
        "path": [f"/data/{kind}/part-{n % 97:02d}/{n:07d}.flac" for n, kind in enumerate(kinds)],
        "kind": kinds,
        "sha256": list(names),
        "seconds": 1.0 + number % 14,
        "speaker": [f"p{n % TALKERS:04d}" if is_speech else None for n, is_speech in enumerate(speech)],
        "licence": [LICENCES[n % len(LICENCES)] for n in number],
        "split": ["train"] * len(names),
        "refused": pa.nulls(len(names), pa.string()),
    }
    pq.write_table(pa.table(content), root / SOURCES_FILE)


def write_samples(root: Path, names: Sequence[str], samples: int) -> list[str]:
    """Write the table of samples; return the paths of the shards."""
    rng = np.random.default_rng(2)
    counts = {split: round(samples * SHARES[split]) for split in SPLITS}
    pool = pa.array(names)
    empty = [f"stage.value_{number}" for number in range(OTHER_COLUMNS)]
    shards: list[str] = []
    writer = None
    for split in SPLITS:
        for first in range(0, counts[split], ROWS_AT_A_TIME):
            index = np.arange(first, min(first + ROWS_AT_A_TIME, counts[split]))
            count = len(index)
            talker, second = rng.integers(SPEECH, size=(2, count))
            noise = (
                np.where(rng.random(count) < EVERYWHERE_SHARE, 0, rng.integers(NOISE, size=count)) + SPEECH
            )
            room = rng.integers(RIR, size=count) + SPEECH + NOISE
            held = np.stack([talker, second, noise, room], axis=1)
            kept = np.stack([rng.random(count) < p for p in (1.0, 0.3, 1.0, 0.5)], axis=1)
            kept[:, 2] |= noise == SPEECH
            offsets = np.concatenate([[0], np.cumsum(kept.sum(axis=1))]).astype(np.int32)
            names_of = [f"{split}/shard-{n // SAMPLES_A_SHARD:06d}.tar" for n in index]
            shards += dict.fromkeys(names_of)
            content = {
                "key": [f"{split}-{n:06d}" for n in index],
                "split": [split] * count,
                "index": index,
                "shard": names_of,
                "speaker": [f"p{n % TALKERS:04d}" for n in talker],
                "licences": pa.array([["CC-BY-4.0"]] * count),
                "source_sha256": pa.ListArray.from_arrays(offsets, pool.take(pa.array(held[kept]))),
                **{name: pa.nulls(count, pa.float64()) for name in empty},
            }
            table = pa.table(content)
            writer = writer or pq.ParquetWriter(root / SAMPLES_FILE, table.schema)
            writer.write_table(table, row_group_size=ROWS_AT_A_TIME)
    if writer is not None:
        writer.close()
    return list(dict.fromkeys(shards))


def make_corpus(root: Path, samples: int) -> tuple[CorpusManifest, list[str], float]:
    """Write a corpus without shards; return its manifest, its sources, and the seconds that its index took."""
    root.mkdir()
    names = hashes()
    write_sources(root, names)
    shards = {name: digest(name) * 2 for name in write_samples(root, names, samples)}
    records = {name.replace(".tar", ".json"): sha256 for name, sha256 in shards.items()}
    manifest = CorpusManifest(
        id=corpus_id("r" * 32, "c" * 32, 1, shards),
        recipe="ssi48k",
        recipe_digest="r" * 32,
        catalogue_digest="c" * 32,
        seed=1,
        code_version="0.1.0",
        sample_rate_hz=48_000,
        frames_per_sample=480_000,
        samples={split: round(samples * SHARES[split]) for split in SPLITS},
        hours=samples * 10 / 3600,
        shards=shards,
        splits={},
        licences=dict.fromkeys(LICENCES, samples // 2),
        stages={},
        failures={},
        environment=locked_packages(),
        timings={},
        files=records,
    ).sealed()
    (root / CORPUS_FILE).write_bytes(manifest.written())
    began = time.perf_counter()
    write_index(Folder(root), manifest)
    return manifest, names, time.perf_counter() - began


def half_of(manifest: CorpusManifest, run: int) -> Selection:
    """Return a selection of every second sample, another one for each run."""
    kept = {}
    for split in ("train", "val"):
        names = [name for name in manifest.shards if name.startswith(f"{split}/")]
        for name in names:
            held = min(SAMPLES_A_SHARD, manifest.samples[split] - SAMPLES_A_SHARD * int(name[-10:-4]))
            kept[name] = tuple(range(run % 2, held, 2))
    return Selection(f"index % 2 == {run % 2}", manifest.id, "v" * 32, kept)


def make_models(root: Path, manifest: CorpusManifest, count: int) -> list[BundleInfo]:
    """Write runs of four stages each, until there are so many models: folders, and an MLflow store."""
    client = open_store(Store(f"sqlite:///{root / 'mlflow.db'}", root / "mlflow.db"))
    made: list[BundleInfo] = []
    halves = {run: half_of(manifest, run) for run in SELECTIVE_RUNS}
    for number in range(count):
        stage, run = STAGES[number % len(STAGES)], number // len(STAGES)
        parents: dict[StageName, str] = {made[-1].stage: made[-1].id} if number % len(STAGES) else {}
        folder = root / "runs" / f"run-{run:02d}"
        made.append(make_model(folder, stage, manifest.id, parents, client, halves.get(run)))
    return made


def make_model(
    run_dir: Path,
    stage: StageName,
    data_id: str,
    parents: dict[StageName, str],
    client: Any,
    selection: Selection | None,
) -> BundleInfo:
    """Write what the training of one stage leaves behind, but for its weights."""
    name = run_dir.name
    info = BundleInfo(
        id="",
        stage=stage,
        preset="small",
        repair={},
        causal=True,
        denoiser=None,
        corpus_id=data_id,
        stage_digest=digest([name, stage]),
        experiment={"name": name},
        parents=parents,
        steps=1000,
        metrics={},
        code_version="0.1.0",
        environment={},
        weights_sha256=digest([name, stage, "weights"]) * 2,
        selection=selection.record if selection else None,
    )
    info = info.model_copy(update={"id": info.identity})
    folder = run_dir / stage / "model"
    folder.mkdir(parents=True)
    (folder / MODEL_FILE).write_text(info.model_dump_json(indent=2))
    run = StageRun(
        experiment=name,
        experiment_digest=digest(name),
        stage=stage,
        stage_digest=info.stage_digest,
        corpus_id=data_id,
        parents=parents,
        steps=1000,
        code_version="0.1.0",
        packages=locked_packages(),
        status="finished",
        model_id=info.id,
        selection=selection.record if selection else None,
    )
    write_run(run_dir / stage, run)
    if selection is not None:
        (run_dir / stage / SELECTION_FILE).write_bytes(selection.written())
    experiment = experiment_id(client, name)
    tags = {f"{TAG}corpus_id": data_id, **{f"{TAG}parent.{role}": parent for role, parent in parents.items()}}
    if selection is not None:
        tags |= {KEEP_TAG: selection.expression, KEEP_DIGEST_TAG: selection.digest}
    run_id = client.create_run(experiment, tags=tags, run_name=f"{name}-{stage}").info.run_id
    model = client.create_logged_model(experiment, name=stage, source_run_id=run_id, tags=model_tags(info))
    client.finalize_logged_model(model.model_id, "READY")
    registered = f"ssiforge-{name}-{stage}"
    client.create_registered_model(registered)
    client.create_model_version(
        registered, f"models:/{model.model_id}", run_id=run_id, tags=model_tags(info), model_id=model.model_id
    )
    (run_dir / stage / "mlflow.json").write_text(f'{{"run_id": "{run_id}", "registered": "{registered}/1"}}')
    return info


def ask(root: Path, arguments: Sequence[str], repeats: int) -> tuple[float, float]:
    """Return the middle of the wall times and that of the CPU times of `ssiforge lineage`, in seconds."""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    environment.pop("MLFLOW_TRACKING_URI", None)
    command = [sys.executable, "-m", "pipelines.cli", "lineage", *arguments]
    wall, cpu = [], []
    for _ in range(repeats):
        began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, cwd=root, env=environment, check=True, stdout=subprocess.DEVNULL)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        wall.append(time.perf_counter() - began)
        cpu.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return statistics.median(wall), statistics.median(cpu)


def main() -> None:
    """Make the records, ask the questions."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=1_000_000)
    parser.add_argument("--models", type=int, default=50)
    parser.add_argument("--repeats", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        began = time.perf_counter()
        manifest, names, index_s = make_corpus(root / "corpus", options.samples)
        made = make_models(root, manifest, options.models)
        size_mb = (root / "corpus" / INDEX_FILE).stat().st_size / 1e6
        print(
            f"made in {time.perf_counter() - began:.0f} s; writing the index: {index_s:.1f} s, {size_mb:.0f} MB"
        )
        last = made[-1]
        questions = {
            "a source": [names[7]],
            "a source's path": ["/data/speech/part-07/0000007.flac"],
            "a source in 300,000 samples": [names[SPEECH]],
            "the same as JSON": [names[SPEECH], "--json"],
            "a speaker": ["speaker:p0007"],
            "a licence": ["licence:CC-BY-4.0"],
            "a sample": ["train-000012"],
            "a model": [last.id],
            "a run's folder": ["runs/run-03"],
            "a model of half the samples": [made[4 * SELECTIVE_RUNS[0]].id],
            "a corpus": [manifest.id],
        }

        def told(what: str, arguments: Sequence[str]) -> None:
            wall_s, cpu_s = ask(root, arguments, options.repeats)
            size = f"{options.samples:,} samples, {options.models} models"
            print(f"lineage of {what}: {wall_s:.1f} s, {size} ({cpu_s:.2f} s of CPU)", flush=True)

        for what, arguments in questions.items():
            told(what, arguments)
        (root / "mlflow.db").unlink()
        told("a source, without MLflow's store", questions["a source"])
        told("a model, without MLflow's store", questions["a model"])
        (root / "corpus" / INDEX_FILE).unlink()
        told("a source, without the index", questions["a source"])


if __name__ == "__main__":
    main()
