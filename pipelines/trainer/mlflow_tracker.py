"""Reports a training run to MLflow: one MLflow run a stage, with everything that it was made from.

The MLflow run's id lies in the stage's folder, so that a stage which was interrupted goes on in the same run.
"""

import json
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import soundfile

from manifests.files import write_atomically
from manifests.packages import code_version, packages_digest
from manifests.recipe import SAMPLE_RATE_HZ
from manifests.run_record import RUN_FILE
from pipelines.model_cards.card import summary, write_card
from pipelines.quality.figures import spectrogram_png
from pipelines.tracking.corpus import CorpusDataset
from pipelines.tracking.link import LINK_FILE, read_link
from pipelines.tracking.online_dataset import OnlineDataset, online_tags
from pipelines.tracking.registry import CARD_FILE, log_model, logged_models, register, registered_name
from pipelines.tracking.store import BUNDLE_TAG, KEEP_DIGEST_TAG, KEEP_TAG, TAG, experiment_id
from training.bundle import BundleInfo, is_bundle, read_info
from training.tracker import Metric, StageStart, Status, ValidationSample

__all__ = ["ENDED_TAG", "LINK_FILE", "MlflowTracker", "read_link"]

ENDED_TAG = f"{TAG}ended_because"
MAX_PARAM_CHARACTERS = 6000
MAX_PARAMS_A_CALL = 100
MAX_METRICS_A_CALL = 1000

_STATUS = {"finished": "FINISHED", "failed": "FAILED", "stopped": "KILLED"}


