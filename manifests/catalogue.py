"""The catalogue: one row a source file, in tables that need not be in memory, with the look-ups that planning needs."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import groupby
from pathlib import Path

from manifests.canonical import digest_of_list
from manifests.catalogue_cache import mapped_tables
from manifests.catalogue_parquet import write_parquet
from manifests.errors import UserError
from manifests.row_set import RowSet
from manifests.source import WITHDRAWN, Kind, Source
from manifests.source_table import Table
from manifests.sources import Joined, Sources, sources_of


class Catalogue:
    """An immutable set of sources.

    Rows are kept sorted by (kind, sha256, path), so the order of scanning changes nothing. They are made when they are
    looked at: `sources`, `usable` and the like are sequences, but not of objects that exist.
    """

    def __init__(self, sources: Iterable[Source]) -> None:
        """Hold sources, given in any order, in memory."""
        self._tables = _sorted_tables(sources)

    @classmethod
    def of_tables(cls, tables: Iterable[Table]) -> "Catalogue":
        """Look at tables, one a kind, in the order of their kinds."""
        catalogue = cls(())
        catalogue._tables = list(tables)
        return catalogue

    def __len__(self) -> int:
        return sum(len(table) for table in self._tables)

    def __iter__(self) -> Iterator[Source]:
        return iter(self.sources)

    @cached_property
    def sources(self) -> Sequence[Source]:
        """All rows."""
        return Joined([_all(table) for table in self._tables])

    @cached_property
    def usable(self) -> Sequence[Source]:
        """Rows that were not refused."""
        return Joined(self._usable)

    @cached_property
    def refused(self) -> Sequence[Source]:
        """The other rows."""
        return Joined([_all(table).kept(lambda of: ~of("usable")) for table in self._tables])

    @cached_property
    def by_sha256(self) -> Mapping[str, Source]:
        """Usable rows by content hash; of several with one hash, the last in catalogue order."""
        return BySha256(self._usable)

    def of_kind(self, kind: Kind) -> Sources:
        """All rows of one kind."""
        return next((_all(table) for table in self._tables if table.kind == kind), sources_of(()))

    def of(self, kind: Kind, split: str) -> Sources:
        """Usable rows of one kind in one split, in catalogue order."""
        sources = self.of_kind(kind)
        code = sources.code("split", split)
        return sources.kept(lambda of: of("usable") & (of("split") == code))

    @cached_property
    def digest(self) -> str:
        """Identity of the usable rows: independent of paths and of the order of scanning."""
        return digest_of_list(source.identity() for source in self.usable)

    def extended(self, more: Iterable[Source]) -> "Catalogue":
        """Return a catalogue with further rows; the tables of kinds that none is of are shared."""
        tables = {table.kind: table for table in self._tables}
        for added in _sorted_tables(more):
            held = tables.get(added.kind)
            both = (*_all(held), *_all(added)) if held else _all(added)
            tables[added.kind] = Table.of(added.kind, sorted(both, key=_within_kind))
        return Catalogue.of_tables(tables[kind] for kind in sorted(tables))

    def refusing(self, reason: Callable[[Source], str | None]) -> "Catalogue":
        """Return the catalogue with further usable rows refused: those for which there is a reason."""
        return self._changed(
            lambda source: (
                replace(source, refused=said)
                if source.refused is None and (said := reason(source)) is not None
                else source
            )
        )

    @cached_property
    def withdrawn(self) -> tuple[Source, ...]:
        """Rows of sources that were taken down."""
        return tuple(source for source in self.refused if source.refused == WITHDRAWN)

    @cached_property
    def as_drawn(self) -> "Catalogue":
        """The catalogue as samples are drawn by it: rows that were taken down among the usable ones.

        What was drawn without them stays as it was; a draw that names one of them is drawn again.
        """
        if not self.withdrawn:
            return self
        return self._changed(
            lambda source: replace(source, refused=None) if source.refused == WITHDRAWN else source
        )

    def _changed(self, changed: Callable[[Source], Source]) -> "Catalogue":
        """Change rows but for what they are sorted by; tables in which none changes are shared."""
        tables = []
        for table in self._tables:
            rows = [(source, changed(source)) for source in _all(table)]
            same = all(after is before for before, after in rows)
            tables.append(table if same else Table.of(table.kind, [after for _, after in rows]))
        return Catalogue.of_tables(tables)

    @cached_property
    def _usable(self) -> list[Sources]:
        return [_all(table).kept(lambda of: of("usable")) for table in self._tables]


class BySha256(Mapping[str, Source]):
    """Sources by content hash, found by binary search."""

    def __init__(self, kinds: Sequence[Sources]) -> None:
        self._kinds = kinds

    def __getitem__(self, sha256: str) -> Source:
        """Return the last source with a content hash."""
        for sources in reversed(self._kinds):
            if found := sources.with_sha256(sha256):
                return found[-1]
        raise KeyError(sha256)

    def __contains__(self, sha256: object) -> bool:
        return isinstance(sha256, str) and any(kind.with_sha256(sha256) for kind in self._kinds)

    def __iter__(self) -> Iterator[str]:
        """Each hash once, where it stands first."""
        for number, sources in enumerate(self._kinds):
            for sha256, _ in groupby(sources, key=lambda source: source.sha256):
                if not any(earlier.with_sha256(sha256) for earlier in self._kinds[:number]):
                    yield sha256

    def __len__(self) -> int:
        return sum(1 for _ in self)


def write_catalogue(sources: Iterable[Source], path: Path) -> None:
    """Write a catalogue, or some rows of one in catalogue order, as Parquet, atomically."""
    write_parquet(sources, path)


def read_catalogue(path: Path) -> Catalogue:
    """Open a catalogue written by `ssiforge scan`: made ready for look-ups by the first who does, mapped by all.

    Raises:
        UserError: when the file is missing or is not a catalogue.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such catalogue; make one with 'ssiforge scan --out {path}'")
    return Catalogue.of_tables(mapped_tables(path))


def _all(table: Table) -> Sources:
    return Sources(table, RowSet.all(len(table)))


def _sorted_tables(sources: Iterable[Source]) -> list[Table]:
    rows = sorted(sources, key=lambda source: (source.kind, *_within_kind(source)))
    return [Table.of(kind, list(group)) for kind, group in groupby(rows, key=lambda source: source.kind)]


def _within_kind(source: Source) -> tuple[str, str]:
    return source.sha256, source.path
