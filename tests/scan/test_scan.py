"""A scan finds every file, reads each once, survives what it finds, and says what is wrong in one sentence."""

import os
import signal
from pathlib import Path

import numpy as np
import pytest
import soundfile

from datagen.examine import examine
from manifests.catalogue import Catalogue, read_catalogue
from manifests.errors import UserError
from manifests.source import Kind, Source
from pipelines.scanning.examiners import CRASHED, examined
from pipelines.scanning.scan import ScanSummary, scan
from pipelines.scanning.summary import print_summary

RATE_HZ = 16_000


def record(path: Path, seed: int, seconds: float = 0.6) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    soundfile.write(path, 0.1 * rng.standard_normal(int(seconds * RATE_HZ)), RATE_HZ)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "Sammlung für Tests"
    for talker in range(4):
        for number in range(2):
            record(root / f"Sprecher {talker}" / f"Satz №{number}.wav", 10 * talker + number)
    return root


def run(folder: Path, out: Path, full: bool = False) -> ScanSummary:
    return scan({"speech": [str(folder)]}, out, workers=1, full=full)


def by_name(catalogue: Catalogue) -> dict[str, Source]:
    return {source.name: source for source in catalogue}


def test_a_catalogue_holds_every_file_whatever_its_name_and_no_link_or_hidden_file(
    folder: Path, tmp_path: Path
) -> None:
    (folder / "notes.txt").write_text("no audio")
    record(folder / ".hidden" / "a.wav", 90)
    elsewhere = record(tmp_path / "elsewhere" / "b.wav", 91)
    (folder / "link.wav").symlink_to(elsewhere)
    (folder / "linked folder").symlink_to(elsewhere.parent)
    (folder / "circle").symlink_to(folder)
    record(folder / "deep" / "er" / "UPPER.WAV", 92)
    run(folder, tmp_path / "s.parquet")
    paths = {str(Path(source.path).relative_to(folder)) for source in read_catalogue(tmp_path / "s.parquet")}
    talks = {f"Sprecher {talker}/Satz №{number}.wav" for talker in range(4) for number in range(2)}
    assert paths == talks | {"deep/er/UPPER.WAV"}


def test_no_talker_is_in_two_splits_and_every_split_has_one(folder: Path, tmp_path: Path) -> None:
    catalogue = run(folder, tmp_path / "s.parquet").catalogue
    splits = {
        name: {s.split for s in catalogue if s.speaker == name} for name in {s.speaker for s in catalogue}
    }
    assert len(splits) == 4
    assert all(len(own) == 1 for own in splits.values())
    assert set.union(*splits.values()) == {"train", "val", "test"}


