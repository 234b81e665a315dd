"""An alias goes only to a model that is evaluated, traceable, licensed and not stale."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tiny_corpora import build_corpus, file_hash

from manifests.corpus import Corpus
from manifests.errors import JobError, UserError
from pipelines.governance.audit import PROMOTIONS_FILE, audit_file, recorded
from pipelines.governance.promote import promote
from pipelines.governance.stale import Marked, mark, who_heard
from pipelines.lineage.answer import lineage
from pipelines.models.stale_mark import STALE_FILE, stale_sentence
from pipelines.tracking.registry import logged_models
from training.tracker import Parent, StageStart


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> Iterator[Path]:
    """One MLflow store for all tests of the module, in the current folder."""
    folder = tmp_path_factory.mktemp("promote")
    shutil.copy(empty_database, folder / "mlflow.db")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.chdir(folder)
        yield folder


@pytest.fixture(scope="module")
def corpus(place: Path) -> Corpus:
    return build_corpus(place / "corpus", {"train": 2, "val": 1, "test": 1}, seconds=0.5, seed=3)


@pytest.fixture(scope="module")
def client(place: Path) -> Any:
    from pipelines.tracking.store import open_store

    return open_store()


@pytest.fixture(scope="module")
def report(place: Path, client: Any, corpus: Corpus, make_bundle: Callable[..., Any]) -> Callable[..., Any]:
    """Report a stage to MLflow as training does."""
    from pipelines.trainer.mlflow_tracker import MlflowTracker

    def reported(run: str, stage: str, parents: dict[str, Any], seed: int, on: Corpus = corpus) -> Any:
        stage_dir = place / "runs" / run / stage
        stage_dir.mkdir(parents=True)
        start = StageStart(
            experiment=run,
            stage=stage,
            stage_dir=stage_dir,
            params={"seed": seed},
            stage_digest="d" * 32,
            corpus_place=str(on.store.root),
            corpus=on.manifest,
            parents=tuple(Parent(role, info.id, stage_dir) for role, info in parents.items()),
            device="cpu",
            parameters=1,
            steps=3,
        )
        tracker = MlflowTracker(client)
        tracker.stage_started(start)
        ids = {role: info.id for role, info in parents.items()}
        info = make_bundle(stage_dir / "model", stage, on.manifest.id, ids, seed=seed)
        tracker.model_finished(stage_dir / "model", info)
        tracker.stage_ended("finished")
        return info

    return reported


def evaluated(client: Any, info: Any) -> None:
    """Record what `evaluate` records of a model; what it measures does not matter here."""
    from pipelines.tracking.store import experiment_id

    tags = {"ssiforge.job": "evaluate", "ssiforge.bundle_id": info.id, "ssiforge.split": "test"}
    run = client.create_run(experiment_id(client, "scores"), tags=tags)
    client.set_terminated(run.info.run_id, "FINISHED")


@pytest.fixture(scope="module")
def chain(report: Callable[..., Any], client: Any) -> dict[str, Any]:
    teacher = report("line", "teacher", {}, 1)
    student = report("line", "student", {"teacher": teacher}, 2)
    return {"teacher": teacher, "student": student}


def mark_stale(hashes: list[str], folders: list[Path], replaced: str, reason: str) -> list[Marked]:
    """What `withdraw` does about models."""
    return mark(who_heard(hashes, [], folders), stale_sentence(replaced, reason))


def audit(place: Path) -> list[dict[str, Any]]:
    """The promotions that were done; each was on record before."""
    assert audit_file(PROMOTIONS_FILE) == place / PROMOTIONS_FILE
    lines = recorded(PROMOTIONS_FILE)
    done = [line for line in lines if line["state"] == "done"]
    for line in done:
        (begun,) = (one for one in lines if one["state"] == "intended" and one["id"] == line["id"])
        assert {**begun, "state": "done"}.items() <= line.items()
        assert lines.index(begun) < lines.index(line)
    return done


def problems(reference: str, **more: Any) -> dict[str, str]:
    found = promote(reference, "champion", dry_run=True, **more)
    return {check.name: check.problem for check in found.checks if check.problem}


def test_a_model_without_evaluation_is_refused_then_promoted_and_the_change_is_recorded(
    chain: dict[str, Any], client: Any, place: Path
) -> None:
    name = "ssiforge-line-student"
    assert problems(name).keys() == {"evaluated"}
    with pytest.raises(UserError, match=r"ssiforge-line-student: is not promoted: it was not evaluated"):
        promote(name, "champion")
    assert audit(place) == [] and client.get_registered_model(name).aliases == {}
    evaluated(client, chain["student"])
    assert problems(name) == {} and client.get_registered_model(name).aliases == {}
    done = promote(name, "champion", ["CC-BY-*,CC0-1.0"])
    assert done.version == f"{name}/1" and done.before == ""
    assert str(client.get_model_version_by_alias(name, "champion").version) == "1"
    again = promote(str(place / "runs" / "line" / "student"), "champion")
    assert again.before == f"{name}/1"
    first, second = audit(place)
    assert (first["before"], first["now"], first["alias"]) == ("", "1", "champion")
    assert first["bundle_id"] == chain["student"].id and first["by"] and first["at"]
    assert first["allowed_licences"] == ["CC-BY-*", "CC0-1.0"] and second["before"] == "1"
    tags = client.get_model_version(name, "1").tags
    assert json.loads(tags["ssiforge.promoted.champion"])["now"] == "1"
    for line in (first, second):  # for others who use the same server
        tags = client.get_registered_model(name).tags
        assert json.loads(tags[f"ssiforge.promotion.{line['id']}"]) == line
    for alias in ("v1", "V12", "latest", "a b", ""):
        with pytest.raises(UserError, match="MLflow refuses it"):
            promote(name, alias)
    assert len(audit(place)) == 2


def test_what_mlflow_refuses_and_what_cannot_be_written_down_is_not_done(
    chain: dict[str, Any], client: Any, place: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    from pipelines.governance import audit as record

    name = "ssiforge-line-student"
    evaluated(client, chain["student"])

    def refuse(*_: Any) -> None:
        raise MlflowException("read only")

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "set_registered_model_alias", refuse)
        with pytest.raises(UserError, match="MLflow refuses it"):
            promote(name, "refused")
    *_, last = record.recorded(PROMOTIONS_FILE)
    assert (last["state"], last["why"], last["alias"]) == ("not done", "read only", "refused")
    with monkeypatch.context() as patch:
        patch.setattr(record, "audit_file", lambda file: tmp_path / "missing" / file)
        with pytest.raises(JobError, match="the audit record cannot be written"):
            promote(name, "unwritten")
    assert not {"refused", "unwritten"} & client.get_registered_model(name).aliases.keys()


@pytest.mark.parametrize("after", [False, True])
def test_killed_between_record_and_alias_the_next_promotion_says_what_came_of_it(
    chain: dict[str, Any], client: Any, place: Path, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    from mlflow import MlflowClient

    from pipelines.governance import audit as record

    name, alias = "ssiforge-line-student", f"killed-{'after' if after else 'before'}"
    evaluated(client, chain["student"])
    real = MlflowClient.set_registered_model_alias

    def dies(self: Any, *what: Any) -> None:
        if after:
            real(self, *what)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(MlflowClient, "set_registered_model_alias", dies)
        promote(name, alias)
    *_, last = record.recorded(PROMOTIONS_FILE)
    assert (last["state"], last["alias"]) == ("intended", alias)
    with (place / PROMOTIONS_FILE).open("ab") as torn:
        torn.write(b'{"state":"inten')  # what a machine that was lost leaves
    said: list[str] = []
    promote(name, "candidate", say=said.append)
    assert said == [f"{name}/1: a promotion to {alias} that was interrupted was {'' if after else 'not '}set"]
    (line,) = (
        one
        for one in record.recorded(PROMOTIONS_FILE)
        if one["id"] == last["id"] and one["state"] != "intended"
    )
    assert line["state"] == ("done" if after else "not done")
    said.clear()
    promote(name, "candidate", say=said.append)
    assert said == []


def test_a_licence_in_the_data_of_any_ancestor_that_is_not_allowed_is_refused(
    chain: dict[str, Any], client: Any
) -> None:
    evaluated(client, chain["student"])
    found = problems("ssiforge-line-student", allow_licences=["CC-BY-*"])
    assert found.keys() == {"licences"} and "CC0-1.0" in found["licences"]
    with pytest.raises(UserError, match="licences that are not allowed"):
        promote("ssiforge-line-student", "candidate", ["CC-BY-*"])


def test_a_model_that_mlflow_does_not_know_is_refused(
    corpus: Corpus, make_bundle: Callable[..., Any], place: Path
) -> None:
    make_bundle(place / "alone", "teacher", corpus.manifest.id, seed=77)
    assert problems("alone").keys() == {"registered", "evaluated", "lineage"}
    with pytest.raises(UserError, match="cannot be registered"):
        promote("alone", "champion")


def test_a_model_that_a_run_made_and_nobody_registered_is_registered_on_the_way(
    report: Callable[..., Any], client: Any
) -> None:
    info = report("unregistered", "teacher", {}, 6)
    client.delete_registered_model("ssiforge-unregistered-teacher")
    evaluated(client, info)
    done = promote(info.id, "candidate")
    assert done.version == "ssiforge-tiny-teacher/1"  # named by the experiment that its bundle records


def test_a_lineage_with_a_gap_is_refused(
    report: Callable[..., Any], client: Any, place: Path, make_bundle: Callable[..., Any], tmp_path: Path
) -> None:
    elsewhere = build_corpus(place / "moved", {"train": 1, "val": 1, "test": 1}, seconds=0.5, seed=4)
    lost = make_bundle(tmp_path / "lost", "teacher", elsewhere.manifest.id, seed=8)
    orphan = report("orphan", "student", {"teacher": lost}, 9)
    homeless = report("homeless", "teacher", {}, 10, elsewhere)
    for info in (orphan, homeless):
        evaluated(client, info)
    assert problems("ssiforge-homeless-teacher") == {}
    found = problems("ssiforge-orphan-student")
    assert found.keys() == {"lineage"} and f"the model {lost.id[:8]}" in found["lineage"]
    (place / "moved").rename(tmp_path / "away")
    assert (
        f"the corpus {elsewhere.manifest.id} is not found" in problems("ssiforge-homeless-teacher")["lineage"]
    )
    with pytest.raises(UserError, match="its lineage is incomplete"):
        promote("ssiforge-homeless-teacher", "champion")
    assert problems("ssiforge-homeless-teacher", corpora=[tmp_path / "away"]) == {}


def test_who_heard_what_was_withdrawn_is_stale_and_who_did_not_is_not(
    report: Callable[..., Any], client: Any, place: Path, corpus: Corpus
) -> None:
    teacher = report("stale", "teacher", {}, 20)
    student = report("stale", "student", {"teacher": teacher}, 21)
    other = build_corpus(place / "other", {"train": 1, "val": 1, "test": 1}, seconds=0.5, seed=5)
    spared = report("spared", "teacher", {}, 22, other)
    evaluated(client, student)
    evaluated(client, spared)
    hiss = file_hash("train hiss 3.wav")
    marked = mark_stale([hiss], [place], corpus.manifest.id, "she asked")
    assert {teacher.id, student.id} <= {model.bundle_id for model in marked}
    assert spared.id not in {model.bundle_id for model in marked}
    sentence = f"trained on data withdrawn from corpus {corpus.manifest.id}: she asked"
    assert client.get_model_version("ssiforge-stale-student", "1").tags["ssiforge.stale"] == sentence
    assert "ssiforge.stale" not in client.get_model_version("ssiforge-spared-teacher", "1").tags
    own = place / "runs" / "stale" / "student" / "model"
    copy = Path(str(logged_models(client, student.id)[0].artifact_location).removeprefix("file://"))
    for bundle in (own, copy / "artifacts" / "bundle"):
        assert json.loads((bundle / STALE_FILE).read_text())["reasons"] == [sentence]
    assert problems("ssiforge-stale-student") == {"not stale": f"it is stale: {sentence}"}
    with pytest.raises(UserError, match="it is stale"):
        promote("ssiforge-stale-student", "champion")
    assert problems("ssiforge-spared-teacher") == {}
    nodes = {node.id: node for node in lineage(hiss).graph.nodes.values() if node.kind == "model"}
    assert nodes[student.id].facts["stale"] == sentence
    assert mark_stale([hiss], [place], corpus.manifest.id, "she asked") == marked


def test_using_a_stale_model_says_so(place: Path, tmp_path: Path, report: Callable[..., Any]) -> None:
    import numpy as np
    import soundfile

    from pipelines.enhancement.enhance import enhance

    report("warned", "teacher", {}, 30)
    model = place / "runs" / "warned" / "teacher"
    soundfile.write(tmp_path / "in.wav", np.zeros(4800), 48_000)
    said: list[str] = []
    enhance(tmp_path / "in.wav", tmp_path / "out.wav", str(model), say=said.append)
    assert said == []
    (model / "model" / STALE_FILE).write_text('{"reasons": ["a reason"]}')
    enhance(tmp_path / "in.wav", tmp_path / "out2.wav", str(model), say=said.append)
    assert said == [f"warning: {model}: stale, a reason"]


def test_evaluating_exporting_and_calibrating_a_stale_model_says_so_and_it_is_written_down(
    place: Path, tmp_path: Path, report: Callable[..., Any], client: Any, corpus: Corpus, quickly: None
) -> None:
    import numpy as np

    from pipelines.evaluation.calibrate import calibrate
    from pipelines.evaluation.evaluate import evaluate
    from pipelines.onnx_export.export import export

    info = report("exported", "student", {}, 31)
    model, name = str(place / "runs" / "exported" / "student"), "ssiforge-exported-student"
    quiet: list[str] = []
    tone = 0.1 * np.sin(np.arange(4800, dtype=np.float32) / 20)
    assert "stale" not in json.loads(_parity(export(model, tmp_path / "a", False, tone, quiet.append).out))
    assert quiet == []
    mark(who_heard([file_hash("train hiss 3.wav")], [], [place]), "a reason")
    (place / "runs" / "exported" / "student" / "model" / STALE_FILE).unlink()  # MLflow knows it too
    warning = "warning: {}: stale, a reason"

    said: list[str] = []
    done = export(model, tmp_path / "b", False, tone, said.append)
    assert said == [warning.format(model)]
    assert json.loads(_parity(done.out))["stale"] == ["a reason"]
    assert "**Stale**: a reason." in (done.out / "parity.md").read_text()

    said.clear()
    place_of = str(corpus.store.root)
    found = evaluate([name], tmp_path / "ev", place_of, limit=1, say=said.append, listen=0)
    assert said[0] == warning.format(name)
    assert found.result["models"][0]["stale"] == ["a reason"]
    assert found.result["notes"][0] == "student: stale, a reason"
    query = f"tags.`ssiforge.stale` = 'a reason' and tags.`ssiforge.bundle_id` = '{info.id}'"
    experiments = [each.experiment_id for each in client.search_experiments()]
    assert len(client.search_runs(experiments, query)) == 1

    said.clear()
    made = calibrate(model, place_of, tmp_path / "calibrated", limit=1, shares=[0.2], say=said.append).info
    assert said == [warning.format(model)]
    assert json.loads((tmp_path / "calibrated" / STALE_FILE).read_text()) == {
        "bundle_id": made.id,
        "reasons": ["a reason"],
    }


def _parity(out: Path) -> str:
    return (out / "parity.json").read_text()


def test_a_model_made_from_a_stale_one_is_stale(report: Callable[..., Any], client: Any, place: Path) -> None:
    teacher = report("old", "teacher", {}, 40)
    student = report("old", "student", {"teacher": teacher}, 41)
    evaluated(client, student)
    assert problems("ssiforge-old-student") == {}
    (place / "runs" / "old" / "teacher" / "model" / STALE_FILE).write_text('{"reasons": ["a reason"]}')
    assert problems("ssiforge-old-student") == {"not stale": "it is stale: a reason"}


def test_a_dry_run_lists_the_checks_and_fails_with_them(
    report: Callable[..., Any], client: Any, place: Path, ssiforge: Callable[..., tuple[int, str, str]]
) -> None:
    info = report("dry", "teacher", {}, 50)
    client.delete_registered_model("ssiforge-dry-teacher")
    held = audit(place)
    code, said, errors = ssiforge("promote", info.id, "--as", "candidate", "--dry-run")
    assert code == 2 and "no   evaluated: it was not evaluated" in said
    assert f"ssiforge: {info.id}: would not be promoted: it was not evaluated" in errors
    evaluated(client, info)
    code, said, errors = ssiforge("promote", info.id, "--as", "candidate", "--dry-run")
    assert (code, errors) == (0, "")
    assert (
        said.splitlines()[0]
        == "yes  registered: a run made it; it will be registered as ssiforge-tiny-teacher"
    )
    assert audit(place) == held
    code, said, _ = ssiforge("promote", info.id, "--as", "candidate")
    version = next(
        v
        for v in client.search_model_versions("name='ssiforge-tiny-teacher'")
        if v.tags["ssiforge.bundle_id"] == info.id
    )
    assert code == 0 and said.splitlines()[0].startswith(
        f"ssiforge-tiny-teacher/{version.version}: candidate now"
    )
    assert said.splitlines()[0].endswith(", registered now")
    assert said.splitlines()[1] == f"  recorded in {place / PROMOTIONS_FILE}"
    assert audit(place)[-1]["registered_now"] is True
