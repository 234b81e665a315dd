"""A model on disk: it comes back as it was, says where it comes from, and is refused when damaged or foreign."""

import hashlib
import io
import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch

from manifests.errors import UserError
from training.bundle import MODEL_FILE, WEIGHTS_FILE, Network, Origin, load_bundle, read_info, save_bundle
from training.models.chain import Chain
from training.models.presets import build_denoiser, build_repair
from training.safetensors_file import packed

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


def test_its_id_covers_all_that_shaped_it_and_nothing_else(folder: Path) -> None:
    path = folder / MODEL_FILE
    said = json.loads(path.read_text())
    assert len(said.pop("description_digest")) == 32
    for field, other in {"causal": False, "preset": "small", "parents": {}, "corpus_id": "another"}.items():
        path.write_text(json.dumps(said | {field: other}))
        with pytest.raises(UserError, match=r"model\.json: was altered"):
            load_bundle(folder)
    path.write_text(json.dumps(said | {"steps": 8, "metrics": {}, "environment": {}}))
    assert load_bundle(folder).info.id == said["id"]


@pytest.mark.parametrize(
    "altered",
    [
        {"steps": 8},
        {"metrics": {"loss": 0.1}},
        {"experiment": {"seed": 1}},
        {"code_version": "0.2"},
        {"environment": {}},
    ],
)
def test_no_part_of_a_description_can_be_altered(folder: Path, altered: dict[str, object]) -> None:
    path = folder / MODEL_FILE
    said = json.loads(path.read_text())
    path.write_text(json.dumps(said | altered))
    with pytest.raises(UserError, match=r"model\.json: was altered, it does not say what was written"):
        load_bundle(folder)
    path.write_text(json.dumps(dict(reversed(said.items())), indent=7))  # another form of the same
    assert load_bundle(folder).info.id == said["id"]


def test_its_weights_are_read_by_the_official_package(folder: Path) -> None:
    read = safetensors.torch.load_file(folder / WEIGHTS_FILE)
    expected = chain().state_dict()
    assert read.keys() == expected.keys()
    assert all(torch.equal(read[name], weight) for name, weight in expected.items())


def test_altered_weights_are_refused(folder: Path) -> None:
    path = folder / WEIGHTS_FILE
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"weights\.safetensors: damaged"):
        load_bundle(folder)
    path.write_bytes(content[:1000])
    with pytest.raises(UserError, match=r"weights\.safetensors: damaged"):
        load_bundle(folder)


def described(folder: Path, **other: object) -> None:
    """Change the description, with a fitting id, as a stranger could."""
    info = read_info(folder).model_copy(update=other)
    (folder / MODEL_FILE).write_text(info.sealed().model_dump_json())


def with_weights(folder: Path, content: bytes) -> None:
    """Put other weights in place, with a fitting hash."""
    (folder / WEIGHTS_FILE).write_bytes(content)
    described(folder, weights_sha256=hashlib.sha256(content).hexdigest())


class Malice:
    def __reduce__(self) -> tuple[object, ...]:
        return (os.mkdir, ("started-by-a-model",))


@pytest.mark.parametrize("write", [torch.save, pickle.dump], ids=["torch", "pickle"])
def test_code_in_place_of_the_weights_is_refused_and_not_run(
    folder: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[..., None]
) -> None:
    monkeypatch.chdir(folder)
    buffer = io.BytesIO()
    write({"w": Malice()}, buffer)
    with_weights(folder, buffer.getvalue())
    with pytest.raises(UserError, match=r"weights\.safetensors: not a safetensors file"):
        load_bundle(folder)
    assert not (folder / "started-by-a-model").exists()


def foreign_weights() -> dict[str, dict[str, torch.Tensor]]:
    ours = dict(chain().state_dict())
    name = next(iter(ours))
    return {
        "another network": dict(build_repair("tiny", causal=True).state_dict()),
        "nothing": {},
        "one too few": {each: weight for each, weight in ours.items() if each != name},
        "one too many": ours | {"more": torch.zeros(1)},
        "another shape": ours | {name: ours[name][None]},
        "another type": ours | {name: ours[name].double()},
    }


@pytest.mark.parametrize("weights", foreign_weights().values(), ids=foreign_weights())
def test_weights_that_do_not_fit_are_refused(folder: Path, weights: dict[str, torch.Tensor]) -> None:
    with_weights(folder, packed(weights, {"format": "pt"}))
    with pytest.raises(UserError, match=r"weights\.safetensors: does not fit the network"):
        load_bundle(folder)


@pytest.mark.parametrize(
    "sizes",
    [
        {"channels": 10**9},
        {"tfcm_layers": 10**9},
        {"channels": 0},
        {"channels": "many"},
        {"channels": None},
        {"channels": [1] * 5000},
        {"time_kernel": 2},
        {"width": 3},
    ],
    ids=str,
)
def test_a_network_that_cannot_be_is_refused_and_not_built(folder: Path, sizes: dict[str, object]) -> None:
    described(folder, repair=read_info(folder).repair | sizes)
    with pytest.raises(UserError, match=r"model\.json: describes no network"):
        load_bundle(folder)


def test_a_bundle_of_another_format_is_refused_by_its_number(folder: Path) -> None:
    path = folder / MODEL_FILE
    said = json.loads(path.read_text())
    for number in (1, 2, 3, 5):
        path.write_text(json.dumps(said | {"format": number, "fields of then": []}))
        with pytest.raises(UserError, match=f"is of format {number}; this version reads format 4"):
            load_bundle(folder)


def test_folders_without_a_finished_model_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no model.json"):
        load_bundle(tmp_path / "nothing")
    for content in (b"{}", b"", b"[1]", b"\xff\xfe", b'{"format": 4}', b'{"format":' + b"[" * 100_000):
        (folder / MODEL_FILE).write_bytes(content)
        with pytest.raises(UserError, match=r"model\.json: not the description"):
            load_bundle(folder)
    with (folder / MODEL_FILE).open("wb") as stream:
        stream.truncate(2**40)
    with pytest.raises(UserError, match=r"model\.json: is larger than"):
        load_bundle(folder)
    (folder / MODEL_FILE).unlink()
    with pytest.raises(UserError, match="not a finished model"):
        load_bundle(folder)


def test_weights_that_are_missing_or_enormous_or_no_file_are_refused(folder: Path) -> None:
    path = folder / WEIGHTS_FILE
    with path.open("r+b") as stream:
        stream.truncate(2**40)
    with pytest.raises(UserError, match=r"weights\.safetensors: is larger than"):
        load_bundle(folder)
    path.unlink()
    with pytest.raises(UserError, match=r"weights\.safetensors: cannot be read"):
        load_bundle(folder)
    path.mkdir()
    with pytest.raises(UserError, match=r"weights\.safetensors: is not a file"):
        load_bundle(folder)
