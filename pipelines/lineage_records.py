"""What is known of models and runs: from MLflow, and from bundles that lie in folders, joined by bundle id."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from manifests.errors import UserError
from pipelines.models import local_bundles
from pipelines.registry import BUNDLE_TAG
from pipelines.stale_mark import STALE_TAG, stale_reasons
from pipelines.tracking import (
    CORPUS_SOURCE_TYPE,
    JOB_TAG,
    KEEP_DIGEST_TAG,
    KEEP_TAG,
    ONLINE_SOURCE_TYPE,
    TAG,
    all_experiment_ids,
    pages,
)
from training.bundle import BundleInfo, read_info

PARENT_TAG = f"{TAG}parent."


@dataclass(frozen=True)
class ModelRecord:
    """A model, wherever it was found."""

    bundle_id: str
    stage: str
    corpus_id: str
    code_version: str
    parents: Mapping[str, str]
    """Bundle ids, by role."""
    run_ids: frozenset[str] = frozenset()
    registered: tuple[str, ...] = ()
    """`NAME/VERSION`, with aliases: `NAME/3 @champion`."""
    folders: tuple[str, ...] = ()
    stale: tuple[str, ...] = ()
    """Why it should be trained again: data that it heard was withdrawn."""


@dataclass(frozen=True)
class RunRecord:
    """An MLflow run."""

    run_id: str
    name: str
    status: str
    job: str
    """`train` or `evaluate`."""
    corpora: tuple[str, ...]
    """Ids, those of fresh samples among them."""
    parents: Mapping[str, str]
    """Bundle ids of what it started from or learnt from, by role."""
    bundle_id: str
    """For an evaluation: which model it scored."""
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Records:
    """Everything known, by id."""

    models: Mapping[str, ModelRecord]
    runs: Mapping[str, RunRecord]


def collect(client: Any | None, folders: Iterable[Path]) -> Records:
    """Read MLflow (if there is a store) and the bundles below some folders."""
    models: dict[str, ModelRecord] = {}
    runs: dict[str, RunRecord] = {}
    if client is not None and (experiments := all_experiment_ids(client)):
        oldest_first = pages(client.search_runs, experiments, order_by=["attributes.start_time ASC"])
        runs = {str(run.info.run_id): _run(run) for run in oldest_first}
        names = _registered(client)
        for logged in pages(client.search_logged_models, experiments):
            if BUNDLE_TAG in logged.tags:
                _merge(models, _logged(logged, names.get(logged.tags[BUNDLE_TAG], ())))
        for bundle_id, stale in _stale_versions(client).items():
            if bundle_id in models:
                models[bundle_id] = replace(models[bundle_id], stale=stale)
    for folder in folders:
        for bundle_dir in local_bundles(folder):
            try:
                _merge(models, _local(bundle_dir, read_info(bundle_dir)))
            except UserError:  # of an older format: nothing can be said about it
                continue
    return Records(models, runs)


def _merge(models: dict[str, ModelRecord], found: ModelRecord) -> None:
    known = models.get(found.bundle_id)
    if known is not None:
        found = replace(
            known,
            run_ids=known.run_ids | found.run_ids,
            registered=known.registered or found.registered,
            folders=tuple(dict.fromkeys((*known.folders, *found.folders))),
            stale=tuple(sorted({*known.stale, *found.stale})),
        )
    models[found.bundle_id] = found


def _logged(model: Any, registered: tuple[str, ...]) -> ModelRecord:
    tags = model.tags
    return ModelRecord(
        tags[BUNDLE_TAG],
        tags.get(f"{TAG}stage", ""),
        tags.get(f"{TAG}corpus_id", ""),
        tags.get(f"{TAG}code_version", ""),
        _parents(tags),
        frozenset({str(model.source_run_id)} if model.source_run_id else ()),
        registered,
    )


def _local(folder: Path, info: BundleInfo) -> ModelRecord:
    return ModelRecord(
        info.id,
        info.stage,
        info.corpus_id,
        info.code_version,
        {str(role): bundle_id for role, bundle_id in info.parents.items()},
        folders=(str(folder),),
        stale=tuple(stale_reasons(folder)),
    )


def _run(run: Any) -> RunRecord:
    tags = run.data.tags
    used = [
        str(item.dataset.digest)
        for item in (run.inputs.dataset_inputs if run.inputs else [])
        if item.dataset.source_type in (CORPUS_SOURCE_TYPE, ONLINE_SOURCE_TYPE)
    ]
    tagged = [tags[f"{TAG}corpus_id"]] if f"{TAG}corpus_id" in tags else []
    facts = {
        "seed": run.data.params.get("seed", ""),
        "code_version": tags.get(f"{TAG}code_version", ""),
        "experiment_digest": tags.get(f"{TAG}experiment_digest", ""),
        "folder": tags.get(f"{TAG}run_dir", ""),
        "split": tags.get(f"{TAG}split", ""),
        "keep": tags.get(KEEP_TAG, ""),
        "selection": tags.get(KEEP_DIGEST_TAG, ""),
    }
    return RunRecord(
        str(run.info.run_id),
        str(run.info.run_name),
        str(run.info.status),
        tags.get(JOB_TAG, "train"),
        tuple(dict.fromkeys((*used, *tagged))),
        _parents(tags),
        tags.get(BUNDLE_TAG, ""),
        {name: value for name, value in facts.items() if value},
    )


def _parents(tags: Mapping[str, str]) -> dict[str, str]:
    return {
        name.removeprefix(PARENT_TAG): value for name, value in tags.items() if name.startswith(PARENT_TAG)
    }


def _stale_versions(client: Any) -> dict[str, tuple[str, ...]]:
    """Return why registered models are stale, by bundle id."""
    found: dict[str, set[str]] = {}
    for version in pages(client.search_model_versions):
        if said := version.tags.get(STALE_TAG):
            found.setdefault(version.tags.get(BUNDLE_TAG, ""), set()).update(said.split("; "))
    return {bundle_id: tuple(sorted(reasons)) for bundle_id, reasons in found.items()}


def _registered(client: Any) -> dict[str, tuple[str, ...]]:
    """Return names of registered versions by bundle id. Aliases stand at the registered model alone."""
    aliases: dict[str, list[str]] = {}
    for model in pages(client.search_registered_models):
        for alias, version in (getattr(model, "aliases", None) or {}).items():
            aliases.setdefault(f"{model.name}/{version}", []).append(f"@{alias}")
    found: dict[str, list[str]] = {}
    for version in pages(client.search_model_versions):
        if bundle_id := version.tags.get(BUNDLE_TAG):
            name = f"{version.name}/{version.version}"
            found.setdefault(bundle_id, []).append(" ".join([name, *sorted(aliases.get(name, []))]))
    return {bundle_id: tuple(sorted(names)) for bundle_id, names in found.items()}
