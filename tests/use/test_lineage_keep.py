"""Lineage of runs that left samples out with `--keep`: they heard what was kept, and nothing else."""

import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tiny_corpora import build_corpus, file_hash

from manifests.corpus import Corpus, open_corpus
from pipelines.arrow_values import strings
from pipelines.corpus.lineage_index import IndexedUses, write_index
from pipelines.evaluation.evaluate import evaluate
from pipelines.executors import InProcess
from pipelines.generation.generate import generate
from pipelines.governance.promote_data import ancestry
from pipelines.governance.stale import who_heard
from pipelines.lineage.answer import Lineage, lineage
from pipelines.lineage.kept import KeptSamples
from pipelines.lineage.known_corpora import KnownCorpus
from pipelines.lineage.records import collect
from pipelines.lineage.selections import Selections, Sources
from pipelines.lineage.walk import PERHAPS
from pipelines.merging.merge import merge
from pipelines.models.folders import found_below
from pipelines.trainer.train import train
from training.bundle import read_info

CLEAN = "not 'noise' in stages"
SMALL = (
    "stages.teacher={steps: 2, batch_size: 1, segment_s: 0.3, validate_every: 2}",
    "validation={samples: 2, segment_s: 0.3, shown: 1}",
    "loader.threads=0",
    "records={checkpoint_every: 1, metrics_every: 1}",
)
HISS = {split: file_hash(f"{split} hiss 7.wav") for split in ("train", "val", "test")}
TALKER = {split: file_hash(f"{split} häger 7.wav") for split in ("train", "val", "test")}


def with_table(corpus: Corpus, last_first: bool = True) -> Corpus:
    """Write `samples.parquet` of a corpus made by hand, from its tars, the last sample first or in order."""
    rows = []
    for shard in corpus.shards:
        for entry in shard.samples:
            sample = corpus.sample_json(shard, entry)
            row = {name: sample[name] for name in ("key", "split", "speaker", "licences")}
            row |= {"shard": shard.tar_name, "stages": [stage["stage"] for stage in sample["stages"]]}
            rows.append(row | {"source_sha256": [source["sha256"] for source in sample["sources"]]})
    rows = rows[::-1] if last_first else rows
    pq.write_table(pa.Table.from_pylist(rows), corpus.store.root / "samples.parquet", row_group_size=4)
    return corpus


def models_of(answer: Lineage) -> list[str]:
    return [node.id for node in answer.heard.models]


def material(answer: Lineage) -> set[str]:
    """Hashes of all sources that an answer names as what something was made of."""
    nodes = [node for node in answer.graph.nodes.values() if node.kind == "sources"]
    return {row["sha256"] for node in nodes for row in node.facts["sources"]}


@pytest.mark.parametrize("way", ["index", "index of rows in another order", "table", "tars"])
def test_every_way_to_find_what_kept_samples_hold_finds_it(way: str, tmp_path: Path) -> None:
    corpus = build_corpus(tmp_path / "corpus", {"train": 130, "val": 66, "test": 3}, seconds=0.05)
    if way != "tars":
        with_table(corpus, last_first=way == "index of rows in another order")
    if way.startswith("index"):
        write_index(corpus.store, corpus.manifest)
    known = KnownCorpus(corpus.store, corpus.manifest)
    chance = random.Random(7)
    hashes = [*HISS.values(), *TALKER.values(), "0" * 64]
    for share in (0.5, 0.01, 1.0):
        numbers: dict[str, tuple[int, ...]] = {}
        held: dict[str, set[str]] = {}
        for shard in corpus.shards:
            chosen = tuple(n for n in range(len(shard.samples)) if chance.random() < share)
            numbers |= {shard.tar_name: chosen} if chosen else {}
            for number in chosen:
                sources = corpus.sample_json(shard, shard.samples[number])["sources"]
                held.setdefault(shard.split, set()).update(source["sha256"] for source in sources)
        kept = KeptSamples(known, numbers)
        assert kept.can_be_told
        assert {split: set(of.to_pylist()) for split, of in kept.sources.items() if len(of)} == held
        for sha256 in hashes:
            splits = {split for split, of in held.items() if sha256 in of}
            assert kept.splits_with_any(strings([sha256])) == splits
        assert kept.splits_with_any(strings(hashes)) == held.keys()
        assert kept.splits_with_any(strings(())) == frozenset()
    uses = known.uses
    assert (isinstance(uses, IndexedUses) and uses.knows_order) == (way == "index")
    assert not KeptSamples(known, {"train/shard-000000.tar": (0, 9999)}).can_be_told


