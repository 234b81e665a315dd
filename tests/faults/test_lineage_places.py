"""A run that was killed, moved and resumed on a corpus that was put into a bucket meanwhile keeps its lineage."""

import json
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from s3_server import S3, s3_server
from test_resume import SETTINGS, killed

from manifests.corpus import read_manifest
from manifests.experiment import load_experiment
from manifests.run_record import read_run
from manifests.store import open_store
from pipelines.corpus.lineage_index import INDEX_FILE
from pipelines.executors import InProcess
from pipelines.generation.generate import generate
from pipelines.lineage.answer import Lineage, lineage
from training.run import train

pytestmark = pytest.mark.faults

KILLED_AT = 9


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[S3]:
    import s3fs

    with s3_server() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        s3fs.S3FileSystem.clear_instance_cache()
        yield server
    s3fs.S3FileSystem.clear_instance_cache()


def ids(answer: Lineage, kind: str) -> set[str]:
    return {node.id for node in answer.graph.nodes.values() if node.kind == kind}


def sources_in_tars(corpus: Path, split: str) -> set[str]:
    found = set()
    for path in (corpus / split).glob("*.tar"):
        with tarfile.open(path) as tar:
            for member in tar:
                if member.name.endswith(".json"):
                    content = json.loads(tar.extractfile(member).read())  # type: ignore[union-attr]
                    found |= {source["sha256"] for source in content["sources"]}
    return found


def test_killed_moved_resumed_and_the_corpus_in_a_bucket(
    s3: S3, tmp_path: Path, small_recipe: Path, catalogue_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    corpus, here = tmp_path / "corpus", tmp_path / "here"
    generate(str(small_recipe), catalogue_path, corpus, InProcess(), 20, seed=3)
    corpus_id = read_manifest(corpus).id
    trained_on, tested = sources_in_tars(corpus, "train"), sources_in_tars(corpus, "test")

    killed(corpus, here, "teacher", KILLED_AT, resume=False)
    run = read_run(here / "teacher")
    assert run is not None and run.status == "running"
    begun = lineage("here")
    assert begun.start.id == run.id and ids(begun, "corpus") == {corpus_id} and not ids(begun, "model")

    place = f"s3://{s3.bucket}/data/corpus"
    bucket = open_store(place)
    for name in open_store(corpus).names():
        bucket.write(name, (corpus / name).read_bytes())
    shutil.rmtree(corpus)
    there = tmp_path / "runs" / "there"
    there.parent.mkdir()
    shutil.move(here, there)
    (model,) = train(
        load_experiment("tiny", SETTINGS), place, there, ["teacher"], resume=True, device="cpu"
    ).values()

    assert bucket.size(INDEX_FILE)
    back = lineage(str(there), [place])
    assert back.start.id == model.id
    assert (ids(back, "run"), ids(back, "corpus")) == ({run.id}, {corpus_id})
    (made_by,) = [node for node in back.graph.nodes.values() if node.kind == "run"]
    assert made_by.facts["status"] == "finished" and made_by.facts["packages"]
    for source in trained_on:
        forward = lineage(source, [place])
        assert ids(forward, "model") == {model.id} and ids(forward, "run") == {run.id}
    for source in tested - trained_on:
        assert not ids(lineage(source, [place]), "model")
