"""The sources of one kind as a table: arrays, in memory or mapped from a file, from which rows are made when asked for.

What recipes choose by stands in columns of its own, so that a million rows are looked through at once. The rest of a
row stands together, so that reading one row touches few pages. A table's rows are sorted by (sha256, path).
"""

import mmap
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manifests.names import Names
from manifests.row_set import RowNumbers
from manifests.source import Source

Arrays = Mapping[str, NDArray[Any]]

COLUMNS = ("seconds", "bandwidth_hz", "clipped_share", "rt60_s")
"""Numbers that recipes choose by; NaN stands for None."""
NAMED = ("speaker", "room", "split")
"""Texts that recipes choose by: a code a row, 0 for None, else 1 and the place among the `Names`."""
NO_CODE = -1
GROUPED = ("speaker", "room")
"""Those of which the rows of one name are needed: row numbers sorted by code, and where each code begins."""
WHOLE = ("bytes", "mtime_ns", "rate_hz", "channels", "frames", "direct_path_frame")
REAL = ("active_level_dbfs", "dc_offset", "silence_share", "drr_db")
TEXTS = ("path", "sha256", "speaker", "recording", "room", "licence", "split", "refused")
NO_NUMBER = -(1 << 63)
"""A whole number that is None."""
NO_TEXT = -1
"""Length of a text that is None; an empty one is 0 bytes long."""
RECORD = np.dtype(
    [(name, "<i8") for name in WHOLE]
    + [(name, "<f8") for name in REAL]
    + [("text_start", "<i8")]
    + [(f"{name}_bytes", "<i4") for name in TEXTS]
)
"""The rest of a row: its texts stand one after another in the table's `text`."""
_AFTER_WHOLE = len(WHOLE)
_TEXT_START = len(WHOLE) + len(REAL)
_KEY_BYTES = 8
MOST_PAGES = 8_192
"""After so many mapped pages have been read, 32 MB, all are let go: the system keeps their content, and the process no
longer counts as holding it."""
_PAGE_BYTES = 4_096
_PAGES_A_ROW = 512
"""A row stands in six places, and Linux maps 64 KB around a place that is read, or much more: measured, not known."""


