"""Scores of a corpus: the same whoever computes them, whatever interrupted them, and no part of what they score."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from tiny_corpora import build_corpus

import pipelines.scoring.columns
from datagen.audio import decode_flac
from manifests.corpus import open_corpus
from manifests.errors import JobError, JobInterrupted, UserError
from manifests.store import open_store
from pipelines.executors import InProcess
from pipelines.generation.generate import generate
from pipelines.openlineage.log import LINEAGE_FILE
from pipelines.quality.dnsmos import dnsmos, model_hashes
from pipelines.scoring.runners import Scored, Stopping, on_processes, on_ray_data
from pipelines.scoring.score import score
from pipelines.scoring.worker import ScoreJob, ScoreTask
from pipelines.verify import verify

QUICK = ("si_sdr_db", "level_error_db")
SECONDS = 0.6
"""DNSMOS repeats a clip until it fills 9.01 s: 0.6 s become one window, 1 s would become seven."""
SHARDS = {"train/shard-000000.tar", "val/shard-000000.tar", "test/shard-000000.tar"}


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three shards, 6 samples."""
    root = tmp_path_factory.mktemp("pristine") / "räume"
    build_corpus(root, {"train": 3, "val": 1, "test": 2}, seconds=SECONDS)
    return root


@pytest.fixture
def place(pristine: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(pristine, tmp_path / "corpus"))


class Watched:
    """Scores in this process; remembers what it was asked for, and stops or breaks when told to."""

    def __init__(self, stop_after: int | None = None, killed_after: int | None = None) -> None:
        self.asked: list[tuple[str, tuple[str, ...]]] = []
        self._stop_after, self._killed_after = stop_after, killed_after

    def __call__(self, job: ScoreJob, tasks: Sequence[ScoreTask], stopping: Stopping) -> Iterator[Scored]:
        for number, task in enumerate(tasks):
            if number == self._stop_after:
                return
            if number == self._killed_after:
                raise MemoryError
            self.asked.append((task.tar_name, task.metrics))
            yield from on_processes(0)(job, [task], stopping)


def rows(place: Path) -> dict[str, dict[str, Any]]:
    return {row["key"]: row for row in pq.read_table(place / "scores.parquet").to_pylist()}


def metadata(place: Path) -> dict[str, Any]:
    return json.loads(pq.read_schema(place / "scores.parquet").metadata[b"ssiforge"])


# --- what is in the table -------------------------------------------------------------------------


def test_scores_are_those_of_the_audio_in_the_shards(place: Path) -> None:
    done = score(place, on_processes(0), ("dnsmos", "target_dnsmos", "si_sdr_db"))
    corpus = open_corpus(place)
    found = rows(place)
    assert list(found) == [entry.key for shard in corpus.shards for entry in shard.samples]
    shard = corpus.of("test")[0]
    entry = shard.samples[0]
    degraded, target = (
        decode_flac(corpus.read(shard, entry.members[f"{name}.flac"])) for name in ("degraded", "target")
    )
    row = found[entry.key]
    assert (row["split"], row["shard"], row["shard_sha256"]) == ("test", shard.tar_name, shard.sha256)
    assert row["failures"] == []
    for prefix, audio in (("dnsmos", degraded), ("target_dnsmos", target)):
        expected = dnsmos(audio)
        for name in ("ovrl", "sig", "bak", "p808"):
            assert row[f"{prefix}_{name}"] == pytest.approx(getattr(expected, name), abs=1e-6)
    assert done.columns["dnsmos_ovrl"][1] == pytest.approx(
        np.median([row["dnsmos_ovrl"] for row in found.values()])
    )


def test_the_table_names_its_corpus_and_what_measured_it(place: Path) -> None:
    score(place, on_processes(0), ("dnsmos", "lsd_db", "estoi"), "val")
    said = metadata(place)
    assert said["corpus_id"] == open_corpus(place).manifest.id
    assert said["metrics"]["dnsmos"]["identity"]["models"] == model_hashes()
    assert all(len(sha256) == 64 for sha256 in model_hashes().values())
    assert {"onnxruntime", "soxr", "numpy"} <= said["metrics"]["dnsmos"]["identity"]["packages"].keys()
    assert "pystoi" in said["metrics"]["estoi"]["identity"]["packages"]
    assert rows(place).keys() == {"val-000000"}


