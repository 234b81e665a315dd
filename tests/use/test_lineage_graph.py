"""In a graph of three corpora and four models, lineage says what the tars and the models' files say, without MLflow."""

import io
import json
import random
import shutil
import tarfile
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from tiny_corpora import build_corpus

from manifests.canonical import digest, file_sha256
from manifests.corpus import SAMPLES_FILE, Corpus, corpus_id, open_corpus, read_manifest
from manifests.errors import UserError
from manifests.experiment import STAGES
from manifests.packages import locked_packages
from manifests.run_record import RUN_FILE, StageRun, read_run, write_run
from manifests.sample import SampleRecord
from manifests.store import open_store
from pipelines.corpus.lineage_index import INDEX_FILE, open_index, write_index
from pipelines.corpus.sample_uses import TableUses, TarUses, opened
from pipelines.corpus.table import kinds_of, row_of, write_table
from pipelines.lineage.answer import Lineage, lineage
from pipelines.lineage.page import page
from pipelines.lineage.tree import print_lineage
from training.bundle import read_info

SEEDS = (1, 2, 3)


class Page(HTMLParser):
    """What a browser would make of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.text += data


def with_table(corpus: Corpus) -> Corpus:
    """Add the table of samples that `generate` writes."""
    described = [
        (shard, corpus.sample_json(shard, entry)) for shard in corpus.shards for entry in shard.samples
    ]
    rows = [row_of(SampleRecord.model_validate(content), shard.tar_name) for shard, content in described]
    write_table(corpus.store.root / SAMPLES_FILE, rows, kinds_of(rows))
    return corpus


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three corpora, of which two share their sources: with an index, with a table alone, and with neither."""
    place = tmp_path_factory.mktemp("house")
    indexed = with_table(build_corpus(place / "a", {"train": 3, "val": 1, "test": 2}, seconds=0.3, seed=1))
    write_index(indexed.store, indexed.manifest)
    with_table(build_corpus(place / "b", {"train": 4, "val": 1, "test": 0}, seconds=0.3, seed=1))
    build_corpus(place / "c", {"train": 2, "val": 2, "test": 1}, seconds=0.3, seed=2)
    return place


@pytest.fixture
def random_house(
    house: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_bundle: Callable[..., Any]
) -> Callable[[int], Path]:
    """Make four models, each of a random corpus and random parents; return where everything lies."""

    def make(seed: int) -> Path:
        chance = random.Random(seed)
        place = tmp_path / "moved here"
        shutil.copytree(house, place)
        monkeypatch.chdir(place)
        monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
        made: list[Any] = []
        for number in range(4):
            stage = STAGES[number]
            corpus_id = read_manifest(chance.choice(["a", "b", "c"])).id
            parents = {one.stage: one.id for one in made if chance.random() < 0.5}
            stage_dir = place / "runs" / str(number) / stage
            made.append(make_bundle(stage_dir / "model", stage, corpus_id, parents, seed=number))
            if chance.random() < 0.7:  # models of older versions have no record of their run
                write_run(stage_dir, run_of(made[-1]))
        return place

    return make


def run_of(info: Any) -> StageRun:
    return StageRun(
        experiment="tiny",
        experiment_digest="e" * 32,
        stage=info.stage,
        stage_digest=info.stage_digest,
        corpus_id=info.corpus_id,
        parents=info.parents,
        steps=3,
        code_version="0.1.0",
        packages=locked_packages(),
        status="finished",
        model_id=info.id,
    )


def uses_in_tars(place: Path) -> set[tuple[str, str, str, str]]:
    """Read (corpus id, split, key, source) out of every KEY.json of every tar."""
    uses = set()
    for root in (path.parent for path in place.glob("*/corpus.json")):
        corpus_id = json.loads((root / "corpus.json").read_bytes())["id"]
        for path in root.glob("*/*.tar"):
            with tarfile.open(path) as tar:
                for member in tar:
                    if member.name.endswith(".json"):
                        content = json.loads(tar.extractfile(member).read())  # type: ignore[union-attr]
                        for source in content["sources"]:
                            uses.add((corpus_id, content["split"], content["key"], source["sha256"]))
    return uses


def models_by_id(place: Path) -> dict[str, dict[str, Any]]:
    files = place.glob("runs/*/*/model/model.json")
    return {content["id"]: content for path in files if (content := json.loads(path.read_bytes()))}


def with_ancestors(models: dict[str, dict[str, Any]], model_id: str) -> set[str]:
    found = {model_id}
    for parent in models[model_id]["parents"].values():
        found |= with_ancestors(models, parent)
    return found


def ids(answer: Lineage, kind: str) -> set[str]:
    return {node.id for node in answer.graph.nodes.values() if node.kind == kind}


