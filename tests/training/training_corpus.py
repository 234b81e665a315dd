"""A small corpus on disk that follows `manifests.corpus` to the letter, without the code that makes real ones.

Targets are harmonic tones with a speech-like envelope; degraded are the same, low-passed, 12 dB down, in noise.
Every sample's loudness differs, and its key says which it is.
"""

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray
from scipy.signal import butter, sosfilt

from manifests.corpus import CorpusManifest, Member, SampleEntry, ShardRecord, corpus_id, read_manifest
from manifests.parts import Part, merged_id

RATE_HZ = 48_000


def voice(index: int, frames: int) -> NDArray[np.float32]:
    """A tone with harmonics, switched on and off some three times a second, shape (frames,)."""
    time_s = np.arange(frames) / RATE_HZ
    pitch_hz = 100.0 + 15.0 * (index % 9)
    tone = sum(np.sin(2 * np.pi * pitch_hz * k * time_s) / k for k in range(1, 40))
    envelope = np.clip(np.sin(2 * np.pi * (2.5 + 0.1 * (index % 5)) * time_s + index), 0.0, None)
    return (0.05 * tone * envelope).astype(np.float32)


def degraded(target: NDArray[np.float32], index: int) -> NDArray[np.float32]:
    """The target below 3 kHz at a quarter of its level, with white noise."""
    noise = np.random.default_rng(index).standard_normal(len(target))
    low = sosfilt(butter(4, 3000.0, fs=RATE_HZ, output="sos"), target)
    return (0.25 * low + 0.002 * noise).astype(np.float32)


def _flac(wave: NDArray[np.float32]) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, wave, RATE_HZ, format="FLAC", subtype="PCM_16")
    return buffer.getvalue()


def _write_shard(root: Path, split: str, number: int, indices: range, frames: int) -> ShardRecord:
    name = f"shard-{number:06d}"
    path = root / split / f"{name}.tar"
    path.parent.mkdir(parents=True, exist_ok=True)
    entries = []
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for index in indices:
            key = f"{split}-{index:07d}"
            target = voice(index, frames)
            parts = {
                "degraded.flac": _flac(degraded(target, index)),
                "json": json.dumps({"key": key}).encode(),
                "target.flac": _flac(target),
            }
            for extension, content in parts.items():
                info = tarfile.TarInfo(f"{key}.{extension}")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
            entries.append((key, index))
    # Offsets as tar itself reports them, not as the writer of real corpora computes them.
    with tarfile.open(path) as tar:
        members = {
            member.name: Member(offset=member.offset_data, bytes=member.size) for member in tar.getmembers()
        }
    samples = tuple(
        SampleEntry(
            key=key,
            index=index,
            attempt=0,
            spec_digest="0" * 32,
            members={name.partition(".")[2]: at for name, at in members.items() if name.startswith(key)},
        )
        for key, index in entries
    )
    content = path.read_bytes()
    record = ShardRecord(
        name=name,
        split=split,
        plan_digest="0" * 32,
        sha256=hashlib.sha256(content).hexdigest(),
        bytes=len(content),
        frames_per_sample=frames,
        samples=samples,
        environment={},
    )
    path.with_suffix(".json").write_text(record.model_dump_json())
    return record


def write_corpus(
    root: Path, train: int = 12, val: int = 3, per_shard: int = 4, seconds: float = 0.5, seed: int = 1
) -> Path:
    """Write a corpus; `seed` changes its id and nothing else."""
    frames = round(seconds * RATE_HZ)
    records = []
    for split, count in {"train": train, "val": val}.items():
        for number, first in enumerate(range(0, count, per_shard)):
            indices = range(first, min(first + per_shard, count))
            records.append(_write_shard(root, split, number, indices, frames))
    shards = {record.tar_name: record.sha256 for record in records}
    manifest = CorpusManifest(
        id=corpus_id("r", "c", seed, shards),
        recipe="test",
        recipe_digest="r",
        catalogue_digest="c",
        seed=seed,
        code_version="0",
        sample_rate_hz=RATE_HZ,
        frames_per_sample=frames,
        samples={"train": train, "val": val, "test": 0},
        hours=(train + val) * seconds / 3600,
        shards=shards,
        splits={},
        licences={},
        stages={},
        failures={},
        environment={},
        timings={},
    )
    (root / "corpus.json").write_text(manifest.model_dump_json())
    return root


def write_merged(root: Path, weights: Mapping[Path, float]) -> Path:
    """Write a corpus that refers to others, by place, with weights."""
    held = sorted(((read_manifest(place), place) for place in weights), key=lambda each: each[0].id)
    parts = tuple(
        Part(
            corpus=manifest.id,
            name=manifest.id[:8],
            weight=weights[place],
            place=str(place),
            recipe=manifest.recipe,
            samples=manifest.samples,
            hours=manifest.hours,
        )
        for manifest, place in held
    )
    manifest = held[0][0].model_copy(update={"id": merged_id(parts), "parts": parts, "shards": {}})
    root.mkdir()
    (root / "corpus.json").write_text(manifest.model_dump_json())
    return root
