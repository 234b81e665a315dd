"""An evaluation in MLflow: one run for each model, linked to the model and to the corpus."""

from collections.abc import Sequence
from typing import Any

from manifests.canonical import digest
from manifests.corpus import Corpus
from pipelines.evaluation.audio import FOLDER, INDEX_FILE
from pipelines.evaluation.evaluate import RESULT_FILE, Evaluation, titles
from pipelines.evaluation.files import COMPARISON_FILE, ROWS_CSV_FILE, ROWS_FILE, SUMMARY_FILE
from pipelines.models.reference import ModelRef
from pipelines.models.stale_mark import stale_tag
from pipelines.quality.scores import DEGRADED
from pipelines.tracking.corpus import corpus_dataset
from pipelines.tracking.store import (
    BUNDLE_TAG,
    JOB_TAG,
    KEEP_DIGEST_TAG,
    KEEP_TAG,
    STALE_TAG,
    TAG,
    experiment_id,
    open_store,
)

MOST_METRICS = 1000
"""MLflow takes so many at once."""
INTERVAL = ("low", "high")


def log_evaluation(evaluation: Evaluation, models: Sequence[ModelRef], corpus: Corpus | None) -> list[str]:
    """Log an evaluation; return the ids of its MLflow runs."""
    client = open_store()
    return [
        _log(client, evaluation, name, model, corpus)
        for name, model in zip(titles(models), models, strict=True)
    ]


def _log(client: Any, evaluation: Evaluation, name: str, model: ModelRef, corpus: Corpus | None) -> str:
    from mlflow.entities import DatasetInput, InputTag, LoggedModelInput

    result = evaluation.result
    where = result["split"] or "recordings"
    tags = {
        JOB_TAG: "evaluate",
        BUNDLE_TAG: model.info.id,
        f"{TAG}stage": model.info.stage,
        f"{TAG}split": where,
        f"{TAG}scores_digest": result["scores_digest"],
        f"{TAG}code_version": result["code_version"],
        f"{TAG}packages_digest": digest(result["packages"]),
        "mlflow.source.name": "ssiforge evaluate",
        "mlflow.source.type": "LOCAL",
    }
    if model.stale:
        tags[STALE_TAG] = stale_tag(model.stale)
    if "selection" in result:
        tags |= {KEEP_TAG: result["selection"]["expression"], KEEP_DIGEST_TAG: result["selection"]["digest"]}
    experiment = experiment_id(client, str(model.info.experiment.get("name", "ssiforge")))
    run = client.create_run(experiment, tags=tags, run_name=f"evaluate-{model.info.stage}-{where}")
    run_id = str(run.info.run_id)
    dataset = None
    if corpus is not None:
        client.set_tag(run_id, f"{TAG}corpus_id", corpus.manifest.id)
        dataset = corpus_dataset(corpus)
        used = DatasetInput(dataset._to_mlflow_entity(), [InputTag("mlflow.data.context", "evaluation")])
        client.log_inputs(run_id, datasets=[used])
    if model.model_id is not None:
        client.log_inputs(run_id, models=[LoggedModelInput(model.model_id)])
    metrics = _metrics(result, name, run.info.start_time, model, dataset)
    for start in range(0, len(metrics), MOST_METRICS):
        client.log_batch(run_id, metrics=metrics[start : start + MOST_METRICS])
    for file in (RESULT_FILE, ROWS_FILE, ROWS_CSV_FILE, SUMMARY_FILE, COMPARISON_FILE):
        client.log_artifact(run_id, str(evaluation.out / file), "evaluation")
    if (evaluation.out / FOLDER / INDEX_FILE).is_file():
        client.log_artifacts(run_id, str(evaluation.out / FOLDER), f"evaluation/{FOLDER}")
    client.set_terminated(run_id, "FINISHED")
    return run_id


def _metrics(result: dict[str, Any], name: str, time_ms: int, model: ModelRef, dataset: Any) -> list[Any]:
    """Means of the model (tied to it and to the corpus, so that MLflow shows them at the model) and of the input.

    Beside each mean stand the ends of its interval and the number of samples that are not in it, if there are any;
    after them the mean differences from the systems that the model is compared with.
    """
    from mlflow.entities import Metric

    tied = {"model_id": model.model_id} if model.model_id else {}
    if dataset is not None:
        tied |= {"dataset_name": dataset.name, "dataset_digest": dataset.digest}
    found = []
    for system, prefix, more in ((name, "enhanced", tied), (DEGRADED, "degraded", {})):
        for column, entry in result["summary"][system].items():
            if isinstance(entry, dict) and entry["mean"] is not None:
                found.append(Metric(f"{prefix}/{column}", entry["mean"], time_ms, 0, **more))
                found += _numbers(f"{prefix}/{column}", entry, INTERVAL, time_ms)
                if entry["failures"]:
                    found.append(Metric(f"{prefix}/{column}_failures", entry["failures"], time_ms, 0))
    for pair in result["comparisons"]:
        if pair["system"] == name:
            for column, entry in pair["scores"].items():
                key = f"minus_{pair['with']}/{column}"
                found += _numbers(key, {"": entry["mean"]} | entry, ("", *INTERVAL, "better", "p"), time_ms)
    return found


def _numbers(key: str, entry: dict[str, Any], names: Sequence[str], time_ms: int) -> list[Any]:
    from mlflow.entities import Metric

    there = [name for name in names if entry[name] is not None]
    return [Metric(f"{key}_{name}" if name else key, entry[name], time_ms, 0) for name in there]