@pytest.mark.parametrize("seed", SEEDS)
def test_what_went_into_each_model_is_what_its_files_say(
    random_house: Callable[[int], Path], seed: int
) -> None:
    place = random_house(seed)
    uses, models = uses_in_tars(place), models_by_id(place)
    for model_id in models:
        answer = lineage(model_id, up=True, down=False)
        ancestors = with_ancestors(models, model_id)
        corpora = {models[one]["corpus_id"] for one in ancestors}
        assert ids(answer, "model") == ancestors
        assert ids(answer, "corpus") == corpora
        listed = {
            row["sha256"]
            for node in answer.json()["nodes"]
            if node["kind"] == "sources"
            for row in node["facts"]["sources"]
        }
        assert listed == {source for corpus, _, _, source in uses if corpus in corpora}
        assert not answer.graph.made_from(answer.start.key)


@pytest.mark.parametrize("seed", SEEDS)
def test_where_each_source_and_speaker_went_is_what_the_tars_say(
    random_house: Callable[[int], Path], seed: int
) -> None:
    place = random_house(seed)
    uses, models = uses_in_tars(place), models_by_id(place)
    for source in sorted({source for *_, source in uses}):
        answer = lineage(source, up=False)
        heard = {corpus for corpus, split, _, held in uses if held == source and split != "test"}
        trained = {corpus for corpus, split, _, held in uses if held == source and split == "train"}
        descendants = {
            i for i in models if any(models[a]["corpus_id"] in heard for a in with_ancestors(models, i))
        }
        learnt = {
            i for i in models if any(models[a]["corpus_id"] in trained for a in with_ancestors(models, i))
        }
        assert ids(answer, "model") == descendants
        assert {node.id for node in answer.heard.models} == descendants
        assert {node.id for node in answer.heard.only_validated} == descendants - learnt
        assert lineage(source, down=False).heard == answer.heard
        shards = {n.id: n.facts["samples"] for n in answer.graph.nodes.values() if n.kind == "shard"}
        keys = {(name.split("/")[0], key) for name, held in shards.items() for key in held}
        assert keys == {(corpus, key) for corpus, _, key, held in uses if held == source}
    talker = lineage("speaker:talker-train")
    samples = {(corpus, key) for corpus, split, key, _ in uses if split == "train"}
    for corpus, counts in talker.start.facts["heard"].items():
        assert counts == {"train": sum(1 for one, _ in samples if one == corpus)}
    assert ids(talker, "corpus") == {corpus for corpus, _ in samples}
    licence = lineage("licence:CC0-1.0")
    noisy = {(c, k) for c, _, k, s in uses if s in {row["sha256"] for row in licence.start.facts["sources"]}}
    assert sum(n for of in licence.start.facts["heard"].values() for n in of.values()) == len(noisy)


def test_a_shard_leads_back_to_the_sources_in_its_tar_and_on_to_the_models_that_heard_it(
    random_house: Callable[[int], Path],
) -> None:
    place = random_house(1)
    uses, models = uses_in_tars(place), models_by_id(place)
    for tar_path in sorted(place.glob("*/*/*.tar")):
        answer = lineage(str(tar_path))
        held, split = read_manifest(tar_path.parent.parent), tar_path.parent.name
        assert answer.start.id == f"{held.id}/{split}/{tar_path.name}"
        assert ids(answer, "source") == {s for c, of, _, s in uses if (c, of) == (held.id, split)}
        assert ids(answer, "recipe") == {held.recipe_digest}
        trains = split != "test"
        assert ids(answer, "model") == {
            i
            for i in models
            if trains and held.id in {models[a]["corpus_id"] for a in with_ancestors(models, i)}
        }


def test_code_and_packages_are_part_of_each_node(random_house: Callable[[int], Path]) -> None:
    """A recipe of two corpora has those of both; of a shard and its samples, the record of the shard says it."""
    place = random_house(1)
    recorded = place / "c" / "train" / "shard-000000.json"
    record = json.loads(recorded.read_bytes())
    record["environment"] = {"ssiforge": "0.0.9", "numpy": "1"}
    recorded.write_text(json.dumps(record))
    manifests = {read_manifest(place / name).id: read_manifest(place / name) for name in "abc"}
    for model_id in models_by_id(place):
        for node in lineage(model_id, up=True, down=False).graph.nodes.values():
            assert node.facts["code_version"]
            if node.kind == "sources":
                manifest = manifests[node.id.split("/")[1]]
                assert node.facts["packages_digest"] == digest(manifest.environment)
            if node.kind == "recipe":
                same = [one for one in manifests.values() if one.recipe_digest == node.id]
                digests = {digest(one.environment) for one in same}
                assert node.facts["packages_digest"] == ", ".join(sorted(digests))
    key = f"{read_manifest(place / 'c').id[:8]}-{record['samples'][0]['key']}"
    for reference in ("c/train/shard-000000.tar", key):
        answer = lineage(reference)
        assert answer.start.facts["code_version"] == "0.0.9"
        assert answer.start.facts["packages"] == record["environment"]
        assert answer.start.facts["packages_digest"] == digest(record["environment"])


