"""Damage of every sort that a recording can arrive with, the same on every run: 1,000 files from one seed.

A mutation takes a recording's content and a generator and returns the damaged content. What is not made from a
recording (scripts, archives, hours of silence) comes from `hostile_files`.
"""

import struct
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

SEED = 20_260
HEADER_BYTES = 128
KINDS = ("speech", "noise", "rir")
SHARES = (5, 3, 2)
"""Of ten files in a row, how many lie in the folder of each kind."""

RATES_HZ = (0, 1, 3, 7_999, 192_000, 384_001, 768_000, 2_000_000, (1 << 31) - 1, (1 << 32) - 1)
CHANNELS = (0, 2, 3, 64, 65, 255, 1_024, 32_768, 65_535)
BITS = (0, 1, 7, 9, 33, 64, 65_535)
SIZES = (0, 1, 2, 0x7FFFFFFE, 0x7FFFFFFF, 0x80000000, 0xFFFFFFF0, 0xFFFFFFFE, 0xFFFFFFFF)
NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)

EVIL_NAMES = (
    "new\nline",
    "'quoted' \"twice\" `id` $(id)",
    "-rf --help",
    "%s%n%d",
    "[red]bold[blue]",
    "a b\tc",
    "semi;colon|pipe&",
    "back\\slash",
    "\u202eesrever",
    "\U0001f600",
    "x" * 255,
    "invalid \udcff\udce9",
)

Mutation = Callable[[bytes, np.random.Generator], bytes]


