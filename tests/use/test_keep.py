"""`--keep`: an expression selects samples, says what it cannot read, and a run sticks to what was selected."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tiny_corpora import build_corpus

from manifests.corpus import Corpus, open_corpus
from manifests.errors import UserError
from manifests.selection import read_selection
from pipelines.evaluation.evaluate import evaluate
from pipelines.scoring.columns import available
from pipelines.scoring.shard_scores import MetricScores, ShardScores
from pipelines.scoring.table import MetricInfo, ScoresInfo, write_scores
from pipelines.selection.evaluation import kept_rows, values_of
from pipelines.selection.grammar import columns_of, parse
from pipelines.selection.selecting import select
from pipelines.trainer.mlflow_tracker import read_link
from pipelines.trainer.train import train
from training.bundle import read_info
from training.shards import Reader
from training.stream import SampleStream

ROWS = pa.table(
    {
        "snr": [-5.0, 0.0, 5.0, None, float("nan")],
        "count": [1, 2, 3, 4, None],
        "a.b-c#2": [1.0, 2.0, 3.0, 4.0, 5.0],
        "name": ["x", "it's", None, "y", "x"],
        "good": [True, False, True, None, True],
        "stages": [["noise", "codec"], ["noise"], [], None, ["room"]],
        "empty": pa.nulls(5),
    }
)


def rows(text: str) -> list[int]:
    """Numbers of the rows of `ROWS` that an expression keeps."""
    condition = parse(text)
    columns = {column.name: values_of(ROWS[column.name]) for column in columns_of(condition)}
    return kept_rows(condition, columns, text).nonzero()[0].tolist()


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("snr < 0", [0]),
        ("snr <= 0 or snr > 4.5", [0, 1, 2]),
        ("0 < snr", [2]),
        ("snr != 0", [0, 2]),
        ("not snr < 0", [1, 2, 3, 4]),
        ("snr is null", [3, 4]),
        ("snr is not null and count > 1", [1, 2]),
        ("count == snr", []),
        ("a.b-c#2 > count", []),
        ("`a.b-c#2` >= 4e0", [3, 4]),
        ("name == 'x'", [0, 4]),
        ('name == "it\'s"', [1]),
        ("name in ('x', 'y')", [0, 3, 4]),
        ("name not in ('x', 'y')", [1]),
        ("good", [0, 2, 4]),
        ("not good", [1, 3]),
        ("good == false", [1]),
        ("'noise' in stages", [0, 1]),
        ("'noise' not in stages", [2, 4]),
        ("empty < 1", []),
        ("empty is null and count < 3", [0, 1]),
        ("snr < 0 or snr > 0 and count == 1", [0]),
        ("(snr < 0 or snr > 0) and count == 3", [2]),
        ("not (good or count == 2)", [3]),
        ("count in (-1, +2, .3e1)", [1, 2]),
    ],
)
def test_an_expression_keeps_these_rows(text: str, kept: list[int]) -> None:
    assert rows(text) == kept


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "expected a column or a value, not the end at its end"),
        ("snr <", "not the end at its end"),
        ("snr < 1 snr", "expected 'and', 'or' or the end, not 'snr' at character 9"),
        ("snr = 1", "cannot read '= 1' at character 5"),
        ("(snr < 1", "expected ')'"),
        ("1 < 2", "needs a column"),
        ("snr in count", "expected '('"),
        ("snr in (count)", "expected a number or a 'string' at character 9"),
        ("'x' in ('x', 'y')", "expected the name of a column at character 1"),
        ("snr is 3", "expected 'null', not '3' at character 8"),
        ("__import__('os').system('x')", "cannot read '.system('x' at character 17"),
        ("snr < 'a'", "snr is a number and 'a' is a string"),
        ("name > 3", "name is a string and 3 is a number"),
        ("good < true", "neither larger nor smaller"),
        ("stages == 'noise'", "stages holds lists"),
        ("'x' in name", "name holds no lists"),
        ("3 in stages", "stages holds strings"),
        ("snr", "snr is a number: compare it with something"),
        ("(" * 200 + "good" + ")" * 200, "more than 100"),
    ],
)
def test_what_cannot_be_read_is_one_sentence_with_its_place(text: str, said: str) -> None:
    with pytest.raises(UserError) as refused:
        rows(text)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


# --- on a corpus ----------------------------------------------------------------------------------

OVRL = {"train": (1.0, 3.0, 2.0, None, 1.5, 2.7), "val": (1.2, 2.8), "test": (2.9, 1.1, 2.2)}


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    """A corpus with both tables: `measured.snr_db` is the sample's number, scores are those of `OVRL`."""
    corpus = build_corpus(tmp_path / "corpus", {s: len(v) for s, v in OVRL.items()}, seconds=0.6)
    entries = [(shard, entry) for shard in corpus.shards for entry in shard.samples]
    table = {
        "key": [entry.key for _, entry in entries],
        "split": [shard.split for shard, _ in entries],
        "shard": [shard.tar_name for shard, _ in entries],
        "measured.snr_db": [float(entry.index) for _, entry in entries],
        "stages": [["noise"] if entry.index % 2 == 0 else [] for _, entry in entries],
    }
    # The tables may be in any order: rows are found by shard and key.
    pq.write_table(
        pa.table(table).take(list(range(len(entries)))[::-1]), corpus.store.root / "samples.parquet"
    )
    write_ovrl(corpus, OVRL)
    return corpus


