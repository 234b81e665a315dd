"""What MLflow holds after training: inputs, parents, models that load without pickle, and nothing twice."""

import json
import socketserver
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.request import url2pathname

import numpy as np
import pytest

from manifests.corpus import Corpus
from manifests.errors import UserError
from pipelines.tracking.store import open_existing_store, open_store, store_location
from training.tracker import Metric, Parent, StageStart, ValidationSample


def start_of(
    stage: str, corpus: Corpus, run_dir: Path, parents: tuple[Parent, ...] = (), step: int = 0
) -> Any:
    stage_dir = run_dir / stage
    stage_dir.mkdir(parents=True, exist_ok=True)
    return StageStart(
        experiment="tiny",
        stage=stage,
        stage_dir=stage_dir,
        params={"name": "tiny", "seed": 3, "description": "x" * 9000, **{f"p{n}": n for n in range(150)}},
        stage_digest="d" * 32,
        corpus_place=str(corpus.store.root),
        corpus=corpus.manifest,
        parents=parents,
        device="cpu",
        parameters=12,
        steps=2500,
        resumed_at_step=step,
    )


@pytest.fixture
def trained(store: Any, corpus: Corpus, tmp_path: Path, make_bundle: Callable[..., Any]) -> Any:
    """A teacher and its student, reported to a real store."""
    from pipelines.trainer.mlflow_tracker import MlflowTracker

    tracker = MlflowTracker(store)
    run_dir = tmp_path / "runs" / "tiny"
    bundles: dict[str, Any] = {}
    for stage, parents in (("teacher", ()), ("student", ("teacher",))):
        stage_parents = tuple(Parent(role, bundles[role].id, run_dir / role / "model") for role in parents)
        start = start_of(stage, corpus, run_dir, stage_parents)
        tracker.stage_started(start)
        tracker.metrics([Metric("train/loss", 1.0 / step, step) for step in range(1, 2500)])
        wave = np.sin(np.arange(24_000) / 20).astype(np.float32) / 4
        tracker.validation_samples(3, [ValidationSample("val-000001", wave / 2, wave, wave / 3)])
        bundle_dir = start.stage_dir / "model"
        bundles[stage] = make_bundle(
            bundle_dir, stage, corpus.manifest.id, {role: bundles[role].id for role in parents}
        )
        tracker.model_finished(bundle_dir, bundles[stage])
        tracker.stage_ended("finished")
    return store, run_dir, bundles


def link(run_dir: Path, stage: str) -> dict[str, str]:
    content: dict[str, str] = json.loads((run_dir / stage / "mlflow.json").read_text())
    return content


def test_student_leads_to_its_teacher_and_both_to_their_corpus(trained: Any, corpus: Corpus) -> None:
    import mlflow

    client, run_dir, bundles = trained
    student_run = client.get_run(link(run_dir, "student")["run_id"])
    (parent,) = student_run.inputs.model_inputs
    teacher = client.get_logged_model(parent.model_id)
    assert teacher.tags["ssiforge.bundle_id"] == bundles["teacher"].id
    teacher_run = client.get_run(teacher.source_run_id)
    assert [output.model_id for output in teacher_run.outputs.model_outputs] == [teacher.model_id]
    assert teacher_run.inputs.model_inputs == []
    for run in (student_run, teacher_run):
        (used,) = run.inputs.dataset_inputs
        assert used.dataset.digest == corpus.manifest.id
        assert mlflow.data.get_source(used.dataset).load().manifest == corpus.manifest
        assert run.info.status == "FINISHED"
        assert run.data.params["p149"] == "149" and len(run.data.params["description"]) <= 6000
    assert len(client.get_metric_history(student_run.info.run_id, "train/loss")) == 2499
    found = client.search_runs([student_run.info.experiment_id], f"dataset.digest = '{corpus.manifest.id}'")
    assert {run.info.run_id for run in found} == {student_run.info.run_id, teacher_run.info.run_id}


