"""A run that is killed between steps and resumed ends with the very same models, also from epoch 1 on."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from micro_experiment import MICRO

from manifests.experiment import Experiment, StageName, load_experiment
from training.bundle import WEIGHTS_FILE, BundleInfo, read_info
from training.checkpoint import read_checkpoint
from training.run import train

Models = dict[StageName, BundleInfo]


def of_killed_runs(test: Callable[..., None]) -> Callable[..., None]:
    """Mark a test of runs that take long to make, and that one process makes for all of these tests."""
    return pytest.mark.faults(pytest.mark.xdist_group("killed runs")(test))


# Batches of 2 of 12 samples: an epoch is 6 steps, so step 9 is in the second.
STEPS = 12
KILLED_AT = 9
SETTINGS = [
    *MICRO,
    f"stages.teacher.steps={STEPS}",
    "stages.teacher.validate_every=4",
    "records.checkpoint_every=4",
    "records.metrics_every=1",
]

KILLED_RUN = """
import os, signal, sys
from pathlib import Path
from manifests.experiment import load_experiment
from training.run import train
from training.tracker import LineTracker

class Death(LineTracker):
    def metrics(self, batch):
        if (self._stage, batch[0].step) == (stage, step):
            os.kill(os.getpid(), signal.SIGKILL)

corpus, out, stage, step, resume, *settings = sys.argv[1:]
step = int(step)
train(load_experiment("tiny", settings), Path(corpus), Path(out), resume=resume == "yes", device="cpu",
      trackers=[Death(lambda line: None)])
"""


def killed(corpus: Path, out: Path, stage: str, step: int, resume: bool) -> None:
    """Train in a process of its own, which is killed for good when it reports `step` of `stage`."""
    arguments = [str(corpus), str(out), stage, str(step), "yes" if resume else "no", *SETTINGS]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    ended = subprocess.run([sys.executable, "-c", KILLED_RUN, *arguments], env=environment, check=False)
    assert ended.returncode == -signal.SIGKILL


@pytest.fixture(scope="module")
def experiment() -> Experiment:
    return load_experiment("tiny", SETTINGS)


@dataclass(frozen=True)
class Runs:
    """A run that nobody disturbed, and one that was killed in two of its stages."""

    whole: Path
    killed: Path
    of_whole: Models
    of_killed: Models


@pytest.fixture(scope="module")
def runs(corpus_dir: Path, tmp_path_factory: pytest.TempPathFactory, experiment: Experiment) -> Runs:
    torch.set_num_threads(1)
    whole, out = (tmp_path_factory.mktemp(name) for name in ("whole", "killed"))
    undisturbed = train(experiment, corpus_dir, whole, device="cpu")
    killed(corpus_dir, out, "teacher", KILLED_AT, resume=False)
    newest = read_checkpoint(max((out / "teacher" / "checkpoints").glob("step-*.pt")))
    assert (newest["step"], newest["stream"]["epoch"]) == (8, 1)
    killed(corpus_dir, out, "denoiser", 3, resume=True)
    assert not (out / "denoiser" / "model" / "model.json").exists()
    return Runs(whole, out, undisturbed, train(experiment, corpus_dir, out, resume=True, device="cpu"))


@of_killed_runs
def test_killed_in_epoch_1_and_in_a_later_stage_it_ends_with_the_same_models(runs: Runs) -> None:
    for stage, info in runs.of_whole.items():
        # A bundle's id is made of the hash of its weights, its settings and its parents' ids.
        assert runs.of_killed[stage].id == info.id, stage
        ours, theirs = (
            read_checkpoint(max((run / stage / "checkpoints").glob("step-*.pt")))
            for run in (runs.killed, runs.whole)
        )
        assert ours["stream"] == theirs["stream"]
        assert all(torch.equal(ours["model"][name], value) for name, value in theirs["model"].items())


@of_killed_runs
def test_metrics_of_a_resumed_run_hold_every_step_once(runs: Runs) -> None:
    lines = (runs.killed / "teacher" / "metrics.jsonl").read_text().splitlines()
    steps = [int(line.split('"step": ')[1].split(",")[0]) for line in lines if '"train/loss"' in line]
    assert steps == list(range(1, STEPS + 1))


def test_a_run_is_the_same_with_and_without_reading_ahead(
    corpus_dir: Path, tmp_path: Path, one_thread: None
) -> None:
    ids = {
        train(
            load_experiment("tiny", [*MICRO, f"loader.threads={threads}"]),
            corpus_dir,
            tmp_path / str(threads),
            stages=["teacher"],
            device="cpu",
        )["teacher"].weights_sha256
        for threads in (0, 3)
    }
    assert len(ids) == 1


@of_killed_runs
def test_the_last_stage_of_a_finished_run_is_read_and_not_trained_again(
    corpus_dir: Path, runs: Runs, experiment: Experiment
) -> None:
    weights = runs.whole / "joint" / "model" / WEIGHTS_FILE
    written = weights.stat().st_mtime_ns
    again = train(experiment, corpus_dir, runs.whole, stages=["joint"], resume=True, device="cpu")
    assert again == {"joint": runs.of_whole["joint"]}
    assert weights.stat().st_mtime_ns == written
    assert read_info(weights.parent) == runs.of_whole["joint"]
