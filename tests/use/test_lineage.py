"""Lineage answers both ways, from MLflow and from folders alone, and agrees with the bytes in the shards."""

import io
import json
import shutil
import sqlite3
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from tiny_corpora import build_corpus, file_hash

from manifests.corpus import SAMPLES_FILE, Corpus
from manifests.errors import UserError
from manifests.sample import SampleRecord
from pipelines.corpus.table import kinds_of, row_of, write_table
from pipelines.evaluation.evaluate import evaluate
from pipelines.governance.stale import who_heard
from pipelines.lineage.answer import Lineage, lineage
from pipelines.lineage.tree import print_lineage
from pipelines.tracking.records import from_client, from_database
from pipelines.tracking.store import STALE_TAG
from training.tracker import Parent, StageStart


def report_stage(
    store: Any,
    corpus: Corpus,
    run_dir: Path,
    stage: str,
    parents: dict[str, Any],
    make_bundle: Callable[..., Any],
) -> Any:
    """What training reports of one stage."""
    from pipelines.trainer.mlflow_tracker import MlflowTracker

    stage_dir = run_dir / stage
    stage_dir.mkdir(parents=True)
    start = StageStart(
        experiment=run_dir.name,
        stage=stage,
        stage_dir=stage_dir,
        params={"seed": 3},
        stage_digest="d" * 32,
        corpus_place=str(corpus.store.root),
        corpus=corpus.manifest,
        parents=tuple(Parent(role, info.id, run_dir / role / "model") for role, info in parents.items()),
        device="cpu",
        parameters=1,
        steps=3,
    )
    tracker = MlflowTracker(store)
    tracker.stage_started(start)
    ids = {role: info.id for role, info in parents.items()}
    info = make_bundle(stage_dir / "model", stage, corpus.manifest.id, ids, seed=len(run_dir.name))
    tracker.model_finished(stage_dir / "model", info)
    tracker.stage_ended("finished")
    return info


@pytest.fixture
def two_corpora(store: Any, tmp_path: Path) -> tuple[Corpus, Corpus]:
    """One with a table of samples, one whose shards have to be read."""
    tabled = build_corpus(tmp_path / "with table", {"train": 3, "val": 1, "test": 2}, seconds=0.6, seed=1)
    described = [
        (shard, tabled.sample_json(shard, entry)) for shard in tabled.shards for entry in shard.samples
    ]
    rows = [row_of(SampleRecord.model_validate(content), shard.tar_name) for shard, content in described]
    write_table(tabled.store.root / SAMPLES_FILE, rows, kinds_of(rows))
    plain = build_corpus(tmp_path / "without", {"train": 2, "val": 1, "test": 1}, seconds=0.6, seed=2)
    return tabled, plain


@pytest.fixture
def chain(
    store: Any, two_corpora: tuple[Corpus, Corpus], tmp_path: Path, make_bundle: Callable[..., Any]
) -> dict[str, Any]:
    """Teacher, student and denoiser on the first corpus; another teacher on the second."""
    first, second = two_corpora
    run = tmp_path / "runs" / "main-line"
    made: dict[str, Any] = {}
    made["teacher"] = report_stage(store, first, run, "teacher", {}, make_bundle)
    made["student"] = report_stage(store, first, run, "student", {"teacher": made["teacher"]}, make_bundle)
    made["denoiser"] = report_stage(store, first, run, "denoiser", {"student": made["student"]}, make_bundle)
    made["other"] = report_stage(store, second, tmp_path / "runs" / "side", "teacher", {}, make_bundle)
    return made


def ids(answer: Lineage, kind: str) -> set[str]:
    return {node.id for node in answer.graph.nodes.values() if node.kind == kind}


def sources_heard_by_brute_force(corpus: Corpus, splits: tuple[str, ...]) -> set[str]:
    """Read every KEY.json out of the tars."""
    heard = set()
    for tar_path in [path for split in splits for path in (corpus.store.root / split).glob("*.tar")]:
        with tarfile.open(tar_path) as tar:
            for member in tar:
                if member.name.endswith(".json"):
                    content = tar.extractfile(member)
                    assert content is not None
                    heard |= {source["sha256"] for source in json.load(io.TextIOWrapper(content))["sources"]}
    return heard


