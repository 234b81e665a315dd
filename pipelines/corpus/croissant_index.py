"""`croissant.parquet`: one row a sample, with the addresses of its audio, for readers that know no tar.

An address is a chained URL as fsspec opens it, relative to the corpus: `tar://KEY.target.flac::train/shard-000000.tar`.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from manifests.corpus import SAMPLES_FILE, CorpusManifest
from manifests.parts import Part
from manifests.store import Store

INDEX_FILE = "croissant.parquet"
AUDIO = {"degraded_audio": "degraded.flac", "target_audio": "target.flac"}
"""Columns that hold addresses, with the extension of what they point to."""
NAMES = ("key", "corpus", "split", "shard", "seconds", "speaker", "licences", "target", "aligned", "stages")
"""Columns of `samples.parquet` that are taken over, where it has them, besides severities and measurements."""
_PREFIXES = ("severity.", "measured.")


def write_index(store: Store, manifest: CorpusManifest) -> Any:
    """Write the index of a finished corpus from its table of samples; return its Arrow schema."""
    import pyarrow.parquet as pq

    with (
        store.local_copy(SAMPLES_FILE) as path,
        pq.ParquetFile(path) as table,
        store.new_file(INDEX_FILE) as out,
    ):
        return _write(table, out, manifest)


def _write(table: Any, out: Path, manifest: CorpusManifest) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    taken = _taken(table.schema_arrow.names)
    columns = [table.schema_arrow.field(name) for name in taken]
    schema = pa.schema([*columns[:1], *(pa.field(name, pa.string()) for name in AUDIO), *columns[1:]])
    address = _addresses(manifest)
    with pq.ParquetWriter(out, schema, compression="zstd") as writer:
        for group in range(table.num_row_groups):
            rows = table.read_row_group(group, columns=taken)
            corpora = rows["corpus"].to_pylist() if "corpus" in taken else [""] * len(rows)
            where = list(zip(rows["key"].to_pylist(), corpora, rows["shard"].to_pylist(), strict=True))
            for position, (name, extension) in enumerate(AUDIO.items(), 1):
                found = [address(key, corpus, shard, extension) for key, corpus, shard in where]
                rows = rows.add_column(position, name, pa.array(found, pa.string()))
            writer.write_table(rows.cast(schema))
    return schema


def _taken(names: list[str]) -> list[str]:
    """Name the columns that are taken over, in a fixed order."""
    return [name for name in NAMES if name in names] + sorted(
        name for name in names if name.startswith(_PREFIXES)
    )


def _addresses(manifest: CorpusManifest) -> Callable[[str, str, str, str], str]:
    """Return what makes an address of a key, a part's id, a shard and an extension."""
    parts: dict[str, Part] = {part.corpus: part for part in manifest.parts}

    def address(key: str, corpus: str, shard: str, extension: str) -> str:
        if not parts:
            return f"tar://{key}.{extension}::{shard}"
        part = parts[corpus]
        own_key = key.removeprefix(part.key(""))
        return f"tar://{own_key}.{extension}::{part.place or part.folder}/{shard}"

    return address