def write_ovrl(corpus: Corpus, ovrl: dict[str, tuple[float | None, ...]], corpus_id: str = "") -> None:
    """Write a table of scores in which DNSMOS found these."""
    dnsmos = available()["dnsmos"]
    shards = []
    for record in corpus.shards:
        values = ovrl[record.split]
        failures = {e.key: "silent" for e, value in zip(record.samples, values, strict=True) if value is None}
        columns = dict.fromkeys(dnsmos.columns, values)
        metric = MetricScores(identity=dnsmos.identity, columns=columns, failures=failures)
        shards.append(
            (record, ShardScores(shard=record.tar_name, sha256=record.sha256, metrics={"dnsmos": metric}))
        )
    info = MetricInfo(columns=dnsmos.columns, identity=dnsmos.identity)
    write_scores(
        corpus.store, ScoresInfo(corpus_id=corpus_id or corpus.manifest.id, metrics={"dnsmos": info}), shards
    )


def test_columns_of_both_tables_select_samples_by_their_place(corpus: Corpus) -> None:
    kept = select(corpus, "dnsmos_ovrl < 2.5 and measured.snr_db > 0").kept
    assert kept == {"train/shard-000000.tar": (2, 4), "test/shard-000000.tar": (1, 2)}
    assert select(corpus, "dnsmos_ovrl is null").kept == {"train/shard-000000.tar": (3,)}
    assert select(corpus, "split == 'val'", ("train", "val")).kept == {"val/shard-000000.tar": (0, 1)}


def test_unknown_and_unmeasured_scores_are_named_with_what_to_do(corpus: Corpus) -> None:
    with pytest.raises(UserError, match=r"no column dnsmos_ovr \(did you mean 'dnsmos_ovrl'\?\)"):
        select(corpus, "dnsmos_ovr < 2")
    with pytest.raises(UserError, match="estoi is not scored yet, run 'ssiforge score .* --metrics estoi'"):
        select(corpus, "estoi < 0.5")
    write_ovrl(corpus, OVRL, corpus_id="1" * 32)
    with pytest.raises(UserError, match=f"scores of corpus {'1' * 32}, and this is {corpus.manifest.id}"):
        select(corpus, "dnsmos_ovrl < 2")
    assert select(corpus, "measured.snr_db < 1").record.samples == {"train": 1, "val": 1, "test": 1}


def test_a_sample_that_was_never_measured_is_no_null(corpus: Corpus) -> None:
    path = corpus.store.root / "scores.parquet"
    table = pq.read_table(path)
    pq.write_table(table.filter(pa.compute.not_equal(table["split"], "val")), path)
    with pytest.raises(UserError, match="2 samples of the val split have no dnsmos_ovrl yet"):
        select(corpus, "dnsmos_ovrl < 2", ("train", "val"))
    assert select(corpus, "dnsmos_ovrl < 2", ("train",)).record.samples == {"train": 2}


def test_a_selection_survives_its_file_and_a_changed_file_is_refused(corpus: Corpus, tmp_path: Path) -> None:
    selection = select(corpus, "dnsmos_ovrl < 2.5")
    path = tmp_path / "selection.json"
    path.write_bytes(selection.written())
    assert read_selection(path) == selection and read_selection(path).digest == selection.digest
    path.write_bytes(selection.written().replace(b"[0,2,4]", b"[0,2,5]"))
    with pytest.raises(UserError, match="changed since"):
        read_selection(path)
    with pytest.raises(UserError, match="keeps none of the 2 samples of the val split"):
        select(corpus, "split == 'train'").check(corpus, ("train", "val"))


def test_a_stream_serves_the_selected_samples_alone_and_each_once_an_epoch(corpus: Corpus) -> None:
    selection = select(corpus, "dnsmos_ovrl < 2.5")
    with SampleStream(Reader(corpus, "train", selection), 0, 3, 0.3) as stream:
        epochs = [sorted(next(stream).keys) for _ in range(2)]
        state = stream.state
        following = [next(stream).keys for _ in range(3)]
    assert epochs == [["train-000000", "train-000002", "train-000004"]] * 2
    with SampleStream(Reader(corpus, "train", selection), 0, 3, 0.3) as again:
        again.restore(state)
        assert [next(again).keys for _ in range(3)] == following


