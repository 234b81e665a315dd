"""What a user may call a model: a folder, a registered name, an MLflow run or model, one that is shipped.

```
runs/tiny/student/model   a bundle           runs/tiny       a run folder: its last finished stage
ssiforge-tiny-joint       newest version     NAME/3  NAME@champion  models:/NAME/3   one version
runs:/RUN_ID  RUN_ID      the run's output   models:/m-…  m-…  one logged model      BUNDLE_ID
shipped  shipped:small    a model that came with the package (`./shipped` is a folder of that name)
```
"""

import re
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from manifests.documents import suggestion
from manifests.errors import UserError
from pipelines.models.folders import bundle_in, found_below
from pipelines.models.stale_mark import stale_reasons, tagged_reasons
from pipelines.tracking.registry import BUNDLE_PATH, logged_models, versions
from pipelines.tracking.store import BUNDLE_TAG, open_existing_store, pages
from training.bundle import MODEL_FILE, WEIGHTS_FILE, Bundle, BundleInfo, load_bundle, read_info
from training.device import chosen_device
from training.shipped_models import DEFAULT, SHIPPED, shipped_bundle, shipped_names

MAX_LISTED = 12
_HEX32 = re.compile(r"[0-9a-f]{32}")
_MODEL_ID = re.compile(r"(models:/)?(m-[0-9a-f]{32})")
_VERSION = re.compile(r"(models:/)?(?P<name>[^/@:]+)/(?P<version>\d+)")
_ALIAS = re.compile(r"(models:/)?(?P<name>[^/@:]+)@(?P<alias>[^/@:]+)")


@dataclass(frozen=True)
class ModelRef:
    """A model that was found."""

    reference: str
    """As it was asked for."""
    bundle_dir: Path
    info: BundleInfo
    model_id: str | None = None
    """MLflow's id of it; None where MLflow does not know it."""
    run_id: str | None = None
    """MLflow run that made it."""
    registered: str | None = None
    """`NAME/VERSION` if it was found by that."""
    tagged_stale: tuple[str, ...] = ()
    """Why it should be trained again, as MLflow's tags say."""

    @property
    def title(self) -> str:
        """A short name for tables: the stage and the beginning of the bundle's id."""
        return f"{self.info.stage} {self.info.id[:8]}"

    @property
    def stale(self) -> list[str]:
        """Why it should be trained again: data that it heard was withdrawn. Empty for a model that may be used."""
        return sorted({*stale_reasons(self.bundle_dir), *self.tagged_stale})

    def load(self, device: str = "cpu") -> Bundle:
        """Read the model, ready to enhance.

        Raises:
            UserError: when it is damaged, or there is no such device.
        """
        return load_bundle(self.bundle_dir, chosen_device(device))


def resolve_model(reference: str) -> ModelRef:
    """Find a model by any of the forms above.

    Raises:
        UserError: when there is none; it lists what there is.
    """
    if _means_shipped(reference):
        return _shipped(reference)
    folder = Path(reference)
    if folder.is_dir():
        return _in_folder(reference, folder)
    if folder.is_file():
        raise UserError(
            f"{reference}: is a file; a model is a folder that holds {MODEL_FILE} and {WEIGHTS_FILE}, such as "
            f"RUN/STAGE/model"
        )
    client = open_existing_store()
    found = _in_store(client, reference) if client is not None else None
    if found is None:
        raise UserError(f"{reference}: no such model; {_what_there_is(client, reference)}")
    return found


def bundle_dir(reference: str) -> Path:
    """Find a model's folder alone; for a folder or a shipped model, MLflow is not asked who made it.

    Raises:
        UserError: when there is none.
    """
    folder = Path(reference)
    if folder.is_dir() and not _means_shipped(reference):
        return bundle_in(folder)
    return resolve_model(reference).bundle_dir


def _means_shipped(reference: str) -> bool:
    return reference == SHIPPED or reference.startswith(f"{SHIPPED}:")


def _shipped(reference: str) -> ModelRef:
    name = reference.removeprefix(SHIPPED).removeprefix(":") or DEFAULT
    place = shipped_bundle(name)
    return ModelRef(f"{SHIPPED}:{name}", place, read_info(place))


