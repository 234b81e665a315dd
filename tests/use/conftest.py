"""Tiny corpora, models and MLflow stores."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hostile_names import IMAGE, LICENCE, RECIPE, SAMPLES, SPEAKER
from tiny_bundles import tiny_bundle
from tiny_corpora import build_corpus

from manifests.corpus import Corpus


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return build_corpus(
        tmp_path_factory.mktemp("corpora") / "räume 1", {"train": 4, "val": 2, "test": 4}, seconds=1.2
    )


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow's tables, made once: making them takes seconds."""
    from pipelines.tracking.store import Store, open_store

    database = tmp_path_factory.mktemp("empty") / "mlflow.db"
    open_store(Store(f"sqlite:///{database}", database)).search_experiments()
    return database


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, empty_database: Path) -> Any:
    """A fresh MLflow store in a folder whose name holds a space."""
    from pipelines.tracking.store import open_store

    place = tmp_path / "records of runs"
    place.mkdir()
    shutil.copy(empty_database, place / "mlflow.db")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(place)
    return open_store()


@pytest.fixture(scope="session")
def make_bundle() -> Callable[..., Any]:
    """Write a tiny model with random weights: `tiny_bundles.tiny_bundle`."""
    return tiny_bundle


@pytest.fixture(scope="session", autouse=True)
def heard_before() -> Iterator[dict[bytes, Any]]:
    """DNSMOS by the bytes of a clip: its networks, the dearest part of these tests, hear each clip once a session.

    Clear it to have them hear the same clips again. Other processes do not know it.
    """
    from pipelines.quality import dnsmos

    network, heard = dnsmos.score_16khz, dict[bytes, Any]()

    def once(audio: np.ndarray) -> dnsmos.Dnsmos:
        clip = audio.tobytes()
        if clip not in heard:
            heard[clip] = network(audio)
        return heard[clip]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dnsmos, "score_16khz", once)
        yield heard


@pytest.fixture
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give every clip the same DNSMOS, and every export the same speed, where they do not matter."""
    from pipelines.evaluation import calibrate
    from pipelines.onnx_export import export
    from pipelines.quality import scores
    from pipelines.quality.dnsmos import Dnsmos
    from pipelines.scoring import columns

    for module in (calibrate, export, columns, scores):
        monkeypatch.setattr(module, "dnsmos", lambda audio: Dnsmos(3.0, 3.0, 3.0, 3.0))
    monkeypatch.setattr(export, "real_time_factor", lambda model: 0.1)


@pytest.fixture(scope="session")
def hostile(tmp_path_factory: pytest.TempPathFactory, material_folder: Path) -> Path:
    """A corpus of sources whose names are markup; one of them is refused."""
    from pipelines.executors import InProcess
    from pipelines.generation.generate import generate
    from pipelines.scanning.scan import scan

    root = tmp_path_factory.mktemp("hostile")
    shutil.copytree(material_folder / "speech", root / "speech")
    shutil.copytree(material_folder / "noise", root / "noise")
    talkers = sorted((root / "speech").iterdir())
    for number, talker in enumerate(talkers):
        for recording in talker.iterdir():
            audio, rate_hz = soundfile.read(recording)
            recording.unlink()
            soundfile.write(talker / f"{recording.stem}{IMAGE}", audio, rate_hz)
        talker.rename(talker.with_name(f"{number}{SPEAKER}"))
    (root / "noise" / f"broken{IMAGE}").write_bytes(b"no audio")
    for recording in sorted((root / "noise").glob("noise*.wav")):
        recording.rename(recording.with_name(f"{recording.stem}{IMAGE}"))
    folders: Any = {"speech": [str(root / "speech")], "noise": [str(root / "noise")]}
    scan(folders, root / "sources.parquet", workers=1, licence=LICENCE)
    (root / "recipe.yaml").write_text(RECIPE)
    out = root / "corpus"
    generate(str(root / "recipe.yaml"), root / "sources.parquet", out, InProcess(), samples=SAMPLES, seed=3)
    return out
