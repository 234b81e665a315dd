"""`ssiforge verify`: is the corpus on disk the one its manifest names, and does it render to the same audio?"""

import os
from collections import ChainMap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from datagen.audio import decode_flac, flac_bytes
from datagen.chain import SampleFailed
from datagen.render import Rendered, render, spec_of
from manifests.canonical import file_sha256
from manifests.catalogue import read_catalogue
from manifests.corpus import (
    CORPUS_FILE,
    SOURCES_FILE,
    Corpus,
    CorpusManifest,
    SampleEntry,
    ShardRecord,
    changed_files,
    has_its_id,
    open_shard,
    read_manifest,
)
from manifests.errors import UserError
from manifests.files import TEMPORARY_SUFFIX
from manifests.keyed import generator
from manifests.recipe import SPLITS
from manifests.sample import SampleRecord
from manifests.source import Source
from pipelines.progress import JobProgress
from pipelines.table import read_records

SAME_AUDIO_DB = -60.0
"""Re-rendered audio of another machine or library version counts as the same when it differs by less than this."""


@dataclass(frozen=True)
class Verified:
    """What `verify` found."""

    shards: int
    samples: int
    rerendered: int
    identical: int
    """Of the re-rendered samples, how many have the same bytes."""
    problems: tuple[str, ...]
    """One sentence each; empty for a sound corpus."""


def verify(
    root: Path, rerender: int = 0, sources: Path | None = None, say: Callable[[str], None] = lambda line: None
) -> Verified:
    """Check a corpus.

    Every shard, record and table is hashed again, shards are read with the stock webdataset reader, records and
    manifest must agree, no speaker, noise recording or room may stand in two splits, and no stray file may lie
    between the shards.

    Args:
        root: the corpus.
        rerender: number of samples to render again and compare, spread over the corpus.
        sources: a catalogue that says where the source files are now, if they were moved.
        say: receives lines for people.

    Raises:
        UserError: when `root` holds no corpus.
    """
    manifest = read_manifest(root)
    problems = [*changed_files(root, manifest), *_stray_files(root, manifest)]
    if not has_its_id(manifest):
        problems.append(f"{CORPUS_FILE}: its id does not match its content")
    sound = []
    with JobProgress("verify", len(manifest.shards), "shards") as progress:
        for name, sha256 in manifest.shards_in_order():
            shard, damage = _opened(root, name, sha256)
            problems += damage
            sound += [shard] if shard and not damage else []
            progress.advance(1)
    corpus = Corpus(root, manifest, tuple(sound))
    records, unreadable = _records(corpus)
    problems += unreadable
    problems += _leaks(records)
    if not problems:
        problems += _disagreements(corpus, records)
    chosen = _spread(corpus, rerender) if not problems else []
    rows = _rows(root, sources) if chosen else {}
    identical = 0
    for shard, entry in chosen:
        same, problem = _compare(corpus, shard, entry, rows)
        identical += same
        problems += [problem] if problem else []
    if chosen:
        say(f"re-rendered {len(chosen)} samples: {identical} have the same bytes")
    return Verified(
        len(manifest.shards),
        sum(len(s.samples) for s in corpus.shards),
        len(chosen),
        identical,
        tuple(problems),
    )


def _stray_files(root: Path, manifest: CorpusManifest) -> Iterator[str]:
    known = {name for tar in manifest.shards for name in (tar, tar.removesuffix(".tar") + ".json")}
    for split in SPLITS:
        folder = root / split
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            name = f"{split}/{path.name}"
            if name not in known:
                left = (
                    " (left by an interrupted job; 'generate' sweeps it)"
                    if name.endswith(TEMPORARY_SUFFIX)
                    else ""
                )
                yield f"{name}: does not belong to the corpus{left}"


def _opened(root: Path, name: str, sha256: str) -> tuple[ShardRecord | None, list[str]]:
    try:
        shard = open_shard(root, name, sha256)
    except UserError as error:
        return None, [str(error).removeprefix(f"{root}{os.sep}")]
    return shard, list(_damage(root, shard))


def _damage(root: Path, shard: ShardRecord) -> Iterator[str]:
    tar = root / shard.tar_name
    if file_sha256(tar) != shard.sha256:
        yield f"{shard.tar_name}: its content changed since it was written"
        return
    keys = _keys_by_stock_reader(tar)
    if keys != [entry.key for entry in shard.samples]:
        yield f"{shard.tar_name}: webdataset reads other samples than its record names"


