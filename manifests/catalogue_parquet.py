"""Catalogues in Parquet: written, and turned into a file of arrays, some thousand rows at a time.

pyarrow is imported in here alone, by whoever writes a catalogue or is the first to read one.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import MISSING, dataclass, field, fields
from itertools import islice, pairwise
from pathlib import Path
from typing import Any, BinaryIO, get_args

import numpy as np
from numpy.typing import NDArray

from manifests.catalogue_file import ArrayFile, array_name
from manifests.errors import UserError
from manifests.files import whole_file
from manifests.names import Names
from manifests.source import Source
from manifests.source_table import (
    COLUMNS,
    GROUPED,
    NAMED,
    NO_NUMBER,
    NO_TEXT,
    REAL,
    RECORD,
    TEXTS,
    WHOLE,
    grouped,
    sort_keys,
    starts_of,
)

ROWS_AT_ONCE = 1 << 16
ORDER = ("kind", "sha256", "path")
_FIELDS = {f.name: f for f in fields(Source)}


def write_parquet(sources: Iterable[Source], path: Path) -> None:
    """Write sources in the order given, atomically."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    # `float | None` stands for a nullable column, which Parquet columns are anyway.
    schema = pa.schema([(name, _arrow_type(name)) for name in _FIELDS])
    rows = iter(sources)
    with whole_file(path) as stream, pq.ParquetWriter(stream, schema) as writer:
        while True:
            block = list(islice(rows, ROWS_AT_ONCE))
            if not block:
                break
            columns = [pa.array([getattr(row, f.name) for row in block], f.type) for f in schema]
            writer.write_batch(pa.record_batch(columns, schema=schema))


def convert(path: Path, stream: BinaryIO) -> None:
    """Turn a catalogue in Parquet into a file of arrays.

    Raises:
        UserError: when it is not a catalogue.
        OSError: when the stream cannot be written.
    """
    parquet = _Parquet(path)
    surveys = _survey(parquet)
    kinds = sorted(surveys)
    out = ArrayFile(stream)
    tables = {kind: _TableWriter(out, number, surveys[kind]) for number, kind in enumerate(kinds)}
    for batch in parquet.batches(tuple(_FIELDS)):
        for kind, rows in _by_kind(batch):
            tables[kind].add(rows)
    for table in tables.values():
        table.finish()
    out.finish(kinds)


class _Parquet:
    """The rows of a Parquet file in batches of Arrow columns, whatever writer it is from."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._sorted: Any = None

    def batches(self, names: tuple[str, ...]) -> Iterator[dict[str, Any]]:
        """Yield columns by name."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            if self._sorted is not None:
                batches = self._sorted.select(names).to_batches(ROWS_AT_ONCE)
            else:
                # Not pq.read_table: it imports pandas where that is installed, 40 MB.
                parquet = pq.ParquetFile(self._path)
                held = parquet.schema_arrow.names
                if not {"path", "kind"} <= set(held) <= set(_FIELDS):
                    raise ValueError("other columns")
                wanted = [name for name in names if name in held]
                batches = parquet.iter_batches(ROWS_AT_ONCE, columns=wanted, use_threads=False)
            for batch in batches:
                yield {name: _column(name, batch) for name in names}
        except (pa.ArrowException, OSError, TypeError, ValueError) as error:
            raise UserError(f"{self._path}: not a catalogue made by 'ssiforge scan'") from error

    def sort(self) -> None:
        """Read all rows and sort them: of files that somebody else has written."""
        import pyarrow as pa

        table = pa.concat_tables(pa.table(batch) for batch in self.batches(tuple(_FIELDS)))
        self._sorted = table.sort_by([(name, "ascending") for name in ORDER])


def _column(name: str, batch: Any) -> Any:
    """Return a column of a batch in its type, with the default of rows where the file has no such column.

    Raises:
        ValueError: when it holds what no row can hold.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    default, kind = _FIELDS[name].default, _arrow_type(name)
    if name not in batch.schema.names:
        return pa.array([default], kind).take(pa.array(np.zeros(len(batch), np.int64)))
    column = batch.column(name).cast(kind)
    if column.null_count and (default is MISSING or default is not None):
        raise ValueError(f"{name} is missing in some rows")
    if pa.types.is_floating(kind) and pc.any(pc.is_nan(column)).as_py():
        raise ValueError(f"{name} is not a number")
    return column


def _arrow_type(name: str) -> Any:
    import pyarrow as pa

    kind = _FIELDS[name].type
    return {int: pa.int64(), float: pa.float64(), str: pa.string()}[(*get_args(kind), kind)[0]]


@dataclass
class _Survey:
    """What must be known of a kind before its arrays are written."""

    rows: int = 0
    names: dict[str, set[str]] = field(default_factory=lambda: {name: set() for name in NAMED})


def _survey(parquet: _Parquet) -> dict[str, _Survey]:
    """Count the rows and collect the names of every kind; sort the rows where they are not."""
    import pyarrow.compute as pc

    surveys: dict[str, _Survey] = defaultdict(_Survey)
    last: tuple[str, ...] | None = None
    in_order = True
    for batch in parquet.batches((*ORDER, *(name for name in NAMED if name not in ORDER))):
        if not len(batch["kind"]):
            continue
        first = tuple(batch[name][0].as_py() for name in ORDER)
        in_order = in_order and _is_in_order(batch) and (last is None or last <= first)
        last = tuple(batch[name][-1].as_py() for name in ORDER)
        for kind in pc.unique(batch["kind"]).to_pylist():
            own = pc.equal(batch["kind"], kind)
            surveys[kind].rows += pc.sum(own).as_py()
            for name in NAMED:
                found = pc.unique(batch[name].filter(own)).to_pylist()
                surveys[kind].names[name].update(text for text in found if text is not None)
    if not in_order:
        parquet.sort()
    return surveys


def _is_in_order(batch: dict[str, Any]) -> bool:
    import pyarrow.compute as pc

    falls, same = False, True
    for name in ORDER:
        before, after = batch[name][:-1], batch[name][1:]
        falls = pc.or_(falls, pc.and_(same, pc.greater(before, after)))
        same = pc.and_(same, pc.equal(before, after))
    return not pc.any(falls).as_py()


def _by_kind(batch: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Cut a batch of sorted rows where a new kind begins."""
    import pyarrow.compute as pc

    kinds = batch["kind"]
    changes = pc.not_equal(kinds[:-1], kinds[1:]).to_numpy(zero_copy_only=False)
    cuts = [0, *(np.flatnonzero(changes) + 1), len(kinds)]
    for first, last in pairwise(cuts):
        if last > first:
            yield kinds[int(first)].as_py(), {name: c.slice(first, last - first) for name, c in batch.items()}


