"""Models that heard what is taken down: named in the audit record, marked, and found when old versions are gone."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from manifests.catalogue import read_catalogue
from manifests.corpus import read_manifest
from pipelines.executors import InProcess
from pipelines.generation.generate import generate
from pipelines.governance.promote_data import ancestry
from pipelines.governance.stale import mark, where_marked, who_heard
from pipelines.governance.take_down import take_down
from pipelines.governance.withdraw import Withdrawn, withdraw
from pipelines.lineage.answer import lineage
from pipelines.models.stale_mark import STALE_FILE, stale_sentence
from pipelines.verify import verify

SAMPLES = 20


@pytest.fixture(scope="module")
def original(
    tmp_path_factory: pytest.TempPathFactory, small_recipe: Path, catalogue_path: Path
) -> Iterator[Path]:
    out = tmp_path_factory.mktemp("heard") / "a"
    generate(str(small_recipe), catalogue_path, out, InProcess(), samples=SAMPLES, seed=5)
    return out


@pytest.fixture
def place(original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: a corpus `a`, and no MLflow."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    shutil.copytree(original, "a")
    return tmp_path


def noises(corpus: Path) -> list[str]:
    """Hashes of two noises that training samples hold, each in samples where the other is not."""
    rows = read_catalogue(corpus / "sources.parquet").of("noise", "train")
    held = [
        row.sha256 for row in rows if any("train/" in s for s in take_down([row.sha256], corpus).affected)
    ]
    return held[:2]


def taken(source: str, corpus: str, out: str, reason: str = "") -> Withdrawn:
    """What `ssiforge withdraw` does, but for its words."""

    def heard_by(hashes: frozenset[str]) -> Any:
        return who_heard(hashes, [corpus], [Path().resolve()])

    done = withdraw([source], corpus, out, InProcess(), reason, heard_by=heard_by)
    mark(done.models, stale_sentence(done.manifest.replaces, done.reason))
    return done


def audit(corpus: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(corpus, "withdrawals.ndjson").read_text().splitlines()]


def models_of(source: str) -> set[str]:
    return {node.id for node in lineage(source).graph.nodes.values() if node.kind == "model"}


def test_the_audit_record_names_the_models_and_a_later_run_adds_what_it_finds(
    place: Path, make_bundle: Callable[..., Any]
) -> None:
    first, _ = noises(place / "a")
    teacher = make_bundle(place / "teacher", "teacher", read_manifest("a").id, seed=1)
    student = make_bundle(place / "student", "student", "0" * 32, {"teacher": teacher.id}, seed=2)
    make_bundle(place / "spared", "teacher", "1" * 32, seed=3)
    done = taken(first, "a", "b", "asked to")
    (line,) = audit("b")
    assert (line["replaces"], line["corpus"]) == (read_manifest("a").id, done.manifest.id)
    assert line["models"] == sorted([teacher.id, student.id])
    found_later = make_bundle(place / "later", "teacher", read_manifest("a").id, seed=4)
    again = taken(first, "a", "b", "asked to")
    assert again.manifest.id == done.manifest.id
    assert audit("b")[0]["models"] == sorted([teacher.id, student.id, found_later.id])
    assert verify("b").problems == ()
    shutil.rmtree("teacher")
    taken(first, "a", "b", "asked to")
    assert teacher.id in audit("b")[0]["models"]
    assert {path.parent.name for path in place.glob(f"*/{STALE_FILE}")} == {"student", "later"}


def test_withdrawing_twice_finds_who_heard_the_second_in_a_version_that_is_gone(
    place: Path, make_bundle: Callable[..., Any]
) -> None:
    first, second = noises(place / "a")
    model = make_bundle(place / "model", "teacher", read_manifest("a").id, seed=1)
    taken(first, "a", "b", "one")
    shutil.rmtree("a")
    (place / "model" / STALE_FILE).unlink()
    done = taken(second, "b", "c", "two")
    assert audit("c")[1]["models"] == [model.id]
    assert json.loads((place / "model" / STALE_FILE).read_text())["reasons"] == [
        stale_sentence(done.manifest.replaces, "two")
    ]
    shutil.rmtree("b")
    (noise,) = (
        row for row in read_catalogue(place / "c" / "sources.parquet").sources if row.sha256 == second
    )
    for source in (first, second, second.upper(), noise.path, f"licence:{noise.licence}"):
        assert models_of(source) == {model.id}, source
    stale = ancestry(model.id, []).stale
    assert stale_sentence(done.manifest.replaces, "two") in stale


def test_a_model_of_the_smaller_corpus_that_lay_there_is_found_when_both_are_gone(
    place: Path, make_bundle: Callable[..., Any], small_recipe: Path, catalogue_path: Path
) -> None:
    first, _ = noises(place / "a")
    model = make_bundle(place / "model", "teacher", read_manifest("a").id, seed=1)
    generate(str(small_recipe), catalogue_path, "a", InProcess(), samples=SAMPLES + 4, seed=5)
    taken(first, "a", "b", "one")
    shutil.rmtree("a")
    assert models_of(first) == {model.id}
    assert ancestry(model.id, []).stale == (stale_sentence(audit("b")[0]["replaces"], "one"),)


def test_a_bundle_that_cannot_be_marked_is_named_and_the_others_are_marked(
    place: Path, make_bundle: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _ = noises(place / "a")
    for number, name in enumerate(("locked", "open")):
        make_bundle(place / name, "teacher", read_manifest("a").id, seed=number)
    heard = who_heard([first], [], [place])
    assert all(not model.unwritten for model in where_marked(heard))
    assert not list(place.glob(f"*/{STALE_FILE}"))

    from pipelines.governance import stale

    written = stale.write_stale

    def refuse(folder: Path, *what: Any) -> None:
        if folder.name == "locked":
            raise PermissionError(13, "Permission denied")
        written(folder, *what)

    monkeypatch.setattr(stale, "write_stale", refuse)
    marked = mark(heard, "why")
    assert [place for model in marked for place in model.unwritten] == [
        f"{place / 'locked'} (Permission denied)"
    ]
    assert [path.parent.name for path in place.glob(f"*/{STALE_FILE}")] == ["open"]
