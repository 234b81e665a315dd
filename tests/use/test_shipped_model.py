"""A model that comes with the package is used where none is named, and what is no model is refused with a sentence."""

import io
import os
import pickle
import shutil
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from tiny_corpora import RATE_HZ, voice

from manifests.errors import UserError
from pipelines.models.reference import resolve_model
from pipelines.onnx_export.export import exported
from pipelines.onnx_export.streaming import StreamingModel
from training import shipped_models
from training.bundle import BundleInfo, load_bundle, read_info
from training.checkpoint import Checkpoints, Identity
from training.enhance import enhance_array

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    soundfile.write("in.wav", voice(1, 0.4), RATE_HZ, subtype="FLOAT")


@pytest.fixture
def none_shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shipped_models, "FOLDER", tmp_path / "nothing")


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_bundle: Callable[..., Any]) -> BundleInfo:
    """The description of a shipped `small`; beside it is another model, and a folder that is none."""
    monkeypatch.setattr(shipped_models, "FOLDER", tmp_path / "shipped")
    (tmp_path / "shipped" / "begun").mkdir(parents=True)
    make_bundle(tmp_path / "shipped" / "another", "student")
    info: BundleInfo = make_bundle(tmp_path / "shipped" / "small", "joint")
    return info


def in_loud_noise(seconds: float, seed: int) -> Any:
    rng = np.random.default_rng(seed)
    samples = round(seconds * RATE_HZ)
    speech = np.tile(voice(1, seconds), 1)[:samples]
    noise = rng.standard_normal(samples) * np.sqrt(4.0 * np.mean(speech**2))
    return (speech + noise).astype(np.float32)


def test_what_enhance_makes_of_noise_is_what_the_stream_makes_and_knows_nothing_of_what_comes() -> None:
    """The challenge's check, at an odd place, in noise of which nothing is left in after a while."""
    torch.set_num_threads(1)
    bundle = load_bundle(shipped_models.shipped_bundle())
    graph = StreamingModel(exported(bundle).SerializeToString())
    middle = 144_123
    first, second = in_loud_noise(5.0, 1), in_loud_noise(5.0, 1)
    second[middle:] = 0.3 * in_loud_noise(5.0, 2)[middle:]
    enhanced = [enhance_array(bundle, wave) for wave in (first, second)]
    assert np.array_equal(enhanced[0][: middle - 960], enhanced[1][: middle - 960])
    assert not np.allclose(enhanced[0][middle:], enhanced[1][middle:], atol=1e-3)
    assert np.abs(np.concatenate(list(graph.enhanced([first]))) - enhanced[0]).max() < 1e-5
    power = [np.mean(np.square(part)) for part in (enhanced[0][:9600], enhanced[0][-48_000:])]
    assert power[1] < 0.5 * power[0]  # the gauge has moved


def test_enhance_without_a_model_uses_the_shipped_one_and_says_so(
    ssiforge: Run, shipped: BundleInfo, tmp_path: Path
) -> None:
    code, out, err = ssiforge("enhance", "in.wav", "out.wav")
    assert code == 0, err
    assert f"shipped:small (joint, id {shipped.id})" in err and shipped.id not in out
    code, _, err = ssiforge("enhance", "in.wav", "named.wav", "--model", tmp_path / "shipped" / "small")
    assert code == 0 and "shipped:small" not in err
    assert Path("out.wav").read_bytes() == Path("named.wav").read_bytes()


def test_it_needs_no_mlflow_even_where_runs_were_recorded(
    ssiforge: Run, shipped: BundleInfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("mlflow.db").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "mlflow", None)  # importing it fails
    code, _, err = ssiforge("enhance", "in.wav", "out.wav")
    assert code == 0, err
    assert soundfile.info("out.wav").frames == soundfile.info("in.wav").frames


def test_its_names(shipped: BundleInfo, make_bundle: Callable[..., Any]) -> None:
    assert resolve_model("shipped").info == resolve_model("shipped:small").info == shipped
    assert resolve_model("shipped").reference == "shipped:small"
    assert resolve_model("shipped:another").info.stage == "student"
    for name in ("begun", "tiny", "../small", "/"):
        with pytest.raises(UserError, match=f"shipped:{name}: not one of the shipped models: another, small"):
            resolve_model(f"shipped:{name}")
    mine = make_bundle(Path("shipped"), "teacher")
    assert resolve_model("./shipped").info == mine
    assert resolve_model("shipped").info == shipped
    with pytest.raises(UserError, match="there is folders: shipped; shipped: shipped:another, shipped:small"):
        resolve_model("anything")


