"""Python's values as Arrow's, without pandas: `pyarrow.array` and `pyarrow.scalar` import it, which takes 0.2 s."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray


def strings(values: Iterable[str]) -> Any:
    """Return strings as an Arrow array."""
    import pyarrow as pa

    encoded = [value.encode() for value in values]
    offsets = np.zeros(len(encoded) + 1, np.int64)
    np.cumsum([len(value) for value in encoded], out=offsets[1:])
    if offsets[-1] > np.iinfo(np.int32).max:
        raise ValueError("more than 2 GB of text in one array")
    starts = pa.py_buffer(offsets.astype(np.int32))
    return pa.StringArray.from_buffers(len(encoded), starts, pa.py_buffer(b"".join(encoded)))


def text(value: str) -> Any:
    """Return one string as an Arrow scalar."""
    return strings([value])[0]


def integers(values: NDArray[np.int64]) -> Any:
    """Return whole numbers as an Arrow array."""
    import pyarrow as pa

    content = np.ascontiguousarray(values, np.int64)
    return pa.Array.from_buffers(pa.int64(), len(content), [None, pa.py_buffer(content)])


def union(arrays: Iterable[Any]) -> Any:
    """Return the different strings of some Arrow arrays, each where it stands first."""
    import pyarrow as pa

    return pa.concat_arrays([strings(()), *arrays]).unique()
