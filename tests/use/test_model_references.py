"""A model is found by every name that a user may know it by."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from manifests.errors import UserError
from pipelines.models.reference import resolve_model
from pipelines.tracking.registry import log_model, register
from pipelines.tracking.store import experiment_id

NAME = "ssiforge-tiny-student"


@pytest.fixture
def two_versions(
    store: Any, tmp_path: Path, make_bundle: Callable[..., Any]
) -> tuple[list[Any], list[str], list[str]]:
    """Two registered versions of a student, whose folders are gone."""
    infos, runs, ids = [], [], []
    for seed in (1, 2):
        info = make_bundle(tmp_path / "gone", "student", seed=seed)
        run_id = store.create_run(experiment_id(store, "tiny")).info.run_id
        ids.append(log_model(store, run_id, tmp_path / "gone", info))
        register(store, NAME, ids[-1], run_id, info)
        infos.append(info)
        runs.append(run_id)
    (tmp_path / "gone").rename(tmp_path / "elsewhere")
    store.set_registered_model_alias(NAME, "champion", "1")
    return infos, runs, ids


def test_every_form_finds_its_version_and_the_model_loads(
    two_versions: tuple[list[Any], list[str], list[str]],
) -> None:
    infos, runs, ids = two_versions
    first, second = infos
    forms = {
        NAME: second,
        f"{NAME}/1": first,
        f"{NAME}@champion": first,
        f"models:/{NAME}/2": second,
        f"models:/{NAME}@champion": first,
        f"models:/{NAME}": second,
        f"runs:/{runs[0]}": first,
        runs[1]: second,
        f"models:/{ids[0]}": first,
        ids[1]: second,
        first.id: first,
    }
    for reference, info in forms.items():
        found = resolve_model(reference)
        assert found.info == info, reference
        assert found.run_id == runs[infos.index(info)] and found.model_id == ids[infos.index(info)]
        assert found.load().info.id == info.id
    assert resolve_model(NAME).registered == f"{NAME}/2"


def test_a_run_folder_stands_for_its_last_finished_stage(
    store: Any, tmp_path: Path, make_bundle: Callable[..., Any]
) -> None:
    for stage in ("teacher", "student"):
        info = make_bundle(tmp_path / "run" / stage / "model", stage)
    (tmp_path / "run" / "denoiser" / "checkpoints").mkdir(parents=True)
    assert resolve_model(str(tmp_path / "run")).info == info
    assert resolve_model(str(tmp_path / "run" / "teacher")).info.stage == "teacher"
    assert resolve_model(str(tmp_path / "run" / "teacher" / "model")).model_id is None


def test_a_folder_that_mlflow_knows_is_tied_to_its_run(
    two_versions: tuple[list[Any], list[str], list[str]], tmp_path: Path
) -> None:
    _, runs, ids = two_versions
    found = resolve_model(str(tmp_path / "elsewhere"))
    assert (found.run_id, found.model_id) == (runs[1], ids[1])


@pytest.mark.parametrize(
    "reference", ["ssiforge-tiny-studnt", f"{NAME}/9", f"{NAME}@none", "f" * 32, "m-" + "0" * 32]
)
def test_an_unknown_model_is_refused_with_what_there_is(
    two_versions: tuple[list[Any], list[str], list[str]], reference: str
) -> None:
    with pytest.raises(UserError, match=f"no such model; there is registered: {NAME}"):
        resolve_model(reference)


def test_where_nothing_was_trained_the_message_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_bundle: Callable[..., Any]
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="ssiforge train"):
        resolve_model("anything")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="neither a model nor a run folder"):
        resolve_model("empty")
    make_bundle(tmp_path / "runs" / "tiny" / "teacher" / "model")
    with pytest.raises(UserError, match="folders: runs/tiny/teacher/model"):
        resolve_model("anything")
    assert not (tmp_path / "mlflow.db").exists()


def test_a_run_without_a_model_says_so(store: Any) -> None:
    run_id = store.create_run(experiment_id(store, "tiny")).info.run_id
    with pytest.raises(UserError, match="no model yet"):
        resolve_model(run_id)
