"""An MLflow run as the plain files that the job left: where they lie, or written anew from what MLflow keeps.

So a page needs one reader only, and a run whose folder is gone has a page too.
"""

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from manifests.errors import UserError
from manifests.experiment import STAGES
from manifests.run_record import read_run
from pipelines.models.folders import found_below
from pipelines.models.reference import local_artifact
from pipelines.tracking.link import read_link
from pipelines.tracking.registry import BUNDLE_PATH
from pipelines.tracking.store import JOB_TAG, TAG, open_existing_store
from training.bundle_info import MODEL_FOLDER
from training.tracker import FileTracker

_ENDED = {"FINISHED": "finished", "FAILED": "failed", "KILLED": "stopped"}


@dataclass(frozen=True)
class RunFiles:
    """The files of one MLflow run."""

    folder: Path
    """A stage's folder, or that of an evaluation."""
    is_evaluation: bool
    lent: bool
    """Whether it is gone, or not to be written to, after the block."""


@contextmanager
def run_files(run_id: str) -> Iterator[RunFiles]:
    """Lend the files of a run within the block: of a stage whose folder lies here, else of what MLflow knows.

    Raises:
        UserError: when there is no such run, or it is none of ssiforge.
    """
    for folder in found_below([Path()]).runs:
        if _is_named(folder, run_id):
            yield RunFiles(folder, False, lent=False)
            return
    client, run = _run(run_id)
    with tempfile.TemporaryDirectory() as scratch:
        if run.data.tags.get(JOB_TAG) == "evaluate":
            yield RunFiles(local_artifact(str(run.info.artifact_uri), "evaluation"), True, lent=True)
            return
        stage = run.data.tags.get(f"{TAG}stage")
        if stage not in STAGES:
            raise UserError(f"{run_id}: is a run in MLflow, but not one of 'ssiforge train' or 'evaluate'")
        recorded = Path(run.data.tags.get(f"{TAG}run_dir", "")) / stage
        if _is_named(recorded, run_id) and (recorded / FileTracker.EVENTS_FILE).is_file():
            yield RunFiles(recorded, False, lent=False)
            return
        yield RunFiles(_written(client, run, Path(scratch) / stage), False, lent=True)


def _is_named(stage_dir: Path, run_id: str) -> bool:
    """Say whether a stage's folder is that of a run: by MLflow's id, or by its own."""
    if read_link(stage_dir).get("run_id") == run_id:
        return True
    try:
        record = read_run(stage_dir)
    except UserError:  # of another format: it is not the one
        return False
    return record is not None and record.id == run_id


def _run(run_id: str) -> tuple[Any, Any]:
    client = open_existing_store()
    if client is None:
        raise UserError(
            f"{run_id}: neither a folder nor a run of one here, and there are no records of MLflow"
        )
    from mlflow.exceptions import MlflowException

    try:
        return client, client.get_run(run_id)
    except MlflowException as error:
        raise UserError(f"{run_id}: neither a folder nor a run that is known here or in MLflow") from error


def _written(client: Any, run: Any, folder: Path) -> Path:
    """Write a stage's files from what MLflow keeps."""
    folder.mkdir()
    params, tags = run.data.params, run.data.tags
    started = {
        "event": "stage_started",
        "experiment": params.get("name", ""),
        "params": {name: value for name, value in params.items() if name not in _NOT_SETTINGS},
        "corpus": tags.get(f"{TAG}corpus_id", ""),
        "parameters": params.get("trained_weights", 0),
        "steps": params.get(f"stages.{folder.name}.steps", 0),
        "device": params.get("device", ""),
        "ranks": params.get("ranks", 1),
    }
    events = [started]
    if ended := _ENDED.get(str(run.info.status)):
        message = tags.get(f"{TAG}ended_because", "")
        events.append({"event": "stage_ended", "status": ended, "message": message})
    _write_lines(folder / FileTracker.EVENTS_FILE, events)
    points = [
        {"step": point.step, "name": name, "value": point.value}
        for name in sorted(run.data.metrics)
        for point in client.get_metric_history(run.info.run_id, name)
    ]
    _write_lines(folder / FileTracker.METRICS_FILE, points)
    if client.list_artifacts(run.info.run_id, "samples"):
        _copy_samples(local_artifact(str(run.info.artifact_uri), "samples"), folder)
    if run.outputs is not None and run.outputs.model_outputs:
        last = max(run.outputs.model_outputs, key=lambda output: output.step)
        location = str(client.get_logged_model(last.model_id).artifact_location)
        shutil.copytree(local_artifact(location, BUNDLE_PATH), folder / MODEL_FOLDER)
    return folder


_NOT_SETTINGS = {"stage", "device", "ranks", "trained_weights"}
"""Parameters of an MLflow run that say what was found, not what was set."""


def _copy_samples(artifacts: Path, folder: Path) -> None:
    """Bring `KEY/estimate-0000250.flac` into the layout of run folders, `KEY.estimate-0000250.flac`."""
    samples = folder / FileTracker.SAMPLES_FOLDER
    samples.mkdir()
    for path in sorted(artifacts.glob("*/*.flac")):
        shutil.copyfile(path, samples / f"{path.parent.name}.{path.name}")


def _write_lines(path: Path, lines: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
