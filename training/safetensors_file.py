"""Tensors as bytes in the safetensors format, read and written without its package, which bare GPU machines lack.

```
8 bytes   length of the header, unsigned, little-endian
header    JSON: {"__metadata__": {text: text}, NAME: {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, ...}
data      the tensors' values, little-endian, row by row; offsets count from the first byte after the header
```

The format holds values and no code. A file may still lie, so everything that its header says is checked against
the bytes that are there before anything of the size that it claims is allocated. What is accepted here, the
`safetensors` package reads as the same tensors; a few things that it reads are refused (names given twice, extra
fields of a tensor, headers over 4 MiB, booleans other than 0 and 1).
"""

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

LENGTH_BYTES = 8
ALIGNMENT_BYTES = 8
"""The header is padded with spaces, so that the data begins at a multiple of this."""
HEADER_LIMIT_BYTES = 4 * 2**20
"""Some 30,000 tensors."""
DIMENSIONS_LIMIT = 8
ELEMENTS_LIMIT = 2**40
SHOWN_LENGTH = 80
METADATA = "__metadata__"


class SafetensorsError(ValueError):
    """Bytes that are not tensors in this format; the message is the end of a sentence about their file."""


class DType(NamedTuple):
    """One kind of number."""

    torch: torch.dtype
    stored: np.dtype[Any]
    """How its bytes lie in the file. numpy has no bfloat16: its bits travel as integers."""


DTYPES = {
    "F64": DType(torch.float64, np.dtype("<f8")),
    "F32": DType(torch.float32, np.dtype("<f4")),
    "F16": DType(torch.float16, np.dtype("<f2")),
    "BF16": DType(torch.bfloat16, np.dtype("<i2")),
    "I64": DType(torch.int64, np.dtype("<i8")),
    "I32": DType(torch.int32, np.dtype("<i4")),
    "U8": DType(torch.uint8, np.dtype("u1")),
    "BOOL": DType(torch.bool, np.dtype("u1")),
}
_NAMES = {dtype.torch: name for name, dtype in DTYPES.items()}


class Entry(NamedTuple):
    """What the header says of one tensor."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    """Offset of its first byte in the data."""
    end: int


class Header(NamedTuple):
    """A header whose every statement fits the bytes behind it."""

    entries: dict[str, Entry]
    """By the tensor's name, in the order of the data."""
    metadata: dict[str, str]
    data_at: int
    """Where the data begins."""


def packed(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    """Write tensors; the same ones give the same bytes, in whatever order they come.

    Args:
        tensors: on any device. Wide types are written first, so that each lies at a multiple of its size.
        metadata: text about the whole.

    Raises:
        ValueError: when a tensor has a type that is not in `DTYPES`.
    """
    header: dict[str, Any] = {METADATA: dict(sorted(metadata.items()))} if metadata else {}
    parts: list[bytes] = []
    at = 0
    for name in sorted(tensors, key=lambda each: (-tensors[each].element_size(), each)):
        tensor = tensors[name]
        if tensor.dtype not in _NAMES:
            raise ValueError(f"{name}: {tensor.dtype} cannot be written; there are {', '.join(DTYPES)}")
        part = _bytes_of(tensor)
        header[name] = {
            "dtype": _NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [at, at + len(part)],
        }
        parts.append(part)
        at += len(part)
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % ALIGNMENT_BYTES)
    return b"".join((len(text).to_bytes(LENGTH_BYTES, "little"), text, *parts))


def _bytes_of(tensor: Tensor) -> bytes:
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    if flat.dtype == torch.bfloat16:
        flat = flat.view(torch.int16)
    stored = DTYPES[_NAMES[tensor.dtype]].stored
    return flat.numpy().astype(stored, copy=False).tobytes()