def test_a_model_leads_back_to_its_teacher_corpus_recipe_and_sources(
    chain: dict[str, Any], two_corpora: tuple[Corpus, Corpus]
) -> None:
    first, _ = two_corpora
    answer = lineage("ssiforge-main-line-denoiser")
    assert answer.start.id == chain["denoiser"].id
    assert ids(answer, "model") == {chain[stage].id for stage in ("teacher", "student", "denoiser")}
    assert ids(answer, "corpus") == {first.manifest.id}
    assert ids(answer, "recipe") == {first.manifest.recipe_digest}
    (sources,) = [node for node in answer.graph.nodes.values() if node.kind == "sources"]
    heard = sources_heard_by_brute_force(first, ("train", "val", "test"))
    assert {row["sha256"] for row in sources.facts["sources"]} == heard
    assert sources.facts["licences"] == {"CC-BY-4.0": 3, "CC0-1.0": 3}
    relations = {edge.relation for edge in answer.graph.edges}
    steps = {"made", "student of", "teacher of", "data of", "recipe of", "material of", "registered as"}
    assert relations == steps


@pytest.mark.parametrize("place", [0, 1])
def test_a_source_leads_to_exactly_the_models_that_heard_it(
    chain: dict[str, Any], two_corpora: tuple[Corpus, Corpus], place: int
) -> None:
    corpus = two_corpora[place]
    heard = [{"teacher", "student", "denoiser"}, {"other"}][place]
    for name in ("train häger", "train hiss"):
        sha256 = file_hash(f"{name} {place + 1}.wav")
        assert sha256 in sources_heard_by_brute_force(corpus, ("train",))
        answer = lineage(sha256[:10])
        assert ids(answer, "model") == {chain[stage].id for stage in heard}
        (shard,) = [node for node in answer.graph.nodes.values() if node.kind == "shard"]
        expected = [0, 2] if "hiss" in name else list(range(corpus.manifest.samples["train"]))
        expected = [index for index in expected if index < corpus.manifest.samples["train"]]
        assert shard.facts["samples"] == [f"train-{index:06d}" for index in expected]


def test_a_source_of_the_test_split_trained_nothing_and_was_scored_with(
    chain: dict[str, Any], two_corpora: tuple[Corpus, Corpus], tmp_path: Path
) -> None:
    evaluate(["ssiforge-main-line-student"], tmp_path / "out", corpus=two_corpora[0].store.root, limit=1)
    answer = lineage(file_hash("test hiss 1.wav"))
    assert ids(answer, "model") == set() and ids(answer, "run") == set()
    assert len(ids(answer, "evaluation")) == 1
    validated = lineage(file_hash("val hiss 1.wav"))
    assert "validation data of" in {edge.relation for edge in validated.graph.edges}
    scored = lineage("ssiforge-main-line-student")
    assert ("scored by", "evaluation") in {(r, n.kind) for r, n in scored.graph.made_from(scored.start.key)}


def test_the_same_is_found_by_path_key_run_id_corpus_and_recipe(
    chain: dict[str, Any], two_corpora: tuple[Corpus, Corpus], store: Any
) -> None:
    first, second = two_corpora
    assert lineage("speech/train häger 1.wav").start.id == file_hash("train häger 1.wav")
    assert lineage("/recordings/noise/val hiss 2.wav").start.id == file_hash("val hiss 2.wav")
    assert lineage(first.manifest.id).start.key == f"corpus:{first.manifest.id}"
    assert lineage(str(second.url)).start.key == f"corpus:{second.manifest.id}"
    assert ids(lineage(first.manifest.recipe_digest), "corpus") == {first.manifest.id, second.manifest.id}
    model = store.get_model_version("ssiforge-side-teacher", "1")
    assert ids(lineage(model.run_id), "model") == {chain["other"].id}
    assert lineage(chain["student"].id).start.id == chain["student"].id
    sample = lineage("train-000002", [first.url])
    assert sample.start.id == f"{first.manifest.id}/train-000002"
    assert {n.id for _, n in sample.graph.origins(sample.start.key)} == {
        file_hash("train häger 1.wav"),
        file_hash("train hiss 1.wav"),
        first.manifest.recipe_digest,
    }
    (spec,) = [e.spec_digest for s in first.shards for e in s.samples if e.key == "train-000002"]
    assert sample.start.facts["spec_digest"] == spec
    assert ids(sample, "model") == {chain[stage].id for stage in ("teacher", "student", "denoiser")}
    with pytest.raises(UserError, match="2 corpora have a sample of this key"):
        lineage("train-000001")