def test_unchanged_files_are_not_read_again(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "s.parquet"
    before = run(folder, out).catalogue
    victim = folder / "Sprecher 1" / "Satz №0.wav"
    status = victim.stat()
    victim.write_bytes(b"\0" * status.st_size)
    os.utime(victim, ns=(status.st_atime_ns, status.st_mtime_ns))
    again = run(folder, out)
    assert (again.examined, again.reused) == (0, 8)
    assert again.catalogue.sources == before.sources
    assert [source.path for source in run(folder, out, full=True).refused] == [str(victim)]


def test_changed_and_new_files_are_read_and_gone_ones_leave(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "s.parquet"
    before = run(folder, out).catalogue
    record(folder / "Sprecher 0" / "Satz №0.wav", 77, seconds=1.0)
    record(folder / "Sprecher 9" / "neu.wav", 78)
    (folder / "Sprecher 3" / "Satz №1.wav").unlink()
    again = run(folder, out)
    assert (again.examined, again.reused) == (2, 6)
    assert len(again.catalogue) == 8
    fresh = run(folder, tmp_path / "fresh.parquet").catalogue
    assert again.catalogue.sources == fresh.sources
    assert again.catalogue.digest == fresh.digest != before.digest


def test_a_licence_that_changed_reaches_rows_that_were_not_read_again(folder: Path, tmp_path: Path) -> None:
    run(folder, tmp_path / "s.parquet")
    (folder / "LICENSE").write_text("CC BY 4.0")
    again = run(folder, tmp_path / "s.parquet")
    assert again.examined == 0
    assert {source.licence for source in again.catalogue} == {"CC-BY-4.0"}


def test_a_moved_folder_gives_the_same_catalogue(folder: Path, tmp_path: Path) -> None:
    before = run(folder, tmp_path / "a.parquet").catalogue
    moved = folder.rename(tmp_path / "moved") / "."
    after = scan({"speech": [str(moved)]}, tmp_path / "b.parquet", workers=2).catalogue
    assert after.digest == before.digest


def test_bad_files_are_refused_with_reasons_and_the_rest_goes_on(folder: Path, tmp_path: Path) -> None:
    bad = folder / "Sprecher 5"
    bad.mkdir()
    (bad / "zero.wav").touch()
    (bad / "text.wav").write_text("words")
    whole = record(bad / "whole.flac", 50, seconds=3.0)
    (bad / "cut.flac").write_bytes(whole.read_bytes()[:20_000])
    (bad / "copy.flac").write_bytes(whole.read_bytes())
    catalogue = run(folder, tmp_path / "s.parquet").catalogue
    rows = by_name(catalogue)
    assert rows["zero.wav"].refused == "empty file"
    assert rows["text.wav"].refused == "not an audio file that can be read"
    assert "truncated" in (rows["cut.flac"].refused or "")
    assert rows["whole.flac"].refused == f"duplicate of {bad / 'copy.flac'}"
    assert len(catalogue.usable) == 9
    (bad / "copy.flac").unlink()
    again = run(folder, tmp_path / "s.parquet")
    assert again.examined == 0
    assert by_name(again.catalogue)["whole.flac"].refused is None


def test_a_file_whose_name_is_not_utf8_is_refused_and_not_lost(folder: Path, tmp_path: Path) -> None:
    try:
        (folder / os.fsdecode(b"caf\xe9.wav")).write_bytes(b"")
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    refused = run(folder, tmp_path / "s.parquet").refused
    assert [source.refused for source in refused] == ["its name is not valid UTF-8"]


def test_a_file_may_serve_as_speech_and_as_noise(folder: Path, tmp_path: Path) -> None:
    roots: dict[Kind, list[str]] = {"speech": [str(folder), str(folder)], "noise": [f"file://{folder}"]}
    catalogue = scan(roots, tmp_path / "s.parquet", workers=2).catalogue
    assert len(catalogue.usable) == 16
    assert {source.kind for source in catalogue} == {"speech", "noise"}


def crash_on_demand(path: str, kind: Kind) -> Source:
    """A decoder with a fault: it takes the whole process down on some files."""
    if "kills" in path:
        os.kill(os.getpid(), signal.SIGSEGV)
    return examine(path, kind)


@pytest.mark.faults
def test_a_decoder_that_crashes_loses_its_own_file_alone(folder: Path) -> None:
    record(folder / "Sprecher 0" / "kills.wav", 60)
    record(folder / "Sprecher 2" / "also kills.wav", 61)
    tasks: list[tuple[str, Kind]] = [(str(path), "speech") for path in sorted(folder.rglob("*.wav"))]
    rows = dict(examined(tasks, workers=2, look=crash_on_demand))
    assert len(rows) == 10
    refused = {Path(path).name: row.refused for (path, _), row in rows.items() if row.refused}
    assert refused == {"kills.wav": CRASHED, "also kills.wav": CRASHED}


def test_what_a_user_can_put_right_is_said_in_one_sentence(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "s.parquet"
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "zero.wav").touch()
    for roots, complaint in (
        ({}, "nothing to scan"),
        ({"speech": [str(tmp_path / "absent")]}, "absent: no such folder"),
        ({"speech": [str(tmp_path / "empty")]}, "empty: holds no audio files"),
        ({"speech": [str(tmp_path / "bad" / "zero.wav")]}, r"zero\.wav: not a folder"),
        ({"speech": [str(folder)], "noise": [str(tmp_path / "bad")]}, "none of 1 noise files can be used"),
    ):
        with pytest.raises(UserError, match=complaint):
            scan(roots, out, workers=1)
        assert not out.exists()
    with pytest.raises(UserError, match="no such folder"):
        run(folder, tmp_path / "nowhere" / "s.parquet")
    with pytest.raises(UserError, match="is a folder"):
        run(folder, tmp_path)
    out.write_text("not a catalogue")
    with pytest.raises(UserError, match="not a catalogue"):
        run(folder, out)
    assert out.read_text() == "not a catalogue"


def test_the_summary_names_what_was_refused(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "[red] zero.wav").touch()
    print_summary(run(folder, tmp_path / "s.parquet"))
    said = capsys.readouterr().out
    assert "[red] zero.wav: empty file" in said
    assert "9 files read, 0 unchanged" in said


def test_the_real_recordings_are_nearly_all_usable(shared_data: Path, tmp_path: Path) -> None:
    roots: dict[Kind, list[str]] = {
        "speech": [
            str(shared_data / "speech" / name) for name in ("kerstin-7khz", "vctk-p234", "voicebank-p808")
        ],
        "rir": [str(shared_data / "rir")],
    }
    catalogue = scan(roots, tmp_path / "s.parquet", workers=2).catalogue
    assert len(catalogue.usable) == 76 + 9 + 6 + 37
    fake = [s.bandwidth_hz for s in catalogue if "kerstin" in s.path]
    assert all(7_000 < bandwidth < 8_000 for bandwidth in fake if bandwidth)
    assert {s.room for s in catalogue if s.kind == "rir"} == {
        "bbc-listening-room",
        "seminar-room",
        "web-audio",
    }
