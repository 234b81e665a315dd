"""Drawing with a probability proportional to a number, without an array of the sums."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

BLOCK = 4096


class CumulativeSums:
    """The running sums of many numbers: `np.cumsum` to the bit, of which the ends of blocks are kept."""

    def __init__(self, count: int, values: Callable[[int, int], NDArray[np.float64]]) -> None:
        """Sum up.

        Args:
            count: of the numbers, at least 1.
            values: returns those from a first to before a last; none is negative.
        """
        self._count = count
        self._values = values
        self._ends = np.zeros(-(-count // BLOCK))
        for block in range(len(self._ends)):
            self._ends[block] = self._sums(block)[-1]

    @property
    def total(self) -> float:
        """The sum of all."""
        return float(self._ends[-1])

    def first_reaching(self, at: float) -> int:
        """Return the place of the first number up to which they sum up to `at` or more; the last, where none does."""
        block = min(int(np.searchsorted(self._ends, at)), len(self._ends) - 1)
        return min(block * BLOCK + int(np.searchsorted(self._sums(block), at)), self._count - 1)

    def _sums(self, block: int) -> NDArray[np.float64]:
        """Sum on from the end of the block before: adding one by one, in the order in which one long sum would."""
        first = block * BLOCK
        before = self._ends[block - 1] if block else 0.0
        numbers = self._values(first, min(first + BLOCK, self._count))
        sums: NDArray[np.float64] = np.cumsum(np.concatenate(([before], numbers)))[1:]
        return sums
