"""Which corpora a lineage question can be asked of, and which samples hold a source."""

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

from manifests.catalogue import read_catalogue
from manifests.corpus import (
    CORPUS_FILE,
    SAMPLES_FILE,
    SOURCES_FILE,
    Corpus,
    CorpusManifest,
    open_corpus,
    read_manifest,
    read_sample_json,
)
from manifests.errors import UserError
from manifests.source import Source
from pipelines.tracking import CORPUS_SOURCE_TYPE, all_experiment_ids, pages

SEARCH_DEPTH = 3
SEARCH_MAX_FOLDERS = 20_000


@dataclass(frozen=True)
class SampleUse:
    """A sample and what it is made of."""

    key: str
    split: str
    index: int
    shard: str
    """Path of its tar within the corpus."""
    speaker: str
    licences: tuple[str, ...]
    sources: tuple[str, ...]
    """Content hashes."""


@dataclass(frozen=True)
class KnownCorpus:
    """A corpus that lies somewhere; read as far as a question needs it."""

    root: Path
    manifest: CorpusManifest

    @cached_property
    def opened(self) -> Corpus:
        """With its shard records, checked."""
        return open_corpus(self.root)

    @cached_property
    def sources(self) -> dict[str, Source]:
        """Rows of the catalogue that samples were drawn from, by content hash."""
        return {source.sha256: source for source in read_catalogue(self.root / SOURCES_FILE)}

    @cached_property
    def used(self) -> frozenset[str]:
        """Content hashes of the sources that samples do hold: a small corpus draws only some of the catalogue."""
        if not (self.root / SAMPLES_FILE).is_file():
            return frozenset(sha256 for sample in self._read_samples() for sha256 in sample.sources)
        import pyarrow.compute as pc
        import pyarrow.parquet as pq

        column = pq.read_table(self.root / SAMPLES_FILE, columns=["source_sha256"])["source_sha256"]
        return frozenset(pc.unique(pc.list_flatten(column)).to_pylist())

    def samples_with(self, sha256: str) -> list[SampleUse]:
        """Return the samples that hold a source, in corpus order."""
        if (self.root / SAMPLES_FILE).is_file():
            return self._rows_with("source_sha256", sha256)
        return [sample for sample in self._read_samples() if sha256 in sample.sources]

    def sample(self, key: str) -> SampleUse | None:
        """Return one sample by its key."""
        if (self.root / SAMPLES_FILE).is_file():
            return next(iter(self._rows_with("key", key)), None)
        for shard in self.opened.shards:
            for entry in shard.samples:
                if entry.key == key:
                    described = read_sample_json(self.root, shard, entry)
                    return _from_json(described, shard.tar_name)
        return None

    def _rows_with(self, column: str, value: str) -> list[SampleUse]:
        """Search one column, then read the rows that were found: a million samples take well under a second."""
        import pyarrow.compute as pc
        import pyarrow.parquet as pq

        table = pq.ParquetFile(self.root / SAMPLES_FILE)
        names = ["key", "split", "index", "shard", "speaker", "licences", "source_sha256"]
        found: list[SampleUse] = []
        for group in range(table.num_row_groups):
            searched = table.read_row_group(group, columns=[column]).column(column).combine_chunks()
            if column == "source_sha256":
                at = pc.list_parent_indices(searched).filter(pc.equal(pc.list_flatten(searched), value))
                rows = pc.unique(at)
            else:
                rows = pc.indices_nonzero(pc.equal(searched, value))
            if len(rows):
                hits = table.read_row_group(group, columns=names).take(rows)
                found += [_from_row(row) for row in hits.to_pylist()]
        return found

    def _read_samples(self) -> Iterator[SampleUse]:
        for shard in self.opened.shards:
            for entry in shard.samples:
                yield _from_json(read_sample_json(self.root, shard, entry), shard.tar_name)


def _from_row(row: dict[str, Any]) -> SampleUse:
    licences, sources = tuple(row["licences"]), tuple(dict.fromkeys(row["source_sha256"]))
    return SampleUse(row["key"], row["split"], row["index"], row["shard"], row["speaker"], licences, sources)


def _from_json(sample: dict[str, Any], shard: str) -> SampleUse:
    return SampleUse(
        sample["key"],
        sample["split"],
        sample["index"],
        shard,
        sample["speaker"],
        tuple(sample["licences"]),
        tuple(dict.fromkeys(source["sha256"] for source in sample["sources"])),
    )


def known_corpora(given: Iterable[Path], client: Any | None) -> list[KnownCorpus]:
    """Return the corpora given, those that MLflow runs used, and those below the current folder; each id once.

    Raises:
        UserError: when a given folder holds no corpus. What is found by itself and cannot be read is left out.
    """
    found: dict[str, KnownCorpus] = {}
    for root in given:
        manifest = read_manifest(root)
        found.setdefault(manifest.id, KnownCorpus(root, manifest))
    recorded = (Path(place) for place in _recorded_places(client)) if client is not None else ()
    for root in (*recorded, *_below(Path(), SEARCH_DEPTH)):
        try:
            manifest = read_manifest(root)
        except UserError:
            continue
        found.setdefault(manifest.id, KnownCorpus(root, manifest))
    return sorted(found.values(), key=lambda corpus: corpus.manifest.id)


def _recorded_places(client: Any) -> list[str]:
    experiments = all_experiment_ids(client)
    runs = pages(client.search_runs, experiments) if experiments else []
    places: dict[str, None] = {}
    for run in runs:
        for used in run.inputs.dataset_inputs if run.inputs else []:
            if used.dataset.source_type == CORPUS_SOURCE_TYPE:
                places.setdefault(str(json.loads(used.dataset.source)["location"]))
    return list(places)


def _below(root: Path, depth: int) -> Iterator[Path]:
    """Walk no deeper than `depth` and no further than a bounded number of folders; links are not followed."""
    for folder, folders, files in islice(os.walk(root), SEARCH_MAX_FOLDERS):
        if CORPUS_FILE in files:
            yield Path(folder)
            folders.clear()
        if len(Path(folder).parts) >= depth:
            folders.clear()
        folders[:] = sorted(name for name in folders if not name.startswith("."))
