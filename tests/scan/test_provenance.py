"""Groups and licences come from names, tables and LICENSE files, in a known order of precedence."""

from pathlib import Path

import pytest

from datagen.licence import recognised_licence
from datagen.provenance import Found, provenance, recording_name
from manifests.errors import UserError
from manifests.source import Kind


def found(root: Path, relative: str) -> Found:
    path = root / relative
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return Found(str(path), str(root), relative)


def fact(root: Path, relative: str, kind: Kind, column: str, speaker_from: str = "folder") -> str:
    return provenance(None, speaker_from, None).facts(found(root, relative), kind)[column]


@pytest.mark.parametrize(
    ("speaker_from", "expected"),
    [("folder", "ch 1"), ("file", "ch 1/utt-2"), (r"^([^/]+)/", "Zoë"), (r"utt-(\d)", "2")],
)
def test_a_talker_is_named_as_asked(tmp_path: Path, speaker_from: str, expected: str) -> None:
    assert fact(tmp_path, "Zoë/ch 1/utt-2.wav", "speech", "speaker", speaker_from) == expected


def test_files_in_the_scanned_folder_itself_belong_to_a_talker_of_its_name(tmp_path: Path) -> None:
    assert fact(tmp_path, "a.wav", "speech", "speaker") == tmp_path.name


@pytest.mark.parametrize(
    ("stem", "expected"),
    [
        ("1-17742-A", "1-17742"),
        ("130921_iPhone_rub_channel0_chunk83_aug2", "130921_iPhone_rub"),
        ("street take 2", "street"),
        ("rain1", "rain1"),
        ("Vitamin-A", "Vitamin-A"),
        ("_chunk3", "_chunk3"),
    ],
)
def test_takes_of_one_recording_share_its_name(stem: str, expected: str) -> None:
    assert recording_name(stem) == expected


def test_recordings_of_one_name_in_two_folders_are_two(tmp_path: Path) -> None:
    names = {
        fact(tmp_path, f"{folder}/1-17742-{take}.ogg", "noise", "recording")
        for folder in "ab"
        for take in "AB"
    }
    assert names == {"a/1-17742", "b/1-17742"}


def test_a_room_is_its_folder_unless_a_table_says_otherwise(tmp_path: Path) -> None:
    assert fact(tmp_path, "halls/opera/left.wav", "rir", "room") == "opera"
    assert (
        fact(tmp_path, "cave.wav", "rir", "room")
        == fact(tmp_path, "crypt.wav", "rir", "room")
        == tmp_path.name
    )
    (tmp_path / "sources.tsv").write_text("path\troom\ncave*\tcave\ncrypt*\tcrypt\n")
    assert fact(tmp_path, "cave.wav", "rir", "room") == "cave"
    assert fact(tmp_path, "crypt.wav", "rir", "room") == "crypt"


def test_tables_go_before_licence_files_and_the_nearest_before_the_rest(tmp_path: Path) -> None:
    (tmp_path / "LICENSE.txt").write_text("MIT License\n\nCopyright (c) somebody")
    (tmp_path / "sources.tsv").write_text("path\tlicence\tspeaker\na/*\tCC-BY-4.0\tAnn\n*\t\tBob\n")
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "sources.tsv").write_text("path\tspeaker\nx*.wav\tXenia\n")
    licences = {
        name: fact(tmp_path, name, "speech", "licence") for name in ("a/x1.wav", "a/y.wav", "b/y.wav")
    }
    speakers = {
        name: fact(tmp_path, name, "speech", "speaker") for name in ("a/x1.wav", "a/y.wav", "b/y.wav")
    }
    assert licences == {"a/x1.wav": "CC-BY-4.0", "a/y.wav": "CC-BY-4.0", "b/y.wav": "MIT"}
    assert speakers == {"a/x1.wav": "Xenia", "a/y.wav": "Ann", "b/y.wav": "Bob"}
    table = tmp_path / "mine.tsv"
    table.write_text("licence\tpath\nCC0-1.0\ta/y.wav\n")
    rules = provenance("default", "folder", table)
    assert rules.facts(found(tmp_path, "a/y.wav"), "speech")["licence"] == "CC0-1.0"
    assert rules.facts(found(tmp_path, "a/x1.wav"), "speech")["licence"] == "CC-BY-4.0"


