"""`--keep EXPR`: from an expression and a corpus's tables to the samples that are used."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from manifests.canonical import digest
from manifests.corpus import SAMPLES_FILE, Corpus, OpenPart, open_corpus
from manifests.documents import suggestion
from manifests.errors import UserError
from manifests.files import write_atomically
from manifests.recipe import SPLITS
from manifests.selection import Selection
from manifests.store import Place, Store
from pipelines.scoring.columns import available
from pipelines.scoring.table import SCORES_FILE, ScoresInfo, read_info, read_scores
from pipelines.selection.evaluation import Values, kept_rows, values_of
from pipelines.selection.grammar import Column, Condition, columns_of, mistake, parse


def select(corpus: Corpus, expression: str, splits: Sequence[str] = SPLITS) -> Selection:
    """Return the samples of some splits for which an expression holds.

    Args:
        corpus: opened.
        expression: see `pipelines.selection.grammar`.
        splits: those that are needed; samples of others are not selected.

    Raises:
        UserError: when the expression is not one, names a column that there is not, compares things of different kinds,
        or uses a score that some of these samples do not have yet.
    """
    kept: dict[str, tuple[int, ...]] = {}
    values = []
    for part in corpus.parts:
        chosen, of_part = _selected(part, expression, splits)
        kept |= chosen
        values.append(of_part)
    return Selection(expression, corpus.manifest.id, values[0] if len(values) == 1 else digest(values), kept)


def _selected(
    part: OpenPart, expression: str, splits: Sequence[str]
) -> tuple[dict[str, tuple[int, ...]], str]:
    """Return the samples of a part that are kept, by shard, and a digest of the values that decided it."""
    corpus = part.corpus
    condition = parse(expression)
    names = list(dict.fromkeys(column.name for column in columns_of(condition)))
    table = _Tables(corpus, expression).read(condition, splits)
    keep = kept_rows(condition, table.columns, expression)
    kept: dict[str, tuple[int, ...]] = {}
    begin = 0
    for shard in (shard for shard in corpus.shards if shard.split in splits):
        end = begin + len(shard.samples)
        if numbers := np.flatnonzero(keep[begin:end]).tolist():
            kept[part.shard_name(shard)] = tuple(numbers)
        begin = end
    return kept, digest([[name, _plain(table.columns[name])] for name in names])


def how_many(corpus: Corpus, selection: Selection, splits: Sequence[str]) -> str:
    """Say how many samples of each split a selection keeps."""
    counts = selection.record.samples
    parts = [
        f"{counts.get(split, 0)} of {total} {split}"
        for split in splits
        if (total := corpus.samples_of(split))
    ]
    return f"--keep uses {', '.join(parts)} samples (selection {selection.digest})"


def print_selected(place: Place, expression: str, split: str | None, out: Path | None = None) -> None:
    """Print how many samples of each split an expression keeps; write the selection to a file if one is named."""
    corpus = open_corpus(place)
    if split is not None and split not in SPLITS:
        raise UserError(f"--split {split}: no such split; there are {', '.join(SPLITS)}")
    splits = [name for name in SPLITS if corpus.samples_of(name)] if split is None else [split]
    selection = select(corpus, expression, splits)
    if out is not None:
        try:
            write_atomically(out, selection.written())
        except OSError as error:
            raise UserError(f"{out}: cannot be written ({error.strerror})") from error
    for name in splits:
        total = corpus.samples_of(name)
        left = selection.record.samples.get(name, 0)
        print(f"{name:5} {left} of {total} samples ({left / max(total, 1):.1%})")
    print(f"selection {selection.digest}" + (f" in {out}" if out else ""))


@dataclass(frozen=True)
class _Table:
    columns: Mapping[str, Values]
    """Rows are those of the corpus's samples, in its order."""


_Key = tuple[str, str]
"""Tar and key of a sample."""


