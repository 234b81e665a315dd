"""Sequences of sources that are made when they are looked at, and what can be chosen among them without doing so."""

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from manifests.names import SomeNames
from manifests.row_set import BLOCK_ROWS, RowNumbers, RowSet
from manifests.source import Source
from manifests.source_table import Table

Made = TypeVar("Made")


class LazySources(Sequence[Source]):
    """A sequence of sources; equal to any other sequence of equal sources."""

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, (LazySources, tuple, list)):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    @overload
    def __getitem__(self, number: int) -> Source: ...
    @overload
    def __getitem__(self, number: slice) -> tuple[Source, ...]: ...
    def __getitem__(self, number: int | slice) -> Source | tuple[Source, ...]:
        """One source, or some as a tuple."""
        if isinstance(number, slice):
            return tuple(self._source(i) for i in range(*number.indices(len(self))))
        wanted = number + len(self) if number < 0 else number
        if not 0 <= wanted < len(self):
            raise IndexError(number)
        return self._source(wanted)

    def _source(self, number: int) -> Source:
        raise NotImplementedError


class Joined(LazySources):
    """Some sequences one after another: the kinds of a catalogue."""

    def __init__(self, parts: Sequence["Sources"]) -> None:
        self._parts = parts

    def __len__(self) -> int:
        return sum(len(part) for part in self._parts)

    def __iter__(self) -> Iterator[Source]:
        for part in self._parts:
            yield from part

    def _source(self, number: int) -> Source:
        for part in self._parts:
            if number < len(part):
                return part[number]
            number -= len(part)
        raise IndexError(number)


class Sources(LazySources):
    """Sources of one kind: some rows of a table.

    What is chosen among them keeps their order. Choices that a recipe makes again and again (`within`,
    `starting_with`, `names`) are remembered.
    """

    def __init__(self, table: Table, rows: RowSet | RowNumbers) -> None:
        self._table = table
        self._rows = rows
        self._remembered: dict[tuple[Any, ...], Any] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[Source]:
        for rows in self._blocks():
            yield from self._table.sources(rows)

    def _source(self, number: int) -> Source:
        return self._table.sources(self._rows[number : number + 1])[0]

    def values(self, column: str, start: int, stop: int) -> NDArray[np.float64]:
        """Return one of the table's number columns for a stretch of the sources; NaN for None."""
        return self._table.column(column, self._rows[start:stop])

    def code(self, column: str, text: str | None) -> int:
        """Return the number that stands for a text in a named column when sources are chosen by it (`kept`)."""
        return self._table.code(column, text)

    def highest(self, column: str) -> Source:
        """Return the first source with the highest value in a number column, None counting as 0; there must be one."""
        best, place = -np.inf, 0
        for first in range(0, len(self), BLOCK_ROWS):
            values = np.nan_to_num(self.values(column, first, first + BLOCK_ROWS), nan=0.0)
            if values.max() > best:
                best, place = values.max(), first + int(values.argmax())
        return self[place]

    def kept(self, holds: Callable[[Callable[[str], NDArray[Any]]], NDArray[np.bool_]]) -> "Sources":
        """Return the sources for which `holds`.

        Args:
            holds: gets a function that returns a column of some sources by name, and answers for each of them.
        """
        table = self._table

        def asked(rows: RowNumbers) -> NDArray[np.bool_]:
            return holds(lambda name: table.column(name, rows))

        kept = self._rows.kept(asked) if isinstance(self._rows, RowSet) else self._rows[asked(self._rows)]
        return Sources(table, kept)

    def within(self, column: str, low: float, high: float = np.inf) -> "Sources":
        """Return the sources with a number in a range, its ends included; None is in no range."""
        return self._once(
            ("within", column, low, high),
            lambda: self.kept(lambda of: (of(column) >= low) & (of(column) <= high)),
        )

    def starting_with(self, column: str, prefix: str, wanted: bool = True) -> "Sources":
        """Return the sources with a text that starts with a prefix, or those with another text or None."""
        codes = self._table.names[column].starting_with(prefix)
        first, last = 1 + codes.start, 1 + codes.stop
        return self._once(
            ("starting with", column, prefix, wanted),
            lambda: self.kept(lambda of: ((of(column) >= first) & (of(column) < last)) == wanted),
        )

    def names(self, column: str) -> SomeNames:
        """Return the different texts in a named column, sorted; None and the empty text are none."""
        return self._once(("names", column), lambda: self._names(column))

    def named(self, column: str, name: str | None) -> "Sources":
        """Return the sources with this very text in a grouped column."""
        return self._some(self._table.rows_named(column, name))

    def with_sha256(self, sha256: str) -> "Sources":
        """Return the sources with a content hash."""
        return self._some(self._table.rows_with_sha256(sha256))

    def without_sha256(self, sha256: str) -> "Sources":
        """Return the sources with another content hash."""
        rows = self._table.rows_with_sha256(sha256)
        if isinstance(self._rows, RowSet):
            return Sources(self._table, self._rows.without(rows))
        return Sources(self._table, self._rows[~np.isin(self._rows, rows)])

    def nearest(self, column: str, value: float) -> "Sources":
        """Return the sources whose number is nearest to a value; where all are None, all of them."""
        rows = self._rows[: len(self)]
        distances = np.abs(self._table.column(column, rows) - value)
        distances[np.isnan(distances)] = np.inf
        return Sources(self._table, rows[distances == distances.min(initial=np.inf)])

    def _some(self, rows: RowNumbers) -> "Sources":
        """Those of some rows that are among these sources."""
        if isinstance(self._rows, RowSet):
            return Sources(self._table, rows[self._rows.holds(rows)])
        return Sources(self._table, self._rows[np.isin(self._rows, rows)])

    def _names(self, column: str) -> SomeNames:
        table = self._table
        found = np.zeros(1 + len(table.names[column]), np.bool_)
        for rows in self._blocks():
            found[table.column(column, rows)] = True
        names = SomeNames(table.names[column], RowSet.where(len(found) - 1, lambda part: found[1:][part]))
        return names.without("")

    def _blocks(self) -> Iterator[RowNumbers]:
        for first in range(0, len(self), BLOCK_ROWS):
            yield self._rows[first : first + BLOCK_ROWS]

    def _once(self, key: tuple[Any, ...], make: Callable[[], Made]) -> Made:
        if key not in self._remembered:
            self._remembered[key] = make()
        made: Made = self._remembered[key]
        return made


def sources_of(given: Sequence[Source]) -> Sources:
    """Return sources of one kind as `Sources`, in the order given."""
    return given if isinstance(given, Sources) else _table_of(tuple(given))


@lru_cache(maxsize=8)
def _table_of(given: tuple[Source, ...]) -> Sources:
    order = sorted(range(len(given)), key=lambda number: (given[number].sha256, given[number].path))
    table = Table.of(given[0].kind if given else "", [given[number] for number in order])
    return Sources(table, np.argsort(np.array(order, np.int64)))