def test_the_default_licence_is_for_files_that_nothing_else_speaks_of(tmp_path: Path) -> None:
    assert (
        provenance("CC0-1.0", "folder", None).facts(found(tmp_path, "a.wav"), "noise")["licence"] == "CC0-1.0"
    )
    assert provenance(None, "folder", None).facts(found(tmp_path, "a.wav"), "noise")["licence"] == "unknown"


def test_a_licence_table_beside_the_folders_is_matched_by_the_end_of_the_path(tmp_path: Path) -> None:
    (tmp_path / "readers-LICENSE.tsv").write_text(
        "en/intro/mosaic.ogg\tAnn / GPL\nfr/intro/mosaic.ogg\tZoë / GPL\n"
    )
    assert fact(tmp_path, "readers/fr-Zoe/intro-mosaic.ogg", "speech", "licence") == "Zoë / GPL"
    assert fact(tmp_path, "readers/en/intro/mosaic.ogg", "speech", "licence") == "Ann / GPL"
    assert fact(tmp_path, "readers/de/intro-mosaic.ogg", "speech", "licence") == "unknown"
    assert fact(tmp_path, "others/en/intro/mosaic.ogg", "speech", "licence") == "unknown"


@pytest.mark.parametrize(
    ("table", "complaint"),
    [("path\tlicense\na\tMIT\n", "'license' is not known"), ("licence\nMIT\n", "no column 'path'")],
)
def test_a_wrong_table_is_named_with_its_fault(tmp_path: Path, table: str, complaint: str) -> None:
    (tmp_path / "t.tsv").write_text(table)
    with pytest.raises(UserError, match=complaint):
        provenance(None, "folder", tmp_path / "t.tsv")


@pytest.mark.parametrize("speaker_from", ["(", "no group", "(a)(b)"])
def test_a_speaker_expression_needs_one_group(speaker_from: str) -> None:
    with pytest.raises(UserError, match="--speaker-from"):
        provenance(None, speaker_from, None)


def test_a_file_without_a_speaker_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"a\.wav"):
        fact(tmp_path, "a.wav", "speech", "speaker", r"p(\d+)")


@pytest.mark.parametrize(
    ("text", "spdx"),
    [
        ("Apache License\n  Version 2.0, January 2004\n", "Apache-2.0"),
        ("Attribution-ShareAlike 4.0 International\n====", "CC-BY-SA-4.0"),
        ("Creative Commons Legal Code\n\nCC0 1.0 Universal", "CC0-1.0"),
        ("All sounds are released under Creative Commons Attribution 4.0 (CC BY 4.0)", "CC-BY-4.0"),
        ("CC BY-NC-SA 3.0", "CC-BY-NC-SA-3.0"),
        ("GNU GENERAL PUBLIC LICENSE\nVersion 3, 29 June 2007", "GPL-3.0"),
        ("SPDX-License-Identifier: ODbL-1.0", "ODbL-1.0"),
        ("Licensed under either of\n * Apache License, Version 2.0\n * MIT license\n", "Apache-2.0 OR MIT"),
        ("# Terms of the Hill Studio\nAsk us.", "Terms of the Hill Studio"),
        ("\n \n", None),
    ],
)
def test_licences_are_recognised_by_their_text(text: str, spdx: str | None) -> None:
    assert recognised_licence(text) == spdx


def test_the_licences_of_the_real_folders(shared_data: Path) -> None:
    found_there = {
        path.parent.name: recognised_licence(path.read_text())
        for path in sorted(shared_data.glob("*/*/LICENSE"))
    }
    assert found_there["bbc-listening-room"] == "CC-BY-SA-4.0"
    assert found_there["seminar-room"] == found_there["kerstin-7khz"] == "CC0-1.0"
    assert found_there["audiomentations"] == "MIT"
    assert found_there["web-audio"] == "Apache-2.0"
