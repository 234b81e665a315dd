"""A file of arrays that many processes map: numbers as they lie in memory, an index of them at the end.

```
array, array, ...     each begins at a multiple of 64 bytes; the last one, of text, is as long as it turned out
index                 JSON: of each array its type, length and place
length of the index   8 bytes, little endian
END                   8 bytes: only a file that was written to its end has them there
```
"""

import json
import mmap
from collections.abc import Iterable
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from manifests.source_table import RECORD, Table

FORMAT = 1
"""Counts up whenever a file of the last format would be misread."""
END = b"SSIFCAT\n"
TEXT = "text"
_ALIGNMENT_BYTES = 64
_TAIL_BYTES = len(END) + 8
_RECORDS = "/records"


class ArrayFile:
    """Writes arrays piece by piece: first all but the text are declared, then they are filled in any order."""

    def __init__(self, stream: BinaryIO) -> None:
        """Write to a stream that can be sought in."""
        self._stream = stream
        self._index: dict[str, dict[str, Any]] = {}
        self._end = 0
        self._text_bytes = 0

    def declare(self, name: str, dtype: np.dtype[Any] | str, length: int) -> None:
        """Make room for an array."""
        self._end += -self._end % _ALIGNMENT_BYTES
        kind = np.dtype(dtype)
        self._index[name] = {"type": kind.str, "length": length, "at": self._end}
        self._end += length * kind.itemsize

    def put(self, name: str, first: int, values: NDArray[Any]) -> None:
        """Fill an array from its element `first` on."""
        declared = self._index[name]
        dtype = np.dtype(_type(name, declared))
        self._stream.seek(declared["at"] + first * dtype.itemsize)
        self._stream.write(np.ascontiguousarray(values, dtype).data.cast("B") if len(values) else b"")

    def add_text(self, text: bytes | memoryview) -> int:
        """Append to the text; return how long it was before."""
        before = self._text_bytes
        self._stream.seek(self._end + before)
        self._stream.write(text)
        self._text_bytes += len(text)
        return before

    def finish(self, kinds: Iterable[str]) -> None:
        """Write the index."""
        arrays = self._index | {TEXT: {"type": "|u1", "length": self._text_bytes, "at": self._end}}
        index = json.dumps({"format": FORMAT, "kinds": list(kinds), "arrays": arrays}).encode()
        self._stream.seek(self._end + self._text_bytes)
        self._stream.write(index + len(index).to_bytes(8, "little") + END)


def map_tables(stream: BinaryIO) -> list[Table]:
    """Map the tables of a file that was written to its end; they stay valid when it is closed or removed.

    Raises:
        ValueError: when it was not, or is of another format.
    """
    size = stream.seek(0, 2)
    if size < _TAIL_BYTES:
        raise ValueError("too short")
    mapping = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
    if mapping[-len(END) :] != END:
        raise ValueError("not written to its end")
    index_bytes = int.from_bytes(mapping[-_TAIL_BYTES : -len(END)], "little")
    index = json.loads(mapping[max(0, size - _TAIL_BYTES - index_bytes) : size - _TAIL_BYTES])
    if index["format"] != FORMAT:
        raise ValueError("of another format")
    arrays = {
        name: np.frombuffer(mapping, _type(name, held), held["length"], held["at"])
        for name, held in index["arrays"].items()
    }
    return [Table(kind, _of_table(number, arrays), mapping) for number, kind in enumerate(index["kinds"])]


def array_name(table: int, name: str) -> str:
    """Name in the file of an array of its n-th table."""
    return f"{table}/{name}"


def _of_table(number: int, arrays: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    prefix = array_name(number, "")
    own = {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
    return own | {TEXT: arrays[TEXT]}


def _type(name: str, held: dict[str, Any]) -> np.dtype[Any]:
    return RECORD if name.endswith(_RECORDS) else np.dtype(held["type"])