def _records(corpus: Corpus) -> tuple[list[SampleRecord], list[str]]:
    """Read the samples of all shards; a shard whose record points to wrong places is named."""
    records: list[SampleRecord] = []
    problems = []
    for shard in corpus.shards:
        try:
            records += read_records(corpus.root, [shard])
        except (ValueError, KeyError) as error:
            problems.append(f"{shard.record_name}: does not lead to the samples ({type(error).__name__})")
    return records, problems


def _keys_by_stock_reader(tar: Path) -> list[str]:
    os.environ["WDS_SECURE"] = "1"
    import webdataset

    return [
        sample["__key__"] for sample in webdataset.WebDataset(str(tar), shardshuffle=False, empty_check=False)
    ]


def _disagreements(corpus: Corpus, records: list[SampleRecord]) -> Iterator[str]:
    entries = [(shard, entry) for shard in corpus.shards for entry in shard.samples]
    for (shard, entry), record in zip(entries, records, strict=True):
        if spec_of(record).digest != entry.spec_digest or record.spec_digest != entry.spec_digest:
            yield f"{shard.tar_name}: {entry.key}.json does not match the spec that its record names"
    keys = [entry.key for _, entry in entries]
    if len(set(keys)) != len(keys):
        yield "a sample stands in the corpus twice"
    counted = {split: sum(r.split == split for r in records) for split in corpus.manifest.samples}
    if counted != corpus.manifest.samples:
        yield f"corpus.json names {corpus.manifest.samples} samples, the shards hold {counted}"


def _leaks(records: list[SampleRecord]) -> Iterator[str]:
    seen: dict[tuple[str, str], str] = {}
    for record in records:
        for source in record.sources:
            for kind, name in ((source.kind, source.group), ("content", source.sha256)):
                first = seen.setdefault((kind, name), record.split)
                if first != record.split:
                    yield f"{kind} '{name}' is in the splits {first} and {record.split}"


# --- rendering again ------------------------------------------------------------------------------


def _rows(root: Path, sources: Path | None) -> Mapping[str, Source]:
    """Sources by content hash: where a catalogue says they are now, else where they were."""
    known = [read_catalogue(path).by_sha256 for path in (sources, root / SOURCES_FILE) if path is not None]
    return ChainMap(*known)  # type: ignore[arg-type]  # which is only read here


def _spread(corpus: Corpus, count: int) -> list[tuple[ShardRecord, SampleEntry]]:
    entries = [(shard, entry) for shard in corpus.shards for entry in shard.samples]
    chosen = generator(corpus.manifest.id, "rerender").permutation(len(entries))[:count]
    return [entries[i] for i in sorted(chosen)]


def _compare(
    corpus: Corpus, shard: ShardRecord, entry: SampleEntry, rows: Mapping[str, Source]
) -> tuple[bool, str | None]:
    held = _members(corpus, shard, entry)
    record = SampleRecord.model_validate_json(held.pop("json"))
    try:
        rendered = render(spec_of(record), rows)
    except SampleFailed as failed:
        return False, f"{entry.key}: cannot be rendered again ({failed})"
    again = _audio_of(rendered)
    if all(flac_bytes(again[name], record.bits) == held[name] for name in held):
        return True, None
    for name, content in held.items():
        difference_db = _difference_db(again[name], decode_flac(content))
        if difference_db > SAME_AUDIO_DB:
            return False, f"{entry.key}.{name}: renders differently ({difference_db:.1f} dB difference)"
    return False, None


def _members(corpus: Corpus, shard: ShardRecord, entry: SampleEntry) -> dict[str, bytes]:
    contents = {}
    with (corpus.root / shard.tar_name).open("rb") as stream:
        for name, member in entry.members.items():
            stream.seek(member.offset)
            contents[name] = stream.read(member.bytes)
    return contents


def _audio_of(rendered: Rendered) -> dict[str, np.ndarray]:
    stems = {f"{name}.flac": audio for name, audio in rendered.stems.items()}
    return {"degraded.flac": rendered.degraded, "target.flac": rendered.target, **stems}


def _difference_db(again: np.ndarray, held: np.ndarray) -> float:
    if again.shape != held.shape:
        return float("inf")
    power = float(np.mean(np.square(held, dtype=np.float64))) or 1e-12
    return 10.0 * float(np.log10(float(np.mean(np.square(again - held, dtype=np.float64))) / power + 1e-12))