def read_header(content: bytes) -> Header:
    """Read the header, and check it against the length of the data.

    Raises:
        SafetensorsError: when it is not one, or says something that the data cannot hold.
    """
    data_at = LENGTH_BYTES + int.from_bytes(content[:LENGTH_BYTES], "little")
    if data_at - LENGTH_BYTES > HEADER_LIMIT_BYTES or content[LENGTH_BYTES : LENGTH_BYTES + 1] != b"{":
        raise SafetensorsError("not a safetensors file")
    if data_at > len(content):
        raise SafetensorsError("its header is cut off")
    fields = _parsed(content[LENGTH_BYTES:data_at])
    metadata = fields.pop(METADATA, {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise SafetensorsError(f"the {METADATA} of its header must be text by name")
    entries = {name: _entry(name, said) for name, said in fields.items()}
    ordered = sorted(entries.items(), key=lambda item: (item[1].begin, item[1].end))
    _check_cover(ordered, len(content) - data_at)
    return Header(dict(ordered), metadata, data_at)


def _parsed(text: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(text.decode(), object_pairs_hook=_without_doubles)
        json.dumps(fields, ensure_ascii=False).encode()  # half a surrogate pair is JSON, but no text
    except (ValueError, RecursionError) as error:
        raise SafetensorsError("its header is not JSON in UTF-8 with each name once") from error
    if not isinstance(fields, dict):
        raise SafetensorsError("its header must be a JSON object")
    return fields


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({name for name, _ in pairs}) < len(pairs):
        raise ValueError("a name is given twice")
    return dict(pairs)


def _shown(name: str) -> str:
    """A tensor's name as a message shows it, which is not the place for megabytes."""
    return repr(name if len(name) <= SHOWN_LENGTH else f"{name[:SHOWN_LENGTH]}...")


def _entry(name: str, said: Any) -> Entry:
    """Check what the header says of one tensor by itself."""
    if not isinstance(said, dict) or said.keys() != {"dtype", "shape", "data_offsets"}:
        raise SafetensorsError(f"tensor {_shown(name)} must have dtype, shape and data_offsets alone")
    dtype, shape, offsets = said["dtype"], said["shape"], said["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise SafetensorsError(f"tensor {_shown(name)} has a dtype that is not one of {', '.join(DTYPES)}")
    if not _counts(shape) or len(shape) > DIMENSIONS_LIMIT:
        raise SafetensorsError(
            f"tensor {_shown(name)} has a shape that is not up to {DIMENSIONS_LIMIT} counts"
        )
    if math.prod(max(1, size) for size in shape) > ELEMENTS_LIMIT:
        raise SafetensorsError(f"tensor {_shown(name)} claims to be larger than any")
    if not _counts(offsets) or len(offsets) != 2:
        raise SafetensorsError(f"tensor {_shown(name)} has data_offsets that are not two counts")
    if offsets[1] - offsets[0] != math.prod(shape) * DTYPES[dtype].stored.itemsize:
        raise SafetensorsError(f"the data of tensor {_shown(name)} does not have the length of its shape")
    return Entry(dtype, tuple(shape), *offsets)


def _counts(values: Any) -> bool:
    """Whether `values` is a list of integers from 0 on; true and false are none."""
    return isinstance(values, list) and all(type(value) is int and value >= 0 for value in values)


def _check_cover(ordered: Iterable[tuple[str, Entry]], data_bytes: int) -> None:
    """Check that tensors lie side by side, with neither gap nor overlap, from the first byte to the last."""
    at = 0
    for name, entry in ordered:
        if entry.begin != at:
            raise SafetensorsError(f"tensor {_shown(name)} does not begin where the one before it ends")
        at = entry.end
    if at != data_bytes:
        raise SafetensorsError(f"it holds {data_bytes} bytes of data, and its header names {at}")


def tensor_of(content: bytes, header: Header, name: str) -> Tensor:
    """Return one tensor, on the CPU and with memory of its own.

    Raises:
        SafetensorsError: when it is boolean and holds something besides 0 and 1.
    """
    entry = header.entries[name]
    dtype = DTYPES[entry.dtype]
    count = math.prod(entry.shape)
    if count == 0:
        return torch.zeros(entry.shape, dtype=dtype.torch)
    stored = np.frombuffer(content, dtype.stored, count, header.data_at + entry.begin)
    if dtype.torch == torch.bool and stored.max() > 1:
        raise SafetensorsError(f"tensor {_shown(name)} is boolean and holds values besides 0 and 1")
    native = torch.from_numpy(stored.astype(dtype.stored.newbyteorder("=")))  # astype copies
    typed = native.view(dtype.torch) if native.dtype != dtype.torch else native
    return typed.reshape(entry.shape)


def unpacked(content: bytes) -> dict[str, Tensor]:
    """Return all tensors of a file's content, by name.

    Raises:
        SafetensorsError: when it is not in this format, truncated or altered.
    """
    header = read_header(content)
    return {name: tensor_of(content, header, name) for name in header.entries}
