"""Names in rising order, in one block of bytes: a million of them cost no objects."""

from collections.abc import Iterable, Sequence
from typing import overload

import numpy as np
from numpy.typing import NDArray

from manifests.row_set import RowSet


class Names(Sequence[str]):
    """Different names in the order of their code points, which is that of their UTF-8 bytes."""

    def __init__(self, text: NDArray[np.uint8], starts: NDArray[np.int64]) -> None:
        """Look at names that stand one after another in `text`; `starts` has the end of the last one as well."""
        self.text = text
        self.starts = starts

    @classmethod
    def of(cls, names: Iterable[str]) -> "Names":
        """Hold different names, given in any order."""
        encoded = [name.encode() for name in sorted(names)]
        lengths = np.array([0, *map(len, encoded)], np.int64)
        return cls(np.frombuffer(b"".join(encoded), np.uint8), np.cumsum(lengths))

    def __len__(self) -> int:
        return len(self.starts) - 1

    @overload
    def __getitem__(self, number: int) -> str: ...
    @overload
    def __getitem__(self, number: slice) -> tuple[str, ...]: ...
    def __getitem__(self, number: int | slice) -> str | tuple[str, ...]:
        """The name at a place in the order."""
        if isinstance(number, slice):
            return tuple(self[i] for i in range(*number.indices(len(self))))
        if not 0 <= number < len(self):
            raise IndexError(number)
        return self.text[self.starts[number] : self.starts[number + 1]].tobytes().decode()

    def find(self, name: str) -> int | None:
        """Return the place of a name, or None when it is not among them."""
        place = self._first_from(name)
        return place if place < len(self) and self[place] == name else None

    def starting_with(self, prefix: str) -> range:
        """Return the places of the names that start with something."""
        first, last = self._first_from(prefix), len(self)
        low = first
        while low < last:
            middle = (low + last) // 2
            if self[middle].startswith(prefix):
                low = middle + 1
            else:
                last = middle
        return range(first, low)

    def _first_from(self, name: str) -> int:
        low, high = 0, len(self)
        while low < high:
            middle = (low + high) // 2
            if self[middle] < name:
                low = middle + 1
            else:
                high = middle
        return low


class SomeNames(Sequence[str]):
    """Some of many names, in their order."""

    def __init__(self, names: Names, places: RowSet) -> None:
        self._names = names
        self._places = places

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, number: int) -> str: ...
    @overload
    def __getitem__(self, number: slice) -> tuple[str, ...]: ...
    def __getitem__(self, number: int | slice) -> str | tuple[str, ...]:
        """The name at a place in the order of these."""
        if isinstance(number, slice):
            return tuple(self._names[int(place)] for place in self._places[number])
        if not 0 <= number < len(self):
            raise IndexError(number)
        return self._names[int(self._places[number : number + 1][0])]

    def without(self, name: str) -> "SomeNames":
        """Return these names less one, which may be none of them."""
        place = self._names.find(name)
        return self if place is None else SomeNames(self._names, self._places.without(np.array([place])))