def test_a_shard_that_two_versions_of_a_corpus_share_is_meant_by_its_place(
    house: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    for name in ("before", "after"):
        shutil.copytree(house / "a", name)
    manifest = read_manifest("after")
    other = corpus_id(manifest.recipe_digest, "1" * 32, manifest.seed, manifest.shards)
    changed = manifest.model_copy(update={"id": other, "catalogue_digest": "1" * 32})
    Path("after/corpus.json").write_text(changed.model_dump_json())
    shard = Path("after/train/shard-000000.tar")
    assert lineage(str(shard)).start.id == f"{other}/train/shard-000000.tar"
    digits = file_sha256(shard)[:12]
    with pytest.raises(UserError, match=r"2 corpora have this shard.*before/train"):
        lineage(digits)
    shutil.rmtree("before")
    assert lineage(digits).start.id == f"{other}/train/shard-000000.tar"


def test_index_table_and_tars_give_the_same_answers(house: Path) -> None:
    corpus = open_corpus(house / "a")
    index = open_index(corpus.store, corpus.manifest)
    assert index is not None
    ways = [index, TableUses(opened(corpus.store, SAMPLES_FILE)), TarUses(corpus)]
    held = sorted(ways[2].used.to_pylist())
    assert all(sorted(way.used.to_pylist()) == held for way in ways)
    for sha256 in (*held, "0" * 64):
        assert len({json.dumps(way.shards_with(sha256)) for way in ways}) == 1
    for some in (ways[2].used, ways[2].used[:2], ways[2].used[:0]):
        assert len({json.dumps(way.samples_with_any(some)) for way in ways}) == 1


def test_a_sample_that_says_less_than_generate_writes_is_named(
    house: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = open_corpus(house / "a")
    whole = Corpus.sample_json

    def without_its_split(*arguments: Any) -> dict[str, Any]:
        return {name: value for name, value in whole(*arguments).items() if name != "split"}

    monkeypatch.setattr(Corpus, "sample_json", without_its_split)
    with pytest.raises(UserError, match=r"\.tar: what it says of a sample is not what .*'split'"):
        TarUses(corpus).samples_with_any(TarUses(corpus).used)


def test_the_index_of_another_corpus_is_not_believed_and_its_bytes_are_always_the_same(
    house: Path, tmp_path: Path
) -> None:
    shutil.copytree(house / "b", tmp_path / "b")
    store, manifest = open_store(tmp_path / "b"), read_manifest(tmp_path / "b")
    shutil.copy(house / "a" / INDEX_FILE, tmp_path / "b" / INDEX_FILE)
    assert open_index(store, manifest) is None
    (tmp_path / "b" / INDEX_FILE).write_bytes(b"PAR1 damaged")
    assert open_index(store, manifest) is None
    write_index(store, manifest)
    first = (tmp_path / "b" / INDEX_FILE).read_bytes()
    write_index(store, manifest)
    assert open_index(store, manifest) is not None and (tmp_path / "b" / INDEX_FILE).read_bytes() == first


def test_a_run_that_was_copied_elsewhere_keeps_its_lineage(
    random_house: Callable[[int], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = random_house(1)
    stage_dir = next(place.glob(f"runs/*/*/{RUN_FILE}")).parent
    run = read_run(stage_dir)
    assert run is not None
    before = lineage(run.id)
    monkeypatch.chdir(tmp_path)
    shutil.move(place, tmp_path / "elsewhere")
    shutil.move(tmp_path / "elsewhere" / "a", tmp_path / "other place")
    after = lineage(run.id)
    assert set(after.graph.nodes) == set(before.graph.nodes)
    assert after.graph.edges.keys() == before.graph.edges.keys()
    model = read_info(tmp_path / "elsewhere" / stage_dir.relative_to(place) / "model")
    assert ids(lineage(str(tmp_path / "elsewhere" / stage_dir.relative_to(place))), "run") >= {run.id}
    assert model.id in ids(after, "model")


def test_names_of_strangers_break_no_tree_json_mermaid_or_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_bundle: Callable[..., Any]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    file, speaker = "<img src=x onerror=alert(1)>.wav", '"><script>'
    corpus = build_corpus(tmp_path / "corpus", {"train": 2}, 0.3, speech_file=file, speaker=speaker)
    make_bundle(tmp_path / "run" / "teacher" / "model", "teacher", corpus.manifest.id)
    for reference in (file, f"speaker:{speaker}"):
        answer = lineage(reference)
        assert len(answer.heard.models) == 1
        name = reference.removeprefix("speaker:")
        drawn = answer.mermaid()
        assert not any(mark in drawn for mark in ("<img", "<script", '"><'))
        read = Page()
        read.feed(page(answer))
        assert not {"img", "script", "iframe", "object", "form"} & read.tags
        assert not [attribute for attribute in read.attributes if attribute.startswith("on")]
        assert name in read.text  # as text, and nothing else
        console = Console(record=True, width=300, file=io.StringIO(), force_terminal=True)
        print_lineage(answer, console)
        assert name in console.export_text()
        assert json.loads(answer.json_text()) == json.loads(json.dumps(answer.json()))
        assert json.loads(answer.json_text())["start"] == answer.start.key
