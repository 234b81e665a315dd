"""`python -m training` on a machine that has torch, numpy, scipy, soundfile, soxr, pydantic and pyyaml, and no more."""

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from micro_experiment import MICRO

from manifests.errors import JobError
from manifests.experiment import Experiment
from training import checkpoint
from training.run import train
from training.tracker import FileTracker

BLOCKED = """
import sys

ABSENT = {"ray", "mlflow", "webdataset", "pyarrow", "rich", "typer", "click", "av", "pyroomacoustics",
          "audiomentations", "matplotlib", "fsspec", "onnxruntime", "pystoi", "speechmos", "pandas",
          "safetensors", "datagen", "pipelines"}

class Bare:
    "Finds what another finder finds, except for what a bare machine does not have."

    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ABSENT:
            return None
        return self.finder.find_spec(name, path, target)

sys.meta_path[:] = [Bare(finder) for finder in sys.meta_path]
import runpy
sys.argv[0] = "training"
runpy.run_module("training", run_name="__main__")
"""


def bare(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", BLOCKED, *arguments],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_help_is_printed() -> None:
    ended = bare("--help")
    assert ended.returncode == 0, ended.stderr
    assert "--corpus" in ended.stdout


def test_a_stage_is_trained_to_the_end(corpus_dir: Path, tmp_path: Path) -> None:
    settings = [part for setting in MICRO for part in ("--set", setting)]
    ended = bare(
        *("tiny", "--corpus", str(corpus_dir), "--out", str(tmp_path / "run"), "--stage", "teacher"),
        *("--device", "cpu", *settings),
    )
    assert ended.returncode == 0, ended.stderr
    assert "teacher 5/5: validation loss" in ended.stdout
    assert (tmp_path / "run" / "teacher" / "model" / "model.json").is_file()


def test_mistakes_are_one_sentence_and_exit_code_2(corpus_dir: Path, tmp_path: Path) -> None:
    out = str(tmp_path / "run")
    mistakes = {
        "teecher": ("tiny", "--corpus", str(corpus_dir), "--out", out, "--stage", "teecher"),
        "did you mean 'preset'": ("tiny", "--corpus", str(corpus_dir), "--out", out, "--set", "presett=1"),
        "corpus.json": ("tiny", "--corpus", str(tmp_path), "--out", out),
    }
    for said, arguments in mistakes.items():
        ended = bare(*arguments)
        assert ended.returncode == 2
        assert said in ended.stderr
        assert len(ended.stderr.splitlines()) == 1, ended.stderr
    assert not (tmp_path / "run").exists()


def test_a_full_disk_is_one_sentence_that_names_the_stage(
    corpus_dir: Path, tmp_path: Path, micro: Experiment, one_thread: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(checkpoint, "write_atomically", full)
    monkeypatch.setattr(FileTracker, "stage_ended", full)
    with pytest.raises(JobError, match=r"teacher: No space left on device; --resume goes on"):
        train(micro, corpus_dir, tmp_path, ["teacher"], device="cpu")


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.faults)])
def test_asked_to_stop_it_ends_with_130_and_a_checkpoint_of_its_last_step_and_no_model(
    corpus_dir: Path, tmp_path: Path, number: signal.Signals
) -> None:
    settings = [part for setting in MICRO for part in ("--set", setting)]
    command = [sys.executable, "-m", "training", "tiny", "--corpus", str(corpus_dir), "--out", str(tmp_path)]
    command += ["--stage", "teacher", "--device", "cpu", *settings, "--set", "stages.teacher.steps=2000"]
    command += ["--set", "records.checkpoint_every=1000"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell that runs tests in the background hands its children an ignored SIGINT.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as running:
        assert running.stdout is not None
        while "teacher 4/2000" not in running.stdout.readline():
            assert running.poll() is None
        running.send_signal(number)
        _, errors = running.communicate(timeout=60)
    assert running.returncode == 130
    assert "--resume" in errors
    assert "Traceback" not in errors
    ended = json.loads((tmp_path / "teacher" / "events.jsonl").read_text().splitlines()[-1])
    assert (ended["event"], ended["status"]) == ("stage_ended", "stopped")
    [checkpoint] = (tmp_path / "teacher" / "checkpoints").glob("step-*.pt")
    assert ended["message"] == f"interrupted after step {int(checkpoint.stem.removeprefix('step-'))}"
    assert not (tmp_path / "teacher" / "model").exists()