def test_registered_model_reloads_with_another_batch_and_length_and_holds_no_pickle(trained: Any) -> None:
    import mlflow
    import torch

    from training.bundle import load_bundle

    _, run_dir, _ = trained
    model = mlflow.pyfunc.load_model("models:/ssiforge-tiny-student/1")
    bundle = load_bundle(run_dir / "student" / "model")
    for batch, length in ((1, 9_600), (3, 14_401)):
        waves = np.random.default_rng(1).standard_normal((batch, length)).astype(np.float32) * 0.1
        enhanced = model.predict(waves)
        assert enhanced.shape == (batch, length)
        np.testing.assert_array_equal(enhanced, bundle.enhance(torch.from_numpy(waves)).numpy())
    package = store_location().artifacts
    assert package is not None
    suffixes = {path.suffix for path in package.rglob("*") if path.is_file()}
    assert not suffixes & {".pkl", ".pickle", ".joblib", ".cloudpickle"}


def test_every_registered_model_has_a_card_that_hubs_read(trained: Any) -> None:
    from huggingface_hub import ModelCard

    from pipelines.model_cards.card import MAX_DESCRIPTION_CHARACTERS
    from pipelines.models.reference import resolve_model

    client, run_dir, bundles = trained
    for stage, info in bundles.items():
        version = client.get_model_version(f"ssiforge-tiny-{stage}", "1")
        model = link(run_dir, stage)["model_id"]
        package = Path(url2pathname(client.get_logged_model(model).artifact_location.removeprefix("file://")))
        held = resolve_model(f"ssiforge-tiny-{stage}").bundle_dir
        for place in (run_dir / stage / "model", package, held):
            card = ModelCard.load(place / "README.md")
            assert card.data.pipeline_tag == "audio-to-audio"
            assert card.data.library_name == "ssiforge"
            assert info.id in card.text
        assert version.description.startswith(f"# ssiforge tiny {stage}\n")
        assert info.id in version.description
        assert len(version.description) <= MAX_DESCRIPTION_CHARACTERS


def test_a_longer_card_is_described_by_whole_sections() -> None:
    from pipelines.model_cards.card import MAX_DESCRIPTION_CHARACTERS, summary

    card = "---\na: b\n---\n\n# name\n\nfacts\n\n## Use\n\nthus\n\n## Data\n\n" + "x" * 6000 + "\n"
    assert summary(card) == "# name\n\nfacts\n\n## Use\n\nthus"
    assert len(summary("---\na: b\n---\n\n" + "y" * 9000)) == MAX_DESCRIPTION_CHARACTERS


def test_audio_and_spectrogram_of_fixed_samples_are_artifacts(trained: Any) -> None:
    client, run_dir, _ = trained
    run_id = link(run_dir, "teacher")["run_id"]
    names = {item.path.rsplit("/", 1)[-1] for item in client.list_artifacts(run_id, "samples/val-000001")}
    assert names == {"degraded.flac", "target.flac", "estimate-0000003.flac", "spectrogram-0000003.png"}


@pytest.mark.parametrize(("status", "recorded"), [("stopped", "KILLED"), ("failed", "FAILED")])
def test_interrupted_stage_goes_on_in_the_same_mlflow_run_and_repeats_no_metric(
    store: Any, corpus: Corpus, tmp_path: Path, status: Any, recorded: str
) -> None:
    from pipelines.trainer.mlflow_tracker import MlflowTracker

    tracker = MlflowTracker(store)
    tracker.stage_started(start_of("teacher", corpus, tmp_path / "run"))
    tracker.metrics([Metric("train/loss", 1.0, step) for step in range(1, 11)])
    tracker.stage_ended(status, "a reason")
    run_id = link(tmp_path / "run", "teacher")["run_id"]
    assert store.get_run(run_id).info.status == recorded

    again = MlflowTracker(open_store())
    again.stage_started(start_of("teacher", corpus, tmp_path / "run", step=5))
    assert store.get_run(run_id).info.status == "RUNNING"
    again.metrics([Metric("train/loss", 1.0, step) for step in range(6, 16)])
    again.stage_ended("finished")
    assert link(tmp_path / "run", "teacher")["run_id"] == run_id
    steps = [point.step for point in store.get_metric_history(run_id, "train/loss")]
    assert sorted(steps) == list(range(1, 16))
    assert len(store.search_runs([store.get_run(run_id).info.experiment_id])) == 1