class _Tables:
    """The two tables of a corpus, read as far as an expression needs them."""

    def __init__(self, corpus: Corpus, expression: str) -> None:
        self._corpus = corpus
        self._text = expression
        self._scores: ScoresInfo | None = read_info(corpus.store)

    def read(self, condition: Condition, splits: Sequence[str]) -> _Table:
        """Read the columns that a condition names, for the samples of some splits."""
        of_samples = self._sample_columns()
        scored = (
            {c for metric in self._scores.metrics.values() for c in metric.columns} if self._scores else set()
        )
        keys = [(s.tar_name, e.key) for s in self._corpus.shards if s.split in splits for e in s.samples]
        wanted = list(columns_of(condition))
        for column in wanted:
            if column.name not in of_samples | scored:
                raise self._unknown(column, of_samples | scored)
        from_samples = {column.name for column in wanted} & of_samples
        from_scores = [column for column in wanted if column.name in scored - of_samples]
        columns: dict[str, Values] = {}
        if from_samples:
            columns |= self._in_order(_read(self._corpus.store, SAMPLES_FILE, from_samples), keys)
        if from_scores:
            columns |= self._scored(from_scores, keys)
        return _Table(columns)

    def _sample_columns(self) -> set[str]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        store = self._corpus.store
        try:
            with store.local_copy(SAMPLES_FILE) as path:
                return set(pq.read_schema(path).names)
        except (OSError, pa.ArrowInvalid) as error:
            raise UserError(f"{store.where(SAMPLES_FILE)}: cannot be read; run 'ssiforge verify'") from error

    def _unknown(self, column: Column, known: set[str]) -> UserError:
        metric = next((m.name for m in available().values() if column.name in m.columns), None)
        if metric is not None:
            return mistake(
                self._text,
                column,
                f"{column.name} is not scored yet, run 'ssiforge score {self._corpus.url} --metrics {metric}'; named",
            )
        guess = suggestion(column.name, known)
        return mistake(
            self._text, column, f"no column {column.name}{guess} in {SAMPLES_FILE} or {SCORES_FILE}, named"
        )

    def _scored(self, wanted: Sequence[Column], keys: Sequence[_Key]) -> dict[str, Values]:
        """Read scores.

        Raises:
            UserError: when they are of another corpus, or samples were never measured.
        """
        held = read_scores(self._corpus.store)
        assert held is not None
        url, ours = self._corpus.url, self._corpus.manifest.id
        if held.info.corpus_id != ours:
            raise UserError(
                f"{self._corpus.store.where(SCORES_FILE)}: holds scores of corpus {held.info.corpus_id}, and this is "
                f"{ours}; run 'ssiforge score {url}'"
            )
        names = {column.name for column in wanted}
        columns = self._in_order(held.table.select(["shard", "key", "failures", *sorted(names)]), keys)
        failures = columns.pop("failures")
        for name in sorted(names):
            metric = str(held.info.metric_of(name))
            rows = zip(keys, columns[name].known, failures.values, strict=True)
            missing = Counter(
                shard.partition("/")[0]
                for (shard, _), known, said in rows
                if not known and not any(line.startswith(f"{metric}: ") for line in said or ())
            )
            if missing:
                split, count = missing.most_common(1)[0]
                raise UserError(
                    f"{url}: {count} samples of the {split} split have no {name} yet; "
                    f"run 'ssiforge score {url} --metrics {metric}'"
                )
        return columns

    def _in_order(self, table: Any, keys: Sequence[_Key]) -> dict[str, Values]:
        """Put a table's rows in the order of some keys; a key that it lacks gets nulls."""
        import pyarrow as pa

        held = zip(table["shard"].to_pylist(), table["key"].to_pylist(), strict=True)
        rows = {key: row for row, key in enumerate(held)}
        places = pa.array([rows.get(key) for key in keys], pa.int64())
        return {name: values_of(table[name].take(places)) for name in table.column_names}


def _read(store: Store, file: str, names: set[str]) -> Any:
    import pyarrow.parquet as pq

    with store.local_copy(file) as path:
        return pq.ParquetFile(path).read(columns=sorted(names | {"shard", "key"}))


def _plain(values: Values) -> list[Any]:
    """Values as JSON has them."""
    held = zip(values.values.tolist(), values.known, strict=True)
    return [value if known else None for value, known in held]