@pytest.fixture
def corpus(store: Any, tmp_path: Path) -> Corpus:
    """In the folder of the store: a corpus of which every second sample has noise."""
    return with_table(build_corpus(Path("corpus").resolve(), {"train": 6, "val": 2, "test": 3}, seconds=0.6))


@pytest.fixture
def model(corpus: Corpus) -> str:
    """Id of a teacher that heard the samples without noise alone."""
    return train("tiny", corpus.store.root, "teacher", False, None, "cpu", SMALL, print, CLEAN)["teacher"].id


def test_a_model_heard_what_was_kept_and_nothing_else(corpus: Corpus, model: str) -> None:
    def check() -> None:
        for split in ("train", "val"):
            assert models_of(lineage(HISS[split])) == []
            assert models_of(lineage(TALKER[split])) == [model]
            assert who_heard([HISS[split]], (), (Path(),)) == []
            assert [heard.bundle_id for heard in who_heard([TALKER[split]], (), (Path(),))] == [model]
        assert models_of(lineage(TALKER["test"])) == []
        assert [node.id for node in lineage(TALKER["val"]).heard.only_validated] == [model]
        assert models_of(lineage("train-000000")) == models_of(lineage("val-000000")) == []
        assert models_of(lineage("train-000001")) == models_of(lineage("val-000001")) == [model]
        assert models_of(lineage("corpus/train/shard-000000.tar")) == [model]
        assert models_of(lineage("speaker:talker-train")) == [model]
        assert models_of(lineage("licence:CC0-1.0")) == []
        assert models_of(lineage("corpus")) == [model]
        assert material(lineage("runs/tiny")) == {TALKER["train"], TALKER["val"]}
        assert material(lineage("corpus")) == {*HISS.values(), *TALKER.values()}
        assert ancestry(model, ()).licences == ("CC-BY-4.0",)

    check()
    # Without the list of what was kept, it is selected anew.
    Path("runs/tiny/teacher/selection.json").unlink()
    check()
    # Without the run and without MLflow, the model says what was kept.
    shutil.move("runs/tiny/teacher/model", "model")
    shutil.rmtree("runs")
    Path("mlflow.db").unlink()
    assert models_of(lineage(HISS["train"])) == []
    assert models_of(lineage(TALKER["train"])) == [model]
    assert material(lineage("model")) == {TALKER["train"], TALKER["val"]}


@pytest.mark.parametrize("indexed", [True, False])
def test_samples_beyond_the_millionth_are_counted_on(indexed: bool, tmp_path: Path) -> None:
    """Their keys have a digit more, and come later in a shard."""
    corpus = build_corpus(tmp_path / "corpus", {"train": 1}, seconds=0.05)
    keys = [f"train-{number:06d}" for number in (999_998, 999_999, 1_000_000)]
    rows = {"key": keys, "shard": [corpus.shards[0].tar_name] * 3, "source_sha256": [["a"], ["b"], ["c"]]}
    pq.write_table(pa.table(rows), tmp_path / "corpus" / "samples.parquet")
    if indexed:
        write_index(corpus.store, corpus.manifest)
    kept = KeptSamples(KnownCorpus(corpus.store, corpus.manifest), {corpus.shards[0].tar_name: (0, 2)})
    assert set(kept.sources["train"].to_pylist()) == {"a", "c"}
    assert isinstance(kept.corpus.uses, IndexedUses) == indexed


@pytest.mark.parametrize("damage", [b"[0", b"{}", b"[1]", b'["0", 3]'])
def test_an_index_that_does_not_say_where_shards_begin_is_asked_for_the_rest_alone(
    damage: bytes, tmp_path: Path
) -> None:
    corpus = with_table(build_corpus(tmp_path / "corpus", {"train": 4}, seconds=0.05), last_first=False)
    write_index(corpus.store, corpus.manifest)
    path = tmp_path / "corpus" / "lineage.parquet"
    table = pq.read_table(path)
    metadata = dict(table.schema.metadata)
    assert metadata[b"ssiforge.first_rows"] == b"[0, 4]"
    pq.write_table(table.replace_schema_metadata(metadata | {b"ssiforge.first_rows": damage}), path)
    known = KnownCorpus(corpus.store, corpus.manifest)
    assert isinstance(known.uses, IndexedUses) and not known.uses.knows_order
    assert set(KeptSamples(known, {"train/shard-000000.tar": (1,)}).sources["train"].to_pylist()) == {
        TALKER["train"]
    }


