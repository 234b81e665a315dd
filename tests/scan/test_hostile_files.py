"""What damaged and hostile files can do to a scan, one by one; all of them together: `tests/faults`."""

import os
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hostile_files import flac_of_silence, hostile_files, special_files
from mutated_audio import mutated_files, write_mutants
from seed_recordings import seed_recordings

from datagen.audio import read_stretch
from datagen.examine import examine
from datagen.folders import audio_files
from manifests.source import Kind, Source
from pipelines.scanning.examiners import NOT_FINISHED, Task, examined

FILES = 72
RATE_HZ = 16_000


def speechlike(frames: int = RATE_HZ) -> np.ndarray:
    return 0.1 * np.random.default_rng(3).standard_normal(frames)


def sparse(path: Path, head: bytes, size: int) -> str:
    path.write_bytes(head)
    os.truncate(path, size)
    return str(path)


def test_mutated_files_are_measured_or_refused_for_a_reason_that_was_foreseen(tmp_path: Path) -> None:
    made = write_mutants(tmp_path, mutated_files(seed_recordings(tmp_path), FILES))
    tasks: list[Task] = [(str(path), path.parent.name) for path in made if path.name.isprintable()]  # type: ignore[misc]
    rows = [source for _, source in examined(tasks, workers=2)]
    assert Counter(source.path for source in rows) == Counter(path for path, _ in tasks)
    reasons = [source.refused for source in rows if source.refused is not None]
    assert FILES / 4 < len(reasons) < FILES
    assert [reason for reason in reasons if not reason or "cannot be examined" in reason] == []
    for source in rows:
        if source.refused is None:
            read_stretch(source.path, source.frames // 2, source.frames - source.frames // 2)


@pytest.mark.parametrize("kind", ["speech", "rir"])
def test_scripts_archives_and_endless_files_are_refused(tmp_path: Path, kind: Kind) -> None:
    victim = tmp_path / "victim.wav"
    soundfile.write(victim, speechlike(), RATE_HZ)
    for name, head, size in hostile_files(9, victim):
        if size < 1 << 20:
            assert examine(sparse(tmp_path / name, head, size), kind).refused, name


def test_no_pipe_link_device_or_folder_is_listed_and_none_is_opened(tmp_path: Path) -> None:
    victim = tmp_path / "good.wav"
    soundfile.write(victim, speechlike(), RATE_HZ)
    special = special_files(tmp_path, victim)
    assert [found.path for found in audio_files(str(tmp_path))] == [str(victim)]
    for path in (special[0], special[3], special[4]):
        assert examine(str(path), "speech").refused == "not a regular file"


def test_hours_of_silence_are_refused_by_their_header_or_after_four(tmp_path: Path) -> None:
    told, untold = tmp_path / "told.flac", tmp_path / "untold.flac"
    told.write_bytes(flac_of_silence(5 * 3_600 * 4_000, 4_000, 1))
    untold.write_bytes(flac_of_silence(5 * 3_600 * 4_000, 4_000, 1, declared=False))
    allowed = tmp_path / "allowed.flac"
    allowed.write_bytes(flac_of_silence(3_600 * 4_000, 4_000, 1, declared=False))
    for path, reason in (
        (told, "longer than 4 h: cut it into parts"),
        (untold, "longer than 4 h: cut it into parts"),
        (allowed, "all silent"),
    ):
        assert examine(str(path), "noise").refused == reason
        assert examine(str(path), "rir").refused == "longer than 30 s: not an impulse response"
    assert examine(str(told), "noise").sha256 == ""


def test_a_flac_stream_of_unknown_length_is_usable(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    soundfile.write(path, speechlike(), RATE_HZ)
    content = bytearray(path.read_bytes())
    content[21] &= 0xF0
    content[22:26] = bytes(4)
    path.write_bytes(content)
    source = examine(str(path), "speech")
    assert (source.refused, source.frames) == (None, RATE_HZ)


@pytest.mark.parametrize("head", [b"RIFF\0\0\0\x7fWAVE", b"FORM\x7f\0\0\0AIFF"])
def test_zeros_are_not_walked_through_as_chunks(tmp_path: Path, head: bytes) -> None:
    path = sparse(tmp_path / "a.wav", head, 64 << 20)
    assert examine(path, "speech").refused == "truncated: no audio chunk"


def test_channels_are_limited_to_those_of_microphone_arrays(tmp_path: Path) -> None:
    for channels, reason in ((64, None), (65, "has 65 channels, at most 64")):
        path = tmp_path / f"{channels}.wav"
        soundfile.write(path, np.tile(speechlike()[:, None], channels), RATE_HZ)
        assert examine(str(path), "speech").refused == reason


def test_a_wide_file_is_read_in_parts_that_join(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.wav"
    audio = speechlike(8 * 10_000).reshape(10_000, 8).astype(np.float32)
    soundfile.write(path, audio, RATE_HZ, subtype="FLOAT")
    monkeypatch.setattr("datagen.audio.SOUGHT_VALUES", 8 * 999)
    np.testing.assert_array_equal(read_stretch(str(path), 7, 9_990, channel=5)[0], audio[7:9_997, 5])
    np.testing.assert_array_equal(
        read_stretch(str(path), 7, 9_990)[0], audio[7:9_997].mean(axis=1, dtype=np.float32)
    )


def test_values_that_overflow_when_squared_are_refused(tmp_path: Path) -> None:
    audio = speechlike()
    for value, reason in ((3e38, "contains values of 3e+38, full scale is 1"), (2.0, None)):
        audio[50] = value
        soundfile.write(tmp_path / "a.wav", audio, RATE_HZ, subtype="FLOAT")
        assert examine(str(tmp_path / "a.wav"), "speech").refused == reason


def sleeps_on_demand(path: str, kind: Kind) -> Source:
    """A decoder with a fault: it never returns from some files."""
    if "sleeps" in path:
        time.sleep(3_600)
    return examine(path, kind)


@pytest.mark.faults
def test_a_decoder_that_never_returns_loses_its_own_file_alone(tmp_path: Path) -> None:
    tasks: list[Task] = []
    for number in range(8):
        path = tmp_path / f"{number}{' sleeps' if number % 4 == 1 else ''}.wav"
        soundfile.write(path, speechlike() * (1 + number), RATE_HZ)
        tasks.append((str(path), "noise"))
    rows = dict(examined(tasks, workers=2, look=sleeps_on_demand, longest_look_s=6.0))
    assert set(rows) == set(tasks)
    refused = {Path(path).name: row.refused for (path, _), row in rows.items() if row.refused}
    assert refused == dict.fromkeys(("1 sleeps.wav", "5 sleeps.wav"), f"{NOT_FINISHED}6 s")


def asks_for_gigabytes(path: str, kind: Kind) -> Source:
    """A decoder that asks for 2 GB because a file's header tells it to."""
    try:
        return Source(path, kind, frames=len(np.ones(1 << 28)))
    except MemoryError:
        return Source(path, kind, refused="told that there is none")


def test_a_decoder_that_asks_for_gigabytes_gets_none() -> None:
    ((_, row),) = examined([("a.wav", "speech")], workers=1, look=asks_for_gigabytes)
    assert row.refused == "told that there is none"