def test_a_model_reported_twice_is_registered_once(
    store: Any, corpus: Corpus, tmp_path: Path, make_bundle: Callable[..., Any]
) -> None:
    from pipelines.tracking.registry import versions
    from pipelines.trainer.mlflow_tracker import MlflowTracker

    for _ in range(2):  # as when the process dies between reporting the model and ending the stage
        tracker = MlflowTracker(store)
        start = start_of("teacher", corpus, tmp_path / "run")
        tracker.stage_started(start)
        tracker.model_finished(start.stage_dir / "model", make_bundle(start.stage_dir / "model"))
    assert len(versions(store, "ssiforge-tiny-teacher")) == 1


def test_a_model_whose_process_died_before_reporting_it_is_reported_on_resume(
    store: Any, corpus: Corpus, tmp_path: Path, make_bundle: Callable[..., Any]
) -> None:
    from pipelines.trainer.mlflow_tracker import MlflowTracker

    start = start_of("teacher", corpus, tmp_path / "run")
    MlflowTracker(store).stage_started(start)
    info = make_bundle(start.stage_dir / "model")

    MlflowTracker(store).report_finished_models([start.stage_dir / "model", tmp_path / "run/student/model"])
    run = store.get_run(link(tmp_path / "run", "teacher")["run_id"])
    assert run.info.status == "FINISHED"
    assert run.data.tags["ssiforge.bundle_id"] == info.id
    assert store.get_model_version("ssiforge-tiny-teacher", "1").run_id == run.info.run_id


def test_the_default_store_is_absolute_and_looking_makes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    assert open_existing_store() is None
    assert list(tmp_path.iterdir()) == []
    assert store_location().uri == f"sqlite:///{tmp_path}/mlflow.db"
    assert store_location().artifacts == tmp_path / "mlartifacts"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///team/runs.db")
    assert store_location().uri == f"sqlite:///{tmp_path}/team/runs.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://mlflow.example.org")
    assert (store_location().uri, store_location().artifacts) == ("https://mlflow.example.org", None)
    assert store_location().artifact_location("..") is None


class _Refusing(BaseHTTPRequestHandler):
    """Answers everything with one error, and a page about it."""

    def do_GET(self) -> None:
        self.send_error(self.server.code)  # type: ignore[attr-defined]

    def do_POST(self) -> None:
        self.do_GET()

    def log_message(self, *args: object) -> None:
        """Keep quiet."""


@pytest.mark.parametrize(
    "code, exit_code, said",
    [
        (404, 1, "MLflow at http://127.0.0.1:{}/mlflow: API request to endpoint"),
        (403, 1, "MLflow at http://127.0.0.1:{}/mlflow: API request to endpoint"),
        (
            502,
            2,
            "MLFLOW_TRACKING_URI names http://127.0.0.1:{}/mlflow, which answers 502 Bad Gateway: no MLflow runs",
        ),
    ],
)
def test_what_a_server_refuses_is_one_line(
    monkeypatch: pytest.MonkeyPatch,
    ssiforge: Callable[..., tuple[int, str, str]],
    code: int,
    exit_code: int,
    said: str,
) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with ThreadingHTTPServer(("127.0.0.1", 0), _Refusing) as server:
        server.code = code  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        port = server.server_address[1]
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://user:secret@127.0.0.1:{port}/mlflow")
        ended, _, errors = ssiforge("lineage", "ssiforge-tiny-joint/1")
        server.shutdown()
    assert ended == exit_code
    assert errors.startswith(f"ssiforge: {said.format(port)}")
    assert errors.count("\n") == 1 and "secret" not in errors


class _Silent(socketserver.BaseRequestHandler):
    """Takes a call and says nothing."""

    def handle(self) -> None:
        self.request.recv(1024)
        self.server.over.wait(30)  # type: ignore[attr-defined]


def test_a_server_that_is_not_there_or_does_not_answer_is_named_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pipelines.tracking.store.SERVER_PATIENCE_S", 0.3)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Silent) as server:
        over = threading.Event()
        server.over = over  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        port = server.server_address[1]
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://user:secret@127.0.0.1:{port}/mlflow")
        with pytest.raises(
            UserError, match=rf"names http://127\.0\.0\.1:{port}/mlflow, which does not answer"
        ) as said:
            open_store()
        assert "secret" not in str(said.value)
        over.set()
        server.shutdown()
    with pytest.raises(UserError, match="which does not answer .*refused"):
        open_store()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://[::1")
    with pytest.raises(UserError, match="which does not answer"):
        open_store()
