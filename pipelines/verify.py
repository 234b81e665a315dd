"""`ssiforge verify`: is the corpus that lies there the one its manifest names, and does it render to the same audio?

Shards are read one after another and forgotten again, so that a corpus of any size can be checked.
"""

import os
from collections import ChainMap, Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from datagen.audio import decode_flac, flac_bytes
from datagen.chain import SampleFailed
from datagen.plan import sample_key
from datagen.render import Rendered, render, spec_of
from datagen.shard import is_temporary
from manifests.canonical import file_sha256
from manifests.catalogue import read_catalogue
from manifests.corpus import (
    CORPUS_FILE,
    SOURCES_FILE,
    CorpusManifest,
    SampleEntry,
    ShardRecord,
    changed_files,
    has_its_id,
    open_corpus,
    open_shard,
    read_manifest,
    read_part,
    record_name,
)
from manifests.errors import UserError
from manifests.keyed import generator
from manifests.parts import PARTS_FOLDER
from manifests.recipe import SPLITS
from manifests.sample import SampleRecord
from manifests.source import Source
from manifests.store import Place, Store, open_store
from pipelines.corpus.companion_seals import SEALS_FILE, broken_seals, read_seals
from pipelines.corpus.companions import COMPANION_FILES
from pipelines.merging.tables import check_leaks, read_material
from pipelines.openlineage.log import LINEAGE_FILE
from pipelines.progress import JobProgress
from pipelines.scoring.table import SCORES_FILE

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
    remarks: tuple[str, ...] = ()
    """What could not be checked, though nothing is known to be wrong with it."""