class Table:
    """All sources of one kind."""

    def __init__(self, kind: str, arrays: Arrays, mapping: mmap.mmap | None = None) -> None:
        """Look at a table.

        Args:
            kind: of all its sources.
            arrays: as `arrays_of` makes them.
            mapping: of the file that the arrays lie in, if they do.
        """
        self.kind = kind
        self.arrays = arrays
        self.names = {name: Names(arrays[f"{name}.text"], arrays[f"{name}.starts"]) for name in NAMED}
        self._mapping = mapping
        self._read_pages = 0

    @classmethod
    def of(cls, kind: str, sources: Sequence[Source]) -> "Table":
        """Hold sources of one kind, sorted by (sha256, path), in memory."""
        return cls(kind, arrays_of(sources))

    def __len__(self) -> int:
        return len(self.arrays["records"])

    def column(self, name: str, rows: RowNumbers) -> NDArray[Any]:
        """Return one column, or the codes of a named text, at some rows."""
        array = self.arrays[name]
        if not len(rows):
            return array[:0]
        reach = abs(int(rows[-1] - rows[0])) + 1
        self._count_pages(reach * array.itemsize // _PAGE_BYTES + 1)
        one_stretch = reach == len(rows) and bool((np.diff(rows) == 1).all())
        return array[rows[0] : rows[-1] + 1] if one_stretch else array[rows]

    def code(self, name: str, value: str | None) -> int:
        """Return the code of a text in a named column, `NO_CODE` where no row has it."""
        if value is None:
            return 0
        place = self.names[name].find(value)
        return NO_CODE if place is None else 1 + place

    def rows_named(self, name: str, value: str | None) -> RowNumbers:
        """Return the rows with a text in a grouped column, in rising order."""
        code = self.code(name, value)
        if code == NO_CODE:
            return np.zeros(0, np.int64)
        first, last = self.arrays[f"{name}.firsts"][code : code + 2]
        return self.arrays[f"{name}.order"][first:last]

    def rows_with_sha256(self, sha256: str) -> RowNumbers:
        """Return the rows of a content hash, in rising order."""
        sought = sha256.encode()
        keys, key = self.arrays["sha256_key"], sort_keys([sought])[0]
        alike = range(int(np.searchsorted(keys, key)), int(np.searchsorted(keys, key, side="right")))
        first = alike.start + bisect_left(alike, sought, key=self._sha256)
        last = alike.start + bisect_right(alike, sought, key=self._sha256)
        return np.arange(first, last)

    def sources(self, rows: RowNumbers) -> list[Source]:
        """Make the sources of some rows."""
        records = self.arrays["records"][rows].tolist()
        columns = zip(*(self.arrays[name][rows].tolist() for name in COLUMNS), strict=True)
        self._count_pages(len(rows) * _PAGES_A_ROW)
        return [
            Source(kind=self.kind, **self._values(record, numbers))
            for record, numbers in zip(records, columns, strict=True)
        ]

    def _count_pages(self, pages: int) -> None:
        """Let go of the pages that were read when they are many; reading them again brings them back."""
        self._read_pages += pages
        if self._read_pages >= MOST_PAGES:
            self._read_pages = 0
            if self._mapping is not None and hasattr(mmap, "MADV_DONTNEED"):
                self._mapping.madvise(mmap.MADV_DONTNEED)

    def _values(self, record: tuple[Any, ...], numbers: tuple[float, ...]) -> dict[str, Any]:
        values: dict[str, Any] = dict(zip(WHOLE, record[:_AFTER_WHOLE], strict=True))
        if values["direct_path_frame"] == NO_NUMBER:
            values["direct_path_frame"] = None
        reals = zip((*REAL, *COLUMNS), (*record[_AFTER_WHOLE:_TEXT_START], *numbers), strict=True)
        values |= {name: None if number != number else number for name, number in reals}
        start, lengths = record[_TEXT_START], record[_TEXT_START + 1 :]
        text = self.arrays["text"][start : start + sum(n for n in lengths if n > 0)].tobytes()
        at = 0
        for name, length in zip(TEXTS, lengths, strict=True):
            if length == NO_TEXT:
                values[name] = None
            else:
                values[name] = text[at : at + length].decode()
                at += length
        return values

    def _sha256(self, row: int) -> bytes:
        record = self.arrays["records"][row]
        start = int(record["text_start"]) + int(record["path_bytes"])
        return self.arrays["text"][start : start + int(record["sha256_bytes"])].tobytes()


def arrays_of(sources: Sequence[Source]) -> dict[str, NDArray[Any]]:
    """Make the arrays of a table."""
    records = np.zeros(len(sources), RECORD)
    for name in WHOLE:
        values = [getattr(source, name) for source in sources]
        records[name] = [NO_NUMBER if value is None else value for value in values]
    for name in REAL:
        records[name] = _reals(sources, name)
    texts = [_encoded(source) for source in sources]
    lengths = np.array([[NO_TEXT if t is None else len(t) for t in row] for row in texts], np.int32)
    for number, name in enumerate(TEXTS):
        records[f"{name}_bytes"] = lengths[:, number] if len(sources) else 0
    records["text_start"] = starts_of(records)
    arrays = {
        "records": records,
        "text": np.frombuffer(b"".join(t for row in texts for t in row if t), np.uint8),
        "usable": np.array([source.refused is None for source in sources], np.bool_),
        "sha256_key": sort_keys([source.sha256.encode() for source in sources]),
    }
    arrays |= {name: _reals(sources, name) for name in COLUMNS}
    for name in NAMED:
        texts_of = [getattr(source, name) for source in sources]
        names = Names.of({text for text in texts_of if text is not None})
        code = {None: 0} | {text: 1 + place for place, text in enumerate(names)}
        codes = np.array([code[text] for text in texts_of], np.int32)
        arrays |= {name: codes, f"{name}.text": names.text, f"{name}.starts": names.starts}
        if name in GROUPED:
            arrays[f"{name}.order"], arrays[f"{name}.firsts"] = grouped(codes, len(names))
    return arrays


def grouped(codes: NDArray[np.int32], names: int) -> tuple[RowNumbers, RowNumbers]:
    """Return row numbers sorted by code, and where each code from 0 to `names` begins, and the last one ends."""
    counts = np.bincount(codes, minlength=names + 1)
    return np.argsort(codes, kind="stable"), np.concatenate(([0], np.cumsum(counts)))


def sort_keys(texts: Sequence[bytes]) -> NDArray[np.uint64]:
    """Return the first eight bytes of each text as a number: texts in rising order have keys that do not fall."""
    padded = b"".join(text[:_KEY_BYTES].ljust(_KEY_BYTES, b"\0") for text in texts)
    return np.frombuffer(padded, ">u8").astype(np.uint64)


def starts_of(records: NDArray[Any], first: int = 0) -> RowNumbers:
    """Return where the text of each record starts, when they follow one another from `first` on."""
    lengths = np.zeros(len(records), np.int64)
    for name in TEXTS:
        lengths += np.maximum(records[f"{name}_bytes"], 0)
    return first + np.cumsum(lengths) - lengths


def _encoded(source: Source) -> list[bytes | None]:
    texts = [getattr(source, name) for name in TEXTS]
    return [None if text is None else text.encode() for text in texts]


def _reals(sources: Sequence[Source], name: str) -> NDArray[np.float64]:
    values = [getattr(source, name) for source in sources]
    return np.array([np.nan if value is None else value for value in values], np.float64)