def test_without_a_table_of_samples_the_tars_say_it(corpus: Corpus, model: str) -> None:
    (corpus.store.root / "samples.parquet").unlink()
    assert models_of(lineage(HISS["train"])) == []
    assert models_of(lineage(TALKER["train"])) == [model]
    assert material(lineage("runs/tiny")) == {TALKER["train"], TALKER["val"]}


def test_where_nobody_can_tell_any_more_it_may_have_been_heard(corpus: Corpus, model: str) -> None:
    Path("runs/tiny/teacher/selection.json").write_text("damaged")
    table = pq.read_table(corpus.store.root / "samples.parquet")
    stages = pa.array([["noise"]] * len(table))
    pq.write_table(
        table.set_column(table.column_names.index("stages"), "stages", stages),
        corpus.store.root / "samples.parquet",
    )
    for sha256 in (HISS["train"], TALKER["train"]):
        answer = lineage(sha256)
        assert models_of(answer) == [model]
        assert PERHAPS in {edge.relation for edge in answer.graph.edges}
    assert material(lineage("runs/tiny")) == {*HISS.values(), *TALKER.values()}
    assert ancestry(model, ()).licences == ("CC-BY-4.0", "CC0-1.0")


def test_a_shard_whose_record_is_gone_may_have_been_heard(corpus: Corpus, model: str) -> None:
    record = corpus.store.root / corpus.shards[0].record_name
    record.unlink()
    answer = lineage("train-000000")  # left out, but nobody can tell any more
    assert models_of(answer) == [model] and PERHAPS in {edge.relation for edge in answer.graph.edges}


def test_a_selection_says_nothing_of_fresh_samples_beside_its_corpus(corpus: Corpus, model: str) -> None:
    found = found_below([Path()])
    (run,) = collect(None, found).runs.values()
    known = Selections(found, {corpus.manifest.id: KnownCorpus(corpus.store, corpus.manifest)})
    asked = Sources(strings([HISS["train"]]))
    assert known.heard(run.facts, corpus.manifest.id, ["train"], asked) == (frozenset(), True)
    assert known.heard(run.facts, "f" * 32, ["train"], asked) == (frozenset(["train"]), True)
    assert known.kept(run.facts, "f" * 32) == ("", {})


def test_a_model_of_some_samples_of_a_merged_corpus(hostile: Path, store: Any) -> None:
    """Of every source, the answer is what the tars say."""
    recipe, sources = str(hostile.parent / "recipe.yaml"), hostile.parent / "sources.parquet"
    generate(recipe, sources, Path("second"), InProcess(), samples=8, seed=9)
    merge([str(hostile), "second"], "both")
    model = train("tiny", "both", "teacher", False, None, "cpu", SMALL, print, CLEAN)["teacher"].id
    kept: dict[str, set[str]] = {"train": set(), "val": set()}
    others: set[str] = set()
    licences: set[str] = set()
    for part_id, sample in samples_in("both"):
        heard = not any(stage["stage"] == "noise" for stage in sample["stages"]) and sample["split"] in kept
        of = kept[sample["split"]] if heard else others
        of |= {source["sha256"] for source in sample["sources"]}
        licences |= set(sample["licences"]) if heard else set()
        answer = lineage(f"{part_id[:8]}-{sample['key']}")
        assert models_of(answer) == [model] * heard
    assert kept["train"] and others - kept["train"] - kept["val"]
    for sha256 in sorted(others | kept["train"] | kept["val"]):
        answer = lineage(sha256)
        assert (models_of(answer) == [model]) == (sha256 in kept["train"] | kept["val"])
        assert bool(answer.heard.only_validated) == (sha256 in kept["val"] - kept["train"])
    assert material(lineage("runs/tiny")) == kept["train"] | kept["val"]
    assert set(ancestry(model, ()).licences) == licences


def samples_in(place: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Id of the part and JSON of every sample, from the tars of all parts."""
    for part in open_corpus(place).parts:
        for shard in part.corpus.shards:
            for entry in shard.samples:
                yield part.corpus.manifest.id, part.corpus.sample_json(shard, entry)


def test_an_evaluation_heard_what_it_kept(corpus: Corpus, model: str, heard_before: dict[bytes, Any]) -> None:
    evaluate(["runs/tiny"], Path("scores"), corpus.store.root, keep=CLEAN)
    assert read_info(Path("runs/tiny/teacher/model")).id == model

    def scored_with(sha256: str) -> list[str]:
        answer = lineage(sha256)
        return [node.kind for node in answer.graph.nodes.values() if node.kind == "evaluation"]

    assert scored_with(TALKER["test"]) == ["evaluation"]
    assert scored_with(HISS["test"]) == []
