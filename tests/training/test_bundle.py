"""A model on disk: it comes back as it was, says where it comes from, and is refused when damaged or foreign."""

import hashlib
import io
import json
import os
from pathlib import Path

import pytest
import torch

from manifests.errors import UserError
from training.bundle import MODEL_FILE, WEIGHTS_FILE, Network, Origin, load_bundle, save_bundle
from training.models.chain import Chain
from training.models.presets import build_denoiser, build_repair

ORIGIN = Origin("joint", "tiny", "corpus", "settings", {"name": "x"}, {"denoiser": "parent"})


def chain(seed: int = 0) -> Chain:
    torch.manual_seed(seed)
    return Chain(build_repair("tiny", causal=True), build_denoiser("tiny"))


@pytest.fixture
def wave() -> torch.Tensor:
    return 0.1 * torch.randn(2, 5000, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def folder(tmp_path: Path, one_thread: None) -> Path:
    save_bundle(tmp_path / "model", chain(), ORIGIN, 7, {"loss": 0.25, "bad": float("nan")})
    return tmp_path / "model"


@pytest.mark.parametrize("network", [chain(), build_repair("small", causal=False)])
def test_a_model_comes_back_as_it_was(
    tmp_path: Path, wave: torch.Tensor, network: Network, one_thread: None
) -> None:
    save_bundle(tmp_path, network, ORIGIN, 7, {})
    bundle = load_bundle(tmp_path)
    with torch.no_grad():
        output = network.eval()(wave)
    expected = output.denoised if isinstance(network, Chain) else output.wave
    assert torch.equal(bundle.enhance(wave), expected)
    assert type(bundle.model) is type(network)


def test_it_says_where_it_comes_from(folder: Path) -> None:
    info = load_bundle(folder).info
    assert (info.stage, info.preset, info.causal, info.steps) == ("joint", "tiny", True, 7)
    assert (info.corpus_id, info.parents) == ("corpus", {"denoiser": "parent"})
    assert info.metrics == {"loss": 0.25, "bad": None}
    assert info.weights_sha256 == hashlib.sha256((folder / WEIGHTS_FILE).read_bytes()).hexdigest()


def test_its_id_depends_on_weights_and_origin_and_on_no_place(folder: Path, tmp_path: Path) -> None:
    first = load_bundle(folder).info.id
    assert save_bundle(tmp_path / "elsewhere", chain(), ORIGIN, 7, {}).id == first
    assert save_bundle(tmp_path / "other", chain(seed=1), ORIGIN, 7, {}).id != first
    other = Origin("joint", "tiny", "corpus 2", "settings", {}, {})
    assert save_bundle(tmp_path / "other", chain(), other, 7, {}).id != first


def test_altered_weights_are_refused(folder: Path) -> None:
    path = folder / WEIGHTS_FILE
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"weights\.pt: damaged"):
        load_bundle(folder)


def with_weights(folder: Path, content: bytes) -> None:
    """Put other weights in place, with a fitting hash, as a stranger could."""
    (folder / WEIGHTS_FILE).write_bytes(content)
    info = json.loads((folder / MODEL_FILE).read_text())
    info["weights_sha256"] = hashlib.sha256(content).hexdigest()
    (folder / MODEL_FILE).write_text(json.dumps(info))


class Malice:
    def __reduce__(self) -> tuple[object, ...]:
        return (os.mkdir, ("started-by-a-model",))


def test_code_among_the_weights_is_refused_and_not_run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    buffer = io.BytesIO()
    torch.save({"w": Malice()}, buffer)
    with_weights(folder, buffer.getvalue())
    with pytest.raises(UserError, match="does not fit the network"):
        load_bundle(folder)
    assert not (folder / "started-by-a-model").exists()


def test_weights_of_another_network_are_refused(folder: Path) -> None:
    buffer = io.BytesIO()
    torch.save(build_repair("tiny", causal=True).state_dict(), buffer)
    with_weights(folder, buffer.getvalue())
    with pytest.raises(UserError, match="does not fit the network"):
        load_bundle(folder)


def test_folders_without_a_finished_model_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no model.json"):
        load_bundle(tmp_path / "nothing")
    (folder / MODEL_FILE).write_text("{}")
    with pytest.raises(UserError, match=r"model\.json: not the description"):
        load_bundle(folder)
    (folder / MODEL_FILE).unlink()
    with pytest.raises(UserError, match="not a finished model"):
        load_bundle(folder)