class MlflowTracker:
    """A `training.tracker.Tracker` that writes to MLflow."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._start: StageStart | None = None
        self._run_id = ""
        self._reported: dict[str, int] = {}
        """By metric: the last step that an interrupted run had reported."""

    def stage_started(self, start: StageStart) -> None:
        """Start a run, or go on with the one that was interrupted."""
        self._start = start
        experiment = experiment_id(self._client, start.experiment)
        link = read_link(start.stage_dir)
        self._run_id = self._open_run(link) or self._new_run(experiment, start)
        self._reported = self._steps_reported()
        self._write_link(start.stage_dir, {"run_id": self._run_id, "experiment_id": experiment})
        self._log_params(start)
        self._log_inputs(start)

    def metrics(self, batch: Sequence[Metric]) -> None:
        """Send the metrics of several steps in as few calls as MLflow allows."""
        from mlflow.entities import Metric as MlflowMetric

        now_ms = int(time.time() * 1000)
        # A resumed stage repeats what lies after its checkpoint; MLflow cannot forget, so it is not told twice.
        fresh = [
            MlflowMetric(metric.name, metric.value, now_ms, metric.step)
            for metric in batch
            if metric.step > self._reported.get(metric.name, -1)
        ]
        for part in _chunks(fresh, MAX_METRICS_A_CALL):
            self._client.log_batch(self._run_id, metrics=part)

    def validation_samples(self, step: int, samples: Sequence[ValidationSample]) -> None:
        """Log each sample's audio, and a spectrogram of degraded, estimate and target."""
        with tempfile.TemporaryDirectory() as folder:
            for sample in samples:
                place = Path(folder) / sample.key
                place.mkdir()
                waves = {
                    "degraded": sample.degraded,
                    f"estimate-{step:07d}": sample.estimate,
                    "target": sample.target,
                }
                for name, wave in waves.items():
                    # FLAC clips by itself, and MLflow's pages play it.
                    soundfile.write(place / f"{name}.flac", wave, SAMPLE_RATE_HZ, subtype="PCM_16")
                (place / f"spectrogram-{step:07d}.png").write_bytes(spectrogram_png(waves))
            self._client.log_artifacts(self._run_id, folder, "samples")

    def model_finished(self, bundle_dir: Path, info: BundleInfo) -> None:
        """Record the model as the run's output and register it."""
        self._record_model(bundle_dir, info, self._started().experiment)

    def _record_model(self, bundle_dir: Path, info: BundleInfo, experiment: str) -> None:
        card = bundle_dir / CARD_FILE
        # One that `ssiforge card` wrote there says more than this one could.
        if not card.is_file() or info.id not in card.read_text(encoding="utf-8"):
            write_card(str(bundle_dir), (), None, card)
        model_id = log_model(self._client, self._run_id, bundle_dir, info)
        name = registered_name(experiment, info.stage)
        described = summary(card.read_text(encoding="utf-8"))
        version = register(self._client, name, model_id, self._run_id, info, described)
        self._client.set_tag(self._run_id, BUNDLE_TAG, info.id)
        self._write_link(bundle_dir.parent, {"model_id": model_id, "registered": f"{name}/{version}"})

    def report_finished_models(self, bundle_dirs: Iterable[Path]) -> None:
        """Record models whose process died between writing them and reporting them.

        Such a stage counts as finished and is not trained again, so nothing else would report it.
        """
        for bundle_dir in bundle_dirs:
            link = read_link(bundle_dir.parent)
            if "model_id" in link or not is_bundle(bundle_dir) or (run_id := self._open_run(link)) is None:
                continue
            info = read_info(bundle_dir)
            self._run_id = run_id
            self._record_model(bundle_dir, info, str(info.experiment["name"]))
            self._client.set_terminated(run_id, _STATUS["finished"])

    def stage_ended(self, status: Status, message: str = "") -> None:
        """Close the run with how it ended."""
        record = self._started().stage_dir / RUN_FILE
        if record.is_file():
            self._client.log_artifact(self._run_id, str(record))
        if message:
            self._client.set_tag(self._run_id, ENDED_TAG, message[:500])
        self._client.set_terminated(self._run_id, _STATUS[status])

    def _started(self) -> StageStart:
        if self._start is None:
            raise RuntimeError("stage_started comes first")
        return self._start

    def _open_run(self, link: Mapping[str, str]) -> str | None:
        """Take up the run that a stage's folder names, unless it is finished or the store does not know it."""
        from mlflow.exceptions import MlflowException

        try:
            run = self._client.get_run(link["run_id"])
        except (KeyError, MlflowException):
            return None
        if run.info.status == "FINISHED" or run.info.lifecycle_stage != "active":
            return None
        self._client.update_run(run.info.run_id, status="RUNNING")
        if ENDED_TAG in run.data.tags:
            self._client.delete_tag(run.info.run_id, ENDED_TAG)
        return str(run.info.run_id)

    def _new_run(self, experiment: str, start: StageStart) -> str:
        tags = {
            f"{TAG}stage": start.stage,
            f"{TAG}stage_digest": start.stage_digest,
            f"{TAG}experiment_digest": start.experiment_digest,
            f"{TAG}code_version": code_version(),
            f"{TAG}packages_digest": packages_digest(),
            f"{TAG}run_dir": str(start.stage_dir.resolve().parent),
            "mlflow.source.name": "ssiforge train",
            "mlflow.source.type": "LOCAL",
            **{f"{TAG}parent.{parent.role}": parent.id for parent in start.parents},
        }
        if (manifest := start.corpus) is not None:
            tags |= {
                f"{TAG}corpus_id": manifest.id,
                f"{TAG}recipe": manifest.recipe,
                f"{TAG}recipe_digest": manifest.recipe_digest,
                f"{TAG}corpus_seed": str(manifest.seed),
                f"{TAG}corpus_code_version": manifest.code_version,
            }
        if start.online is not None:
            tags |= online_tags(start.online)
        if start.selection is not None:
            tags |= {KEEP_TAG: start.selection.expression, KEEP_DIGEST_TAG: start.selection.digest}
        run = self._client.create_run(experiment, tags=tags, run_name=f"{start.experiment}-{start.stage}")
        return str(run.info.run_id)

    def _log_params(self, start: StageStart) -> None:
        from mlflow.entities import Param

        run = self._client.get_run(self._run_id)
        values = {
            **start.params,
            "stage": start.stage,
            "device": start.device,
            "ranks": start.ranks,
            "trained_weights": start.parameters,
        }
        if start.selection is not None:
            values["keep"] = start.selection.expression
            values |= {f"keep.samples.{split}": count for split, count in start.selection.samples.items()}
        # MLflow keeps the first value for ever; what may change on resuming (threads, device) stays as it began.
        params = [
            Param(name, str(value)[:MAX_PARAM_CHARACTERS])
            for name, value in values.items()
            if name not in run.data.params
        ]
        for part in _chunks(params, MAX_PARAMS_A_CALL):
            self._client.log_batch(self._run_id, params=part)

    def _log_inputs(self, start: StageStart) -> None:
        """Record the data and the parent models. MLflow keeps each input once, however often it is logged."""
        from mlflow.entities import DatasetInput, InputTag, LoggedModelInput

        datasets: list[CorpusDataset | OnlineDataset] = []
        if start.corpus is not None:
            datasets.append(CorpusDataset(start.corpus, start.corpus_place))
        if start.online is not None:
            datasets.append(OnlineDataset(start.online, start.online_place))
        context = [InputTag("mlflow.data.context", "training")]
        used = [DatasetInput(dataset._to_mlflow_entity(), context) for dataset in datasets]
        self._client.log_inputs(self._run_id, datasets=used)
        parents = []
        for parent in start.parents:
            known = read_link(parent.bundle_dir.parent).get("model_id")
            ids = [model.model_id for model in logged_models(self._client, parent.id)]
            # Two runs may have made the same bundle: the one in the parent's own folder is meant.
            parents += [LoggedModelInput(known if known in ids else ids[0])] if ids else []
        if parents:
            self._client.log_inputs(self._run_id, models=parents)

    def _steps_reported(self) -> dict[str, int]:
        names = self._client.get_run(self._run_id).data.metrics
        return {
            name: max(point.step for point in self._client.get_metric_history(self._run_id, name))
            for name in names
        }

    def _write_link(self, stage_dir: Path, more: Mapping[str, str]) -> None:
        content = read_link(stage_dir) if "run_id" not in more else {}
        content |= {"tracking_uri": self._client.tracking_uri, **more}
        write_atomically(stage_dir / LINK_FILE, json.dumps(content, indent=2).encode())


def _chunks(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    for first in range(0, len(items), size):
        yield items[first : first + size]