class _TableWriter:
    """Writes the arrays of one kind; see `manifests.source_table.arrays_of` for what they are."""

    def __init__(self, out: ArrayFile, number: int, survey: _Survey) -> None:
        import pyarrow as pa

        self._out = out
        self._number = number
        self._rows = 0
        self._names = {name: Names.of(found) for name, found in survey.names.items()}
        self._arrow_names = {
            name: pa.array(sorted(found), pa.string()) for name, found in survey.names.items()
        }
        self._codes = {name: np.zeros(survey.rows, np.int32) for name in GROUPED}
        self._declare(survey.rows)

    def add(self, rows: dict[str, Any]) -> None:
        """Append rows."""
        import pyarrow.compute as pc

        count = len(rows["path"])
        self._put("records", self._records(rows))
        self._put("usable", pc.is_null(rows["refused"]).to_numpy(zero_copy_only=False))
        self._put("sha256_key", sort_keys([text.encode() for text in rows["sha256"].to_pylist()]))
        for name in COLUMNS:
            self._put(name, _reals(rows[name]))
        for name in NAMED:
            places = pc.index_in(rows[name], self._arrow_names[name], skip_nulls=True)
            codes = 1 + places.fill_null(-1).to_numpy()
            self._put(name, codes)
            if name in GROUPED:
                self._codes[name][self._rows : self._rows + count] = codes
        self._rows += count

    def finish(self) -> None:
        """Write what is known when all rows are."""
        for name, names in self._names.items():
            self._out.put(array_name(self._number, f"{name}.text"), 0, names.text)
            self._out.put(array_name(self._number, f"{name}.starts"), 0, names.starts)
        for name in GROUPED:
            order, firsts = grouped(self._codes[name], len(self._names[name]))
            self._out.put(array_name(self._number, f"{name}.order"), 0, order)
            self._out.put(array_name(self._number, f"{name}.firsts"), 0, firsts)

    def _declare(self, rows: int) -> None:
        sizes: dict[str, tuple[Any, int]] = {
            "records": (RECORD, rows),
            "usable": (np.bool_, rows),
            "sha256_key": (np.uint64, rows),
        }
        sizes |= dict.fromkeys(COLUMNS, (np.float64, rows))
        for name, names in self._names.items():
            sizes |= {
                name: (np.int32, rows),
                f"{name}.text": (np.uint8, len(names.text)),
                f"{name}.starts": (np.int64, len(names.starts)),
            }
            if name in GROUPED:
                sizes |= {f"{name}.order": (np.int64, rows), f"{name}.firsts": (np.int64, len(names) + 2)}
        for name, (dtype, length) in sizes.items():
            self._out.declare(array_name(self._number, name), dtype, length)

    def _put(self, name: str, values: NDArray[Any]) -> None:
        self._out.put(array_name(self._number, name), self._rows, values)

    def _records(self, rows: dict[str, Any]) -> NDArray[Any]:
        """Return the records of rows, and append their texts."""
        import pyarrow as pa
        import pyarrow.compute as pc

        records = np.zeros(len(rows["path"]), RECORD)
        for name in WHOLE:
            records[name] = rows[name].fill_null(NO_NUMBER).to_numpy()
        for name in REAL:
            records[name] = _reals(rows[name])
        for name in TEXTS:
            records[f"{name}_bytes"] = pc.binary_length(rows[name]).fill_null(NO_TEXT).to_numpy()
        texts = [rows[name].fill_null("").cast(pa.large_string()) for name in TEXTS]
        joined = pc.binary_join_element_wise(*texts, pa.scalar("", pa.large_string()))
        _, ends, content = joined.buffers()
        bounds = np.frombuffer(ends, np.int64)[joined.offset : joined.offset + len(joined) + 1]
        before = self._out.add_text(memoryview(content)[bounds[0] : bounds[-1]])
        records["text_start"] = starts_of(records, before)
        return records


def _reals(column: Any) -> NDArray[np.float64]:
    numbers: NDArray[np.float64] = column.fill_null(np.nan).to_numpy()
    return numbers
