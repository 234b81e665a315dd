"""The events of a training run, in its folder: one run for the whole of it, and within it one for each stage.

A stage's run has the id of its MLflow run, so that both records are joined; a stage that is resumed is the same run.
"""

import uuid
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from manifests.canonical import canonical_json
from manifests.errors import JobInterrupted
from manifests.experiment import STAGES
from manifests.folder import Folder
from pipelines.openlineage.events import EventType, Json, corpus_dataset, event, online_dataset, run_id
from pipelines.openlineage.log import record, recorded
from pipelines.openlineage.models import model_dataset
from pipelines.trainer.mlflow_tracker import read_link
from training.bundle import BundleInfo, is_bundle, read_info
from training.run import model_dir
from training.tracker import Metric, StageStart, Status, ValidationSample

_ENDS: dict[Status, EventType] = {"finished": "COMPLETE", "failed": "FAIL", "stopped": "ABORT"}


def train_job(experiment: str) -> str:
    """Name the job that trains an experiment."""
    return f"train.{experiment}"


class TrainingLineage:
    """A `training.tracker.Tracker` that tells of the run and its stages; use it as a context around the training.

    It comes after the tracker that gives a stage its MLflow run.
    """

    def __init__(self, run_dir: Path, experiment: str) -> None:
        self._store = Folder(run_dir)
        self._run_dir = run_dir
        self._experiment = experiment
        self._job = train_job(experiment)
        self._whole = ""
        """Id of the run of all stages; empty before the first begins."""
        self._stage: tuple[str, str, list[Json], list[Json]] | None = None
        """Run, job, inputs and outputs of the stage that is being trained."""

    def __enter__(self) -> "TrainingLineage":
        """Tell of the ends of stages whose model is there, though their process died before it said so."""
        events = recorded(self._store)
        for stage in STAGES:
            job = f"{self._job}.{stage}"
            last = next((each for each in reversed(events) if each["job"]["name"] == job), None)
            place = model_dir(self._run_dir, stage)
            if last is not None and last["eventType"] != "COMPLETE" and is_bundle(place):
                made = [model_dataset(self._experiment, stage, read_info(place))]
                parent = (last["run"]["facets"]["parent"]["run"]["runId"], self._job)
                run = last["run"]["runId"]
                record(self._store, [event("COMPLETE", run, job, last["inputs"], made, parent)])
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Tell how the whole run ended, if it began."""
        last = self._last_of_all()
        if last is None or (not self._whole and (error is not None or last["eventType"] == "COMPLETE")):
            return
        end: EventType = "COMPLETE" if error is None else "FAIL"
        if isinstance(error, KeyboardInterrupt | JobInterrupted):
            end = "ABORT"
        why = str(error) if end == "FAIL" else ""
        run = last["run"]["runId"]
        record(self._store, [event(end, run, self._job, last["inputs"], self._models(), error=why)])

    def _last_of_all(self) -> Json | None:
        """Return the last event of the run of all stages."""
        events = recorded(self._store)
        return next((each for each in reversed(events) if each["job"]["name"] == self._job), None)

    def _models(self) -> list[Json]:
        """Return what the run has made so far."""
        places = {stage: model_dir(self._run_dir, stage) for stage in STAGES}
        return [
            model_dataset(self._experiment, stage, read_info(place))
            for stage, place in places.items()
            if is_bundle(place)
        ]

    def stage_started(self, start: StageStart) -> None:
        """Tell that a stage starts, or goes on; before the first, that the run does."""
        data = [corpus_dataset(start.corpus)] if start.corpus is not None else []
        data += [online_dataset(start.online)] if start.online is not None else []
        run = _stage_run(start)
        started = []
        if not self._whole:
            last = self._last_of_all()
            self._whole = run_id(run.encode()) if last is None else last["run"]["runId"]
            started.append(event("START", self._whole, self._job, data))
        parents = [
            model_dataset(str(info.experiment.get("name", start.experiment)), parent.role, info)
            for parent in start.parents
            for info in (read_info(parent.bundle_dir),)
        ]
        job = f"{self._job}.{start.stage}"
        made = [model_dataset(start.experiment, start.stage)]
        self._stage = (run, job, [*data, *parents], made)
        started.append(event("START", run, job, [*data, *parents], made, (self._whole, self._job)))
        record(self._store, started)

    def metrics(self, batch: Sequence[Metric]) -> None:
        """Nothing to tell."""

    def validation_samples(self, step: int, samples: Sequence[ValidationSample]) -> None:
        """Nothing to tell."""

    def model_finished(self, bundle_dir: Path, info: BundleInfo) -> None:
        """Keep the model for the stage's end."""
        if self._stage is not None:
            run, job, inputs, _ = self._stage
            made = model_dataset(self._experiment, info.stage, info)
            self._stage = (run, job, inputs, [made])

    def stage_ended(self, status: Status, message: str = "") -> None:
        """Tell how the stage ended."""
        if self._stage is None:
            return
        run, job, inputs, outputs = self._stage
        self._stage = None
        error = message if status == "failed" else ""
        parent = (self._whole, self._job)
        record(self._store, [event(_ENDS[status], run, job, inputs, outputs, parent, error)])


def _stage_run(start: StageStart) -> str:
    """Return a UUID: that of the stage's MLflow run, or one made from what is trained on what."""
    try:
        return str(uuid.UUID(read_link(start.stage_dir).get("run_id", "")))
    except ValueError:
        data = start.corpus.id if start.corpus else start.online.data_id if start.online else ""
        made_from = {parent.role: parent.id for parent in start.parents}
        return run_id(canonical_json([start.stage_digest, data, made_from]))
