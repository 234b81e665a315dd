"""A run on Ray whose worker is killed ends as one that nobody disturbed, and its records are those of a local run."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from machines import Machines
from micro_experiment import MICRO
from processes import children, command
from test_ranks import free_port, of_rank

from manifests.corpus import open_corpus
from manifests.errors import UserError
from manifests.experiment import load_experiment
from pipelines.generation.ray_tasks import connected
from pipelines.online.online import OnlineRequest
from pipelines.tracking.store import open_store
from pipelines.trainer.mlflow_tracker import read_link
from pipelines.trainer.ray_train import RayTraining, Workers
from pipelines.trainer.train import train
from training.bundle import read_info

STAGES = ("teacher", "student")


@pytest.fixture
def ray_folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Keep what Ray writes out of other tests' way; no other Ray's settings are heard."""
    for name in [name for name in os.environ if name.startswith("RAY_")]:
        monkeypatch.delenv(name)
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp") as folder:  # short, for it holds sockets
        monkeypatch.setenv("RAY_TMPDIR", folder)
        yield


def ray_workers() -> list[int]:
    """Processes that train at the moment, started by the Ray of this process."""
    raylets = [pid for pid in children(os.getpid()) if "raylet" in command(pid).partition(" ")[0]]
    return [pid for raylet in raylets for pid in children(raylet) if "RayTrainWorker" in command(pid)]


def undisturbed(corpus: Path, out: Path) -> None:
    """Train with two processes that are told what torchrun tells its own."""
    settings = [part for setting in MICRO for part in ("--set", setting)]
    port = free_port()
    for stage in STAGES:
        arguments = [
            "--corpus",
            str(corpus),
            "--out",
            str(out),
            "--stage",
            stage,
            "--device",
            "cpu",
            *settings,
        ]
        ranks = [
            subprocess.Popen(
                [sys.executable, "-m", "training", "tiny", *arguments],
                env=of_rank(rank, 2, port),
                stdout=subprocess.DEVNULL,
            )
            for rank in range(2)
        ]
        assert [process.wait(timeout=120) for process in ranks] == [0, 0]


@pytest.mark.faults
@pytest.mark.xdist_group("cluster")
@pytest.mark.timeout(600)
def test_a_run_whose_workers_are_killed_ends_with_the_weights_of_an_undisturbed_one(
    corpus_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ray_folder: None
) -> None:
    monkeypatch.chdir(tmp_path)
    undisturbed(corpus_dir, tmp_path / "alone")
    said: list[str] = []
    victims = {"teacher 4/5: loss": 0, "student 2/5: loss": 1}

    def say(line: str) -> None:
        said.append(line)
        for beginning in [beginning for beginning in victims if line.startswith(beginning)]:
            os.kill(ray_workers()[victims.pop(beginning)], signal.SIGKILL)

    training = RayTraining(None, Workers(2, 2), say)
    with connected(None, 2):
        for stage in STAGES:
            train("tiny", corpus_dir, stage, False, tmp_path / "run", "cpu", MICRO, say, elsewhere=training)
        named = [f"teacher={tmp_path / 'alone' / 'teacher' / 'model'}"]
        again = tmp_path / "of a named teacher"
        train(
            "tiny", corpus_dir, "student", False, again, "cpu", MICRO, say, parents=named, elsewhere=training
        )

    assert not victims
    assert read_info(again / "student" / "model") == read_info(tmp_path / "alone" / "student" / "model")
    begun = [line.partition(" weights, 5 steps ")[2] for line in said if "weights, 5 steps" in line]
    assert len(begun) == 5
    # The checkpoint of step 4 was being written when the worker was killed.
    assert begun[1] in {f"from step {step}, on 2 ranks, this one on cpu" for step in (2, 4)}
    client: Any = open_store()
    for stage, parents in zip(STAGES, ([], ["teacher"]), strict=True):
        ours, theirs = (read_info(tmp_path / name / stage / "model") for name in ("run", "alone"))
        assert ours == theirs
        run = client.get_run(read_link(tmp_path / "run" / stage)["run_id"])
        assert (run.info.status, run.data.params["ranks"]) == ("FINISHED", "2")
        assert [used.dataset.digest for used in run.inputs.dataset_inputs] == [
            open_corpus(corpus_dir).manifest.id
        ]
        inputs = [client.get_logged_model(used.model_id) for used in run.inputs.model_inputs]
        assert [model.tags["ssiforge.stage"] for model in inputs] == parents
        steps = [point.step for point in client.get_metric_history(run.info.run_id, "train/loss")]
        assert steps == [2, 4, 5]


