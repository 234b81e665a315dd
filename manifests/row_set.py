"""A subset of the rows of a table, in the order of the table, in one bit a row."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

RowNumbers = NDArray[np.int64]

BLOCK_ROWS = 4096
"""The members of so many rows are counted, so that the k-th member is found by looking into one block."""


class RowSet:
    """Row numbers in rising order. `len` and slices work as on an array of them, which would take 64 times as much."""

    def __init__(self, bits: NDArray[np.uint8]) -> None:
        """Take ownership of packed bits, shape (blocks, BLOCK_ROWS // 8), the first row in the highest bit."""
        self._bits = bits
        self._ends = np.cumsum(np.bitwise_count(bits).sum(axis=1, dtype=np.int64))

    @classmethod
    def where(cls, rows: int, holds: Callable[[slice], NDArray[np.bool_]]) -> "RowSet":
        """Return those of `rows` rows for which `holds`; it is asked block by block."""
        bits = np.zeros((-(-rows // BLOCK_ROWS), BLOCK_ROWS // 8), np.uint8)
        for block, first in enumerate(range(0, rows, BLOCK_ROWS)):
            packed = np.packbits(holds(slice(first, min(rows, first + BLOCK_ROWS))))
            bits[block, : len(packed)] = packed
        return cls(bits)

    @classmethod
    def all(cls, rows: int) -> "RowSet":
        """Return all of `rows` rows."""
        return cls.where(rows, lambda part: np.ones(part.stop - part.start, np.bool_))

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def __getitem__(self, members: slice) -> RowNumbers:
        """Row numbers of the first to last of a stretch of the members; no steps."""
        start, stop, _ = members.indices(len(self))
        if start >= stop:
            return np.zeros(0, np.int64)
        first = int(np.searchsorted(self._ends, start, side="right"))
        last = int(np.searchsorted(self._ends, stop, side="left"))
        rows = np.flatnonzero(np.unpackbits(self._bits[first : last + 1])) + first * BLOCK_ROWS
        before = int(self._ends[first - 1]) if first else 0
        return rows[start - before : stop - before]

    def holds(self, rows: RowNumbers) -> NDArray[np.bool_]:
        """Say of each row number whether it is a member."""
        bits: NDArray[np.uint8] = self._bits.reshape(-1)[rows >> 3] >> (7 - (rows & 7)).astype(np.uint8)
        return (bits & 1).astype(np.bool_)

    def kept(self, holds: Callable[[RowNumbers], NDArray[np.bool_]]) -> "RowSet":
        """Return the members for which `holds`; it is asked block by block, never for none."""
        bits = np.zeros_like(self._bits)
        for block in np.flatnonzero(np.diff(self._ends, prepend=0)):
            inside = np.flatnonzero(np.unpackbits(self._bits[block]))
            taken = np.zeros(BLOCK_ROWS, np.uint8)
            taken[inside] = holds(inside + block * BLOCK_ROWS)
            bits[block] = np.packbits(taken)
        return RowSet(bits)

    def without(self, rows: RowNumbers) -> "RowSet":
        """Return the set less some row numbers, which may be no members."""
        bits = self._bits.copy()
        np.bitwise_and.at(bits.reshape(-1), rows >> 3, ~(np.uint8(0x80) >> (rows & 7).astype(np.uint8)))
        return RowSet(bits)
