"""Questions to the catalogue beside a corpus that need not make an object of each of its rows.

Rows that the scan refused are left out. Those that were withdrawn are there: earlier versions of the corpus held them.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

from manifests.corpus import SOURCES_FILE
from manifests.source import WITHDRAWN, Source
from manifests.store import Store
from pipelines.arrow_values import strings, text
from pipelines.corpus.sample_uses import opened

_NAMES = tuple(field.name for field in fields(Source))


@dataclass(frozen=True)
class CatalogueTable:
    """`sources.parquet`, read a column at a time."""

    store: Store

    @cached_property
    def _file(self) -> Any | None:
        return opened(self.store, SOURCES_FILE)

    @cached_property
    def _columns(self) -> dict[str, Any]:
        return {}

    def _column(self, name: str) -> Any:
        """Return a column of all rows, as one Arrow array."""
        import pyarrow as pa

        if name not in self._columns:
            assert self._file is not None
            read = self._file.read(columns=[name], use_threads=False)[name]
            self._columns[name] = pa.concat_arrays(read.chunks or [pa.nulls(0, read.type)])
        return self._columns[name]

    def source(self, sha256: str) -> Source | None:
        """Return the row with a content hash; of several, the last."""
        rows = list(self._where("sha256", sha256))
        return rows[-1] if rows else None

    def starting(self, prefix: str) -> set[str]:
        """Return the content hashes that begin so."""
        import pyarrow.compute as pc

        if self._file is None:
            return set()
        hashes = self._column("sha256")
        found = hashes.filter(pc.and_(pc.starts_with(hashes, prefix), self._known)).unique()
        return set(found.to_pylist())

    def at(self, path: str) -> dict[str, str]:
        """Return hash and path of the rows whose path is this one, or ends in it after a `/`."""
        import pyarrow.compute as pc

        if self._file is None:
            return {}
        paths = self._column("path")
        ends = pc.ends_with(paths, "/" + path.lstrip("/"))
        rows = pc.indices_nonzero(pc.and_(pc.or_(ends, pc.equal(paths, text(path))), self._known))
        hashes, names = self._column("sha256").take(rows), paths.take(rows)
        return dict(zip(hashes.to_pylist(), names.to_pylist(), strict=True))

    def hashes_with(self, column: str, value: str) -> Any:
        """Return the content hashes of the rows that have a value in a column, an Arrow array."""
        import pyarrow.compute as pc

        if self._file is None:
            return strings(())
        held = pc.and_(pc.equal(self._column(column), text(value)), self._known)
        return self._column("sha256").filter(held)

    def summed(self, hashes: Any) -> "Summary":
        """Sum up the rows with some content hashes (an Arrow array)."""
        if self._file is None:
            return Summary(Counter(), Counter(), 0, len(hashes))
        rows = self._rows(hashes)
        of = {name: self._column(name).take(rows) for name in ("kind", "licence", "speaker")}
        kinds, licences = (
            Counter({row["values"]: row["counts"] for row in of[name].value_counts().to_pylist()})
            for name in ("kind", "licence")
        )
        speakers = {name for name in of["speaker"].unique().to_pylist() if name}
        return Summary(kinds, licences, len(speakers), kinds.total())

    def listed(self, hashes: Any) -> list[Source]:
        """Return the rows with some content hashes (an Arrow array)."""
        return list(self._taken(self._rows(hashes))) if self._file is not None else []

    @cached_property
    def _known(self) -> Any:
        """Which rows are answered about: those that may be drawn, and those that were withdrawn."""
        import pyarrow.compute as pc

        refused = self._column("refused")
        return pc.or_kleene(refused.is_null(), pc.equal(refused, text(WITHDRAWN)))

    def _rows(self, hashes: Any) -> Any:
        import pyarrow.compute as pc

        held = pc.is_in(self._column("sha256"), value_set=hashes)
        return pc.indices_nonzero(pc.and_(held, self._known))

    def _where(self, name: str, value: str) -> Iterator[Source]:
        import pyarrow.compute as pc

        if self._file is not None:
            # Where the value is null, so is the comparison, and such rows are not among the indices.
            yield from self._taken(
                pc.indices_nonzero(pc.and_(pc.equal(self._column(name), text(value)), self._known))
            )

    def _taken(self, rows: Any) -> Iterator[Source]:
        """Read some rows; columns that an older catalogue lacks keep their defaults."""
        assert self._file is not None
        if len(rows):
            names = [name for name in _NAMES if name in self._file.schema_arrow.names]
            for row in self._file.read(columns=names, use_threads=False).take(rows).to_pylist():
                yield Source(**{name: value for name, value in row.items() if value is not None})


@dataclass(frozen=True)
class Summary:
    """What some sources are, in numbers."""

    kinds: Counter[str]
    licences: Counter[str]
    speakers: int
    files: int
