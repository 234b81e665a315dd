"""Tiny corpora, made by hand in the layout of manifests/corpus.py."""

import hashlib
import tarfile
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from datagen.audio import flac_bytes
from datagen.level import with_active_level
from manifests.canonical import canonical_json, digest, file_sha256
from manifests.catalogue import Catalogue, write_catalogue
from manifests.corpus import (
    CORPUS_FILE,
    SOURCES_FILE,
    Corpus,
    CorpusManifest,
    Member,
    SampleEntry,
    ShardRecord,
    corpus_id,
    open_corpus,
)
from manifests.keyed import generator
from manifests.sample import AXES, Clip, SampleRecord, SourceUse, StageRecord
from manifests.source import Source

RATE_HZ = 48_000


def voice(seed: int, seconds: float) -> np.ndarray:
    """Something like speech: a gliding harmonic tone with syllables and pauses, at -26 dBFS active level."""
    rng = generator(seed, "voice")
    time_s = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    f0_hz = 120 + 40 * np.sin(2 * np.pi * 0.7 * time_s + rng.uniform(0, 6))
    phase = 2 * np.pi * np.cumsum(f0_hz) / RATE_HZ
    tone = sum(np.sin(k * phase + rng.uniform(0, 6)) / k for k in range(1, 60))
    syllables = np.clip(np.sin(2 * np.pi * 3.1 * time_s + rng.uniform(0, 6)), 0, 1) ** 0.5
    breath = rng.standard_normal(len(time_s)) * 0.02
    return with_active_level(((tone + breath) * syllables).astype(np.float32), -26.0)


def noise(seed: int, seconds: float, level: float) -> np.ndarray:
    rng = generator(seed, "noise")
    return (level * rng.standard_normal(round(seconds * RATE_HZ))).astype(np.float32)


def source(name: str, kind: str, group: str, licence: str, split: str) -> Source:
    field = {"speech": "speaker", "noise": "recording"}[kind]
    return Source(
        path=f"/recordings/{kind}/{name}",
        kind=kind,
        sha256=file_hash(name),
        rate_hz=RATE_HZ,
        channels=1,
        frames=96_000,
        seconds=2.0,
        licence=licence,
        split=split,
        **{field: group},
    )


def file_hash(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def build_corpus(
    root: Path,
    counts: Mapping[str, int],
    seconds: float = 1.0,
    seed: int = 7,
    speech_file: str = "",
    speaker: str = "",
    licence: str = "CC-BY-4.0",
) -> Corpus:
    """Samples with noise (even ones) and Opus (every third); talker and noise differ between splits.

    `speech_file` and `speaker` are names instead of those made up here, for a corpus of one split;
    `licence` is that of the talkers.
    """
    catalogue = []
    shards: dict[str, str] = {}
    for split, count in counts.items():
        file, name = speech_file or f"{split} häger {seed}.wav", speaker or f"talker-{split}"
        talker = source(file, "speech", name, licence, split)
        hiss = source(f"{split} hiss {seed}.wav", "noise", f"hiss-{split}", "CC0-1.0", split)
        catalogue += [talker, hiss]
        if count:
            record = _write_shard(root, split, count, seconds, seed, talker, hiss)
            shards[record.tar_name] = record.sha256
    used = Catalogue(catalogue)
    write_catalogue(used, root / SOURCES_FILE)
    recipe_digest = digest({"recipe": "hand-made"})
    manifest = CorpusManifest(
        id=corpus_id(recipe_digest, used.digest, seed, shards),
        recipe="hand-made",
        recipe_digest=recipe_digest,
        catalogue_digest=used.digest,
        seed=seed,
        code_version="0.1.0",
        sample_rate_hz=RATE_HZ,
        frames_per_sample=round(seconds * RATE_HZ),
        samples=dict(counts),
        hours=sum(counts.values()) * seconds / 3600,
        shards=shards,
        splits={split: {"speakers": 1, "noises": 1, "rooms": 0} for split in counts},
        licences={licence: sum(counts.values()), "CC0-1.0": sum(n - n // 2 for n in counts.values())},
        stages={"noise": {"asked": 0.5, "drawn": 0.5}},
        failures={},
        environment={"python": "3"},
        timings={},
    )
    (root / CORPUS_FILE).write_text(manifest.model_dump_json())
    return open_corpus(root)


def _write_shard(
    root: Path, split: str, count: int, seconds: float, seed: int, talker: Source, hiss: Source
) -> ShardRecord:
    (root / split).mkdir(parents=True, exist_ok=True)
    tar_path = root / split / "shard-000000.tar"
    entries = []
    with tarfile.open(tar_path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for index in range(count):
            key = f"{split}-{index:06d}"
            target = voice(seed * 1000 + index, seconds)
            stages, sources, degraded = [], [(talker, "speech")], target
            if index % 2 == 0:
                degraded = degraded + noise(seed * 1000 + index, seconds, 0.01)
                stages.append(_stage("noise", {"snr_db": 14.0}, {"snr_db": 14.0}, (_clip(hiss),)))
                sources.append((hiss, "noise"))
            if index % 3 == 0:
                degraded = 0.9 * degraded
                stages.append(_stage("opus", {"codec": "opus", "bitrate_kbps": 24.0}, {}))
            record = SampleRecord(
                spec_digest=digest(key),
                key=key,
                split=split,
                index=index,
                attempt=0,
                seed=seed,
                sample_rate_hz=RATE_HZ,
                frames=len(target),
                bits=16,
                target={},
                stems=(),
                speech=(_clip(talker),),
                stages=tuple(stages),
                sources=tuple(
                    SourceUse(sha256=s.sha256, kind=kind, group=s.group, licence=s.licence)
                    for s, kind in sources
                ),
                licences=tuple(sorted({s.licence for s, _ in sources})),
                speaker=talker.group,
                measured={"snr_db": 14.0} if index % 2 == 0 else {},
                severity=dict.fromkeys(AXES, 0.0),
                aligned=True,
            )
            contents = {
                "degraded.flac": flac_bytes(degraded),
                "json": canonical_json(record.model_dump(mode="json")),
                "target.flac": flac_bytes(target),
            }
            members = {}
            for extension, content in contents.items():
                info = tarfile.TarInfo(f"{key}.{extension}")
                info.size = len(content)
                offset = tar.offset + tarfile.BLOCKSIZE
                tar.addfile(info, BytesIO(content))
                members[extension] = Member(offset=offset, bytes=len(content))
            entries.append(
                SampleEntry(key=key, index=index, attempt=0, spec_digest=record.spec_digest, members=members)
            )
    shard = ShardRecord(
        name="shard-000000",
        split=split,
        plan_digest=digest([split, seed]),
        sha256=file_sha256(tar_path),
        bytes=tar_path.stat().st_size,
        frames_per_sample=round(seconds * RATE_HZ),
        samples=tuple(entries),
        environment={"python": "3"},
    )
    tar_path.with_suffix(".json").write_bytes(canonical_json(shard.model_dump(mode="json")))
    return shard


def _clip(used: Source) -> Clip:
    return Clip(sha256=used.sha256, start=0, frames=RATE_HZ)


def _stage(
    name: str, values: dict[str, Any], measured: dict[str, Any], clips: tuple[Clip, ...] = ()
) -> StageRecord:
    return StageRecord(
        label=name,
        stage=name,
        values=values,
        clips=clips,
        package="ssiforge 0.1.0",
        code_digest=digest(name),
        measured=measured,
    )
