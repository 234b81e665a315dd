"""Our safetensors files are those of the official package, both ways, and what lies or is cut off is refused."""

import json
import random
import tracemalloc

import pytest
import safetensors.torch as official
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from training.safetensors_file import (
    DTYPES,
    HEADER_LIMIT_BYTES,
    SafetensorsError,
    packed,
    read_header,
    unpacked,
)

TENSORS = {
    "down.0.weight": torch.randn(3, 2, 5, generator=torch.Generator().manual_seed(0)),
    "norm.batches": torch.tensor(2**40 + 1),
    "nothing": torch.zeros(0, 7),
    "brain": torch.tensor([1.5, -0.0, float("inf")], dtype=torch.bfloat16),
    "half": torch.tensor([[1e-7, 65504.0]], dtype=torch.float16),
    "double": torch.tensor([torch.pi], dtype=torch.float64),
    "int": torch.tensor([-1, 2**31 - 1], dtype=torch.int32),
    "byte": torch.arange(5, dtype=torch.uint8),
    "flags": torch.tensor([True, False, True]),
    'ü "quoted"': torch.ones(2),
}


def same(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> bool:
    """Whether names, types, shapes and bits are the same."""
    return ours.keys() == theirs.keys() and all(
        ours[name].dtype == theirs[name].dtype
        and ours[name].shape == theirs[name].shape
        and packed({"": ours[name]}, {}) == packed({"": theirs[name]}, {})
        for name in ours
    )


def file_of(header: object, data: bytes = b"") -> bytes:
    """A file with any header at all."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def test_the_official_package_reads_what_we_write() -> None:
    assert {tensor.dtype for tensor in TENSORS.values()} == {dtype.torch for dtype in DTYPES.values()}
    assert same(official.load(packed(TENSORS, {"format": "pt"})), TENSORS)


def test_we_read_what_the_official_package_writes() -> None:
    content = official.save(TENSORS, {"format": "pt", "by": "somebody"})
    assert same(unpacked(content), TENSORS)
    assert read_header(content).metadata == {"format": "pt", "by": "somebody"}


def test_the_same_tensors_give_the_same_bytes_in_any_order_and_layout() -> None:
    weights = {name: tensor for name, tensor in TENSORS.items() if tensor.dtype == torch.float32}
    strided = {
        name: tensor.mT.contiguous().mT if tensor.ndim > 1 else tensor for name, tensor in weights.items()
    }
    turned = dict(reversed(strided.items()))
    assert packed(turned, {"b": "2", "a": "1"}) == packed(weights, {"a": "1", "b": "2"})
    assert packed(weights, {"format": "pt"}) == official.save(weights, {"format": "pt"})


def test_every_tensor_lies_at_a_multiple_of_its_size() -> None:
    header = read_header(packed(TENSORS, {}))
    assert header.data_at % 8 == 0
    for entry in header.entries.values():
        assert entry.begin % DTYPES[entry.dtype].stored.itemsize == 0


def test_read_tensors_are_their_own_and_may_be_trained() -> None:
    content = packed(TENSORS, {})
    first = unpacked(content)
    first["down.0.weight"].add_(1.0)
    assert same(unpacked(content), TENSORS)


def test_other_types_are_not_written() -> None:
    with pytest.raises(ValueError, match="z: torch.complex64 cannot be written"):
        packed({"z": torch.zeros(1, dtype=torch.complex64)}, {})


shapes = st.lists(st.integers(0, 4), max_size=3)
names = st.text(st.characters(exclude_categories=["Cs"]), max_size=8).filter(
    lambda name: name != "__metadata__"
)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.dictionaries(names, st.tuples(shapes, st.sampled_from(sorted(DTYPES))), max_size=5), st.randoms())
def test_any_tensors_come_back_from_both_readers(
    wanted: dict[str, tuple[list[int], str]], rng: random.Random
) -> None:
    generator = torch.Generator().manual_seed(rng.randrange(2**31))
    tensors = {
        name: torch.randint(0, 2, shape, generator=generator).to(DTYPES[dtype].torch)
        for name, (shape, dtype) in wanted.items()
    }
    content = packed(tensors, {"format": "pt"})
    assert same(unpacked(content), tensors)
    assert same(official.load(content), tensors)


F32 = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
DATA = bytes(8)
LIES = {
    "empty": (b"", "not a safetensors file"),
    "a zip archive": (b"PK\x03\x04" + bytes(60), "not a safetensors file"),
    "text": (b"once upon a time there was a model", "not a safetensors file"),
    "a header of 2^63 bytes": ((2**63).to_bytes(8, "little") + b"{}", "not a safetensors file"),
    "a header over the limit": (
        (HEADER_LIMIT_BYTES + 1).to_bytes(8, "little") + b"{}",
        "not a safetensors file",
    ),
    "a header that is cut off": ((2000).to_bytes(8, "little") + b"{}", "cut off"),
    "broken JSON": (file_of(b'{"w": '), "not JSON"),
    "another encoding": (file_of('{"ü": 1}'.encode("latin-1")), "not JSON"),
    "half a surrogate pair": (file_of(b'{"__metadata__": {"a": "\\ud800"}}'), "not JSON"),
    "a name twice": (file_of(b'{"__metadata__": {}, "__metadata__": {}}'), "not JSON"),
    "deep nesting": (file_of(b'{"a":' * 50_000), "not JSON"),
    "a number of 10,000 digits": (file_of(b'{"a":' + b"9" * 10_000 + b"}"), "not JSON"),
    "metadata that is no text": (file_of({"__metadata__": {"a": 1}}), "__metadata__"),
    "metadata that is a list": (file_of({"__metadata__": ["a"]}), "__metadata__"),
    "a tensor that is a number": (file_of({"w": 1}), "'w' must have"),
    "a field too many": (file_of({"w": F32 | {"code": "import os"}}, DATA), "'w' must have"),
    "a field too few": (file_of({"w": {"dtype": "F32", "shape": [2]}}, DATA), "'w' must have"),
    "an unknown type": (file_of({"w": F32 | {"dtype": "C64", "shape": [1]}}, DATA), "dtype"),
    "a type that is a list": (file_of({"w": F32 | {"dtype": ["F32"]}}, DATA), "dtype"),
    "a negative size": (file_of({"w": F32 | {"shape": [-2]}}, DATA), "shape"),
    "two negative sizes": (file_of({"w": F32 | {"shape": [-1, -2]}}, DATA), "shape"),
    "true for a size": (file_of({"w": F32 | {"shape": [True, 2]}}, DATA), "shape"),
    "a size with a point": (file_of({"w": F32 | {"shape": [2.0]}}, DATA), "shape"),
    "100 dimensions": (file_of({"w": F32 | {"shape": [1] * 99 + [2]}}, DATA), "shape"),
    "nothing, enormous": (
        file_of({"w": F32 | {"shape": [0, 2**62, 2**62], "data_offsets": [0, 0]}}),
        "larger",
    ),
    "an exabyte": (file_of({"w": F32 | {"shape": [2**58], "data_offsets": [0, 2**60]}}), "larger"),
    "more than there is": (
        file_of({"w": F32 | {"shape": [2**30], "data_offsets": [0, 2**32]}}, DATA),
        "header names",
    ),
    "offsets backwards": (file_of({"w": F32 | {"data_offsets": [8, 0]}}, DATA), "length of its shape"),
    "an offset below 0": (file_of({"w": F32 | {"data_offsets": [-8, 0]}}, DATA), "data_offsets"),
    "three offsets": (file_of({"w": F32 | {"data_offsets": [0, 4, 8]}}, DATA), "data_offsets"),
    "another length": (file_of({"w": F32 | {"shape": [3]}}, DATA), "length of its shape"),
    "overlap": (file_of({"v": F32, "w": F32}, DATA), "'w' does not begin"),
    "a gap": (file_of({"w": F32 | {"data_offsets": [8, 16]}}, bytes(16)), "'w' does not begin"),
    "data behind the last": (file_of({"w": F32}, bytes(9)), "9 bytes of data, and its header names 8"),
    "a boolean of 2": (
        file_of({"w": {"dtype": "BOOL", "shape": [1], "data_offsets": [0, 1]}}, b"\2"),
        "boolean",
    ),
}


@pytest.mark.parametrize("content, said", LIES.values(), ids=LIES)
def test_a_file_that_lies_is_refused_with_a_sentence_and_without_memory(content: bytes, said: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(SafetensorsError, match=said):
            unpacked(content)
        assert tracemalloc.get_traced_memory()[1] < 16 * 2**20
    finally:
        tracemalloc.stop()


SMALL = packed(
    {"w": TENSORS["half"], "flags": TENSORS["flags"], "n": TENSORS["norm.batches"]}, {"format": "pt"}
)


def test_a_file_cut_off_anywhere_is_refused() -> None:
    for length in range(len(SMALL)):
        with pytest.raises(SafetensorsError):
            unpacked(SMALL[:length])


def test_an_altered_file_is_refused_or_holds_what_the_official_reader_finds_in_it() -> None:
    rng = random.Random(0)
    refused = 0
    for _ in range(6000):
        content = bytearray(SMALL)
        for _ in range(rng.choice((1, 1, 2, 3))):
            place = rng.randrange(len(content))
            change = rng.randrange(3)
            if change == 0:
                content[place] = rng.choice(b'0123456789{}[]":, \\FIBU\x00\xff')
            elif change == 1:
                content[place] ^= 1 << rng.randrange(8)
            else:
                del content[place : place + rng.randrange(1, 4)]
        try:
            read = unpacked(bytes(content))
        except SafetensorsError as error:
            refused += 1
            assert "\n" not in str(error)
        else:
            assert same(read, official.load(bytes(content)))
    assert 3000 < refused < 6000
