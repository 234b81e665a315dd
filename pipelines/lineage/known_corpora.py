"""Which corpora a lineage question can be asked of, and what each of them answers."""

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from manifests.corpus import (
    SAMPLES_FILE,
    WITHDRAWALS_FILE,
    Corpus,
    CorpusManifest,
    SampleEntry,
    ShardRecord,
    open_corpus,
    read_manifest,
    read_part,
    read_shard_record,
    record_name,
)
from manifests.errors import UserError
from manifests.source import Source
from manifests.store import Place, Store, absolute, open_store
from pipelines.corpus.catalogue_queries import CatalogueTable
from pipelines.corpus.lineage_index import open_index
from pipelines.corpus.reading import json_lines
from pipelines.corpus.sample_uses import (
    SampleUse,
    TableUses,
    TarUses,
    Uses,
    opened,
    samples_in_table,
    samples_in_tars,
)
from pipelines.models.folders import Found
from pipelines.tracking.records import Stored
from pipelines.tracking.store import CORPUS_SOURCE_TYPE


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
    def catalogue(self) -> CatalogueTable:
        """Rows of the catalogue that samples were drawn from."""
        return CatalogueTable(self.store)

    @cached_property
    def uses(self) -> Uses:
        """Which samples hold which sources: by the index, else by the table of samples, else by the tars."""
        if (index := open_index(self.store, self.manifest)) is not None:
            return index
        table = opened(self.store, SAMPLES_FILE)
        return TableUses(table) if table is not None else TarUses(self._opened)

    @cached_property
    def _opened(self) -> Corpus:
        """With its shard records, checked."""
        return open_corpus(self.store.url)

    @property
    def used(self) -> Any:
        """Hashes of the sources that samples do hold, an Arrow array: a small corpus draws some of the catalogue."""
        return self.uses.used

    def source(self, sha256: str) -> Source | None:
        """Return a source that samples hold, or could have held."""
        return self.catalogue.source(sha256)

    def starting(self, prefix: str) -> set[str]:
        """Return the content hashes of sources that begin so."""
        return self.catalogue.starting(prefix)

    def at(self, path: str) -> dict[str, str]:
        """Return hash and path of the sources whose path is this one, or ends in it."""
        return self.catalogue.at(path)

    @cached_property
    def withdrawals(self) -> list[dict[str, Any]]:
        """What was taken out of earlier versions: the lines of `withdrawals.ndjson`, oldest first."""
        return json_lines(self.store, WITHDRAWALS_FILE) if self.manifest.replaces else []

    def earlier_than(self, place: int) -> list[str]:
        """Return the ids of the corpora that may have held what the withdrawal at `place` took, besides its own.

        They are the versions before it, and what any of them was when it was smaller.
        """
        *before, last = self.withdrawals[: place + 1]
        ids = [line[name] for line in before for name in ("replaces", "grown_from") if line.get(name)]
        return [*ids, *filter(None, [last.get("grown_from")])]

    def hashes_with(self, column: str, value: str) -> Any:
        """Return the hashes of the sources of a speaker or under a licence, an Arrow array."""
        return self.catalogue.hashes_with(column, value)

    def listed(self, hashes: Any) -> list[Source]:
        """Return the sources with some hashes (an Arrow array)."""
        return self.catalogue.listed(hashes)

    def samples_with_any(self, hashes: Any) -> Mapping[str, int]:
        """Number of samples that hold at least one of some sources (an Arrow array of hashes), by split."""
        return self.uses.samples_with_any(hashes)

    def sample(self, key: str) -> SampleUse | None:
        """Return one sample by its key."""
        return next(self._samples("key", key), None)

    def record(self, shard: str) -> ShardRecord | None:
        """Return the record of a shard, by the path of its tar; None where that cannot be read."""
        try:
            return read_shard_record(self.store, record_name(shard))
        except (OSError, UserError):
            return None

    def entry(self, sample: SampleUse) -> SampleEntry | None:
        """Return what the record of its shard says of a sample; None where that cannot be read."""
        record = self.record(sample.shard)
        entries = record.samples if record is not None else ()
        return next((entry for entry in entries if entry.key == sample.key), None)

    def in_shard(self, name: str) -> list[SampleUse]:
        """Return the samples of a shard by the path of its tar within the corpus."""
        return list(self._samples("shard", name))

    def _samples(self, column: Literal["key", "shard"], value: str) -> Iterator[SampleUse]:
        table = opened(self.store, SAMPLES_FILE)
        if table is not None:
            return samples_in_table(table, column, value)
        return samples_in_tars(self._opened, column, value)


def known_corpora(given: Iterable[Place], stored: Stored | None, found: Found) -> list[KnownCorpus]:
    """Return the corpora given, those that MLflow runs used, and those found in folders; each id once.

    The parts of merged ones are among them, but for those that do not lie where they were any more.

    Raises:
        UserError: when a given folder holds no corpus. What is found by itself and cannot be read is left out, and
            told in `found.not_read`.
    """
    known: dict[str, KnownCorpus] = {}
    for root in given:
        store = open_store(root)
        _add(known, store, read_manifest(store))
    recorded = _recorded_places(stored) if stored is not None else ()
    here = list(map(str, found.corpora))
    for root in dict.fromkeys((*here, *recorded)):
        try:
            store = open_store(root)
            manifest = read_manifest(store)
        except UserError as error:
            if root in here:  # and where MLflow recorded one, none lies any more
                found.not_read.append(str(error))
            continue
        _add(known, store, manifest)
    return sorted(known.values(), key=lambda corpus: corpus.manifest.id)


def _add(known: dict[str, KnownCorpus], store: Store, manifest: CorpusManifest) -> None:
    if manifest.id in known:
        return
    known[manifest.id] = KnownCorpus(store, manifest)
    for part in manifest.parts:
        with suppress(UserError):  # moved away: the lineage shows it as one that was not found
            _add(known, *read_part(store, part))


def _recorded_places(stored: Stored) -> list[str]:
    return list(
        dict.fromkeys(
            str(json.loads(dataset.source)["location"])
            for dataset in stored.datasets
            if dataset.source_type == CORPUS_SOURCE_TYPE
        )
    )
