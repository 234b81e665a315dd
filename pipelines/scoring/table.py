"""`scores.parquet`: one row a sample, beside `samples.parquet` and joined with it by `key`.

Columns: `key`, `split`, `shard`, `shard_sha256`, the scores, and `failures`, which says why a score is null
(`METRIC: REASON`). A null without a reason was not measured. The file's metadata, under the key `ssiforge`, names the
corpus and what measured each metric. The table is no part of the corpus: no digest holds it.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from manifests.canonical import canonical_json
from manifests.corpus import ShardRecord
from manifests.errors import UserError
from manifests.store import Store
from pipelines.scoring.columns import Identity
from pipelines.scoring.shard_scores import MetricScores, ShardScores

SCORES_FILE = "scores.parquet"
FORMAT = 1
METADATA_KEY = b"ssiforge"
IDENTITY_COLUMNS = ("key", "split", "shard", "shard_sha256")


class MetricInfo(BaseModel):
    """What is known of a metric in the table."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    columns: tuple[str, ...]
    identity: Identity


class ScoresInfo(BaseModel):
    """The table's metadata."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: int = FORMAT
    corpus_id: str
    metrics: dict[str, MetricInfo]

    def metric_of(self, column: str) -> str | None:
        """Name the metric that a column belongs to."""
        return next((name for name, info in self.metrics.items() if column in info.columns), None)


class HeldScores:
    """A table that was read."""

    def __init__(self, info: ScoresInfo, table: Any) -> None:
        self.info = info
        self.table = table
        """Of pyarrow."""
        self._rows = _row_ranges(table["shard"].to_pylist())

    def of(self, record: ShardRecord) -> ShardScores | None:
        """Return the scores of a shard; None when the table has none of this content."""
        if record.tar_name not in self._rows:
            return None
        begin, end = self._rows[record.tar_name]
        rows = self.table.slice(begin, end - begin).to_pydict()
        if set(rows["shard_sha256"]) != {record.sha256} or rows["key"] != [e.key for e in record.samples]:
            return None
        found = {name: _metric_scores(name, info, rows) for name, info in self.info.metrics.items()}
        metrics = {name: scores for name, scores in found.items() if scores is not None}
        return ShardScores(shard=record.tar_name, sha256=record.sha256, metrics=metrics)


def _row_ranges(shards: list[str]) -> dict[str, tuple[int, int]]:
    """First row and the one after the last, of each shard."""
    ranges: dict[str, tuple[int, int]] = {}
    for row, shard in enumerate(shards):
        ranges[shard] = (ranges.get(shard, (row, row))[0], row + 1)
    return ranges


def _metric_scores(name: str, info: MetricInfo, rows: Mapping[str, list[Any]]) -> MetricScores | None:
    columns = {column: tuple(rows[column]) for column in info.columns}
    failures = {
        key: reasons[name]
        for key, said in zip(rows["key"], rows["failures"], strict=True)
        if name in (reasons := dict(line.split(": ", 1) for line in said))
    }
    measured = any(value is not None for values in columns.values() for value in values) or failures
    return MetricScores(identity=info.identity, columns=columns, failures=failures) if measured else None


def read_info(store: Store) -> ScoresInfo | None:
    """Read the table's metadata; None where there is no table.

    Raises:
        UserError: when the file is not such a table.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with store.local_copy(SCORES_FILE) as path:
            return _info_of(store, pq.read_schema(path))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except pa.ArrowInvalid as error:
        raise _not_a_table(store) from error


def read_scores(store: Store) -> HeldScores | None:
    """Read the table; None where there is none.

    Raises:
        UserError: when the file is not such a table.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with store.local_copy(SCORES_FILE) as path:
            table = pq.read_table(path, memory_map=False)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except pa.ArrowInvalid as error:
        raise _not_a_table(store) from error
    return HeldScores(_info_of(store, table.schema), table)


def _info_of(store: Store, schema: Any) -> ScoresInfo:
    try:
        info = ScoresInfo.model_validate(json.loads((schema.metadata or {})[METADATA_KEY]))
    except (KeyError, ValueError, ValidationError) as error:
        raise _not_a_table(store) from error
    wanted = {*IDENTITY_COLUMNS, "failures", *(c for m in info.metrics.values() for c in m.columns)}
    if info.format != FORMAT or not wanted <= set(schema.names):
        raise _not_a_table(store)
    return info


def _not_a_table(store: Store) -> UserError:
    return UserError(
        f"{store.where(SCORES_FILE)}: not a table of scores of this format; "
        "remove it and run 'ssiforge score' again"
    )


def write_scores(store: Store, info: ScoresInfo, shards: Iterable[tuple[ShardRecord, ShardScores]]) -> None:
    """Write the table, whole or not at all, a row group for each shard.

    Args:
        store: of the corpus.
        info: its metadata.
        shards: with their scores, in the corpus's order.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = [column for metric in info.metrics.values() for column in metric.columns]
    fields = [(name, pa.string()) for name in IDENTITY_COLUMNS]
    fields += [(name, pa.float64()) for name in columns] + [("failures", pa.list_(pa.string()))]
    metadata = {METADATA_KEY: canonical_json(info.model_dump(mode="json"))}
    schema = pa.schema(fields, metadata=metadata)
    with store.new_file(SCORES_FILE) as path, pq.ParquetWriter(path, schema) as writer:
        for record, scores in shards:
            writer.write_table(pa.table(_rows(record, scores, columns), schema=schema))


def _rows(record: ShardRecord, scores: ShardScores, columns: list[str]) -> dict[str, list[Any]]:
    keys = [entry.key for entry in record.samples]
    count = len(keys)
    held = {name: list(values) for m in scores.metrics.values() for name, values in m.columns.items()}
    return {
        "key": keys,
        "split": [record.split] * count,
        "shard": [record.tar_name] * count,
        "shard_sha256": [record.sha256] * count,
        **{name: held.get(name, [None] * count) for name in columns},
        "failures": [
            [f"{name}: {m.failures[key]}" for name, m in sorted(scores.metrics.items()) if key in m.failures]
            for key in keys
        ],
    }
