"""`lineage.parquet`: which samples hold which source, made when a corpus is finished, so that no tar is ever searched.

One row for each source of each sample, sorted by the source's hash and then in corpus order: `source` (SHA-256),
`row` (of the sample in `samples.parquet`), `shard` (path of its tar) and `key`. Row groups know their lowest and
highest hash, so that the samples of one source are found by reading one of them. A corpus without the file, or with
that of another corpus, is searched in `samples.parquet` instead (`pipelines.corpus.sample_uses`).

Its metadata says at which row each shard begins, so that the samples of a selection are known by their rows.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manifests.corpus import SAMPLES_FILE, CorpusManifest
from manifests.errors import UserError
from manifests.store import Store
from pipelines.arrow_values import integers, text, union
from pipelines.corpus.sample_uses import columns_of, counted, in_order, opened, touched_groups

INDEX_FILE = "lineage.parquet"
FORMAT = b"1"
_FORMAT_KEY, _CORPUS_KEY = b"ssiforge.format", b"ssiforge.corpus_id"
_FIRST_ROWS_KEY = b"ssiforge.first_rows"
"""First row of each shard of the manifest, in its order, or -1 for one without samples, and at the end the number of
rows; only where the samples of each shard stand side by side, in the order that they have in it."""
ROWS_A_GROUP = 1 << 16
_DICTIONARY_BYTES = 1 << 23
"""A row group's hashes, each written once, fit in here."""


def write_index(store: Store, manifest: CorpusManifest) -> None:
    """Write the index of a corpus that has samples of its own; a merged one is found by the indices of its parts.

    It holds 8 bytes in memory for each source of each sample, and each sample's key.
    """
    if manifest.parts or store.size(SAMPLES_FILE) is None:
        return
    import pyarrow as pa
    import pyarrow.parquet as pq

    with store.local_copy(SAMPLES_FILE) as path:
        hashes, uses, keys, shards = _read(path)
    metadata = {_FORMAT_KEY: FORMAT, _CORPUS_KEY: manifest.id.encode()}
    if (first_rows := _first_rows(keys, shards)) is not None:
        begins = [first_rows.get(name, -1) for name, _ in manifest.shards_in_order()]
        metadata[_FIRST_ROWS_KEY] = json.dumps([*begins, len(keys)]).encode()
    schema = pa.schema(
        [("source", pa.string()), ("row", pa.int32()), ("shard", pa.string()), ("key", pa.string())],
        metadata=metadata,
    )
    with (
        store.new_file(INDEX_FILE) as path,
        pq.ParquetWriter(
            path,
            schema,
            use_dictionary=["source", "shard"],
            column_encoding={"key": "DELTA_BYTE_ARRAY"},
            dictionary_pagesize_limit=_DICTIONARY_BYTES,
            compression="zstd",
        ) as writer,
    ):
        for first in range(0, len(uses), ROWS_A_GROUP):
            some = uses[first : first + ROWS_A_GROUP]
            rows = pa.array((some & 0xFFFFFFFF).astype(np.int32))
            columns = [hashes.take(pa.array(some >> 32)), rows, shards.take(rows), keys.take(rows)]
            writer.write_table(pa.table(columns, schema=schema), row_group_size=ROWS_A_GROUP)


