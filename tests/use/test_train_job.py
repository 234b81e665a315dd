"""`ssiforge train`: stages become linked MLflow runs; an interrupted run goes on as itself; another run is refused."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from manifests.corpus import Corpus
from manifests.errors import UserError
from pipelines.lineage.answer import lineage
from pipelines.models.reference import resolve_model
from pipelines.trainer.mlflow_tracker import read_link
from pipelines.trainer.train import train

STAGES = ("teacher", "student", "denoiser", "joint")
SMALL = (
    *(
        f"stages.{stage}.{setting}"
        for stage in STAGES
        for setting in ("steps=2", "batch_size=1", "segment_s=0.3", "validate_every=2")
    ),
    "validation.samples=1",
    "validation.segment_s=0.5",
    "validation.shown=1",
    "loader.threads=0",
    "records.checkpoint_every=1",
    "records.metrics_every=1",
)


def test_four_stages_become_four_linked_runs_that_lineage_walks(store: Any, corpus: Corpus) -> None:
    lines: list[str] = []
    models = train("tiny", corpus.store.root, device="cpu", overrides=SMALL, say=lines.append)
    assert list(models) == list(STAGES)
    expected = {"teacher": [], "student": ["teacher"], "denoiser": ["student"], "joint": ["denoiser"]}
    for stage, parents in expected.items():
        link = read_link(Path("runs/tiny") / stage)
        run = store.get_run(link["run_id"])
        assert run.info.status == "FINISHED"
        assert [used.dataset.digest for used in run.inputs.dataset_inputs] == [corpus.manifest.id]
        inputs = [store.get_logged_model(used.model_id) for used in run.inputs.model_inputs]
        assert [model.tags["ssiforge.stage"] for model in inputs] == parents
        assert {"train/loss", "val/loss"} <= run.data.metrics.keys()
        assert store.list_artifacts(run.info.run_id, "samples")
        assert resolve_model(f"ssiforge-tiny-{stage}").info.id == models[stage].id
    answer = lineage("ssiforge-tiny-joint/1")
    told = [json.loads(line) for line in Path("runs/tiny/lineage.ndjson").read_text().splitlines()]
    assert [event["job"]["name"] for event in told if event["eventType"] == "COMPLETE"] == [
        *(f"train.tiny.{stage}" for stage in STAGES),
        "train.tiny",
    ]
    made = {node.id for node in answer.graph.nodes.values() if node.kind == "model"}
    assert made == {info.id for info in models.values()}
    assert any(line.startswith("joint: ") for line in lines)

    again = train("tiny", corpus.store.root, resume=True, overrides=SMALL, say=lines.append)
    assert [info.id for info in again.values()] == [info.id for info in models.values()]
    assert len(store.search_runs([run.info.experiment_id])) == 4


def test_another_run_in_the_same_folder_is_refused_with_the_difference(
    store: Any, corpus: Corpus, tmp_path: Path, build: Callable[..., Corpus]
) -> None:
    train("tiny", corpus.store.root, "teacher", overrides=SMALL, say=lambda line: None)
    with pytest.raises(UserError, match="--resume"):
        train("tiny", corpus.store.root, "teacher", overrides=SMALL)
    with pytest.raises(UserError, match=r"optimisation.clip_norm was 5.0 and is 2.0.*another --out"):
        train(
            "tiny", corpus.store.root, "teacher", resume=True, overrides=(*SMALL, "optimisation.clip_norm=2")
        )
    with pytest.raises(UserError, match=r"stages.teacher.steps was 2 and is 3"):
        train("tiny", corpus.store.root, "teacher", resume=True, overrides=(*SMALL, "stages.teacher.steps=3"))
    other = build(tmp_path / "other", {"train": 1, "val": 1, "test": 0}, seconds=0.6, seed=9)
    with pytest.raises(UserError, match=f"{corpus.manifest.id}.*{other.manifest.id}"):
        train("tiny", other.store.root, "teacher", resume=True, overrides=SMALL)
    assert not (tmp_path / "records of runs" / "runs" / "tiny" / "student").exists()


@pytest.fixture
def build() -> Callable[..., Corpus]:
    from tiny_corpora import build_corpus

    return build_corpus


def until_step(job: subprocess.Popen[str], step: int) -> None:
    """Wait until a job has written a checkpoint at or beyond a step."""
    while (
        max((int(p.stem[5:]) for p in Path("runs/tiny/teacher/checkpoints").glob("step-*.pt")), default=0)
        < step
    ):
        assert job.poll() is None, job.communicate()[1]
        time.sleep(0.05)


@pytest.mark.faults
def test_a_killed_run_goes_on_in_its_mlflow_run_and_ctrl_c_ends_it_as_killed(
    store: Any, corpus: Corpus
) -> None:
    settings = [*SMALL, "stages.teacher.steps=4000", "stages.teacher.validate_every=4000", "loader.threads=1"]
    options = [option for setting in settings for option in ("--set", setting)]
    command = [sys.executable, "-m", "pipelines.cli", "train", "tiny", "--corpus", str(corpus.store.root)]
    command += ["--stage", "teacher", "--device", "cpu", *options]
    quiet = {**os.environ, "OMP_NUM_THREADS": "1"}

    job = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=quiet)
    until_step(job, 3)
    job.send_signal(signal.SIGKILL)
    job.communicate()
    run_id = read_link(Path("runs/tiny/teacher"))["run_id"]
    assert store.get_run(run_id).info.status == "RUNNING"
    reported = max(point.step for point in store.get_metric_history(run_id, "train/loss"))

    # A shell that runs tests in the background hands its children an ignored SIGINT.
    again = subprocess.Popen(
        [*command, "--resume"],
        stderr=subprocess.PIPE,
        text=True,
        env=quiet,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    until_step(again, reported + 3)
    again.send_signal(signal.SIGINT)
    said = again.communicate()[1]
    assert again.returncode == 130 and "from step" in said, said
    assert said.splitlines()[-1].startswith("ssiforge: interrupted; ") and "with --resume" in said
    assert "Traceback" not in said and "alembic" not in said
    assert read_link(Path("runs/tiny/teacher"))["run_id"] == run_id
    assert store.get_run(run_id).info.status == "KILLED"
    steps = [point.step for point in store.get_metric_history(run_id, "train/loss")]
    assert sorted(steps) == list(range(1, max(steps) + 1)) and max(steps) > reported
