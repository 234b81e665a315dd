"""Files that are no damaged recordings, but made to make trouble: scripts, archives, hours of silence in few bytes."""

import gzip
import io
import os
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path

HOURS = 10
ENDLESS_BYTES = 150 << 20
FLAC_BLOCK_FRAMES = 65_535

Hostile = tuple[str, bytes, int]
"""A name, its first bytes, and how long the file is: the rest is a hole on the disk, read as zeros."""


def hostile_files(port: int, victim: Path) -> Iterator[Hostile]:
    """Yield files whose names end like audio.

    Args:
        port: of a server on this machine that nothing may call.
        victim: a sound recording that no script may lead to.
    """
    yield from _silences()
    yield from _endless()
    for name, content in {**_scripts(port, victim), **_archives()}.items():
        yield name, content, len(content)


# --- hours of silence -----------------------------------------------------------------------------


def _silences() -> Iterator[Hostile]:
    """Real ones: as many zeros as the header says, sparse on disk or compressed."""
    yield "10 h at 8 kHz.wav", *_wav(8_000, 1, HOURS * 3_600 * 8_000 * 2)
    yield "20 s of 8 channels at 384 kHz.w64", *_w64(384_000, 8, 20 * 384_000 * 16)
    yield "5 s of 1024 channels.w64", *_w64(48_000, 1_024, 5 * 48_000 * 2_048)
    yield "5 s of 64 channels at 384 kHz.w64", *_w64(384_000, 64, 5 * 384_000 * 128)
    yield "100 h.au", struct.pack(">4sIIIII", b".snd", 24, 0xFFFFFFFF, 3, 48_000, 1), 100 * 3_600 * 96_000
    flac = flac_of_silence(HOURS * 3_600 * 48_000, 48_000, 1)
    yield "10 h in a few bytes.flac", flac, len(flac)
    unknown = flac_of_silence(HOURS * 3_600 * 16_000, 16_000, 1, declared=False)
    yield "10 h that no header tells of.flac", unknown, len(unknown)
    wide = flac_of_silence(300 * 48_000, 48_000, 8)
    yield "5 minutes of 8 channels.flac", wide, len(wide)


def _wav(rate_hz: int, channels: int, data_bytes: int) -> tuple[bytes, int]:
    fmt = struct.pack("<HHIIHH", 1, channels, rate_hz, rate_hz * channels * 2, channels * 2, 16)
    head = b"RIFF" + struct.pack("<I", 36 + data_bytes) + b"WAVEfmt " + struct.pack("<I", 16) + fmt
    return head + b"data" + struct.pack("<I", data_bytes), 44 + data_bytes


def _w64(rate_hz: int, channels: int, data_bytes: int) -> tuple[bytes, int]:
    """Sony's WAV of 64-bit sizes: chunks are named by GUIDs, and sizes include the 24 bytes before the content."""
    fmt = struct.pack("<HHIIHH", 1, channels, rate_hz, rate_hz * channels * 2, channels * 2, 16)
    riff = b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\x00\x00"
    tail = b"\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a"
    head = b"wave" + tail + b"fmt " + tail + struct.pack("<Q", 24 + len(fmt)) + fmt
    head += b"data" + tail + struct.pack("<Q", 24 + data_bytes)
    size = 24 + len(head) + data_bytes
    return riff + struct.pack("<Q", size) + head, size


def flac_of_silence(frames: int, rate_hz: int, channels: int, declared: bool = True) -> bytes:
    """FLAC of 16-bit zeros in the largest blocks there are: 12 bytes for 65,535 frames of one channel.

    RFC 9639: STREAMINFO in section 8.2, frame headers in 9.1, constant subframes in 9.2.3.
    """
    count = frames // FLAC_BLOCK_FRAMES
    samples = count * FLAC_BLOCK_FRAMES if declared else 0
    packed = rate_hz << 44 | (channels - 1) << 41 | 15 << 36 | samples
    info = (
        struct.pack(">HH", FLAC_BLOCK_FRAMES, FLAC_BLOCK_FRAMES)
        + bytes(6)
        + packed.to_bytes(8, "big")
        + bytes(16)
    )
    blocks = [b"fLaC\x80\x00\x00\x22", info]
    for number in range(count):
        head = b"\xff\xf8\x70" + bytes([(channels - 1) << 4 | 8]) + _utf8_like(number)
        head += struct.pack(">H", FLAC_BLOCK_FRAMES - 1)
        frame = head + bytes([_crc(head, 8, 0x07)]) + bytes(3) * channels
        blocks.append(frame + _crc(frame, 16, 0x8005).to_bytes(2, "big"))
    return b"".join(blocks)


