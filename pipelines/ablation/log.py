"""An ablation in MLflow: one run for the whole, and a run below it for each arm and seed."""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from manifests.corpus import Corpus
from manifests.files import write_atomically
from manifests.flat import flat
from pipelines.ablation.report import JSON_FILE, PLOT_FILE, TABLE_FILE
from pipelines.ablation.scores import RunResult
from pipelines.ablation.statistics import mean_over
from pipelines.tracking.corpus import corpus_dataset
from pipelines.tracking.store import BUNDLE_TAG, JOB_TAG, TAG, experiment_id, open_store
from training.tracker import FileTracker

LINK_FILE = "mlflow.json"
"""In the ablation's folder: its MLflow runs, so that an ablation which goes on does so in the same ones."""
MAX_PARAMS_A_CALL = 100
MAX_METRICS_A_CALL = 1000
CURVES = ("train/loss", "val/loss", "val/si_snr_db")


class AblationLog:
    """The MLflow run of an ablation, open while the ablation is; use it as a context manager."""

    def __init__(self, out: Path, study: str, experiment: str, corpus: Corpus) -> None:
        self._out, self._study, self._corpus = out, study, corpus
        self._client = open_store()
        self._experiment = experiment_id(self._client, experiment)
        self._parent = ""
        self._children: dict[str, str] = {}

    def __enter__(self) -> "AblationLog":
        known = self._link()
        if known and self._exists(known["parent"]):
            self._parent, self._children = known["parent"], known["children"]
            self._client.update_run(self._parent, status="RUNNING")
        else:
            run = self._create(f"ablate-{self._study}", {})
            self._parent = run
            self._write_link()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        status = "FINISHED" if kind is None else "KILLED" if kind is KeyboardInterrupt else "FAILED"
        self._client.set_terminated(self._parent, status)

    def run(self, result: RunResult, params: Mapping[str, Any], stage_dir: Path) -> None:
        """Log one finished run, once: its settings, its training curves and its mean scores."""
        from mlflow.entities import Metric, Param

        name = f"{result.arm}/seed-{result.seed}"
        if name not in self._children:
            tags = {
                "mlflow.parentRunId": self._parent,
                BUNDLE_TAG: str(result.model_id),
                f"{TAG}arm": result.arm,
                f"{TAG}stage_digest": str(result.stage_digest),
            }
            child = self._create(f"{self._study}-{result.arm}-{result.seed}", tags)
            values = [Param(key, str(value)) for key, value in flat({**params, "arm": result.arm}).items()]
            for first in range(0, len(values), MAX_PARAMS_A_CALL):
                self._client.log_batch(child, params=values[first : first + MAX_PARAMS_A_CALL])
            now_ms = int(time.time() * 1000)
            curves = [Metric(key, value, now_ms, step) for key, value, step in _curves(stage_dir)]
            for first in range(0, len(curves), MAX_METRICS_A_CALL):
                self._client.log_batch(child, metrics=curves[first : first + MAX_METRICS_A_CALL])
            self._client.log_batch(child, metrics=self._scores(result, now_ms))
            self._client.set_terminated(child, "FINISHED")
            self._children[name] = child
            self._write_link()

    def finish(self, result: Mapping[str, Any]) -> None:
        """Log the comparison: table, plot and JSON, and means and differences as metrics of the whole."""
        from mlflow.entities import Metric

        now_ms = int(time.time() * 1000)
        metrics = []
        for arm, entries in result["table"].items():
            for measure, entry in entries.items():
                metrics.append(Metric(f"{arm}/{measure}", entry["mean"], now_ms, 0))
                if entry["difference"] is not None:
                    difference = entry["difference"]["mean"]
                    metrics.append(Metric(f"{arm}/{measure}_difference", difference, now_ms, 0))
        self._client.log_batch(self._parent, metrics=metrics)
        for file in (JSON_FILE, TABLE_FILE, PLOT_FILE):
            self._client.log_artifact(self._parent, str(self._out / file))

    def _scores(self, result: RunResult, now_ms: int) -> list[Any]:
        from mlflow.entities import Metric

        means = {
            measure: mean_over(result, measure, range(len(values)))
            for measure, values in result.scores.items()
        }
        split = result.held_out.split
        return [Metric(f"{split}/{key}", mean, now_ms, 0) for key, mean in means.items() if mean is not None]

    def _create(self, name: str, tags: Mapping[str, str]) -> str:
        from mlflow.entities import DatasetInput, InputTag

        common = {
            JOB_TAG: "ablate",
            f"{TAG}study": self._study,
            f"{TAG}corpus_id": self._corpus.manifest.id,
            "mlflow.source.name": "ssiforge ablate",
            "mlflow.source.type": "LOCAL",
        }
        run = self._client.create_run(self._experiment, tags={**common, **tags}, run_name=name)
        dataset = corpus_dataset(self._corpus)._to_mlflow_entity()
        used = DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])
        self._client.log_inputs(run.info.run_id, datasets=[used])
        return str(run.info.run_id)

    def _exists(self, run_id: str) -> bool:
        from mlflow.exceptions import MlflowException

        try:
            return bool(self._client.get_run(run_id).info.lifecycle_stage == "active")
        except MlflowException:
            return False

    def _link(self) -> dict[str, Any]:
        path = self._out / LINK_FILE
        if not path.is_file():
            return {}
        content: dict[str, Any] = json.loads(path.read_bytes())
        return content

    def _write_link(self) -> None:
        content = {"parent": self._parent, "children": self._children}
        self._out.mkdir(parents=True, exist_ok=True)
        write_atomically(self._out / LINK_FILE, json.dumps(content, indent=2).encode())


def _curves(stage_dir: Path) -> list[tuple[str, float, int]]:
    """Read the losses that a stage wrote down while it was trained."""
    lines = (stage_dir / FileTracker.METRICS_FILE).read_text("utf-8").splitlines()
    entries = [json.loads(line) for line in lines]
    return [
        (entry["name"], entry["value"], entry["step"])
        for entry in entries
        if entry["name"] in CURVES and entry["value"] is not None
    ]
