"""`scan`, `score`, `evaluate`, `calibrate`, `export` and `withdraw` tell of themselves, joined with what they read."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import openlineage_official as official
import pytest

from manifests.catalogue import read_catalogue
from manifests.corpus import Corpus, read_manifest
from manifests.errors import JobError
from pipelines.corpus.openlineage import catalogue_inputs
from pipelines.evaluation.calibrate import calibrate
from pipelines.evaluation.evaluate import evaluate
from pipelines.executors import InProcess
from pipelines.generation.generate import generate
from pipelines.governance.withdraw import withdraw
from pipelines.onnx_export.export import export
from pipelines.openlineage.events import corpus_dataset
from pipelines.openlineage.models import finished_model
from pipelines.scanning.scan import scan
from pipelines.scoring.runners import on_processes
from pipelines.scoring.score import score
from training.bundle import read_info

Event = dict[str, Any]
pytestmark = pytest.mark.usefixtures("quickly")


@pytest.fixture(autouse=True)
def _no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("URL", "ENDPOINT", "API_KEY", "DISABLED"):
        monkeypatch.delenv(f"OPENLINEAGE_{name}", raising=False)


@pytest.fixture
def model(store: Any, tmp_path: Path, corpus: Corpus, make_bundle: Callable[..., Any]) -> Path:
    make_bundle(tmp_path / "model", "student", corpus.manifest.id)
    return tmp_path / "model"


@pytest.fixture
def tone() -> np.ndarray:
    return 0.1 * np.sin(np.arange(4800, dtype=np.float32) / 20)


def events_of(path: Path) -> list[Event]:
    """Events, each checked by the official client; they name no place of this machine."""
    text = path.read_text()
    assert str(Path.cwd()) not in text and "/tmp" not in text
    events = [json.loads(line) for line in text.splitlines()]
    for event in events:
        official.check(event)
    return events


def known(dataset: Event) -> tuple[str, str, str]:
    """Namespace, name and version: what other programs join by."""
    version = dataset["facets"].get("version", {}).get("datasetVersion", "")
    return dataset["namespace"], dataset["name"], version


def told(path: Path, job: str) -> tuple[list[Any], list[Event]]:
    """Check a file of a job that began and was completed; return what it read, as it is known, and what it made."""
    start, complete = events_of(path)[-2:]
    assert [start["eventType"], complete["eventType"]] == ["START", "COMPLETE"]
    assert start["job"]["name"] == complete["job"]["name"] == job
    assert start["run"]["runId"] == complete["run"]["runId"]
    assert start["inputs"] == complete["inputs"] and start["outputs"] == []
    return [known(each) for each in complete["inputs"]], complete["outputs"]


def of_model(place: Path) -> tuple[str, str, str]:
    return known(finished_model(read_info(place)))


def test_a_scan_makes_what_a_corpus_is_made_of(catalogue_path: Path) -> None:
    read, made = told(catalogue_path.with_suffix(".lineage.ndjson"), "scan")
    catalogue = read_catalogue(catalogue_path)
    inputs = catalogue_inputs(catalogue, catalogue.digest)
    assert read == [] and [known(each) for each in made] == [known(each) for each in inputs]
    for output, used in zip(made, inputs, strict=True):
        counts, wanted = output["outputFacets"]["outputStatistics"], used["inputFacets"]["inputStatistics"]
        assert (counts["fileCount"], counts["size"]) == (wanted["fileCount"], wanted["size"])


def test_scores_and_evaluations_name_the_corpus_and_the_model(
    model: Path, corpus: Corpus, tmp_path: Path
) -> None:
    place = Path(shutil.copytree(str(corpus.store.root), tmp_path / "corpus"))
    heard = known(corpus_dataset(corpus.manifest))
    for _ in range(2):  # what is scored already is told of once
        score(place, on_processes(0), ("dnsmos",))
    assert len(events_of(place / "lineage.ndjson")) == 2
    read, (made,) = told(place / "lineage.ndjson", "score")
    assert read == [heard] and made["outputFacets"]["outputStatistics"]["rowCount"] == 10

    found = evaluate([str(model)], tmp_path / "ev", place, limit=1, listen=0, say=lambda line: None)
    read, (made,) = told(tmp_path / "ev" / "lineage.ndjson", "evaluate")
    assert read == [of_model(model), heard]
    assert known(made)[2] == found.result["scores_digest"]


def test_calibrated_and_exported_models_name_the_one_they_were_made_of(
    model: Path, corpus: Corpus, tmp_path: Path, tone: np.ndarray
) -> None:
    calibrate(str(model), corpus.store.root, tmp_path / "new", limit=1, shares=[0.2], say=lambda line: None)
    read, (made,) = told(tmp_path / "new" / "lineage.ndjson", "calibrate")
    assert read == [of_model(model), known(corpus_dataset(corpus.manifest))]
    assert known(made) == of_model(tmp_path / "new")

    done = export(str(tmp_path / "new"), tmp_path / "onnx", checked=tone)
    read, (made,) = told(tmp_path / "onnx" / "lineage.ndjson", "export")
    assert read == [of_model(tmp_path / "new")]
    assert known(made) == ("ssiforge", "onnx/ssiforge-tiny-student", done.variants[0].sha256)


def test_a_withdrawal_makes_a_version_of_the_corpus(
    small_recipe: Path, catalogue_path: Path, tmp_path: Path
) -> None:
    generate(str(small_recipe), catalogue_path, tmp_path / "a", InProcess(), samples=20, seed=5)
    source = read_catalogue(tmp_path / "a" / "sources.parquet").of("noise", "train")[0].sha256
    withdraw([source], tmp_path / "a", tmp_path / "b", InProcess())
    start, complete = events_of(tmp_path / "b" / "lineage.ndjson")
    assert (start["job"]["name"], complete["eventType"]) == ("withdraw", "COMPLETE")
    before, after = read_manifest(tmp_path / "a"), read_manifest(tmp_path / "b")
    assert known(complete["inputs"][0]) == known(corpus_dataset(before))
    (made,) = complete["outputs"]
    assert known(made) == known(corpus_dataset(after)) and start["outputs"][0]["name"] == made["name"]
    assert made["facets"]["ssiforge_digests"]["digests"]["replaces"] == before.id
    (tmp_path / "b" / "lineage.ndjson").unlink()
    withdraw([source], tmp_path / "a", tmp_path / "b", InProcess())
    assert events_of(tmp_path / "b" / "lineage.ndjson")[-1]["job"]["name"] == "withdraw"


@pytest.mark.parametrize(("error", "kind"), [(JobError("no luck"), "FAIL"), (KeyboardInterrupt(), "ABORT")])
def test_a_job_that_ends_badly_says_so(
    model: Path,
    corpus: Corpus,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    kind: str,
) -> None:
    def breaks(*_: Any) -> None:
        raise error

    monkeypatch.setattr("pipelines.evaluation.evaluate.scored", breaks)
    with pytest.raises(type(error)):
        evaluate([str(model)], tmp_path / "ev", corpus.store.root, limit=1, listen=0)
    start, end = events_of(tmp_path / "ev" / "lineage.ndjson")
    assert (start["eventType"], end["eventType"]) == ("START", kind)
    said = end["run"]["facets"].get("errorMessage", {}).get("message")
    assert said == ("no luck" if kind == "FAIL" else None)


def test_neither_a_server_in_trouble_nor_a_file_that_cannot_be_written_costs_a_job(
    model: Path, tmp_path: Path, tone: np.ndarray, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setenv("OPENLINEAGE_URL", "http://127.0.0.1:1")
    export(str(model), tmp_path / "a", checked=tone)
    assert len(events_of(tmp_path / "a" / "lineage.ndjson")) == 2
    assert capsys.readouterr().err.count("was not sent") == 2
    (tmp_path / "b" / "lineage.ndjson").mkdir(parents=True)
    with official.server() as received:
        monkeypatch.setenv("OPENLINEAGE_URL", received.url)
        done = export(str(model), tmp_path / "b", checked=tone)
    assert done.variants and [event["eventType"] for event in received.events] == ["START", "COMPLETE"]
    assert capsys.readouterr().err.count("lineage.ndjson: cannot be written") == 2


def test_scanning_where_only_the_catalogue_can_be_written_works(
    material_folder: Path, tmp_path: Path, capsys: Any
) -> None:
    (tmp_path / "sources.lineage.ndjson").mkdir()
    noises = tmp_path / "noise"
    noises.mkdir()
    shutil.copy(material_folder / "noise" / "noisea.wav", noises)
    assert scan({"noise": [str(noises)]}, tmp_path / "sources.parquet", workers=1).catalogue.usable
    assert "sources.lineage.ndjson: cannot be written" in capsys.readouterr().err