def test_a_file_is_known_by_its_content_wherever_it_lies(store: Any, tmp_path: Path) -> None:
    corpus = build_corpus(tmp_path / "records of runs" / "c", {"train": 1, "val": 0, "test": 0}, seconds=0.5)
    copy = tmp_path / "renamed.wav"
    copy.write_bytes(b"train hiss 7.wav")  # in these corpora a file's content is its name
    assert lineage(str(copy)).start.label == "train hiss 7.wav"
    copy.write_bytes(b"another")
    with pytest.raises(UserError, match=r"no corpus known here holds it .*corpora: c"):
        lineage(str(copy))
    assert corpus.manifest.id


def test_folders_alone_tell_the_lineage_without_mlflow(
    two_corpora: tuple[Corpus, Corpus], tmp_path: Path, make_bundle: Callable[..., Any], monkeypatch: Any
) -> None:
    corpus, _ = two_corpora
    place = tmp_path / "moved"
    place.mkdir()
    monkeypatch.chdir(place)
    teacher = make_bundle(place / "run" / "teacher" / "model", "teacher", corpus.manifest.id)
    student = make_bundle(
        place / "run" / "student" / "model", "student", corpus.manifest.id, {"teacher": teacher.id}
    )
    shutil.copytree(corpus.store.root, place / "data" / "corpus")
    back = lineage("run")
    assert ids(back, "model") == {teacher.id, student.id} and back.start.id == student.id
    assert ids(back, "corpus") == {corpus.manifest.id}
    on = lineage(file_hash("train hiss 1.wav"))
    assert ids(on, "model") == {teacher.id, student.id}
    assert not (place / "mlflow.db").exists()