def mutated_files(
    recordings: dict[str, dict[str, bytes]], count: int, seed: int = SEED
) -> Iterator[tuple[str, str, bytes]]:
    """Yield `count` files: the kind they are offered as, a name, and content.

    Args:
        recordings: for each kind, content of sound files by a name that ends in its suffix.
        count: how many.
        seed: of the choice of mutations and of everything in them.
    """
    kinds = [kind for kind, share in zip(KINDS, SHARES, strict=True) for _ in range(share)]
    for number in range(count):
        rng = np.random.default_rng([seed, number])
        kind = kinds[number % len(kinds)]
        origin = list(recordings[kind])[int(rng.integers(len(recordings[kind])))]
        mutation = MUTATIONS[(number + number // len(MUTATIONS)) % len(MUTATIONS)]
        content = mutation(recordings[kind][origin], rng)
        suffix = origin.rpartition(".")[2]
        if mutation is untouched and rng.random() < 0.5:
            suffix = ("wav", "flac", "mp3", "m4a", "ogg", "webm")[int(rng.integers(6))]
        stem = f"{number:04d} {mutation.__name__} {origin.rpartition('.')[0]}"
        if number % 20 == 7:
            evil = EVIL_NAMES[number // 20 % len(EVIL_NAMES)]
            stem = f"{evil[: 255 - len(f' 0000.{suffix}')]} {number:04d}"
        yield kind, f"{stem}.{suffix}", content


# --- of any container -----------------------------------------------------------------------------


def untouched(content: bytes, rng: np.random.Generator) -> bytes:
    """Sound as it is; its name may end like another container's."""
    return content


def cut_anywhere(content: bytes, rng: np.random.Generator) -> bytes:
    return content[: int(rng.integers(len(content)))]


def cut_in_header(content: bytes, rng: np.random.Generator) -> bytes:
    """Down to nothing: 0 and 1 bytes come up often."""
    return content[: int(rng.choice([0, 1, 4, 12, *range(13, HEADER_BYTES)]))]


def cut_at_the_end(content: bytes, rng: np.random.Generator) -> bytes:
    return content[: -int(rng.integers(1, 64))]


def beginning_lost(content: bytes, rng: np.random.Generator) -> bytes:
    return content[int(rng.integers(1, len(content))) :]


def bits_flipped(content: bytes, rng: np.random.Generator) -> bytes:
    return _flipped(content, rng, len(content), int(rng.integers(1, 40)))


def header_bits_flipped(content: bytes, rng: np.random.Generator) -> bytes:
    return _flipped(content, rng, min(HEADER_BYTES, len(content)), int(rng.integers(1, 6)))


def header_numbers_overwritten(content: bytes, rng: np.random.Generator) -> bytes:
    """Numbers that programs trip over, of 1 to 8 bytes in either order, anywhere in the header."""
    changed = bytearray(content)
    for _ in range(int(rng.integers(1, 4))):
        width = int(rng.choice([1, 2, 4, 8]))
        at = int(rng.integers(4, min(HEADER_BYTES, len(changed) - 8)))
        number = int(rng.choice(NUMBERS)) & ((1 << 8 * width) - 1)
        changed[at : at + width] = number.to_bytes(width, "little" if rng.random() < 0.5 else "big")
    return bytes(changed)


def part_zeroed(content: bytes, rng: np.random.Generator) -> bytes:
    start, end = _stretch(content, rng)
    return content[:start] + bytes(end - start) + content[end:]


def part_random(content: bytes, rng: np.random.Generator) -> bytes:
    start, end = _stretch(content, rng)
    return content[:start] + rng.bytes(end - start) + content[end:]


def part_removed(content: bytes, rng: np.random.Generator) -> bytes:
    start, end = _stretch(content, rng)
    return content[:start] + content[end:]


def part_repeated(content: bytes, rng: np.random.Generator) -> bytes:
    start, end = _stretch(content, rng)
    return content[:end] + content[start:end] * int(rng.integers(1, 5)) + content[end:]


def twice_in_a_row(content: bytes, rng: np.random.Generator) -> bytes:
    return content + content


def behind_a_header_of_another(content: bytes, rng: np.random.Generator) -> bytes:
    heads = (b"RIFF\x24\0\0\0WAVE", b"fLaC\0\0\0\x22", b"OggS\0\x02", b"ID3\x04\0\0\x7f\x7f\x7f\x7f", b"FORM")
    return heads[int(rng.integers(len(heads)))] + content


def rubbish_behind(content: bytes, rng: np.random.Generator) -> bytes:
    return content + rng.bytes(int(rng.integers(1, 5_000)))


# --- fields of headers ----------------------------------------------------------------------------


def rate_absurd(content: bytes, rng: np.random.Generator) -> bytes:
    return with_fields(content, rate_hz=int(rng.choice(RATES_HZ)))


def channels_absurd(content: bytes, rng: np.random.Generator) -> bytes:
    return with_fields(content, channels=int(rng.choice(CHANNELS)))


def bits_absurd(content: bytes, rng: np.random.Generator) -> bytes:
    return with_fields(content, bits=int(rng.choice(BITS)))


def block_size_wrong(content: bytes, rng: np.random.Generator) -> bytes:
    return with_fields(content, block_bytes=int(rng.choice(CHANNELS)))


def size_wrong(content: bytes, rng: np.random.Generator) -> bytes:
    """0, beyond the end, or negative, of the chunk that holds the audio."""
    return with_fields(content, data_bytes=int(rng.choice(SIZES)))


def ten_hours_promised(content: bytes, rng: np.random.Generator) -> bytes:
    return with_fields(content, data_bytes=10 * 3_600 * 16_000 * 2)


def everything_absurd(content: bytes, rng: np.random.Generator) -> bytes:
    return with_fields(
        content,
        rate_hz=int(rng.choice(RATES_HZ)),
        channels=int(rng.choice(CHANNELS)),
        bits=int(rng.choice(BITS)),
        data_bytes=int(rng.choice(SIZES)),
    )


def with_fields(
    content: bytes,
    rate_hz: int | None = None,
    channels: int | None = None,
    bits: int | None = None,
    block_bytes: int | None = None,
    data_bytes: int | None = None,
) -> bytes:
    """Overwrite fields where a container has them; the content of one that has none is returned as it is.

    In FLAC, `data_bytes` is the number of samples; in an MP4, units of its duration.
    """
    changed = bytearray(content)
    put: list[tuple[int, str, int | None]] = []
    if content[:4] in (b"RIFF", b"RF64") and (fmt := content.find(b"fmt ")) > 0:
        put = [(fmt + 10, "<H", channels), (fmt + 12, "<I", rate_hz)]
        put += [(fmt + 20, "<H", block_bytes), (fmt + 22, "<H", bits)]
        put.append((content.find(b"data") + 4, "<I", data_bytes))
    elif content[:4] == b"riff" and (fmt := content.find(b"fmt ")) > 0:
        put = [(fmt + 26, "<H", channels), (fmt + 28, "<I", rate_hz)]
        put += [(fmt + 36, "<H", block_bytes), (fmt + 38, "<H", bits)]
        put.append((content.find(b"data") + 16, "<Q", data_bytes))
    elif content[:4] == b"FORM" and (common := content.find(b"COMM")) > 0:
        put = [(common + 8, ">H", channels), (common + 10, ">I", data_bytes), (common + 14, ">H", bits)]
        put.append((content.find(b"SSND") + 4, ">I", data_bytes))
        put.append((common + 18, ">Q", None if rate_hz is None else rate_hz << 33))
    elif content[:4] == b".snd":
        put = [(8, ">I", data_bytes), (12, ">I", bits), (16, ">I", rate_hz), (20, ">I", channels)]
    elif content[:4] == b"caff":
        put = [(36, ">I", block_bytes), (44, ">I", channels), (48, ">I", bits)]
        put.append((content.find(b"data") + 4, ">Q", data_bytes))
        if rate_hz is not None:
            changed[20:28] = struct.pack(">d", float(rate_hz))
    elif content[:4] == b"fLaC":
        put = [(18, ">Q", _stream_info(content, rate_hz, channels, bits, data_bytes))]
    elif content[4:8] == b"ftyp":
        put = [(content.find(b"mdhd") + 16, ">I", rate_hz), (content.find(b"mdhd") + 20, ">I", data_bytes)]
        put += [(content.find(b"mp4a") + 20, ">H", channels), (content.find(b"stsz") + 12, ">I", data_bytes)]
    for at, layout, number in put:
        if number is not None and at + struct.calcsize(layout) <= len(changed):
            struct.pack_into(layout, changed, at, number & ((1 << 8 * struct.calcsize(layout)) - 1))
    return bytes(changed)


def _stream_info(
    content: bytes, rate_hz: int | None, channels: int | None, bits: int | None, samples: int | None
) -> int:
    """The 64 bits of FLAC's STREAMINFO that hold rate (20), channels - 1 (3), bits - 1 (5) and samples (36)."""
    packed = int.from_bytes(content[18:26], "big")
    for value, shift, width in (
        (rate_hz, 44, 20),
        (None if channels is None else channels - 1, 41, 3),
        (None if bits is None else bits - 1, 36, 5),
        (samples, 0, 36),
    ):
        if value is not None:
            mask = (1 << width) - 1
            packed = packed & ~(mask << shift) | (value & mask) << shift
    return packed


# --- samples --------------------------------------------------------------------------------------


def samples_not_finite(content: bytes, rng: np.random.Generator) -> bytes:
    """NaN, infinity, and numbers as good as infinite, wherever the body holds floats; elsewhere merely loud."""
    patterns = np.array([np.nan, np.inf, -np.inf, 3e38, -1e30, 1e-42], np.float32)
    changed = bytearray(content)
    for _ in range(int(rng.integers(1, 20))):
        at = int(rng.integers(HEADER_BYTES // 4, max(HEADER_BYTES // 4 + 1, len(changed) // 4 - 4))) * 4
        changed[at : at + 4] = patterns[int(rng.integers(len(patterns)))].tobytes()
    return bytes(changed[: len(content)])


# --- Ogg, with checksums that hold ----------------------------------------------------------------


def ogg_pages_damaged(content: bytes, rng: np.random.Generator) -> bytes:
    """Flip bits within Ogg pages and put their checksums right, so that decoders get to see them."""
    if content[:4] != b"OggS":
        return bits_flipped(content, rng)
    pages = _pages(content)
    for _ in range(int(rng.integers(1, 8))):
        page = pages[int(rng.integers(len(pages)))]
        page[:] = _flipped(bytes(page), rng, len(page), int(rng.integers(1, 8)))
    return b"".join(_with_checksum(bytes(page)) for page in pages)


def _pages(content: bytes) -> list[bytearray]:
    starts = [at for at in range(len(content)) if content.startswith(b"OggS\0", at)]
    return [bytearray(content[a:b]) for a, b in zip(starts, [*starts[1:], len(content)], strict=True)]


def _with_checksum(page: bytes) -> bytes:
    blank = page[:22] + bytes(4) + page[26:]
    crc = 0
    for byte in blank:
        crc ^= byte << 24
        for _ in range(8):
            crc = (crc << 1 ^ 0x04C11DB7 if crc & 0x80000000 else crc << 1) & 0xFFFFFFFF
    return (blank[:22] + crc.to_bytes(4, "little") + blank[26:])[: len(page)]


def _flipped(content: bytes, rng: np.random.Generator, within: int, count: int) -> bytes:
    changed = bytearray(content)
    for at in rng.integers(0, within, count):
        changed[at] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def _stretch(content: bytes, rng: np.random.Generator) -> tuple[int, int]:
    start = int(rng.integers(len(content)))
    return start, min(len(content), start + int(rng.integers(1, 3_000)))


MUTATIONS: Sequence[Mutation] = (
    untouched,
    cut_anywhere,
    cut_in_header,
    cut_at_the_end,
    beginning_lost,
    bits_flipped,
    header_bits_flipped,
    header_numbers_overwritten,
    part_zeroed,
    part_random,
    part_removed,
    part_repeated,
    twice_in_a_row,
    behind_a_header_of_another,
    rubbish_behind,
    rate_absurd,
    channels_absurd,
    bits_absurd,
    block_size_wrong,
    size_wrong,
    ten_hours_promised,
    everything_absurd,
    samples_not_finite,
    ogg_pages_damaged,
)


def write_mutants(root: Path, files: Iterator[tuple[str, str, bytes]]) -> list[Path]:
    """Write files into `root/KIND/`; return their paths."""
    written = []
    for kind, name, content in files:
        path = root / kind / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        written.append(path)
    return written
