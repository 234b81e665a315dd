"""Trained models in MLflow: a logged model for each bundle, and a version of a registered model.

A bundle is the same model wherever it lies; the tag `ssiforge.bundle_id` ties MLflow's records to it.
"""

import shutil
import tempfile
import warnings
from importlib import metadata
from pathlib import Path
from typing import Any

from pipelines.tracking.store import BUNDLE_TAG, TAG, all_experiment_ids, pages
from training.bundle import BundleInfo

ARTIFACT = "bundle"
"""Name of the bundle among a logged model's artifacts."""
CARD_FILE = "README.md"
"""A model's card, in its bundle's folder and beside what MLflow makes of it."""
BUNDLE_PATH = f"artifacts/{ARTIFACT}"
"""Where the bundle lies within a logged model."""


def registered_name(experiment: str, stage: str) -> str:
    """Name under which the models of a stage are registered."""
    return f"ssiforge-{experiment}-{stage}"


def model_tags(info: BundleInfo) -> dict[str, str]:
    """Return the tags by which a model is found again."""
    return {
        BUNDLE_TAG: info.id,
        f"{TAG}stage": info.stage,
        f"{TAG}corpus_id": info.corpus_id,
        f"{TAG}stage_digest": info.stage_digest,
        f"{TAG}code_version": info.code_version,
        **{f"{TAG}parent.{role}": bundle_id for role, bundle_id in info.parents.items()},
    }


def log_model(client: Any, run_id: str, bundle_dir: Path, info: BundleInfo) -> str:
    """Record a bundle as the output of a run; return its MLflow model id.

    The model is a pyfunc made from code: MLflow rebuilds it by running `model.py` beside this on the bundle. Calling
    this again for the same run and bundle returns the model that is there.
    """
    from mlflow.entities import LoggedModelOutput, LoggedModelStatus

    run = client.get_run(run_id)
    for model in logged_models(client, info.id):
        if model.source_run_id == run_id and str(model.status) == str(LoggedModelStatus.READY):
            return str(model.model_id)
    model = client.create_logged_model(
        run.info.experiment_id,
        name=info.stage,
        source_run_id=run_id,
        tags=model_tags(info),
        params={"preset": info.preset, "stage": info.stage, "steps": str(info.steps)},
        model_type="speech enhancement",
    )
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder) / "model"
        _write_pyfunc(package, bundle_dir, str(model.model_id), run_id)
        client.log_model_artifacts(model.model_id, str(package))
    client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
    client.log_outputs(run_id, [LoggedModelOutput(model.model_id, info.steps)])
    return str(model.model_id)


def _write_pyfunc(package: Path, bundle_dir: Path, model_id: str, run_id: str) -> None:
    import mlflow.pyfunc
    import numpy as np
    from mlflow.models import Model, ModelSignature
    from mlflow.types import Schema, TensorSpec

    waves = Schema([TensorSpec(np.dtype(np.float32), (-1, -1))])
    # MLflow keeps an artifact's folder under its own name, and does not follow links.
    copy = Path(shutil.copytree(bundle_dir, package.parent / ARTIFACT))
    with warnings.catch_warnings():
        # It would have the shapes spelled out as type hints and an example; the signature says more than both.
        warnings.simplefilter("ignore", UserWarning)
        mlflow.pyfunc.save_model(
            package,
            python_model=str(Path(__file__).with_name("model.py")),
            artifacts={ARTIFACT: str(copy)},
            signature=ModelSignature(inputs=waves, outputs=waves),
            pip_requirements=[f"ssiforge=={metadata.version('ssiforge')}"],
            mlflow_model=Model(model_id=model_id, run_id=run_id),
        )
    if (copy / CARD_FILE).is_file():
        shutil.copy(copy / CARD_FILE, package)


def register(
    client: Any, name: str, model_id: str, run_id: str, info: BundleInfo, description: str = ""
) -> str:
    """Make a logged model a version of a registered model; return the version.

    A bundle whose run registered it already keeps its version. The description is Markdown.
    """
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name, description=f"ssiforge: {info.stage}, preset {info.preset}")
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    for version in versions(client, name):
        if version.tags.get(BUNDLE_TAG) == info.id and version.run_id == run_id:
            return str(version.version)
    made = client.create_model_version(
        name,
        f"models:/{model_id}",
        run_id=run_id,
        tags=model_tags(info),
        model_id=model_id,
        description=description,
    )
    return str(made.version)


def versions(client: Any, name: str) -> list[Any]:
    """Return the versions of a registered model, oldest first."""
    quoted = name.replace("'", "''")
    found = pages(client.search_model_versions, f"name='{quoted}'")
    return sorted(found, key=lambda version: int(version.version))


def logged_models(client: Any, bundle_id: str) -> list[Any]:
    """Return MLflow's records of a bundle, newest first."""
    experiments = all_experiment_ids(client)
    if not experiments or not bundle_id.isalnum():
        return []
    found = pages(
        client.search_logged_models, experiments, filter_string=f"tags.`{BUNDLE_TAG}` = '{bundle_id}'"
    )
    return sorted(found, key=lambda model: int(model.creation_timestamp), reverse=True)
