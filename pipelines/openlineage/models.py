"""Models as OpenLineage data sets: as MLflow registers them, the id of the bundle being their version."""

from pipelines.openlineage.events import MODELS_NAMESPACE, Json, dataset
from pipelines.tracking.registry import registered_name
from training.bundle import BundleInfo


def model_dataset(experiment: str, stage: str, info: BundleInfo | None = None) -> Json:
    """Return a model as MLflow registers it; without `info`, one that is going to be made."""
    name = registered_name(experiment, stage)
    if info is None:
        return dataset(name, namespace=MODELS_NAMESPACE)
    digests = {"stage": info.stage_digest, "data": info.corpus_id, "weights": info.weights_sha256}
    licences = info.corpus.licences if info.corpus else {}
    return dataset(name, info.id, digests, licences, namespace=MODELS_NAMESPACE)


def finished_model(info: BundleInfo) -> Json:
    """Return a model that is there."""
    return model_dataset(str(info.experiment.get("name", "ssiforge")), info.stage, info)
