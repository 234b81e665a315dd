"""The tables that an evaluation leaves: a row a sample and system, a row a mean, a row a difference."""

import csv
import io
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from manifests.errors import UserError
from manifests.files import whole_file, write_atomically
from pipelines.quality.scores import Column, Row

ROWS_FILE = "samples.parquet"
ROWS_CSV_FILE = "samples.csv"
SUMMARY_FILE = "summary.csv"
COMPARISON_FILE = "comparison.csv"

_SUMMARY = (
    *("condition", "system", "score", "mean", "low", "high"),
    *("mean_absolute", "n", "failures", "unit", "units", "small"),
)
_COMPARISON = (
    *("system", "with", "score", "mean", "low", "high"),
    *("better", "p", "verdict", "n", "left_out", "unit", "units"),
)


def check_writable(out: Path) -> None:
    """Make the folder of an evaluation.

    Raises:
        UserError: when that cannot be done, or nothing can be written there.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=out).close()
    except OSError as error:
        raise UserError(f"{out}: cannot be written to ({error.strerror})") from error


def write_rows(rows: Sequence[Row], shown: Sequence[Column], out: Path) -> None:
    """Write the scores of every sample and system as Parquet and as CSV."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table: list[dict[str, Any]] = [
        {"key": row.key, "system": row.system, **{c.name: row.scores[c.name] for c in shown}}
        | {"conditions": list(row.conditions), "speaker": row.speaker}
        for row in rows
    ]
    schema = pa.schema(
        [("key", pa.string()), ("system", pa.string())]
        + [(column.name, pa.float64()) for column in shown]
        + [("conditions", pa.list_(pa.string())), ("speaker", pa.string())]
    )
    with whole_file(out / ROWS_FILE) as stream:
        pq.write_table(pa.Table.from_pylist(table, schema=schema), stream)
    texts = (row | {"conditions": "; ".join(row["conditions"])} for row in table)
    _write_csv(out / ROWS_CSV_FILE, schema.names, texts)


def write_tables(result: Mapping[str, Any], shown: Sequence[Column], out: Path) -> None:
    """Write the means of all samples and of each condition, and the comparisons, one number's row each."""
    wheres = {"": result["summary"]} | result["by_condition"]
    _write_csv(out / SUMMARY_FILE, _SUMMARY, _summary_rows(wheres, shown))
    _write_csv(out / COMPARISON_FILE, _COMPARISON, _comparison_rows(result["comparisons"]))


def _summary_rows(wheres: Mapping[str, Any], shown: Sequence[Column]) -> Iterator[dict[str, Any]]:
    for condition, summary in wheres.items():
        for system, entries in summary.items():
            head = {"condition": condition, "system": system}
            units = {name: entries[name] for name in ("unit", "units", "small")}
            for column in shown:
                yield head | {"score": column.name} | units | entries[column.name]


def _comparison_rows(comparisons: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    for pair in comparisons:
        for name, entry in pair["scores"].items():
            yield {"system": pair["system"], "with": pair["with"], "score": name} | entry


def _write_csv(path: Path, names: Sequence[str], rows: Iterator[dict[str, Any]]) -> None:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, fieldnames=names)
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(path, text.getvalue().encode())