def test_scores_are_no_part_of_the_corpus(place: Path) -> None:
    before = {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}
    problems = verify(place).problems
    score(place, Watched(stop_after=None), QUICK)
    assert verify(place).problems == problems
    after = {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}
    assert after.keys() - before.keys() == {place / "scores.parquet", place / LINEAGE_FILE}
    assert all(after[path] == content for path, content in before.items())


def test_a_generated_corpus_with_scores_and_parts_is_sound(
    tmp_path: Path, small_recipe: Path, catalogue_path: Path
) -> None:
    out = tmp_path / "c"
    generate(str(small_recipe), catalogue_path, out, InProcess(), samples=8)
    with pytest.raises(JobInterrupted):
        score(out, Watched(stop_after=1), QUICK)
    assert list((out / "scores").rglob("*.json"))
    assert verify(out).problems == ()
    score(out, Watched(), QUICK)
    assert verify(out).problems == ()
    kept = score(out, Watched(), QUICK, say=print).kept_shards

    generate(str(small_recipe), catalogue_path, out, InProcess(), samples=16)
    grown, said = Watched(), []
    done = score(out, grown, QUICK, say=said.append)
    assert done.kept_shards == kept and 0 < len(grown.asked) == done.scored_shards
    assert any("those of the" in line and "are kept" in line for line in said)
    assert metadata(out)["corpus_id"] == open_corpus(out).manifest.id
    shutil.copytree(out, tmp_path / "again")
    (tmp_path / "again" / "scores.parquet").unlink()
    score(tmp_path / "again", on_processes(0), QUICK)
    assert (tmp_path / "again" / "scores.parquet").read_bytes() == (out / "scores.parquet").read_bytes()
    assert verify(out).problems == ()


def test_a_corpus_in_an_object_store_gets_the_same_table_and_nothing_else(place: Path) -> None:
    import fsspec

    url = f"memory://{place.parent.name}"
    fsspec.filesystem("memory").put(str(place) + "/", url + "/", recursive=True)
    before = open_store(url).names().keys()
    with pytest.raises(MemoryError):
        score(url, Watched(killed_after=1), QUICK)
    watched = Watched()
    score(url, watched, QUICK)
    assert len(watched.asked) == 2
    store = open_store(url)
    assert store.names().keys() - before == {"scores.parquet", LINEAGE_FILE}
    score(place, Watched(), QUICK)
    assert store.read("scores.parquet") == (place / "scores.parquet").read_bytes()


# --- the same whoever computes them ---------------------------------------------------------------


@pytest.mark.faults
@pytest.mark.xdist_group("cluster")
def test_one_worker_two_workers_and_ray_data_write_the_same_bytes(pristine: Path, tmp_path: Path) -> None:
    runners = {
        "here": on_processes(0),
        "one": on_processes(1),
        "two": on_processes(2),
        "ray": on_ray_data(None, 2),
    }
    tables = set()
    for name, runner in runners.items():
        copy = Path(shutil.copytree(pristine, tmp_path / name))
        score(copy, runner, ("dnsmos", "level_error_db", "lsd_db"))
        tables.add((copy / "scores.parquet").read_bytes())
    assert len(tables) == 1


def test_the_order_in_which_shards_end_changes_nothing(pristine: Path, tmp_path: Path) -> None:
    def backwards(job: ScoreJob, tasks: Sequence[ScoreTask], stopping: Stopping) -> Iterator[Scored]:
        yield from on_processes(0)(job, tasks[::-1], stopping)

    for name, runner in (("a", on_processes(0)), ("b", backwards)):
        shutil.copytree(pristine, tmp_path / name)
        score(tmp_path / name, runner, QUICK)
    assert (tmp_path / "a/scores.parquet").read_bytes() == (tmp_path / "b/scores.parquet").read_bytes()


# --- resuming -------------------------------------------------------------------------------------


