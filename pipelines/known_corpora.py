"""Which corpora a lineage question can be asked of, and which samples hold a source."""

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
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
    WITHDRAWALS_FILE,
    Corpus,
    CorpusManifest,
    open_corpus,
    read_manifest,
    read_part,
)
from manifests.errors import UserError
from manifests.source import Source
from manifests.store import Place, Store, absolute, open_store
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

    store: Store
    manifest: CorpusManifest

    @property
    def place(self) -> str:
        """Absolute path or URI."""
        return absolute(self.store.url)

    @cached_property
    def opened(self) -> Corpus:
        """With its shard records, checked."""
        return open_corpus(self.store.url)

    @contextmanager
    def _table(self) -> Iterator[Any]:
        """Open `samples.parquet`; None where there is none."""
        import pyarrow.parquet as pq

        if self.store.size(SAMPLES_FILE) is None:
            yield None
            return
        with self.store.local_copy(SAMPLES_FILE) as path, pq.ParquetFile(path) as table:
            yield table

    @cached_property
    def sources(self) -> dict[str, Source]:
        """Rows of the catalogue that samples were drawn from, by content hash."""
        with self.store.local_copy(SOURCES_FILE) as path:
            return {source.sha256: source for source in read_catalogue(path)}

    @cached_property
    def withdrawals(self) -> list[dict[str, Any]]:
        """What was taken out of earlier versions: the lines of `withdrawals.ndjson`, oldest first."""
        if not self.manifest.replaces or self.store.size(WITHDRAWALS_FILE) is None:
            return []
        return [json.loads(line) for line in self.store.read(WITHDRAWALS_FILE).splitlines()]

    @cached_property
    def used(self) -> frozenset[str]:
        """Content hashes of the sources that samples do hold: a small corpus draws only some of the catalogue."""
        import pyarrow.compute as pc

        with self._table() as table:
            if table is None:
                return frozenset(sha256 for sample in self._read_samples() for sha256 in sample.sources)
            column = table.read(columns=["source_sha256"])["source_sha256"]
            return frozenset(pc.unique(pc.list_flatten(column)).to_pylist())

    def samples_with(self, sha256: str) -> list[SampleUse]:
        """Return the samples that hold a source, in corpus order."""
        with self._table() as table:
            if table is not None:
                return _rows_with(table, "source_sha256", sha256)
        return [sample for sample in self._read_samples() if sha256 in sample.sources]

    def sample(self, key: str) -> SampleUse | None:
        """Return one sample by its key."""
        with self._table() as table:
            if table is not None:
                return next(iter(_rows_with(table, "key", key)), None)
        for shard in self.opened.shards:
            for entry in shard.samples:
                if entry.key == key:
                    described = self.opened.sample_json(shard, entry)
                    return _from_json(described, shard.tar_name)
        return None

    def _read_samples(self) -> Iterator[SampleUse]:
        for shard in self.opened.shards:
            for entry in shard.samples:
                yield _from_json(self.opened.sample_json(shard, entry), shard.tar_name)


def _rows_with(table: Any, column: str, value: str) -> list[SampleUse]:
    """Search one column, then read the rows that were found: a million samples take well under a second."""
    import pyarrow.compute as pc

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


def known_corpora(given: Iterable[Place], client: Any | None) -> list[KnownCorpus]:
    """Return the corpora given, those that MLflow runs used, and those below the current folder; each id once.

    The parts of merged ones are among them, but for those that do not lie where they were any more.

    Raises:
        UserError: when a given folder holds no corpus. What is found by itself and cannot be read is left out.
    """
    found: dict[str, KnownCorpus] = {}
    for root in given:
        store = open_store(root)
        _add(found, store, read_manifest(store))
    recorded = _recorded_places(client) if client is not None else ()
    for root in (*recorded, *_below(Path(), SEARCH_DEPTH)):
        try:
            store = open_store(root)
            manifest = read_manifest(store)
        except UserError:
            continue
        _add(found, store, manifest)
    return sorted(found.values(), key=lambda corpus: corpus.manifest.id)


def _add(found: dict[str, KnownCorpus], store: Store, manifest: CorpusManifest) -> None:
    if manifest.id in found:
        return
    found[manifest.id] = KnownCorpus(store, manifest)
    for part in manifest.parts:
        with suppress(UserError):  # moved away: the lineage shows it as one that was not found
            _add(found, *read_part(store, part))


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