def _read(path: Path) -> tuple[Any, NDArray[np.int64], Any, Any]:
    """Return all hashes in order; hash number and row of each use in one integer, sorted; keys; shards."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    number: dict[str, int] = {}
    uses: list[NDArray[np.int64]] = []
    keys, shards, before = [], [], 0
    with pq.ParquetFile(path) as table:
        for group in range(table.num_row_groups):
            read = table.read_row_group(group, columns=["key", "shard", "source_sha256"]).combine_chunks()
            keys.append(read["key"].combine_chunks())
            shards.append(read["shard"].combine_chunks())
            lists = read["source_sha256"].combine_chunks()
            rows = pc.list_parent_indices(lists).to_numpy().astype(np.int64) + before
            coded = pc.dictionary_encode(pc.list_flatten(lists))
            if isinstance(coded, pa.ChunkedArray):
                coded = coded.combine_chunks()
            codes = np.array(
                [number.setdefault(sha256, len(number)) for sha256 in coded.dictionary.to_pylist()], np.int64
            )
            uses.append((codes[coded.indices.to_numpy()] << 32 | rows) if len(rows) else rows)
            before += len(read)
    names = np.array(list(number), dtype=object)
    order = np.argsort(names) if len(names) else np.zeros(0, np.int64)
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    together = np.concatenate(uses) if uses else np.zeros(0, np.int64)
    # A source may stand in a sample twice, as when a short noise is repeated.
    together = np.unique((rank[together >> 32] << 32) | (together & 0xFFFFFFFF))
    return pa.array(list(names[order]), pa.string()), together, _joined(pa, keys), _joined(pa, shards)


def _joined(pa: Any, arrays: Sequence[Any]) -> Any:
    return pa.concat_arrays(arrays) if arrays else pa.array([], pa.string())


def _first_rows(keys: Any, shards: Any) -> dict[str, int] | None:
    """Return the first row of each shard; None where rows of shards are mixed, or not in the order of their keys."""
    import pyarrow.compute as pc

    if not len(shards):
        return {}
    begins = _begins(shards)
    names = shards.take(integers(begins)).to_pylist()
    if len(set(names)) < len(names):
        return None
    before, after = keys.slice(0, len(keys) - 1), keys.slice(1)
    # Their numbers have six digits and may have more: a longer key comes later.
    longer = pc.subtract(pc.binary_length(after), pc.binary_length(before))
    later = pc.or_(pc.greater(longer, 0), pc.and_(pc.equal(longer, 0), pc.less(before, after)))
    later = later.to_numpy(zero_copy_only=False)
    later[begins[1:] - 1] = True
    if not later.all():
        return None
    return dict(zip(names, begins.tolist(), strict=True))


def _begins(shards: Any) -> NDArray[np.int64]:
    """Return the rows at which an Arrow array begins to name another shard; it is not empty."""
    import pyarrow.compute as pc

    another = pc.not_equal(shards.slice(1), shards.slice(0, len(shards) - 1))
    return np.concatenate([[0], pc.indices_nonzero(another).to_numpy().astype(np.int64) + 1])


def _written_rows(written: bytes | None, shards: int) -> list[int]:
    """Return first rows and the number of all, as the metadata has them for so many shards; empty where it has not."""
    try:
        rows = json.loads(written or b"[]")
    except ValueError:
        return []
    is_one = isinstance(rows, list) and len(rows) == shards + 1 and all(isinstance(row, int) for row in rows)
    return rows if is_one else []


class IndexedUses:
    """The uses of sources by samples, read from the index (`pipelines.corpus.sample_uses.Uses`)."""

    def __init__(self, table: Any, shards: Sequence[str]) -> None:
        """Read an index.

        Args:
            table: the file.
            shards: of its corpus, in order.
        """
        self._table = table
        rows = _written_rows((table.schema_arrow.metadata or {}).get(_FIRST_ROWS_KEY), len(shards))
        self._first_rows = dict(zip(shards, rows[:-1], strict=True)) if rows else None
        self._samples = rows[-1] if rows else 0
        self._rows_found: tuple[Any, NDArray[np.int32]] = (None, np.zeros(0, np.int32))

    @property
    def knows_order(self) -> bool:
        """Whether it can tell which samples a selection means."""
        return self._first_rows is not None

    @cached_property
    def used(self) -> Any:
        """Hashes of all sources that samples hold, an Arrow array."""
        groups = range(self._table.num_row_groups)
        return union(columns_of(self._table, group, ["source"])["source"].unique() for group in groups)

    def shards_with(self, sha256: str) -> dict[str, list[str]]:
        """Keys of the samples that hold a source, by shard, in corpus order."""
        found: dict[str, list[str]] = {}
        for group in touched_groups(self._table, "source", sha256):
            read = columns_of(self._table, group, ["source", "shard", "key"])
            first, last = _span(read["source"], sha256)
            if first == last:
                continue
            rows = read.slice(first, last - first)
            shards, keys = rows["shard"].combine_chunks(), rows["key"].to_pylist()
            begins = _begins(shards)
            ends = [*begins[1:].tolist(), len(keys)]
            for shard, begin, end in zip(
                shards.take(integers(begins)).to_pylist(), begins, ends, strict=True
            ):
                found.setdefault(shard, []).extend(keys[begin:end])
        return found

    def samples_with_any(self, hashes: Any) -> Mapping[str, int]:
        """Number of samples that hold at least one of some sources (an Arrow array of hashes), by split."""
        if self.knows_order:
            held = np.zeros(self._samples, bool)
            held[self._rows_with(hashes)] = True
            counts = {s: int((held & of_split).sum()) for s, of_split in self._rows_of_splits.items()}
            return in_order(counts)
        found = self._found(hashes, ["row", "shard"])
        _, first = np.unique(found["row"].to_numpy(), return_index=True)
        return counted(found["shard"].take(integers(first)))

    def kept_rows(self, kept: Mapping[str, Sequence[int]]) -> NDArray[np.bool_]:
        """Say of each row of `samples.parquet` whether its sample is kept.

        Args:
            kept: numbers of the samples that are, by shard.
        """
        assert self._first_rows is not None
        counts = np.array([len(numbers) for numbers in kept.values()], np.int64)
        begins = np.array([self._first_rows[name] for name in kept], np.int64)
        numbers = np.fromiter(chain.from_iterable(kept.values()), np.int64, int(counts.sum()))
        held = np.zeros(self._samples, bool)
        held[np.repeat(begins, counts) + numbers] = True
        return held

    def splits_with_any(self, hashes: Any, kept: NDArray[np.bool_]) -> frozenset[str]:
        """Return the splits in which kept samples hold at least one of some sources (an Arrow array of hashes)."""
        rows = self._rows_with(hashes)
        held = rows[kept[rows]]
        return frozenset(split for split, of_split in self._rows_of_splits.items() if of_split[held].any())

    def sources_of(self, kept: NDArray[np.bool_]) -> dict[str, Any]:
        """Return the hashes of the sources of kept samples, Arrow arrays by split."""
        found: dict[str, list[Any]] = {}
        for group in range(self._table.num_row_groups):
            read = columns_of(self._table, group, ["source", "row"])
            rows = read["row"].to_numpy()
            for split, of_split in self._rows_of_splits.items():
                held = np.flatnonzero((kept & of_split)[rows])
                found.setdefault(split, []).append(read["source"].take(integers(held)).unique())
        return {split: union(arrays) for split, arrays in found.items()}

    @cached_property
    def _rows_of_splits(self) -> dict[str, NDArray[np.bool_]]:
        assert self._first_rows is not None
        begins = {begin: name.partition("/")[0] for name, begin in self._first_rows.items() if begin >= 0}
        order = sorted(begins)
        splits = np.repeat([begins[begin] for begin in order], np.diff([*order, self._samples]))
        return {str(split): splits == split for split in np.unique(splits)}

    def _rows_with(self, hashes: Any) -> NDArray[np.int32]:
        """Return the row of each use of some sources; one question is asked again for each selection."""
        if self._rows_found[0] is not hashes:
            self._rows_found = (hashes, self._found(hashes, ["row"])["row"].to_numpy())
        return self._rows_found[1]

    def _found(self, hashes: Any, names: list[str]) -> Any:
        """Return some columns of each use of some sources."""
        import pyarrow as pa
        import pyarrow.compute as pc

        def read() -> Iterator[Any]:
            yield self._table.schema_arrow.empty_table().select(names)
            if len(hashes):
                limits = pc.min_max(hashes)
                lowest, highest = limits["min"].as_py(), limits["max"].as_py()
                for group in touched_groups(self._table, "source", lowest, highest):
                    uses = columns_of(self._table, group, ["source", *names])
                    yield uses.filter(pc.is_in(uses["source"], value_set=hashes)).select(names)

        return pa.concat_tables(read())


def _span(sources: Any, sha256: str) -> tuple[int, int]:
    """Return where a hash begins and ends in a sorted column."""
    import pyarrow.compute as pc

    at = pc.indices_nonzero(pc.equal(sources, text(sha256)))
    return (int(at[0].as_py()), int(at[-1].as_py()) + 1) if len(at) else (0, 0)


def open_index(store: Store, manifest: CorpusManifest) -> IndexedUses | None:
    """Open the index of a corpus; None where there is none, or it is damaged, of another corpus or another format."""
    try:
        table = opened(store, INDEX_FILE)
    except UserError:
        return None
    if table is None:
        return None
    held = table.schema_arrow.metadata or {}
    ours = held.get(_FORMAT_KEY) == FORMAT and held.get(_CORPUS_KEY) == manifest.id.encode()
    return IndexedUses(table, [name for name, _ in manifest.shards_in_order()]) if ours else None