def _utf8_like(number: int) -> bytes:
    return chr(number).encode("utf-8", "surrogatepass")


def _crc(content: bytes, width: int, polynomial: int) -> int:
    crc, top, mask = 0, 1 << (width - 1), (1 << width) - 1
    for byte in content:
        crc ^= byte << (width - 8)
        for _ in range(8):
            crc = (crc << 1 ^ polynomial if crc & top else crc << 1) & mask
    return crc


# --- headers with nothing behind them but zeros ---------------------------------------------------


def _endless() -> Iterator[Hostile]:
    heads = {
        "chunks without end.wav": b"RIFF\0\0\0\x7fWAVE",
        "chunks without end.aiff": b"FORM\x7f\0\0\0AIFF",
        "frames without end.flac": b"fLaC\x80\0\0\x22\x10\0\x10"
        + bytes(7)
        + b"\x0a\xc4\x40\xf0\0\0\xff\xff"
        + bytes(16),
        "pages without end.ogg": b"OggS\0\x02",
        "frames without end.mp3": b"ID3\x04\0\0\0\0\0\x0a",
        "frames without end.aac": b"\xff\xf1\x50\x80",
        "boxes without end.m4a": b"\0\0\0\x18ftypM4A \0\0\2\0isomiso2",
        "an empty box.m4a": b"\0\0\0\x18ftypM4A \0\0\2\0isomiso2\0\0\0\x08moov\0\0\0\x01mdat" + bytes(8),
        "clusters without end.webm": b"\x1a\x45\xdf\xa3\x9f\x42\x86\x81\x01\x42\xf7\x81\x01\x42\x82\x84webm",
        "objects without end.wma": bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c"),
        "nothing but zeros.wav": b"",
        "nothing but zeros.mp3": b"",
        "nothing but zeros.opus": b"",
    }
    for name, head in heads.items():
        yield name, head, ENDLESS_BYTES


# --- scripts that lead elsewhere ------------------------------------------------------------------


def _scripts(port: int, victim: Path) -> dict[str, bytes]:
    remote = f"http://127.0.0.1:{port}/a.ts"
    hls = "#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:3,\n{}\n#EXT-X-ENDLIST\n"
    texts = {
        "playlist": hls.format(remote),
        "playlist of a file": hls.format(victim),
        "key": f'#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI="{remote}"\n#EXTINF:3,\n{victim}\n#EXT-X-ENDLIST\n',
        "concat": f"ffconcat version 1.0\nfile '{victim}'\n",
        "concat of a host": f"ffconcat version 1.0\nfile '{remote}'\n",
        "session": f"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nm=audio {port} RTP/AVP 0\n",
        "dash": f'<?xml version="1.0"?><MPD><Period><BaseURL>{remote}</BaseURL></Period></MPD>',
        "xspf": f'<playlist version="1"><trackList><track><location>{remote}</location></track></trackList></playlist>',
        "metadata": ";FFMETADATA1\ntitle=x\n",
        "subtitles": f"[Script Info]\n[Events]\nDialogue: 0,0:00:00.00,0:00:01.00,,,,,,,{remote}\n",
    }
    suffixes = ("wav", "mp3", "m4a", "webm", "aac")
    return {f"{name}.{suffix}": text.encode() for name, text in texts.items() for suffix in suffixes}


def _archives() -> dict[str, bytes]:
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.wav", bytes(20 << 20))
    others = {
        "zip": zipped.getvalue(),
        "gzip": gzip.compress(bytes(20 << 20), mtime=0),
        "text": b"these are words, not sounds\n" * 100,
        "utf-16": "RIFF WAVE fmt data".encode("utf-16"),
        "program": b"\x7fELF\x02\x01\x01" + bytes(2_000),
        "picture": b"\x89PNG\r\n\x1a\n" + bytes(2_000),
        "no bytes": b"",
    }
    suffixes = ("wav", "flac", "m4a")
    return {f"{name}.{suffix}": content for name, content in others.items() for suffix in suffixes}


def special_files(folder: Path, victim: Path) -> list[Path]:
    """Make what is no file at all, or leads to another, under names that end like audio."""
    made = [folder / f"special {number}.wav" for number in range(5)]
    os.mkfifo(made[0])
    made[1].symlink_to(victim)
    made[2].symlink_to(made[2])
    made[3].symlink_to("/dev/zero")
    made[4].mkdir()
    return made