ON_A_CLUSTER = """
import sys
from pathlib import Path
from manifests.experiment import load_experiment
from pipelines.generation.ray_tasks import connected
from pipelines.trainer.ray_train import RayTraining, Workers
from training.tracker import LineTracker
import ray

def say(line):
    print(line, flush=True)
    if line.startswith("teacher 2/5: loss") and " 2 ranks" in begun[-1]:
        input()  # the run waits until the test has done its harm
    begun.extend([line] if "weights" in line else [])

begun = []
address, corpus, out, *settings = sys.argv[1:]
with connected(address, None):
    print(ray.get_runtime_context().get_node_id(), flush=True)
    training = RayTraining(address, Workers(1, 2), say)
    experiment = load_experiment("tiny", settings)
    training(experiment, corpus, Path(out), ["teacher"], device="cpu", trackers=[LineTracker(say)])
"""


@pytest.mark.faults
@pytest.mark.xdist_group("cluster")
@pytest.mark.timeout(600)
def test_a_run_goes_on_with_fewer_workers_when_a_node_is_lost(
    corpus_dir: Path, tmp_path: Path, ray_folder: None
) -> None:
    machines = Machines()
    machines.add()
    machines.add()
    arguments = [machines.cluster.address, str(corpus_dir), str(tmp_path), *MICRO]
    said: list[str] = []
    try:
        with subprocess.Popen(
            [sys.executable, "-c", ON_A_CLUSTER, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as run:
            assert run.stdin is not None and run.stdout is not None
            for line in run.stdout:
                said.append(line.strip())
                if line.startswith("teacher 2/5: loss") and len(machines.nodes) == 2:
                    machines.lose(next(node for node in machines.nodes if node.node_id != said[0]))
                    run.stdin.write("\n")
                    run.stdin.flush()
        assert run.returncode == 0, said
    finally:
        machines.cluster.shutdown()
    begun = [line.partition(" steps ")[2] for line in said if "weights, 5 steps" in line]
    assert begun[0] == "from the start, on 2 ranks, this one on cpu"
    assert begun[-1] in ("from step 2, on cpu", "from the start, on cpu")
    assert read_info(tmp_path / "teacher" / "model").stage == "teacher"


def test_numbers_of_workers_are_read_and_mistakes_named(corpus_dir: Path, tmp_path: Path) -> None:
    assert Workers.parse("4") == Workers(4, 4)
    assert Workers.parse("2:8") == Workers(2, 8)
    for wrong in ("0", "3:2", "many", "1:2:3", ""):
        with pytest.raises(UserError, match=f"--workers {wrong}: "):
            Workers.parse(wrong)
    training = RayTraining(None, Workers(1, 3), print)
    experiment = load_experiment("tiny", MICRO)
    with pytest.raises(UserError, match=r"3 workers cannot share the 2 samples of stages.teacher.batch_size"):
        training(experiment, corpus_dir, tmp_path, ["teacher"])
    with pytest.raises(UserError, match="--device cuda:1: Ray gives each worker its device"):
        training(experiment, corpus_dir, tmp_path, ["teacher"], device="cuda:1")
    fresh = OnlineRequest("ssi48k", tmp_path / "sources.parquet")
    with pytest.raises(UserError, match="--online renders in processes of this machine: .* without --ray"):
        train("tiny", None, out=tmp_path, online=fresh, elsewhere=training)
