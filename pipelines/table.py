"""`samples.parquet`: one row a sample, drawn and measured values side by side, to query with any Parquet reader."""

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from manifests.corpus import ShardRecord, read_sample_json
from manifests.files import write_atomically
from manifests.sample import AXES, SampleRecord


def read_records(root: Path, shards: Iterable[ShardRecord]) -> Iterator[SampleRecord]:
    """Read every `KEY.json` of a corpus by byte offset, in corpus order."""
    for shard in shards:
        for entry in shard.samples:
            yield SampleRecord.model_validate(read_sample_json(root, shard, entry))


def write_samples_table(path: Path, samples: Sequence[SampleRecord], shards: Sequence[ShardRecord]) -> None:
    """Write the table atomically.

    Columns: identity, `source_sha256` (list), `stages` (list of labels in applied order), `measured.NAME`,
    `severity.AXIS`, and for each stage label `LABEL.NAME` (drawn) and `LABEL.measured.NAME` (delivered). A stage
    that did not fire leaves its columns empty; values that are not scalars are JSON text.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    shard_of = {entry.key: shard.tar_name for shard in shards for entry in shard.samples}
    rows = [_row(sample, shard_of[sample.key]) for sample in samples]
    names = sorted({name for row in rows for name in row}, key=lambda name: ("." in name, name))
    columns = {name: pa.array(_column(name, rows)) for name in names}
    content = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), content)
    write_atomically(path, memoryview(content.getvalue()))


def _row(sample: SampleRecord, shard: str) -> dict[str, Any]:
    row: dict[str, Any] = {
        "key": sample.key,
        "split": sample.split,
        "index": sample.index,
        "attempt": sample.attempt,
        "shard": shard,
        "seconds": sample.frames / sample.sample_rate_hz,
        "speaker": sample.speaker,
        "aligned": sample.aligned,
        "target": sample.target.kind,
        "licences": list(sample.licences),
        "source_sha256": [source.sha256 for source in sample.sources],
        "stages": [stage.label for stage in sample.stages],
    }
    row |= {f"measured.{name}": value for name, value in sample.measured.items()}
    row |= {f"severity.{axis}": sample.severity[axis] for axis in AXES}
    for stage in sample.stages:
        row |= {f"{stage.label}.{name}": _scalar(value) for name, value in stage.values.items()}
        row |= {f"{stage.label}.measured.{name}": _scalar(value) for name, value in stage.measured.items()}
    return row


def _scalar(value: Any) -> Any:
    return json.dumps(value, sort_keys=True) if isinstance(value, (list, dict)) else value


def _column(name: str, rows: list[dict[str, Any]]) -> list[Any]:
    """Give a column one type: numbers become floats where any is one, mixtures become text."""
    values = [row.get(name) for row in rows]
    kinds = {type(value) for value in values if value is not None}
    if kinds == {int, float}:
        return [None if value is None else float(value) for value in values]
    if len(kinds) > 1:
        return [None if value is None else str(value) for value in values]
    return values