def test_where_nothing_else_is_there_the_shipped_model_is_offered(shipped: BundleInfo) -> None:
    with pytest.raises(UserError, match="ssiforge train', or use shipped:another"):
        resolve_model("anything")


def test_an_installation_without_one_says_what_to_do(ssiforge: Run, none_shipped: None) -> None:
    for arguments in ((), ("--model", "shipped"), ("--model", "shipped:small")):
        code, _, err = ssiforge("enhance", "in.wav", "out.wav", *arguments)
        assert code == 2
        assert "shipped:small: this installation comes with no model; give --model" in err
    assert not Path("out.wav").exists()


def test_a_damaged_one_is_refused_by_its_file(ssiforge: Run, shipped: BundleInfo, tmp_path: Path) -> None:
    weights = tmp_path / "shipped" / "small" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    code, _, err = ssiforge("enhance", "in.wav", "out.wav")
    assert code == 2 and f"{weights}: damaged" in err
    assert not Path("out.wav").exists()


def test_what_is_shipped_is_whole_and_has_a_card() -> None:
    """Of the package itself, which may come with no model."""
    for name in shipped_models.shipped_names():
        folder = shipped_models.shipped_bundle(name)
        info = resolve_model(f"shipped:{name}").load().info
        assert info.causal
        assert info.id in (folder / "MODEL_CARD.md").read_text()


class Malice:
    def __reduce__(self) -> tuple[object, ...]:
        return (os.mkdir, ("started-by-a-model",))


def write_other_files(folder: Path) -> None:
    """Write what somebody may take for a model."""
    checkpoint = Checkpoints(folder / "run", Identity("joint", "settings", "corpus", {}))
    checkpoint.save(1, {"model": {"w": torch.ones(3)}})
    shutil.move(folder / "run" / "step-000000001.pt", folder / "checkpoint.pt")
    torch.save({"w": torch.ones(3)}, folder / "weights.pt")
    torch.save({"w": Malice()}, folder / "bomb.pt")
    (folder / "bomb.pkl").write_bytes(pickle.dumps(Malice()))
    (folder / "model.onnx").write_bytes(b"\x08\x07\x12\x07pytorch")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("model.json", "{}")
    (folder / "model.zip").write_bytes(buffer.getvalue())


OTHERS = ["checkpoint.pt", "weights.pt", "bomb.pt", "bomb.pkl", "model.onnx", "model.zip"]


def test_files_that_are_no_model_are_refused_and_not_opened(ssiforge: Run, shipped: BundleInfo) -> None:
    write_other_files(Path())
    for name in OTHERS:
        code, _, err = ssiforge("enhance", "in.wav", "out.wav", "--model", name)
        assert code == 2
        if name.endswith(".onnx"):
            assert f"--model {name}: an exported model runs with --stream" in err
        else:
            assert (
                f"{name}: is a file; a model is a folder that holds model.json and weights.safetensors" in err
            )
        assert len(err.splitlines()) == 1
    assert not Path("started-by-a-model").exists()


def test_in_place_of_the_weights_they_are_refused_and_not_run(
    ssiforge: Run, tmp_path: Path, make_bundle: Callable[..., Any]
) -> None:
    write_other_files(Path())
    make_bundle(tmp_path / "model", "student")
    for name in OTHERS:
        shutil.copy(name, tmp_path / "model" / "weights.safetensors")
        code, _, err = ssiforge("enhance", "in.wav", "out.wav", "--model", tmp_path / "model")
        assert code == 2 and "weights.safetensors: damaged" in err
    assert not Path("started-by-a-model").exists()


def test_a_bundle_of_format_1_is_refused_by_its_number(
    ssiforge: Run, tmp_path: Path, make_bundle: Callable[..., Any]
) -> None:
    make_bundle(tmp_path / "model", "student")
    content = (
        read_info(tmp_path / "model").model_copy(update={"format": 1}).model_dump_json(exclude={"corpus"})
    )
    (tmp_path / "model" / "model.json").write_text(content)
    (tmp_path / "model" / "weights.safetensors").rename(tmp_path / "model" / "weights.pt")
    code, _, err = ssiforge("enhance", "in.wav", "out.wav", "--model", tmp_path / "model")
    assert code == 2 and "model.json: is of format 1; this version reads format 4" in err
