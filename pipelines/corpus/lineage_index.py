"""`lineage.parquet`: which samples hold which source, made when a corpus is finished, so that no tar is ever searched.

One row for each source of each sample, sorted by the source's hash and then in corpus order: `source` (SHA-256),
`row` (of the sample in `samples.parquet`), `shard` (path of its tar) and `key`. Row groups know their lowest and
highest hash, so that the samples of one source are found by reading one of them. A corpus without the file, or with
that of another corpus, is searched in `samples.parquet` instead (`pipelines.corpus.sample_uses`).
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manifests.corpus import SAMPLES_FILE, CorpusManifest
from manifests.errors import UserError
from manifests.store import Store
from pipelines.arrow_values import integers, text, union
from pipelines.corpus.sample_uses import columns_of, counted, opened, touched_groups

INDEX_FILE = "lineage.parquet"
FORMAT = b"1"
_FORMAT_KEY, _CORPUS_KEY = b"ssiforge.format", b"ssiforge.corpus_id"
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
    schema = pa.schema(
        [("source", pa.string()), ("row", pa.int32()), ("shard", pa.string()), ("key", pa.string())],
        metadata={_FORMAT_KEY: FORMAT, _CORPUS_KEY: manifest.id.encode()},
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


class IndexedUses:
    """The uses of sources by samples, read from the index (`pipelines.corpus.sample_uses.Uses`)."""

    def __init__(self, table: Any) -> None:
        self._table = table

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
            rows = read.slice(first, last - first)
            for shard, key in zip(rows["shard"].to_pylist(), rows["key"].to_pylist(), strict=True):
                found.setdefault(shard, []).append(key)
        return found

    def samples_with_any(self, hashes: Any) -> Mapping[str, int]:
        """Number of samples that hold at least one of some sources (an Arrow array of hashes), by split."""
        import pyarrow as pa
        import pyarrow.compute as pc

        if not len(hashes):
            return {}
        limits = pc.min_max(hashes)
        held = []
        for group in touched_groups(self._table, "source", limits["min"].as_py(), limits["max"].as_py()):
            read = columns_of(self._table, group, ["source", "row", "shard"])
            held.append(read.filter(pc.is_in(read["source"], value_set=hashes)).select(["row", "shard"]))
        if not held:
            return {}
        rows = pa.concat_tables(held)
        _, first = np.unique(rows["row"].to_numpy(), return_index=True)
        return counted(rows["shard"].take(integers(first)))


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
    return IndexedUses(table) if ours else None
