"""Which samples of a corpus hold which source: from `samples.parquet`, or from the tars where there is no such table.

A corpus with an index of them is asked through that (`pipelines.corpus.lineage_index`); the answers are the same.
"""

import io
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, Protocol

from manifests.corpus import Corpus
from manifests.errors import UserError
from manifests.recipe import SPLITS
from manifests.store import Store
from pipelines.arrow_values import strings, text, union


@dataclass(frozen=True)
class SampleUse:
    """A sample and what it is made of."""

    key: str
    split: str
    shard: str
    """Path of its tar within the corpus."""
    speaker: str
    licences: tuple[str, ...]
    sources: tuple[str, ...]
    """Content hashes."""


class Uses(Protocol):
    """Answers which samples hold which sources."""

    @property
    def used(self) -> Any:
        """Hashes of all sources that samples hold, an Arrow array."""
        ...

    def shards_with(self, sha256: str) -> dict[str, list[str]]:
        """Keys of the samples that hold a source, by shard, in corpus order."""
        ...

    def samples_with_any(self, hashes: Any) -> Mapping[str, int]:
        """Number of samples that hold at least one of some sources (an Arrow array of hashes), by split."""
        ...


class TableUses:
    """Searches the column `source_sha256` of `samples.parquet`, a row group at a time."""

    def __init__(self, table: Any) -> None:
        self._table = table

    @cached_property
    def used(self) -> Any:
        """Hashes of all sources that samples hold, an Arrow array."""
        import pyarrow.compute as pc

        groups = range(self._table.num_row_groups)
        return union(pc.unique(pc.list_flatten(self._column(group))) for group in groups)

    def shards_with(self, sha256: str) -> dict[str, list[str]]:
        """Keys of the samples that hold a source, by shard, in corpus order."""
        found: dict[str, list[str]] = {}
        for rows in self._rows_with(strings([sha256]), ["shard", "key"]):
            for shard, key in zip(rows["shard"].to_pylist(), rows["key"].to_pylist(), strict=True):
                found.setdefault(shard, []).append(key)
        return found

    def samples_with_any(self, hashes: Any) -> Mapping[str, int]:
        """Number of samples that hold at least one of some sources (an Arrow array of hashes), by split."""
        total: Counter[str] = Counter()
        for rows in self._rows_with(hashes, ["shard"]):
            total.update(counted(rows["shard"]))
        return in_order(total)

    def _column(self, group: int) -> Any:
        return columns_of(self._table, group, ["source_sha256"])["source_sha256"].combine_chunks()

    def _rows_with(self, hashes: Any, names: list[str]) -> Iterator[Any]:
        import pyarrow.compute as pc

        for group in range(self._table.num_row_groups):
            searched = self._column(group)
            held = pc.is_in(pc.list_flatten(searched), value_set=hashes)
            rows = pc.unique(pc.list_parent_indices(searched).filter(held))
            if len(rows):
                yield columns_of(self._table, group, names).take(rows)


class TarUses:
    """Reads every sample's JSON out of the shards: right for any corpus, and as slow as that is."""

    def __init__(self, corpus: Corpus) -> None:
        self._corpus = corpus

    @cached_property
    def _samples(self) -> list[SampleUse]:
        return [
            _from_json(self._corpus.sample_json(shard, entry), shard.tar_name)
            for shard in self._corpus.shards
            for entry in shard.samples
        ]

    @cached_property
    def used(self) -> Any:
        """Hashes of all sources that samples hold, an Arrow array."""
        return strings(dict.fromkeys(sha256 for sample in self._samples for sha256 in sample.sources))

    def shards_with(self, sha256: str) -> dict[str, list[str]]:
        """Keys of the samples that hold a source, by shard, in corpus order."""
        found: dict[str, list[str]] = {}
        for sample in self._samples:
            if sha256 in sample.sources:
                found.setdefault(sample.shard, []).append(sample.key)
        return found

    def samples_with_any(self, hashes: Any) -> Mapping[str, int]:
        """Number of samples that hold at least one of some sources (an Arrow array of hashes), by split."""
        wanted = set(hashes.to_pylist())
        return in_order(Counter(s.split for s in self._samples if wanted & set(s.sources)))


def samples_in_table(table: Any, column: Literal["key", "shard"], value: str) -> Iterator[SampleUse]:
    """Find the sample of a key, or those of a shard, in `samples.parquet`."""
    import pyarrow.compute as pc

    names = ["key", "split", "shard", "speaker", "licences", "source_sha256"]
    for group in touched_groups(table, column, value):
        rows = pc.indices_nonzero(pc.equal(columns_of(table, group, [column])[column], text(value)))
        if len(rows):
            for row in columns_of(table, group, names).take(rows).to_pylist():
                hashes = tuple(dict.fromkeys(row.pop("source_sha256")))
                yield SampleUse(**row | {"licences": tuple(row["licences"])}, sources=hashes)


def samples_in_tars(corpus: Corpus, column: Literal["key", "shard"], value: str) -> Iterator[SampleUse]:
    """Find the same in the shards, of which the records say what they hold."""
    for shard in corpus.shards:
        for entry in shard.samples:
            if value == (entry.key if column == "key" else shard.tar_name):
                yield _from_json(corpus.sample_json(shard, entry), shard.tar_name)


def _from_json(sample: dict[str, Any], shard: str) -> SampleUse:
    try:
        return SampleUse(
            sample["key"],
            sample["split"],
            shard,
            sample["speaker"],
            tuple(sample["licences"]),
            tuple(dict.fromkeys(source["sha256"] for source in sample["sources"])),
        )
    except (KeyError, TypeError) as error:
        raise UserError(
            f"{shard}: what it says of a sample is not what generate writes ({error}); run 'ssiforge verify'"
        ) from error


def opened(store: Store, name: str) -> Any | None:
    """Open a Parquet file of a corpus, mapped where it is local; None where there is none.

    Raises:
        UserError: when it is none, or cannot be read.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not store.size(name):
        return None
    try:
        if store.folder is not None:
            return pq.ParquetFile(store.folder / name, memory_map=True)
        return pq.ParquetFile(io.BytesIO(store.read(name)))
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{store.where(name)}: cannot be read as Parquet ({error})") from error


def columns_of(table: Any, group: int, names: list[str]) -> Any:
    """Read some columns of one row group; one thread does, for starting others takes longer."""
    return table.read_row_group(group, columns=names, use_threads=False)


def touched_groups(table: Any, column: str, lowest: str, highest: str | None = None) -> Iterator[int]:
    """Name the row groups that may hold values from `lowest` to `highest` (the same if not given)."""
    number = next(n for n in range(table.metadata.num_columns) if table.schema.column(n).path == column)
    for group in range(table.num_row_groups):
        limits = table.metadata.row_group(group).column(number).statistics
        if (
            limits is None
            or not limits.has_min_max
            or limits.min <= (highest or lowest)
            and lowest <= limits.max
        ):
            yield group


def counted(shards: Any) -> Mapping[str, int]:
    """Count samples by split, given the shard of each (an Arrow column)."""
    total: Counter[str] = Counter()
    for row in shards.value_counts().to_pylist():
        total[row["values"].partition("/")[0]] += row["counts"]
    return in_order(total)


def in_order(total: Mapping[str, int]) -> dict[str, int]:
    """Return counts in the order of the splits."""
    return {split: total[split] for split in SPLITS if total.get(split)}