def test_killed_between_shards_it_goes_on_with_those_that_are_missing(place: Path, pristine: Path) -> None:
    first, second = Watched(killed_after=2), Watched()
    with pytest.raises(MemoryError):
        score(place, first, QUICK)
    assert not (place / "scores.parquet").exists()
    done = score(place, second, QUICK)
    assert (done.scored_shards, done.kept_shards) == (1, 2)
    assert {name for name, _ in (*first.asked, *second.asked)} == SHARDS
    assert len(first.asked) == 2 and len(second.asked) == 1
    assert not (place / "scores").exists()
    undisturbed = place.with_name("undisturbed")
    shutil.copytree(pristine, undisturbed)
    score(undisturbed, on_processes(0), QUICK)
    assert (undisturbed / "scores.parquet").read_bytes() == (place / "scores.parquet").read_bytes()


def test_a_metric_that_is_added_later_is_all_that_is_measured(place: Path) -> None:
    score(place, Watched(), QUICK[:1])
    before = rows(place)
    with pytest.raises(JobInterrupted):
        score(place, Watched(stop_after=1), ("lsd_db",))
    later = Watched()
    score(place, later, (*QUICK, "lsd_db"))
    metrics = sorted(names for _, names in later.asked)
    assert metrics == [("level_error_db",), ("level_error_db", "lsd_db"), ("level_error_db", "lsd_db")]
    after = rows(place)
    assert {key: row["si_sdr_db"] for key, row in before.items()} == {
        key: row["si_sdr_db"] for key, row in after.items()
    }
    nothing = Watched()
    written = (place / "scores.parquet").stat().st_mtime_ns
    score(place, nothing, QUICK)
    assert nothing.asked == [] and (place / "scores.parquet").stat().st_mtime_ns == written


