"""Checkpoints: what was saved comes back, and what is damaged or foreign is refused by name."""

import io
import logging
import os
import random
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from manifests.errors import UserError
from training.checkpoint import Checkpoints, DamagedCheckpointError, Identity, read_checkpoint

IDENTITY = Identity("student", "settings", "corpus", {"teacher": "t"})


@pytest.fixture
def checkpoints(tmp_path: Path) -> Checkpoints:
    checkpoints = Checkpoints(tmp_path / "checkpoints", IDENTITY, keep=2)
    for step in (10, 20, 30):
        checkpoints.save(step, {"model": {"w": torch.full((1000,), float(step))}})
    return checkpoints


def test_the_newest_comes_back_and_old_ones_are_removed(checkpoints: Checkpoints) -> None:
    state = checkpoints.newest()
    assert state is not None
    assert state["step"] == 30
    assert torch.equal(state["model"]["w"], torch.full((1000,), 30.0))
    assert sorted(path.name for path in checkpoints.folder.iterdir()) == [
        "step-000000020.pt",
        "step-000000030.pt",
    ]


def test_the_best_is_kept_beside_them(checkpoints: Checkpoints) -> None:
    checkpoints.save_best(5, {"weights": {"w": torch.ones(2)}})
    checkpoints.save(40, {})
    assert checkpoints.best()["step"] == 5


def test_an_empty_folder_has_nothing_to_go_on_from(tmp_path: Path) -> None:
    assert Checkpoints(tmp_path / "none", IDENTITY).newest() is None


def test_a_truncated_newest_is_reported_and_the_one_before_is_used(
    checkpoints: Checkpoints, caplog: pytest.LogCaptureFixture
) -> None:
    path = checkpoints.folder / "step-000000030.pt"
    path.write_bytes(path.read_bytes()[:2000])
    with caplog.at_level(logging.WARNING):
        state = checkpoints.newest()
    assert state is not None
    assert state["step"] == 20
    assert "step-000000030.pt: damaged or truncated" in caplog.text


def test_when_all_are_damaged_resuming_is_refused(checkpoints: Checkpoints) -> None:
    for path in checkpoints.folder.iterdir():
        path.write_bytes(b"")
    with pytest.raises(UserError, match=r"step-000000020\.pt: damaged or truncated"):
        checkpoints.newest()


def test_one_altered_byte_of_a_weight_is_noticed(checkpoints: Checkpoints) -> None:
    path = checkpoints.folder / "step-000000030.pt"
    content = bytearray(path.read_bytes())
    weight = torch.full((8,), 30.0).numpy().tobytes()
    content[content.index(weight) + 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match="checksum"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (replace(IDENTITY, stage="teacher"), "another stage"),
        (replace(IDENTITY, stage_digest="x"), "other settings"),
        (replace(IDENTITY, corpus_id="x"), "another corpus, or one that changed"),
        (replace(IDENTITY, parents={"teacher": "x"}), "other parent models"),
    ],
)
def test_a_foreign_checkpoint_is_refused(checkpoints: Checkpoints, other: Identity, said: str) -> None:
    with pytest.raises(UserError, match=rf"step-000000030\.pt: belongs to a run with {said}"):
        replace(checkpoints, identity=other).newest()


class Malice:
    def __reduce__(self) -> tuple[object, ...]:
        return (os.mkdir, ("started-by-a-checkpoint",))


def test_code_in_a_checkpoint_is_refused_and_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"format": 1, "identity": {}, "step": Malice()}, tmp_path / "step-000000001.pt")
    with pytest.raises(UserError, match=r"step-000000001\.pt"):
        read_checkpoint(tmp_path / "step-000000001.pt")
    assert not (tmp_path / "started-by-a-checkpoint").exists()


def test_files_of_other_kinds_are_refused(tmp_path: Path) -> None:
    text = tmp_path / "text.pt"
    text.write_text("not a checkpoint")
    archive = tmp_path / "archive.pt"
    with zipfile.ZipFile(archive, "w") as stream:
        stream.writestr("hello", "world")
    weights = tmp_path / "weights.pt"
    buffer = io.BytesIO()
    torch.save({"w": torch.ones(1)}, buffer)
    weights.write_bytes(buffer.getvalue())
    for path in (text, archive, weights, tmp_path / "missing.pt"):
        with pytest.raises(UserError, match=path.name):
            read_checkpoint(path)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_what_has_the_form_of_a_checkpoint_and_other_content_is_refused(checkpoints: Checkpoints) -> None:
    """Every part's checksum fits here, as a stranger's would."""
    path = checkpoints.folder / "step-000000030.pt"
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    pickled = next(name for name in parts if name.endswith("data.pkl"))
    rng = random.Random(0)
    refused = 0
    for _ in range(300):
        content = bytearray(parts[pickled])
        for _ in range(rng.choice((1, 1, 2, 5))):
            content[rng.randrange(len(content))] = rng.randrange(256)
        with zipfile.ZipFile(path, "w") as archive:
            for name, part in (parts | {pickled: bytes(content)}).items():
                archive.writestr(name, part)
        try:
            read_checkpoint(path)  # some changes only make another value
        except DamagedCheckpointError as error:
            assert str(error).startswith(f"{path}: ")
            refused += 1
    assert refused > 200


@pytest.mark.parametrize("field", ["format", "identity", "step"])
def test_fields_of_another_kind_are_refused(tmp_path: Path, field: str) -> None:
    path = tmp_path / "step-000000001.pt"
    for other in (None, "1", [1], torch.ones(1)):
        torch.save({"format": 1, "identity": {}, "step": 1} | {field: other}, path)
        with pytest.raises(UserError, match="not a checkpoint of this program"):
            read_checkpoint(path)