def _in_folder(reference: str, folder: Path) -> ModelRef:
    place = bundle_in(folder)
    info = read_info(place)
    client = open_existing_store()
    known = logged_models(client, info.id) if client is not None else []
    model = known[0] if known else None
    return ModelRef(
        reference,
        place,
        info,
        str(model.model_id) if model else None,
        str(model.source_run_id) if model and model.source_run_id else None,
        tagged_stale=tuple(tagged_reasons(model.tags)) if model else (),
    )


def _in_store(client: Any, reference: str) -> ModelRef | None:
    from mlflow.exceptions import MlflowException

    try:
        if match := _MODEL_ID.fullmatch(reference):
            return _logged(client, reference, client.get_logged_model(match[2]))
        if match := _VERSION.fullmatch(reference):
            return _version(client, reference, client.get_model_version(match["name"], match["version"]))
        if match := _ALIAS.fullmatch(reference):
            made = client.get_model_version_by_alias(match["name"], match["alias"])
            return _version(client, reference, made)
        if _HEX32.fullmatch(reference.removeprefix("runs:/")):
            return _of_run_or_bundle(client, reference)
        known = versions(client, reference.removeprefix("models:/"))
        return _version(client, reference, known[-1]) if known else None
    except MlflowException:
        return None


def _of_run_or_bundle(client: Any, reference: str) -> ModelRef | None:
    from mlflow.exceptions import MlflowException

    identity = reference.removeprefix("runs:/")
    try:
        outputs = client.get_run(identity).outputs
    except MlflowException:
        known = logged_models(client, identity)
        return _logged(client, reference, known[0]) if known else None
    if outputs is None or not outputs.model_outputs:
        raise UserError(f"{reference}: this run has no model yet")
    last = max(outputs.model_outputs, key=lambda output: output.step)
    return _logged(client, reference, client.get_logged_model(last.model_id))


def _version(client: Any, reference: str, version: Any) -> ModelRef:
    # `ModelVersion.model_id` is empty on SQLite stores: its source names the logged model.
    match = _MODEL_ID.fullmatch(str(version.source))
    if match is None:
        raise UserError(f"{reference}: was not registered by ssiforge")
    found = _logged(client, reference, client.get_logged_model(match[2]))
    stale = (*found.tagged_stale, *tagged_reasons(version.tags))
    return replace(found, registered=f"{version.name}/{version.version}", tagged_stale=stale)


def _logged(client: Any, reference: str, model: Any) -> ModelRef:
    if BUNDLE_TAG not in model.tags:
        raise UserError(f"{reference}: is a model in MLflow, but not one of ssiforge")
    bundle_dir = local_artifact(str(model.artifact_location), BUNDLE_PATH)
    info = read_info(bundle_dir)
    return ModelRef(
        reference,
        bundle_dir,
        info,
        str(model.model_id),
        str(model.source_run_id),
        tagged_stale=tuple(tagged_reasons(model.tags)),
    )


def local_artifact(location: str, path: str) -> Path:
    """Return a local folder with an artifact: its own if it lies on this machine, else a downloaded copy."""
    parts = urlsplit(location)
    if parts.scheme in ("", "file"):
        return Path(url2pathname(parts.path)) / path
    import mlflow.artifacts

    copies = tempfile.mkdtemp(prefix="ssiforge-model-")
    return Path(mlflow.artifacts.download_artifacts(artifact_uri=f"{location}/{path}", dst_path=copies))


def registered_names(client: Any) -> list[str]:
    """Return the names of all registered models of ssiforge."""
    return sorted(model.name for model in pages(client.search_registered_models))


def _what_there_is(client: Any, reference: str) -> str:
    names = registered_names(client) if client is not None else []
    folders = [str(path) for path in found_below([Path()]).bundles if path.parts]
    shipped = [f"{SHIPPED}:{name}" for name in shipped_names()]
    if not names and not folders:
        return ", or use ".join(["there is none here yet; train one with 'ssiforge train'", *shipped[:1]])
    guess = suggestion(reference, names + folders + shipped)
    parts = [
        f"{kind}: {', '.join(found[:MAX_LISTED])}{', …' if len(found) > MAX_LISTED else ''}"
        for kind, found in (("registered", names), ("folders", folders), (SHIPPED, shipped))
        if found
    ]
    return "there is " + "; ".join(parts) + guess