def test_records_that_cannot_be_read_are_told_and_not_passed_over(
    chain: dict[str, Any],
    two_corpora: tuple[Corpus, Corpus],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    ssiforge: Callable[..., tuple[int, str, str]],
) -> None:
    """Who asks which models heard a recording must know that there is one more."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'none.db'}")
    asked = file_hash("train hiss 1.wav")
    assert lineage(asked).not_read == ()
    cut = Path("runs/main-line/student/model/model.json")
    cut.write_bytes(cut.read_bytes()[:100])
    broken = Path(two_corpora[1].store.root.name) / "corpus.json"
    broken.write_bytes(broken.read_bytes()[:100])
    code, out, errors = ssiforge("lineage", asked, "--json")
    said = [line for line in errors.splitlines() if line.startswith("not read: ")]
    assert code == 0 and len(said) == 2
    assert str(cut) in said[0] + said[1] and str(broken) in said[0] + said[1]
    assert sorted(f"not read: {line}" for line in json.loads(out)["not_read"]) == sorted(said)
    told: list[str] = []
    who_heard([asked], [], [Path()], told.append)
    assert sorted(told) == sorted(said)


def test_answers_are_written_as_tree_json_and_mermaid_with_names_made_harmless(
    chain: dict[str, Any], two_corpora: tuple[Corpus, Corpus]
) -> None:
    answer = lineage("ssiforge-main-line-student")
    console = Console(record=True, width=200, file=io.StringIO(), force_terminal=True)
    print_lineage(answer, console)
    text = console.export_text()
    for words in ("made from", "made into", "teacher", "3 speakers", "CC-BY-4.0 3"):
        assert words in text
    content = json.loads(json.dumps(answer.json()))
    keys = {node["key"] for node in content["nodes"]}
    assert content["start"] in keys and all({e["origin"], e["made"]} <= keys for e in content["edges"])
    assert json.dumps(lineage("ssiforge-main-line-student").json()) == json.dumps(answer.json())

    from pipelines.lineage.graph import Graph, Node
    from pipelines.lineage.heard import heard_by

    graph = Graph()
    name = 'a"]<img src=x onerror=alert(1)>\x1b[31m.wav\nclick'
    graph.add(Node("source", "1", name))
    drawn = graph.mermaid()
    assert "<img" not in drawn and '"]<' not in drawn and "\x1b" not in drawn and len(drawn.splitlines()) == 2
    console = Console(record=True, width=200, file=io.StringIO(), force_terminal=True)
    print_lineage(Lineage(graph, graph.nodes["source:1"], heard_by(graph, graph.nodes["source:1"])), console)
    assert "\x1b" not in console.export_text()


def test_a_database_read_directly_says_what_mlflow_says(
    chain: dict[str, Any], two_corpora: tuple[Corpus, Corpus], store: Any, tmp_path: Path
) -> None:
    evaluate(["ssiforge-main-line-student"], tmp_path / "out", corpus=two_corpora[0].store.root, limit=1)
    store.set_registered_model_alias("ssiforge-main-line-denoiser", "champion", "1")
    store.set_model_version_tag("ssiforge-main-line-student", "1", STALE_TAG, "a speaker withdrew")
    deleted = store.create_run("0")
    store.delete_run(deleted.info.run_id)
    with sqlite3.connect("mlflow.db") as database:
        read = from_database(database)
        assert read is not None and read == from_client(store)
        assert [version.aliases for version in read.versions].count(("champion",)) == 1
        assert len(read.runs) == 5 and len(read.models) == 4
        database.execute("UPDATE alembic_version SET version_num = 'of another MLflow'")
        assert from_database(database) is None
        database.rollback()
        database.execute("ALTER TABLE tags RENAME COLUMN value TO content")
        assert from_database(database) is None
        database.rollback()


def test_a_question_imports_neither_mlflow_nor_torch(
    chain: dict[str, Any], two_corpora: tuple[Corpus, Corpus]
) -> None:
    script = (
        "import sys\n"
        "from pipelines.lineage.answer import lineage\n"
        "assert len(lineage(sys.argv[1]).heard.models) == 3\n"
        "print({'mlflow', 'torch', 'pandas', 'scipy', 'ray'} & set(sys.modules))"
    )
    command = [sys.executable, "-c", script, file_hash("train hiss 1.wav")]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout == "set()\n"


def test_released_and_stale_versions_are_said_in_words(
    chain: dict[str, Any], two_corpora: tuple[Corpus, Corpus], store: Any
) -> None:
    store.set_registered_model_alias("ssiforge-main-line-denoiser", "champion", "1")
    store.set_model_version_tag("ssiforge-main-line-student", "1", STALE_TAG, "a speaker withdrew")
    for reference in (file_hash("train häger 1.wav"), "licence:CC0-1.0", two_corpora[0].manifest.id):
        said = "\n".join(lineage(reference).heard.sentences())
        assert "Released models that heard it: ssiforge-main-line-denoiser/1 @champion\n" in said
        assert "Stale: ssiforge-main-line-student/1: a speaker withdrew" in said
    for name in ("ssiforge-main-line-denoiser", "ssiforge-main-line-denoiser@champion"):
        assert lineage(name).start.id == chain["denoiser"].id
    assert lineage("ssiforge-main-line-student/1").start.facts["stale"] == "a speaker withdrew"
    test_split = lineage(file_hash("test hiss 1.wav"))
    assert test_split.heard.sentences()[0] == "Released models that heard it: none"


def test_evaluations_are_one_whether_mlflow_or_their_file_tells_of_them(
    chain: dict[str, Any], two_corpora: tuple[Corpus, Corpus], store: Any
) -> None:
    evaluate(["ssiforge-main-line-student"], Path("scores"), corpus=two_corpora[0].store.root, limit=1)
    with_store = lineage("ssiforge-main-line-student")
    place = store.get_logged_model(store_model_id(store, chain["student"].id)).artifact_location
    bundle = Path(place.removeprefix("file://").replace("%20", " ")) / "artifacts" / "bundle"
    shutil.copytree(bundle, Path("kept") / "student" / "model")
    Path("mlflow.db").unlink()
    alone = lineage("kept", [two_corpora[0].url])
    assert ids(alone, "evaluation") == ids(with_store, "evaluation") and len(ids(alone, "evaluation")) == 1
    (node,) = [node for node in alone.graph.nodes.values() if node.kind == "evaluation"]
    assert node.facts["code_version"] and node.facts["packages_digest"]


def store_model_id(store: Any, bundle_id: str) -> str:
    from pipelines.tracking.registry import logged_models

    return str(logged_models(store, bundle_id)[0].model_id)


def test_records_of_mlflow_that_are_none_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ssiforge: Callable[..., tuple[int, str, str]]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///notes.txt")
    Path("notes.txt").write_text("these are no records of runs")
    for command in (("lineage", "deadbeef"), ("promote", "x", "--as", "champion")):
        code, _, errors = ssiforge(*command)
        assert (code, len(errors.splitlines())) == (2, 1)
        assert str(tmp_path / "notes.txt") in errors


@pytest.mark.parametrize("reference", ["nothing", "0" * 32, "deadbeef", "models:/x/1", "caf\udce9.wav"])
def test_what_is_not_known_is_refused_with_what_is(chain: dict[str, Any], reference: str) -> None:
    with pytest.raises(UserError, match="models: 4") as refused:
        lineage(reference)
    assert "digits are needed" not in str(refused.value)
    with pytest.raises(UserError, match=r"known here \(of a digest, 8 digits are needed\); "):
        lineage("0fe12")
