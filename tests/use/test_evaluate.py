"""An evaluation: the same numbers each time, failures beside means, and a record in MLflow tied to its inputs."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
from sigmos_network import write_network
from tiny_corpora import RATE_HZ, build_corpus, noise, voice

from datagen.audio import resampled
from manifests.canonical import file_sha256
from manifests.corpus import Corpus
from manifests.errors import JobError, UserError
from pipelines.evaluation.evaluate import evaluate
from pipelines.evaluation.table import print_evaluation
from pipelines.quality.conditions import conditions_of
from pipelines.quality.metrics import si_sdr_db
from pipelines.quality.scores import Row, Sample, columns, score
from pipelines.quality.scoring import scored
from pipelines.quality.summary import by_condition, summarised


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory, make_bundle: Callable[..., Any]) -> list[str]:
    root = tmp_path_factory.mktemp("models")
    for stage in ("teacher", "denoiser"):
        make_bundle(root / stage / "model", stage)
    return [str(root / "teacher"), str(root / "denoiser" / "model")]


def test_evaluation_repeats_to_the_byte_and_is_broken_down(
    store: Any,
    corpus: Corpus,
    models: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    heard_before: dict[bytes, Any],
) -> None:
    first = evaluate(models, tmp_path / "a", corpus=corpus.store.root)
    heard_before.clear()
    np.random.standard_normal(100)
    evaluate(models, tmp_path / "b", corpus=corpus.store.root)
    for name in ("evaluation.json", "samples.csv", "samples.parquet", "summary.csv", "comparison.csv"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    result = json.loads((tmp_path / "a" / "evaluation.json").read_text())
    assert list(result["summary"]) == ["degraded", "teacher", "denoiser"]
    assert {name: entry["degraded"]["samples"] for name, entry in result["by_condition"].items()} == {
        "SNR 10 to 20 dB": 2,
        "codec opus": 2,
        "no degradation": 1,
        "stage noise": 2,
        "stage opus": 2,
    }
    rows = pq.read_table(tmp_path / "a" / "samples.parquet").to_pylist()
    assert len(rows) == 4 * 3 and {row["speaker"] for row in rows} == {"talker-test"}
    assert result["summary"]["teacher"]["unit"] == "sample" and result["summary"]["teacher"]["small"]
    assert any("with fewer than 8 speakers (1)" in note for note in result["notes"])
    noisy = result["by_condition"]["stage noise"]["degraded"]["si_sdr_db"]["mean"]
    values = [r["si_sdr_db"] for r in rows if r["system"] == "degraded" and "stage noise" in r["conditions"]]
    assert noisy == pytest.approx(sum(values) / 2, abs=1e-6)
    print_evaluation(first)
    printed = capsys.readouterr().out
    for words in ("DNSMOS", "OVRL↑", "SI-SDR↑", "level→0", "no degradation", "denoiser", "[1]"):
        assert words in printed
    assert max(len(line) for line in printed.splitlines()) <= 120


def test_scores_are_those_of_the_samples_in_the_shards(
    store: Any, corpus: Corpus, models: list[str], tmp_path: Path
) -> None:
    found = evaluate(models[:1], tmp_path / "out", corpus=corpus.store.root, limit=2)
    row = next(r for r in found.rows if r.key == "test-000000" and r.system == "degraded")
    clean = voice(7000, 1.2)
    expected = si_sdr_db(clean, np.float32(0.9) * (clean + noise(7000, 1.2, 0.01)))
    assert row.scores["si_sdr_db"] == pytest.approx(expected, abs=0.02)  # the shard holds 16 bits
    assert {r.key for r in found.rows} == {"test-000000", "test-000001"}


def test_evaluation_is_an_mlflow_run_tied_to_model_and_corpus(
    store: Any, corpus: Corpus, tmp_path: Path, make_bundle: Callable[..., Any]
) -> None:
    from pipelines.tracking.registry import log_model
    from pipelines.tracking.store import experiment_id

    info = make_bundle(tmp_path / "bundle", "student", seed=5)
    run = store.create_run(experiment_id(store, "tiny"))
    model_id = log_model(store, run.info.run_id, tmp_path / "bundle", info)
    evaluate([run.info.run_id], tmp_path / "out", corpus=corpus.store.root, limit=1)
    (found,) = store.search_runs([run.info.experiment_id], "tags.`ssiforge.job` = 'evaluate'")
    logged = store.get_run(found.info.run_id)  # a search leaves model inputs out
    assert [used.model_id for used in logged.inputs.model_inputs] == [model_id]
    assert [used.dataset.digest for used in logged.inputs.dataset_inputs] == [corpus.manifest.id]
    assert logged.info.status == "FINISHED"
    assert "enhanced/dnsmos_ovrl" in logged.data.metrics and "degraded/si_sdr_db" in logged.data.metrics
    tied = {m.key for m in store.get_logged_model(model_id).metrics}
    assert "enhanced/si_sdr_db" in tied and "degraded/si_sdr_db" not in tied


def test_failures_stand_beside_the_mean_and_are_not_in_it() -> None:
    clean = voice(1, 1.2)
    rows = [
        score(Sample("a", clean, clean), "degraded", np.float32(0.5) * clean),
        score(Sample("b", clean, clean), "degraded", np.zeros_like(clean)),
    ]
    entry = summarised(rows, columns(with_reference=True))["degraded"]
    assert entry["samples"] == 2
    assert entry["level_error_db"] == {
        "mean": pytest.approx(-6.0206, abs=1e-3),
        "mean_absolute": pytest.approx(6.0206, abs=1e-3),
        "low": None,  # one sample says nothing of others
        "high": None,
        "n": 1,
        "failures": 1,
    }
    assert entry["dnsmos_ovrl"]["failures"] == 1
    assert rows[1].failures["estoi"] == "silent"


def test_recordings_without_references_are_predicted_and_described_before_and_after(
    store: Any, models: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "recordings" / "a b"
    folder.mkdir(parents=True)
    quiet = np.float32(0.1) * voice(1, 1.0)  # at -46 dBFS
    soundfile.write(folder / "stereo.flac", resampled(np.stack([quiet, quiet], 1), RATE_HZ, 16_000), 16_000)
    (folder / "broken.wav").write_text("text")
    soundfile.write(folder / "cut.wav", quiet, RATE_HZ)
    (folder / "cut.wav").write_bytes((folder / "cut.wav").read_bytes()[:-9_000])
    soundfile.write(folder / "nan.wav", np.full(9_000, np.nan), RATE_HZ, subtype="FLOAT")
    soundfile.write(folder / "nothing.wav", np.zeros(0), RATE_HZ)
    said: list[str] = []
    found = evaluate(models[:1], tmp_path / "out", input_dir=tmp_path / "recordings", say=said.append)
    assert [row.key for row in found.rows] == ["a b/stereo.flac"] * 2
    predicted = ["dnsmos_ovrl", "dnsmos_sig", "dnsmos_bak", "dnsmos_p808"]
    described = ["level_dbfs", "bandwidth_khz", "noise_floor_dbfs"]
    assert [column.name for column in found.columns] == predicted + described
    before, after = (row.scores for row in found.rows)
    assert before["level_dbfs"] == pytest.approx(-46.0, abs=0.5)
    assert before["bandwidth_khz"] == pytest.approx(8.0, rel=0.06)
    assert all(after[name] is not None for name in described)
    assert found.result["unreadable"] == 4 and "broken.wav" in said[0]
    assert "nan.wav: contains NaN or infinity" in said[2] and "nothing.wav: holds no audio" in said[3]
    assert "cut.wav: truncated: 87000 of 96000 bytes of audio" in said[1]
    notes = " ".join(found.result["notes"])
    for words in ("no references", "1 recording of another rate", "1 recording of several channels"):
        assert words in notes
    assert found.result["comparisons"][0]["scores"].keys() == set(predicted)
    print_evaluation(found)
    printed = capsys.readouterr().out
    assert "by file" in printed and "a b/stereo.flac" in printed and "band kHz" in printed


@pytest.mark.faults
def test_processes_score_as_this_one_does_with_sigmos_too(
    store: Any, corpus: Corpus, models: list[str], tmp_path: Path
) -> None:
    network = write_network(tmp_path / "sigmos.onnx")
    for name, workers in (("one", 0), ("two", 2)):
        evaluate(
            models[:1],
            tmp_path / name,
            corpus.store.root,
            workers=workers,
            sigmos=network,
            say=print,
            limit=3,
        )
    for name in ("evaluation.json", "samples.csv", "samples.parquet", "summary.csv", "comparison.csv"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    result = json.loads((tmp_path / "two" / "evaluation.json").read_text())
    assert result["networks"]["sigmos"] == file_sha256(network)
    assert result["summary"]["teacher"]["sigmos_reverb"]["n"] == 3


class Deadly:
    """Ends the process that receives it."""

    def __reduce__(self) -> Any:
        return os._exit, (1,)


def test_a_scoring_process_that_dies_ends_the_job_with_a_sentence() -> None:
    sample = Sample("a", voice(1, 1.0), None)
    with pytest.raises(JobError, match="a process died while scoring"):
        list(scored([(sample, {"b": Deadly()})], None, 1))  # type: ignore[dict-item]


def test_two_models_are_compared_with_each_other_and_with_the_input(
    store: Any, corpus: Corpus, models: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = evaluate(models, tmp_path / "out", corpus=corpus.store.root, limit=3)
    pairs = {(pair["system"], pair["with"]): pair["scores"] for pair in found.result["comparisons"]}
    assert list(pairs) == [("teacher", "degraded"), ("denoiser", "degraded"), ("denoiser", "teacher")]
    by_system = {
        system: np.array([row.scores["lsd_db"] for row in found.rows if row.system == system])
        for system in ("teacher", "denoiser")
    }
    gap = by_system["denoiser"] - by_system["teacher"]
    entry = pairs["denoiser", "teacher"]["lsd_db"]
    assert entry["mean"] == pytest.approx(gap.mean(), abs=1e-5)
    assert entry["better"] == pytest.approx((gap < 0).mean(), abs=1e-6)
    print_evaluation(found)
    assert "denoiser compared with teacher" in capsys.readouterr().out
    logged = [store.get_run(run.info.run_id) for run in store.search_runs([_experiment(store)])]
    metrics = next(run.data.metrics for run in logged if run.data.tags["ssiforge.stage"] == "denoiser")
    assert metrics["minus_teacher/lsd_db"] == entry["mean"]
    assert metrics["minus_teacher/lsd_db_low"] == entry["low"] <= entry["high"]
    assert metrics["enhanced/lsd_db_low"] <= metrics["enhanced/lsd_db"] <= metrics["enhanced/lsd_db_high"]


def _experiment(store: Any) -> str:
    return str(store.get_experiment_by_name("tiny").experiment_id)


def test_samples_that_training_looks_at_are_marked(
    store: Any, corpus: Corpus, models: list[str], tmp_path: Path
) -> None:
    found = evaluate(models[:1], tmp_path / "out", corpus=corpus.store.root, split="val", limit=1)
    assert any("val split: training looks at them" in note for note in found.result["notes"])


def test_a_damaged_sample_is_said_and_counted(store: Any, models: list[str], tmp_path: Path) -> None:
    corpus = build_corpus(tmp_path / "corpus", {"train": 0, "val": 0, "test": 2}, seconds=1.2)
    (shard,) = corpus.of("test")
    tar = bytearray((corpus.store.root / shard.tar_name).read_bytes())
    member = shard.samples[0].members["degraded.flac"]
    tar[member.offset : member.offset + 64] = bytes(64)
    (corpus.store.root / shard.tar_name).write_bytes(tar)
    said: list[str] = []
    found = evaluate(models[:1], tmp_path / "out", corpus=corpus.store.root, say=said.append)
    assert found.result["samples"] == 1 and found.result["unreadable"] == 1
    assert "test-000000" in said[0] and any("could not be read" in note for note in found.result["notes"])
    shutil.copytree(corpus.store.root, tmp_path / "worse")
    start = shard.samples[1].members["target.flac"].offset
    tar[start : start + 64] = bytes(64)
    (tmp_path / "worse" / shard.tar_name).write_bytes(tar)
    with pytest.raises(JobError, match="none of the 2 samples"):
        evaluate(models[:1], tmp_path / "out", corpus=tmp_path / "worse", say=said.append)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"split": "dev"}, "train, val, test"),
        ({"input_dir": Path("x")}, "not both"),
        ({"corpus": None}, "either"),
        ({"corpus": Path("nowhere")}, "not a finished corpus"),
    ],
)
def test_mistakes_are_named(
    store: Any, corpus: Corpus, models: list[str], tmp_path: Path, options: Any, says: str
) -> None:
    with pytest.raises(UserError, match=says):
        evaluate(models, tmp_path / "out", **({"corpus": corpus.store.root} | options))
    assert not (tmp_path / "out").exists()


def test_conditions_name_stages_once_and_put_values_in_their_ranges() -> None:
    stages = [
        {"stage": "noise", "values": {}},
        {"stage": "codec", "values": {"codec": "mp3"}},
        {"stage": "codec", "values": {"codec": "opus"}},
        {"stage": "tandem", "values": {"first_codec": "gsm", "second_codec": "opus"}},
    ]
    sample = {"stages": stages, "measured": {"snr_db": -1.0, "rt60_s": 0.6}, "aligned": False}
    assert conditions_of(sample) == [
        "stage codec",
        "stage noise",
        "stage tandem",
        "SNR < 0 dB",
        "RT60 >= 0.6 s",
        "codec gsm",
        "codec mp3",
        "codec opus",
        "moved in time",
    ]
    assert conditions_of({"stages": [], "measured": {}, "aligned": True}) == ["no degradation"]


def test_conditions_that_are_ranges_are_read_from_low_to_high() -> None:
    def conditions(snr_db: float, rt60_s: float) -> list[str]:
        measured = {"snr_db": snr_db, "rt60_s": rt60_s}
        return conditions_of(
            {"stages": [{"stage": "noise", "values": {}}], "measured": measured, "aligned": True}
        )

    values = zip((25.0, -3.0, 12.0, 5.0), (0.7, 0.4, 0.1, 0.1), strict=True)
    names = {name for value in values for name in conditions(*value)}
    rows = [Row("k", "degraded", (name,), {}) for name in sorted(names | {"codec opus"})]
    assert list(by_condition(rows, ())) == [
        *(f"SNR {span} dB" for span in ("< 0", "0 to 10", "10 to 20", ">= 20")),
        *(f"RT60 {span} s" for span in ("< 0.3", "0.3 to 0.6", ">= 0.6")),
        "codec opus",
        "stage noise",
    ]
