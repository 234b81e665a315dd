"""Exported models in the lineage: by the hash of the file, from plain files, MLflow's tags, or the file alone."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from manifests.canonical import file_sha256
from manifests.corpus import Corpus
from manifests.errors import UserError
from pipelines.governance.stale import mark, who_heard
from pipelines.lineage.answer import Lineage, lineage
from pipelines.models.stale_mark import STALE_FILE
from pipelines.onnx_export.export import Export, export
from training.bundle import read_info
from training.shipped_models import shipped_bundle

pytestmark = pytest.mark.usefixtures("quickly")
TONE = 0.1 * np.sin(np.arange(4800, dtype=np.float32) / 20)


@pytest.fixture
def place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, corpus: Corpus, make_bundle: Callable[..., Any]
) -> Path:
    """A folder with a corpus, a model and a model made from it; no MLflow."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    shutil.copytree(str(corpus.store.root), "corpus")
    teacher = make_bundle(tmp_path / "teacher", "teacher", corpus.manifest.id, seed=1)
    make_bundle(tmp_path / "student", "student", corpus.manifest.id, {"teacher": teacher.id}, seed=2)
    return tmp_path


@pytest.fixture
def exported(place: Path) -> Export:
    return export("student", place / "onnx", int8=True, checked=TONE)


def ids(answer: Lineage, kind: str) -> set[str]:
    return {node.id for node in answer.graph.nodes.values() if node.kind == kind}


def test_an_export_is_found_from_its_model_and_leads_back_to_everything(
    exported: Export, corpus: Corpus
) -> None:
    files = {file_sha256(exported.out / name) for name in ("model.onnx", "model.int8.onnx")}
    assert {variant.sha256 for variant in exported.variants} == files
    for reference in ("student", "teacher", "corpus", "speaker:talker-train"):
        assert ids(lineage(reference), "export") == files, reference
    (first, _) = exported.variants
    models = ids(lineage("student"), "model")
    for reference in ("onnx/model.onnx", first.sha256, first.sha256[:12].upper()):
        back = lineage(reference)
        assert (back.start.kind, back.start.id) == ("export", first.sha256), reference
        assert ids(back, "model") == models and len(models) == 2
        assert ids(back, "corpus") == {corpus.manifest.id} and ids(back, "sources")
        assert ids(back, "export") == {first.sha256}
        assert back.json()["start"] == f"export:{first.sha256}" and "export: model.onnx" in back.mermaid()
    assert lineage("onnx").start.id == first.sha256
    assert ids(lineage("student", down=False), "export") == set()
    assert ids(lineage("onnx", up=False), "model") == set()


def test_a_file_alone_names_its_model(exported: Export, tmp_path: Path) -> None:
    alone = tmp_path / "elsewhere.onnx"
    shutil.copy(exported.out / "model.onnx", alone)
    shutil.rmtree(exported.out)
    assert len(ids(lineage("elsewhere.onnx"), "model")) == 2
    alone.write_bytes(b"no model")
    with pytest.raises(UserError, match="elsewhere.onnx: not an ONNX file"):
        lineage("elsewhere.onnx")


def test_mlflow_knows_an_export_whose_folder_is_gone(
    store: Any, corpus: Corpus, make_bundle: Callable[..., Any], tmp_path: Path
) -> None:
    from pipelines.tracking.registry import log_model
    from pipelines.tracking.store import experiment_id

    info = make_bundle(tmp_path / "student", "student", corpus.manifest.id, seed=3)
    run = store.create_run(experiment_id(store, "tiny"))
    log_model(store, run.info.run_id, tmp_path / "student", info)
    done = export(info.id, tmp_path / "onnx", checked=TONE)
    digest = done.variants[0].sha256
    shutil.rmtree(done.out)
    assert ids(lineage(info.id), "export") == {digest}
    assert ids(lineage(digest), "model") == {info.id}


def test_reports_of_strangers_and_of_earlier_versions_break_nothing(exported: Export, place: Path) -> None:
    digest = exported.variants[0].sha256
    report = json.loads((place / "onnx" / "parity.json").read_text())
    for variant in report["variants"]:
        del variant["sha256"]
    (place / "onnx" / "parity.json").write_text(json.dumps(report))
    assert digest in ids(lineage("student"), "export")
    for number, content in enumerate(("[]", "{", '{"variants": [{"file": "../x"}], "model_id": 3}')):
        (place / f"other{number}").mkdir()
        (place / f"other{number}" / "parity.json").write_text(content)
    assert digest in ids(lineage("student"), "export")


def test_exports_of_a_stale_model_are_named_and_marked(exported: Export, place: Path, corpus: Corpus) -> None:
    source = sorted(ids(lineage("speaker:talker-train"), "model"))
    hashes = [row.sha256 for row in _sources(place) if row.speaker == "talker-train"]
    marked = mark(who_heard(hashes, [], [place]), "why")
    assert [model.bundle_id for model in marked] == source
    assert {path for model in marked for path in model.exports} == {
        str(place / "onnx" / name) for name in ("model.onnx", "model.int8.onnx")
    }
    assert json.loads((place / "onnx" / STALE_FILE).read_text())["reasons"] == ["why"]


def _sources(place: Path) -> Any:
    from manifests.catalogue import read_catalogue

    return read_catalogue(place / "corpus" / "sources.parquet").usable


def test_a_corpus_that_lies_elsewhere_is_told_as_its_model_remembers_it(store: Any) -> None:
    shipped = read_info(shipped_bundle())
    assert shipped.corpus is not None
    answer = lineage("shipped")
    (data,) = [node for node in answer.graph.nodes.values() if node.kind == "corpus"]
    assert data.label.startswith(f"{shipped.corpus.recipe} ") and data.label.endswith("(not found here)")
    assert (data.facts["hours"], data.facts["licences"]) == (shipped.corpus.hours, shipped.corpus.licences)


def test_what_was_tuned_from_a_shipped_model_leads_back_to_it(
    place: Path, corpus: Corpus, make_bundle: Callable[..., Any]
) -> None:
    shipped = read_info(shipped_bundle())
    tuned = make_bundle(place / "tuned", "joint", corpus.manifest.id, {"joint": shipped.id}, seed=3)
    assert ids(lineage("tuned"), "model") >= {tuned.id, shipped.id}
    (found,) = [node for node in lineage("tuned").graph.nodes.values() if node.id == shipped.id]
    assert found.facts["stage"] == shipped.stage
    assert shipped.id not in ids(lineage("student"), "model")
