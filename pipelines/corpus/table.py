"""`samples.parquet`: one row a sample, drawn and measured values side by side, to query with any Parquet reader.

Columns: identity, `source_sha256` (list), `stages` (list of labels in applied order), `measured.NAME`,
`severity.AXIS`, and for each stage label `LABEL.NAME` (drawn) and `LABEL.measured.NAME` (delivered). A stage that did
not fire leaves its columns empty; values that are not scalars are JSON text.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from manifests.sample import AXES, SampleRecord

ROWS_AT_A_TIME = 8_192
"""Rows of a row group: bounds memory, whatever the number of samples."""

Row = dict[str, Any]
Kinds = frozenset[str]
"""Names of the Python types that a column holds, None left out."""


def row_of(sample: SampleRecord, shard: str) -> Row:
    """Return a sample's row.

    Args:
        sample: its record.
        shard: name of the tar that holds it, within the corpus.
    """
    row: Row = {
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


def kinds_of(rows: Iterable[Row]) -> dict[str, Kinds]:
    """Return which kinds of value each column of some rows holds."""
    kinds: dict[str, set[str]] = {}
    for row in rows:
        for name, value in row.items():
            of_column = kinds.setdefault(name, set())
            if value is not None:
                of_column.add(type(value).__name__)
    return {name: frozenset(names) for name, names in kinds.items()}


def write_table(path: Path, rows: Iterable[Row], columns: Mapping[str, Kinds]) -> None:
    """Write rows as they come, a bounded number at a time.

    A column has one type: numbers become floats where any is one, mixtures become text.

    Args:
        path: of the Parquet file.
        rows: in the order in which they shall stand.
        columns: kinds of value in each column, of all rows together.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = sorted(columns, key=column_order)
    schema = pa.schema([pa.field(name, _type(pa, columns[name])) for name in names])
    with pq.ParquetWriter(path, schema) as writer:
        for some in _chunks(rows):
            content = {name: _column([row.get(name) for row in some], columns[name]) for name in names}
            writer.write_table(pa.table(content, schema=schema), row_group_size=ROWS_AT_A_TIME)


def column_order(name: str) -> tuple[bool, str]:
    """Return what columns are sorted by: what every sample has stands first."""
    return "." in name, name


def _chunks(rows: Iterable[Row]) -> Iterator[list[Row]]:
    waiting = iter(rows)
    while some := list(islice(waiting, ROWS_AT_A_TIME)):
        yield some


def _type(pa: Any, kinds: Kinds) -> Any:
    if not kinds:
        return pa.null()
    if kinds == {"int", "float"}:
        return pa.float64()
    known = {"int": pa.int64(), "float": pa.float64(), "bool": pa.bool_(), "list": pa.list_(pa.string())}
    return known.get(min(kinds), pa.string()) if len(kinds) == 1 else pa.string()


def _column(values: list[Any], kinds: Kinds) -> list[Any]:
    if kinds == {"int", "float"}:
        return [None if value is None else float(value) for value in values]
    if len(kinds) > 1:
        return [None if value is None else str(value) for value in values]
    return values