def test_scores_of_other_versions_are_measured_again_and_said(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    score(place, Watched(), QUICK)
    real = pipelines.scoring.columns.package_version
    monkeypatch.setattr(
        pipelines.scoring.columns, "package_version", lambda name: "9.9" if name == "scipy" else real(name)
    )
    again, said = Watched(), []
    score(place, again, QUICK, say=said.append)
    assert {metrics for _, metrics in again.asked} == {("level_error_db",)}
    assert any("level_error_db was measured with scipy" in line and "(now 9.9)" in line for line in said)
    assert metadata(place)["metrics"]["level_error_db"]["identity"]["packages"]["scipy"] == "9.9"


def test_scores_of_another_corpus_are_not_taken_over(place: Path, tmp_path: Path) -> None:
    build_corpus(tmp_path / "other", {"train": 3, "val": 1, "test": 2}, seconds=SECONDS, seed=8)
    score(tmp_path / "other", Watched(), QUICK)
    shutil.copy(tmp_path / "other" / "scores.parquet", place)
    watched, said = Watched(), []
    score(place, watched, QUICK, say=said.append)
    assert {name for name, _ in watched.asked} == SHARDS
    assert any("of the 0 shards that are the same" in line for line in said)


COMMAND = (sys.executable, "-m", "pipelines.cli", "score")


@pytest.mark.faults
def test_ctrl_c_finishes_the_shards_in_progress_and_says_how_to_go_on(tmp_path: Path) -> None:
    out = tmp_path / "c"
    build_corpus(out, {"train": 6, "val": 5, "test": 5}, seconds=SECONDS)
    job = subprocess.Popen(
        [*COMMAND, str(out), "--workers", "1"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    while not list((out / "scores").rglob("shard-*.json")):
        assert job.poll() is None, job.communicate()[1]
        time.sleep(0.01)
    job.send_signal(signal.SIGINT)
    said = job.communicate()[1]
    assert job.returncode == 130, said
    # The signal may come before or after the next shard was handed out.
    finished = re.search(r"([12]) of 3 shards are scored, run the same command again to go on$", said.strip())
    assert finished, said
    assert "Traceback" not in said
    watched = Watched()
    score(out, watched)
    assert len(watched.asked) == 3 - int(finished[1])


# --- what cannot be scored ------------------------------------------------------------------------


def test_a_silent_sample_has_no_scores_and_a_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], ssiforge: Any
) -> None:
    import tiny_corpora

    real = tiny_corpora.flac_bytes
    waves = iter(range(100))
    monkeypatch.setattr(
        tiny_corpora, "flac_bytes", lambda wave: real(np.zeros_like(wave) if next(waves) == 2 else wave)
    )
    corpus = build_corpus(tmp_path / "c", {"train": 2, "val": 1, "test": 1}, seconds=SECONDS)
    metrics = "dnsmos,estoi,level_error_db"
    code, printed, _ = ssiforge("score", corpus.url, "--metrics", metrics, "--workers", 0)
    assert code == 0
    for metric in metrics.split(","):
        assert f"null 1 times - {metric}: silent" in printed
    row = rows(tmp_path / "c")["train-000001"]
    assert row["dnsmos_ovrl"] is None and row["dnsmos_p808"] is None and row["estoi"] is None
    assert row["failures"] == ["dnsmos: silent", "estoi: silent", "level_error_db: silent"]
    again = Watched()
    score(tmp_path / "c", again, metrics.split(","))
    assert again.asked == []


def test_a_damaged_shard_is_refused_and_the_others_are_scored(place: Path) -> None:
    shard = place / "val" / "shard-000000.tar"
    content = bytearray(shard.read_bytes())
    content[2000] ^= 255
    shard.write_bytes(content)
    with pytest.raises(JobError, match=r"1 of 3 shards.*val/shard-000000.tar.*ssiforge verify"):
        score(place, on_processes(0), QUICK)
    assert {row["split"] for row in rows(place).values()} == {"train", "test"}


DEADLY = """
import os, sys
import pipelines.scoring.worker as worker
from manifests.corpus import ShardRecord

real = worker._measured

def deadly(tar, record, entry, metrics):
    if entry.key == "train-000001":
        os.abort()
    return real(tar, record, entry, metrics)

worker._measured = deadly
"""


@pytest.mark.faults
@pytest.mark.parametrize(
    "runner",
    [
        pytest.param(on_processes(2), id="processes"),
        pytest.param(
            on_ray_data(None, 2), id="ray", marks=[pytest.mark.faults, pytest.mark.xdist_group("cluster")]
        ),
    ],
)
def test_a_sample_that_kills_its_process_costs_itself_alone(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runner: Any
) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(
        "import sys\nif any('spawn_main' in a or 'multiprocessing' in a for a in sys.orig_argv):\n"
        + "".join(f"    {line}\n" for line in DEADLY.splitlines())
    )
    paths = [str(tmp_path / "site"), os.environ.get("PYTHONPATH", ""), str(Path.cwd())]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    score(place, runner, ("level_error_db",))
    found = rows(place)
    assert found["train-000001"]["failures"] == [
        "level_error_db: the process died while measuring this sample"
    ]
    assert sum(bool(row["failures"]) for row in found.values()) == 1


def test_a_worker_with_another_model_is_refused(place: Path) -> None:
    job = ScoreJob(str(place), {"si_sdr_db": {"packages": {"numpy": "0"}, "models": {}}})
    with pytest.raises(UserError, match="other packages or networks than the driver"):
        job.load()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--metrics", "dnsmos,si_sd"), "si_sd: no such metric; there are dnsmos, target_dnsmos, si_sdr_db"),
        (("--metrics", ","), "names no metric"),
        (("--split", "dev"), "there are train, val, test"),
        (("--keep", "x < 1", "--metrics", "dnsmos"), "--keep scores nothing"),
        (("--out", "x"), "it needs --keep"),
    ],
)
def test_mistakes_are_one_sentence(place: Path, ssiforge: Any, arguments: Any, said: str) -> None:
    code, _, error = ssiforge("score", place, *arguments)
    assert code == 2 and said in error and len(error.splitlines()) == 1
    assert not (place / "scores.parquet").exists()


def test_what_is_no_corpus_or_no_table_is_named(place: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not a finished corpus"):
        score(tmp_path / "nowhere", on_processes(0))
    assert not (tmp_path / "nowhere").exists()
    (place / "scores.parquet").write_text("mine")
    with pytest.raises(UserError, match="not a table of scores"):
        score(place, on_processes(0))
    assert (place / "scores.parquet").read_text() == "mine"