def verify(
    place: Place,
    rerender: int = 0,
    sources: Path | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Verified:
    """Check a corpus.

    Every shard, record, table and sealed companion is hashed again, shards are read with the stock webdataset reader,
    records and manifest must agree, no speaker, noise recording or room may stand in two splits, and no stray file may
    lie between the shards. Of a merged corpus, every part is checked so, and they together for leaks.

    Args:
        place: folder or URI of the corpus.
        rerender: number of samples to render again and compare, spread over the corpus.
        sources: a catalogue that says where the source files are now, if they were moved.
        say: receives lines for people.

    Raises:
        UserError: when there is no corpus.
    """
    store = open_store(place)
    manifest = read_manifest(store)
    if manifest.parts:
        return _verified_parts(store, manifest, rerender, sources, say)
    sizes = store.names()
    problems = [
        *changed_files(store, manifest),
        *broken_seals(store, manifest),
        *_stray_files(sizes, manifest),
    ]
    if not has_its_id(manifest):
        problems.append(f"{CORPUS_FILE}: its id does not match its content")
    seen = _Seen()
    with JobProgress("verify", len(manifest.shards), "shards") as progress:
        for name, sha256 in manifest.shards_in_order():
            problems += _checked(store, name, sha256, sizes, seen)
            progress.advance(1)
    problems += seen.leaks
    if not problems and dict(seen.samples) != {s: n for s, n in manifest.samples.items() if n}:
        problems.append(
            f"{CORPUS_FILE}: names {manifest.samples} samples, the shards hold {dict(seen.samples)}"
        )
    chosen = list(_spread(store, manifest, rerender)) if not problems else []
    rows = _rows(store, sources) if chosen else {}
    identical = 0
    for shard, entry in chosen:
        same, problem = _compare(store, shard, entry, rows)
        identical += same
        problems += [problem] if problem else []
    if chosen:
        say(f"re-rendered {len(chosen)} samples: {identical} have the same bytes")
    return Verified(
        len(manifest.shards),
        seen.samples.total(),
        len(chosen),
        identical,
        tuple(dict.fromkeys(problems)),
        tuple(_unchecked(store, manifest)),
    )


def _unchecked(store: Store, manifest: CorpusManifest) -> Iterator[str]:
    """Say which files nobody sealed, as of corpora made before there were seals."""
    sealed = read_seals(store).files
    makers = {
        "merge" if manifest.parts else "generate": (*COMPANION_FILES, LINEAGE_FILE),
        "score": (SCORES_FILE,),
    }
    for command, files in makers.items():
        if names := [name for name in files if name not in sealed and store.size(name) is not None]:
            yield (
                f"{', '.join(names)}: not checked, {SEALS_FILE} does not name what lies there; "
                f"run the 'ssiforge {command}' that made it again"
            )


def _stray_files(names: Mapping[str, int], manifest: CorpusManifest) -> Iterator[str]:
    known = {name for tar in manifest.shards for name in (tar, record_name(tar))}
    for name in sorted(names):
        if name.partition("/")[0] in SPLITS and name not in known:
            left = " (left by an interrupted job; 'generate' sweeps it)" if is_temporary(name) else ""
            yield f"{name}: does not belong to the corpus{left}"


def _verified_parts(
    store: Store, manifest: CorpusManifest, rerender: int, sources: Path | None, say: Callable[[str], None]
) -> Verified:
    problems = [
        *changed_files(store, manifest),
        *broken_seals(store, manifest),
        *_stray_parts(store, manifest),
    ]
    remarks = list(_unchecked(store, manifest))
    if not has_its_id(manifest):
        problems.append(f"{CORPUS_FILE}: its id does not match its content")
    found: list[Verified] = []
    for part, chosen in zip(manifest.parts, _shares(manifest, rerender), strict=True):
        try:
            held, _ = read_part(store, part)
        except UserError as error:
            problems.append(str(error).removeprefix(f"{store.url}: "))
            continue
        found.append(verify(held.url, chosen, sources, say))
        of_part = f"part {part.name} ({held.url}): "
        problems += [of_part + problem for problem in found[-1].problems]
        remarks += [of_part + remark for remark in found[-1].remarks]
    if not problems:
        try:
            check_leaks([read_material(part.corpus) for part in open_corpus(store.url).parts])
        except UserError as error:
            problems.append(str(error))
    return Verified(
        sum(one.shards for one in found),
        sum(one.samples for one in found),
        sum(one.rerendered for one in found),
        sum(one.identical for one in found),
        tuple(problems),
        tuple(remarks),
    )


def _stray_parts(store: Store, manifest: CorpusManifest) -> Iterator[str]:
    copied = {part.corpus for part in manifest.parts if not part.place}
    there = {name.partition("/")[0] for name in open_store(store.where(PARTS_FOLDER)).names()}
    yield from (f"{PARTS_FOLDER}/{name}: does not belong to the corpus" for name in sorted(there - copied))


def _shares(manifest: CorpusManifest, count: int) -> list[int]:
    """Spread samples to render again over the parts of a corpus."""
    ends = [0, *accumulate(sum(part.samples.values()) for part in manifest.parts)]
    return [count * end // ends[-1] - count * begin // ends[-1] for begin, end in pairwise(ends)]


# --- shard after shard ----------------------------------------------------------------------------


@dataclass
class _Seen:
    """What is remembered of the shards that were read."""

    samples: Counter[str] = field(default_factory=Counter)
    leaks: list[str] = field(default_factory=list)
    _split_of: dict[tuple[str, str], str] = field(default_factory=dict)
    """By kind and group, or by content."""
    _last: dict[str, int] = field(default_factory=dict)
    """Index of the last sample of each split."""

    def add(self, record: SampleRecord) -> Iterator[str]:
        """Remember a sample; say what is wrong with its place in the corpus."""
        self.samples[record.split] += 1
        if record.index <= self._last.get(record.split, -1):
            yield f"sample {record.key} stands in the corpus twice"
        self._last[record.split] = max(record.index, self._last.get(record.split, -1))
        for source in record.sources:
            for kind, name in ((source.kind, source.group), ("content", source.sha256)):
                first = self._split_of.setdefault((kind, name), record.split)
                if first != record.split:
                    self.leaks.append(f"{kind} '{name}' is in the splits {first} and {record.split}")


def _checked(store: Store, name: str, sha256: str, sizes: Mapping[str, int], seen: _Seen) -> Iterator[str]:
    try:
        shard = open_shard(store, name, sha256, sizes)
        with store.local_copy(name) as tar:
            yield from _damage(shard, tar, seen)
    except UserError as error:
        yield str(error).removeprefix(f"{store.url}/")
    except OSError as error:
        yield f"{name}: cannot be read ({error.strerror or error})"


def _damage(shard: ShardRecord, tar: Path, seen: _Seen) -> Iterator[str]:
    if file_sha256(tar) != shard.sha256:
        yield f"{shard.tar_name}: its content changed since it was written"
        return
    if _keys_by_stock_reader(tar) != [entry.key for entry in shard.samples]:
        yield f"{shard.tar_name}: webdataset reads other samples than its record names"
        return
    for entry in shard.samples:
        try:
            record = SampleRecord.model_validate_json(_members(tar, entry)["json"])
        except (ValidationError, KeyError) as error:
            yield f"{shard.record_name}: does not lead to the samples ({type(error).__name__})"
            return
        if spec_of(record).digest != entry.spec_digest or record.spec_digest != entry.spec_digest:
            yield f"{shard.tar_name}: {entry.key}.json does not match the spec that its record names"
        if sample_key(shard.split, record.index) != entry.key:
            yield f"{shard.tar_name}: {entry.key}.json describes another sample"
        yield from seen.add(record)


def _keys_by_stock_reader(tar: Path) -> list[str]:
    os.environ["WDS_SECURE"] = "1"
    import webdataset

    return [
        sample["__key__"] for sample in webdataset.WebDataset(str(tar), shardshuffle=False, empty_check=False)
    ]


def _members(tar: Path, entry: SampleEntry) -> dict[str, bytes]:
    contents = {}
    with tar.open("rb") as stream:
        for name, member in entry.members.items():
            stream.seek(member.offset)
            contents[name] = stream.read(member.bytes)
    return contents


# --- rendering again ------------------------------------------------------------------------------


def _rows(store: Store, sources: Path | None) -> Mapping[str, Source]:
    """Sources by content hash: where a catalogue says they are now, else where they were."""
    with store.local_copy(SOURCES_FILE) as path:
        known = [read_catalogue(path).by_sha256]
    if sources is not None:
        known.insert(0, read_catalogue(sources).by_sha256)
    return ChainMap(*known)  # type: ignore[arg-type]  # which is only read here


def _spread(store: Store, manifest: CorpusManifest, count: int) -> Iterator[tuple[ShardRecord, SampleEntry]]:
    """Draw samples evenly over the corpus; only the records of their shards are read."""
    total = sum(manifest.samples.values())
    chosen = sorted(int(i) for i in generator(manifest.id, "rerender").permutation(total)[:count])
    sizes = store.names() if chosen else {}
    begun = 0
    for name, sha256 in manifest.shards_in_order() if chosen else ():
        shard = open_shard(store, name, sha256, sizes)
        end = begun + len(shard.samples)
        yield from ((shard, shard.samples[at - begun]) for at in chosen if begun <= at < end)
        begun = end


def _compare(
    store: Store, shard: ShardRecord, entry: SampleEntry, rows: Mapping[str, Source]
) -> tuple[bool, str | None]:
    held = {name: store.read(shard.tar_name, at.offset, at.bytes) for name, at in entry.members.items()}
    record = SampleRecord.model_validate_json(held.pop("json"))
    try:
        rendered = render(spec_of(record), rows)
    except (SampleFailed, OSError) as failed:
        return False, f"{entry.key}: cannot be rendered again ({failed})"
    again = _audio_of(rendered)
    if all(flac_bytes(again[name], record.bits) == held[name] for name in held):
        return True, None
    for name, content in held.items():
        difference_db = _difference_db(again[name], decode_flac(content))
        if difference_db > SAME_AUDIO_DB:
            return False, f"{entry.key}.{name}: renders differently ({difference_db:.1f} dB difference)"
    return False, None


def _audio_of(rendered: Rendered) -> dict[str, np.ndarray]:
    stems = {f"{name}.flac": audio for name, audio in rendered.stems.items()}
    return {"degraded.flac": rendered.degraded, "target.flac": rendered.target, **stems}


def _difference_db(again: np.ndarray, held: np.ndarray) -> float:
    if again.shape != held.shape:
        return float("inf")
    power = float(np.mean(np.square(held, dtype=np.float64))) or 1e-12
    return 10.0 * float(np.log10(float(np.mean(np.square(again - held, dtype=np.float64))) / power + 1e-12))
