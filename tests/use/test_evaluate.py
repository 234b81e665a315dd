"""An evaluation: the same numbers each time, failures beside means, and a record in MLflow tied to its inputs."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
from tiny_corpora import RATE_HZ, build_corpus, noise, voice

from manifests.corpus import Corpus
from manifests.errors import JobError, UserError
from pipelines.conditions import conditions_of
from pipelines.evaluate import evaluate
from pipelines.evaluation_table import print_evaluation
from pipelines.metrics import si_sdr_db
from pipelines.scores import Sample, columns, score
from pipelines.summary import summarised


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory, make_bundle: Callable[..., Any]) -> list[str]:
    root = tmp_path_factory.mktemp("models")
    for stage in ("teacher", "denoiser"):
        make_bundle(root / stage / "model", stage)
    return [str(root / "teacher"), str(root / "denoiser" / "model")]


def test_evaluation_repeats_to_the_byte_and_is_broken_down(
    store: Any, corpus: Corpus, models: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = evaluate(models, tmp_path / "a", corpus=corpus.store.root)
    np.random.standard_normal(100)
    evaluate(models, tmp_path / "b", corpus=corpus.store.root)
    for name in ("evaluation.json", "samples.csv", "samples.parquet"):
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
    assert len(rows) == 4 * 3
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
    from pipelines.registry import log_model
    from pipelines.tracking import experiment_id

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


def test_recordings_without_references_get_dnsmos_alone(
    store: Any, models: list[str], tmp_path: Path
) -> None:
    folder = tmp_path / "recordings" / "a b"
    folder.mkdir(parents=True)
    soundfile.write(folder / "stereo.flac", np.stack([voice(1, 1.0), voice(2, 1.0)], 1)[::3], RATE_HZ // 3)
    (folder / "broken.wav").write_text("text")
    said: list[str] = []
    found = evaluate(models[:1], tmp_path / "out", input_dir=tmp_path / "recordings", say=said.append)
    assert [row.key for row in found.rows] == ["a b/stereo.flac"] * 2
    assert [column.name for column in found.columns] == [
        "dnsmos_ovrl",
        "dnsmos_sig",
        "dnsmos_bak",
        "dnsmos_p808",
    ]
    assert found.result["unreadable"] == 1 and "broken.wav" in said[0]


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