SMALL = (
    "stages.teacher={steps: 2, batch_size: 1, segment_s: 0.3, validate_every: 2}",
    "validation={samples: 2, segment_s: 0.3, shown: 1}",
    "loader.threads=0",
    "records={checkpoint_every: 1, metrics_every: 1}",
)


def test_a_run_records_its_selection_and_goes_on_with_no_other(store: Any, corpus: Corpus) -> None:
    said: list[str] = []
    where, keep = corpus.store.root, "dnsmos_ovrl < 2.5"

    def run(*, keep: str | None, resume: bool = True) -> None:
        train("tiny", where, "teacher", resume, None, "cpu", SMALL, said.append, keep)

    run(keep=keep, resume=False)
    assert any("3 of 6 train, 1 of 2 val" in line for line in said)
    stage = Path("runs/tiny/teacher")
    selection = select(corpus, keep, ("train", "val"))
    assert read_selection(stage / "selection.json") == selection
    assert read_info(stage / "model").selection == selection.record
    tags = store.get_run(read_link(stage)["run_id"]).data.tags
    assert (tags["ssiforge.keep"], tags["ssiforge.selection"]) == (keep, selection.digest)
    started = json.loads((stage / "events.jsonl").read_text().splitlines()[0])
    assert started["selection"]["digest"] == selection.digest

    run(keep=keep)
    for other, named in (
        ("dnsmos_ovrl < 2.6", 'this run is with --keep "dnsmos_ovrl < 2.6"'),
        (None, "without"),
    ):
        with pytest.raises(UserError, match=named):
            run(keep=other)
    write_ovrl(corpus, OVRL | {"train": (1.0, 3.0, 2.1, None, 1.5, 2.7)})
    with pytest.raises(UserError, match="scores changed since"):
        run(keep=keep)


def test_an_interrupted_stage_and_a_finished_one_know_their_selection_by_themselves(
    corpus: Corpus, tmp_path: Path
) -> None:
    from manifests.experiment import load_experiment
    from training.run import train as train_stages

    experiment = load_experiment("tiny", SMALL)
    one, other = (select(corpus, f"dnsmos_ovrl < {limit}", ("train", "val")) for limit in (2.5, 2.75))
    place, out = corpus.store.root, tmp_path / "run"
    first = train_stages(experiment, place, out, ["teacher"], device="cpu", selection=one)
    with pytest.raises(UserError, match="another selection of its samples"):
        train_stages(experiment, place, out, ["teacher"], resume=True, device="cpu", selection=other)
    (out / "teacher" / "model" / "model.json").unlink()
    for wrong in (other, None):
        with pytest.raises(UserError, match=r"another selection of samples \(--keep\)"):
            train_stages(experiment, place, out, ["teacher"], resume=True, device="cpu", selection=wrong)
    again = train_stages(experiment, place, out, ["teacher"], resume=True, device="cpu", selection=one)
    assert again["teacher"].id == first["teacher"].id
    whole = train_stages(experiment, place, tmp_path / "whole", ["teacher"], device="cpu")
    assert whole["teacher"].id != first["teacher"].id and whole["teacher"].selection is None


def test_a_bare_run_takes_a_selection_from_its_file(corpus: Corpus, tmp_path: Path, ssiforge: Any) -> None:
    from training.__main__ import main

    place, out = corpus.store.root, tmp_path / "selection.json"
    code, printed, _ = ssiforge("score", place, "--keep", "dnsmos_ovrl < 2.5", "--out", out)
    assert code == 0 and "train 3 of 6 samples (50.0%)" in printed
    settings = [part for setting in SMALL for part in ("--set", setting)]
    command = ["tiny", "--corpus", str(place), "--stage", "teacher", "--device", "cpu", *settings]
    assert main([*command, "--out", str(tmp_path / "run"), "--selection", str(out)]) == 0
    assert read_info(tmp_path / "run" / "teacher" / "model").selection == read_selection(out).record


def test_an_evaluation_leaves_out_what_is_not_selected_and_says_so(
    store: Any, corpus: Corpus, tmp_path: Path, make_bundle: Any
) -> None:
    make_bundle(tmp_path / "bundle")
    said: list[str] = []
    options = {"corpus": corpus.store.root, "say": said.append}
    found = evaluate([str(tmp_path / "bundle")], tmp_path / "out", keep="dnsmos_ovrl < 2.5", **options)
    assert {row.key for row in found.rows} == {"test-000001", "test-000002"}
    assert found.result["samples"] == 2 and found.result["unreadable"] == 0
    assert found.result["selection"]["samples"] == {"test": 2}
    assert "2 of 3 test" in said[0]
    with pytest.raises(UserError, match="needs --corpus"):
        evaluate([str(tmp_path / "bundle")], tmp_path / "out", input_dir=tmp_path, keep="x < 1")
    assert open_corpus(corpus.store.root) == corpus
