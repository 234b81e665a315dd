"""A person can follow a long job, on a terminal and in a log, and a machine can read the same."""

import json
import os
import pty
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from datagen.shard import ShardTask
from manifests.corpus import open_corpus
from pipelines.corpus.ledger import Ledger
from pipelines.corpus.shard_result import Lost, ShardDone, Tally
from pipelines.executors import InProcess
from pipelines.generation import progress as generate_progress
from pipelines.generation.generate import generate
from pipelines.generation.progress import Progress, ProgressView

STAGES = {"speech", "plan", "noise", "write", "measure"}


def test_the_last_word_of_progress_json_is_that_of_corpus_json(
    tmp_path: Path, small_recipe: Path, catalogue_path: Path
) -> None:
    out = tmp_path / "c"
    generate(str(small_recipe), catalogue_path, out, InProcess(), samples=20, seed=7)
    said, manifest = json.loads((out / "progress.json").read_text()), open_corpus(out).manifest
    assert said["state"] == "finished"
    assert said["samples"] == said["samples_done"] == sum(manifest.samples.values())
    assert said["hours_done"] == pytest.approx(manifest.hours, abs=1e-5)
    assert said["shards_done"] == len(manifest.shards)
    assert said["failures"] == manifest.failures
    assert said["stage_seconds"] == pytest.approx(manifest.stage_seconds)
    assert set(manifest.stage_seconds) >= STAGES
    assert 0 < sum(manifest.stage_seconds.values()) <= manifest.timings["wall_s"]
    assert said["x_real_time"] > 0
    assert manifest.timings["samples"] == 20
    # A run that goes on with what was there says how much of it its times are of.
    shard = open_corpus(out).of("train")[-1]
    for name in ("corpus.json", shard.record_name):
        (out / name).unlink()
    generate(str(small_recipe), catalogue_path, out, InProcess(), samples=20, seed=7)
    assert open_corpus(out).manifest.timings["samples"] == len(shard.samples) < 20


def _done(number: int, samples: int, failures: dict[str, int]) -> ShardDone:
    task = ShardTask("train", number, number * samples, samples, "plan")
    tally = Tally(samples=Counter({"train": samples}), failures=Counter(failures))
    return ShardDone(task, "0" * 64, "0" * 64, tally, b"", {"codec": 2.0})


def test_counts_speed_and_remaining_time_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr(generate_progress.time, "monotonic", lambda: clock[0])
    with Ledger() as ledger:
        ledger.add(_done(0, 10, {}))
        progress = Progress(samples=60, seconds_each=10.0, shards=6, ledger=ledger)
    for number in range(1, 4):
        clock[0] += 5.0
        progress.count(_done(number, 10, {"codec: # is silent": 1}))
    progress.count(Lost(ShardTask("train", 4, 40, 10, "plan"), "a bug", 3))
    said = progress.plain("running")
    assert (said["samples_done"], said["shards_done"]) == (40, 4)
    assert said["x_real_time"] == pytest.approx(
        30 * 10.0 / 15.0
    )  # those that were there already do not count
    assert said["left_s"] == pytest.approx(20 / (30 / 15.0))
    assert said["failures"] == {"codec: # is silent": 3}
    assert said["lost_shards"] == {"a bug": 1}
    assert said["stage_seconds"] == {"codec": 6.0}
    line = progress.line()
    assert (
        "6.7 of 10.0 min, 20 x real time, 0:10 left, 3 draws replaced, 1 shards given up after 0:15" in line
    )
    clock[0] += 3600.0  # a job that stands still says so
    assert progress.plain("running")["x_real_time"] < 1.0


def test_a_log_gets_a_plain_line_now_and_then_and_the_file_is_renewed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from manifests.store import open_store

    monkeypatch.setattr(generate_progress, "PLAIN_LINE_EVERY_S", 0.5)
    monkeypatch.setattr(generate_progress, "WRITTEN_EVERY_S", 0.5)
    with Ledger() as ledger:
        progress = Progress(samples=60, seconds_each=10.0, shards=6, ledger=ledger)
    with ProgressView(progress, open_store(tmp_path)):
        progress.count(_done(0, 10, {}))
        generate_progress.time.sleep(1.6)
        state = json.loads((tmp_path / "progress.json").read_text())
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) >= 2
    assert all(line.startswith("generate: 1.7 of 10.0 min") for line in lines)
    assert (state["state"], state["samples_done"]) == ("running", 10)


def test_a_terminal_gets_a_live_view_with_the_time_of_each_stage(
    tmp_path: Path, small_recipe: Path, catalogue_path: Path
) -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "pipelines.cli", "generate", str(small_recipe), "--workers", "0"]
    command += ["--sources", str(catalogue_path), "--out", str(tmp_path / "c"), "--samples", "40"]
    environment = os.environ | {"COLUMNS": "120", "LINES": "40", "TERM": "xterm"}
    job = subprocess.Popen(command, stderr=theirs, stdout=subprocess.DEVNULL, env=environment)
    os.close(theirs)
    shown = b""
    while True:
        try:
            block = os.read(ours, 65_536)
        except OSError:  # the other end is closed
            break
        if not block:
            break
        shown += block
    os.close(ours)
    assert job.wait(timeout=60) == 0
    text = shown.decode(errors="replace")
    assert "stage" in text and "share" in text
    for stage in ("noise", "speech", "write"):
        assert stage in text
    assert "x real time" in text
