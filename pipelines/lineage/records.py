"""What is known of models, runs, evaluations and registered versions: from MLflow, and from plain files in folders.

The two are joined by identity: a model by its bundle's id, a training run by the MLflow run id in the `mlflow.json`
beside its `run.json`, an evaluation by its scores. Each is enough alone.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from manifests.canonical import digest
from manifests.corpus_summary import CorpusSummary
from manifests.errors import UserError
from manifests.flat import flat, settings_digest
from manifests.run_record import StageRun, read_run
from pipelines.evaluation.provenance import evaluation_id, read_provenance
from pipelines.models.folders import Found
from pipelines.models.stale_mark import stale_reasons, tagged_reasons
from pipelines.onnx_export.record import ExportRecord, read_exports, tagged_exports
from pipelines.tracking.link import read_link
from pipelines.tracking.records import Stored, StoredModel, StoredRun, StoredVersion
from pipelines.tracking.store import (
    BUNDLE_TAG,
    CORPUS_SOURCE_TYPE,
    JOB_TAG,
    KEEP_DIGEST_TAG,
    KEEP_TAG,
    ONLINE_SOURCE_TYPE,
    STALE_TAG,
    TAG,
)
from training.bundle_info import MODEL_FOLDER, BundleInfo, is_bundle, read_info
from training.shipped_models import shipped_bundle, shipped_names

PARENT_TAG = f"{TAG}parent."
EVALUATE = "evaluate"
Facts = Mapping[str, Any]


@dataclass(frozen=True)
class ModelRecord:
    """A model, wherever it was found."""

    bundle_id: str
    stage: str
    corpus_id: str
    parents: Mapping[str, str]
    """Bundle ids, by role."""
    run_ids: frozenset[str] = frozenset()
    folders: tuple[str, ...] = ()
    model_ids: tuple[str, ...] = ()
    """MLflow's, newest first."""
    facts: Facts = field(default_factory=dict)
    stale: tuple[str, ...] = ()
    """Why it should be trained again, as it stands beside the bundle: data that it heard was withdrawn."""
    corpus: CorpusSummary | None = None
    """What it remembers of its corpus."""


@dataclass(frozen=True)
class RunRecord:
    """A training run, or the evaluation of one model."""

    run_id: str
    """MLflow's for a training run that it knew, else the digest of what decides it."""
    name: str
    job: str
    """`train` or `evaluate`."""
    corpora: tuple[str, ...]
    """Ids, those of fresh samples among them."""
    parents: Mapping[str, str]
    """Bundle ids of what it started from or learnt from, by role."""
    bundle_id: str
    """For an evaluation: which model it scored."""
    split: str = ""
    """For an evaluation: which of the corpus."""
    other_ids: frozenset[str] = frozenset()
    """By which it is found too."""
    facts: Facts = field(default_factory=dict)


@dataclass(frozen=True)
class VersionRecord:
    """A version of a registered model."""

    name: str
    version: int
    bundle_id: str
    aliases: tuple[str, ...] = ()
    stale: str = ""
    """Why it should not be used any more; empty for a version that may."""

    @property
    def title(self) -> str:
        """`NAME/3`."""
        return f"{self.name}/{self.version}"


@dataclass(frozen=True)
class Records:
    """Everything known, by id."""

    models: Mapping[str, ModelRecord]
    runs: Mapping[str, RunRecord]
    versions: Mapping[str, VersionRecord] = field(default_factory=dict)
    """By `NAME/3`."""
    exports: Mapping[str, ExportRecord] = field(default_factory=dict)
    """By the hash of the file."""

    def run_named(self, reference: str) -> RunRecord | None:
        """Find a run by any of its ids, `runs:/` before it or not."""
        name = reference.removeprefix("runs:/")
        return self.runs.get(name) or next((r for r in self.runs.values() if name in r.other_ids), None)

    def model_named(self, reference: str) -> str:
        """Return the bundle id that a reference to a model means; empty where it means none that is known.

        Args:
            reference: a bundle id, MLflow's id of a model, `NAME/3`, `NAME@alias` or `NAME`, `models:/` before it or
                not.
        """
        name = reference.removeprefix("models:/")
        if name in self.models:
            return name
        for model in self.models.values():
            if name in model.model_ids:
                return model.bundle_id
        if name in self.versions:
            return self.versions[name].bundle_id
        for version in self.versions.values():
            if name in {f"{version.name}@{alias}" for alias in version.aliases}:
                return version.bundle_id
        newest = max((v for v in self.versions.values() if v.name == name), key=_number, default=None)
        return newest.bundle_id if newest else ""


def _number(version: VersionRecord) -> int:
    return version.version


def collect(stored: Stored | None, found: Found) -> Records:
    """Join what MLflow recorded (if there is a store) and what lies in folders."""
    models: dict[str, ModelRecord] = {}
    runs: dict[str, RunRecord] = {}
    versions: dict[str, VersionRecord] = {}
    exports: dict[str, ExportRecord] = {}
    for logged in stored.models if stored else ():
        _merge_model(models, _stored_model(logged))
        for export in tagged_exports(logged.bundle_id, logged.tags):
            exports[export.sha256] = export
    for run in stored.runs if stored else ():
        _merge_run(runs, _stored_run(run))
    for version in stored.versions if stored else ():
        record = _stored_version(version)
        versions[record.title] = record
    for folder in found.runs:
        if (run_here := _readable(read_run, folder, found.not_read)) is not None:
            _add_local_run(models, runs, folder, run_here)
    for folder in found.bundles:
        if (info := _readable(read_info, folder, found.not_read)) is not None:
            _merge_model(models, _local_model(folder, info))
            for registered in _registered_here(folder, info):
                versions.setdefault(registered.title, registered)
    for folder in found.evaluations:
        for evaluation in _local_evaluations(folder):
            _merge_run(runs, evaluation)
    for folder in found.exports:
        for export in read_exports(folder):
            known = exports.get(export.sha256)
            places = (*(known.folders if known else ()), *export.folders)
            exports[export.sha256] = replace(export, folders=tuple(dict.fromkeys(places)))
    _add_shipped_parents(models)
    return Records(models, runs, versions, exports)


def _add_shipped_parents(models: dict[str, ModelRecord]) -> None:
    """Add the models that came with the package of which others were made: they lie in no folder of the user's."""
    missing = {parent for model in models.values() for parent in model.parents.values()} - models.keys()
    for name in shipped_names() if missing else ():
        folder = shipped_bundle(name)
        if (info := _readable(read_info, folder, [])) is not None and info.id in missing:
            _merge_model(models, _local_model(folder, info))


def _readable(read: Any, folder: Path, not_read: list[str]) -> Any:
    try:
        return read(folder)
    except UserError as error:  # damaged, or of another format: nothing can be said about it but that
        not_read.append(str(error))
        return None


def _merge_model(models: dict[str, ModelRecord], found: ModelRecord) -> None:
    known = models.get(found.bundle_id)
    if known is not None:
        found = replace(
            known,
            run_ids=known.run_ids | found.run_ids,
            model_ids=tuple(dict.fromkeys((*known.model_ids, *found.model_ids))),
            folders=tuple(dict.fromkeys((*known.folders, *found.folders))),
            facts={**found.facts, **known.facts},
            stale=tuple(sorted({*known.stale, *found.stale})),
            corpus=known.corpus or found.corpus,
        )
    models[found.bundle_id] = found


def _merge_run(runs: dict[str, RunRecord], found: RunRecord) -> None:
    known = runs.get(found.run_id)
    if known is not None:
        found = replace(
            known,
            corpora=tuple(dict.fromkeys((*known.corpora, *found.corpora))),
            parents={**found.parents, **known.parents},
            other_ids=known.other_ids | found.other_ids,
            facts={**found.facts, **known.facts},
        )
    runs[found.run_id] = found


def _stored_model(model: StoredModel) -> ModelRecord:
    tags = model.tags
    return ModelRecord(
        model.bundle_id,
        tags.get(f"{TAG}stage", ""),
        tags.get(f"{TAG}corpus_id", ""),
        _parents(tags),
        frozenset({model.run_id} if model.run_id else ()),
        (),
        (model.model_id,),
        _said({name: tags.get(f"{TAG}{name}", "") for name in ("code_version", "stage_digest")}),
        tuple(tagged_reasons(tags)),
    )


def _local_model(folder: Path, info: BundleInfo) -> ModelRecord:
    facts = {
        "code_version": info.code_version,
        "packages_digest": info.environment.get("packages_digest", ""),
        "experiment": info.experiment.get("name", ""),
        "experiment_digest": settings_digest(flat(info.experiment)),
        "stage_digest": info.stage_digest,
        "preset": info.preset,
        "steps": info.steps,
        "kept_share": info.repair.get("kept_share") or "",
        "dry_share": info.repair.get("dry_share") or "",
        "makeup_db": info.repair.get("makeup_db") or "",
        "by_noise": info.repair.get("by_noise") or "",
        "keep": info.selection.expression if info.selection else "",
        "selection": info.selection.digest if info.selection else "",
    }
    parents = {str(role): bundle_id for role, bundle_id in info.parents.items()}
    place = (str(folder.resolve()),)
    stale = tuple(stale_reasons(folder))
    return ModelRecord(
        info.id,
        info.stage,
        info.corpus_id,
        parents,
        folders=place,
        facts=_said(facts),
        stale=stale,
        corpus=info.corpus,
    )


def _stored_run(run: StoredRun) -> RunRecord:
    tags = run.tags
    used = [
        dataset.digest
        for dataset in run.datasets
        if dataset.source_type in (CORPUS_SOURCE_TYPE, ONLINE_SOURCE_TYPE)
    ]
    corpus_id, split = tags.get(f"{TAG}corpus_id", ""), tags.get(f"{TAG}split", "")
    job, bundle_id = tags.get(JOB_TAG, "train"), tags.get(BUNDLE_TAG, "")
    facts = {
        "status": run.status,
        "seed": run.seed,
        "code_version": tags.get(f"{TAG}code_version", ""),
        "packages_digest": tags.get(f"{TAG}packages_digest", ""),
        "experiment_digest": tags.get(f"{TAG}experiment_digest", ""),
        "folder": tags.get(f"{TAG}run_dir", ""),
        "split": split,
        "keep": tags.get(KEEP_TAG, ""),
        "selection": tags.get(KEEP_DIGEST_TAG, ""),
        "mlflow_run_id": run.run_id,
    }
    run_id = run.run_id
    if job == EVALUATE and (scores := tags.get(f"{TAG}scores_digest")):
        run_id = evaluation_id(bundle_id, scores, corpus_id, split, tags.get(KEEP_DIGEST_TAG, ""))
    return RunRecord(
        run_id,
        run.name,
        job,
        tuple(dict.fromkeys((*used, *([corpus_id] if corpus_id else [])))),
        _parents(tags),
        bundle_id,
        split,
        frozenset({run.run_id}),
        _said(facts),
    )


def _add_local_run(
    models: dict[str, ModelRecord], runs: dict[str, RunRecord], stage_dir: Path, run: StageRun
) -> None:
    """Add a run that left its record in a folder, and tell its model which run made it."""
    run_id = read_link(stage_dir).get("run_id", run.id)
    corpora = (run.corpus_id, run.online.corpus_id if run.online else "")
    facts = {
        "status": run.status,
        "ended_because": run.ended_because,
        "code_version": run.code_version,
        "packages_digest": run.packages_digest,
        "packages": run.packages,
        "experiment_digest": run.experiment_digest,
        "stage_digest": run.stage_digest,
        "folder": str(stage_dir.resolve().parent),
        "keep": run.selection.expression if run.selection else "",
        "selection": run.selection.digest if run.selection else "",
        "record_id": run.id,
    }
    known = runs.get(run_id)
    _merge_run(
        runs,
        RunRecord(
            run_id,
            f"{run.experiment}-{run.stage}",
            "train",
            tuple(corpus_id for corpus_id in corpora if corpus_id),
            {str(role): bundle_id for role, bundle_id in run.parents.items()},
            "",
            "",
            frozenset({run.id}),
            _said(facts),
        ),
    )
    if known is not None:  # where MLflow says that it ran is not where it lies now
        moved = {**runs[run_id].facts, "folder": facts["folder"]}
        runs[run_id] = replace(runs[run_id], facts=moved)
    bundle_dir = stage_dir / MODEL_FOLDER
    info = _readable(read_info, bundle_dir, []) if is_bundle(bundle_dir) else None
    if info is not None and info.id == run.model_id:
        _merge_model(models, replace(_local_model(bundle_dir, info), run_ids=frozenset({run_id})))


def _stored_version(version: StoredVersion) -> VersionRecord:
    return VersionRecord(
        version.name, version.version, version.bundle_id, version.aliases, version.tags.get(STALE_TAG, "")
    )


def _registered_here(bundle_dir: Path, info: BundleInfo) -> Iterable[VersionRecord]:
    """Return the version that the folder of a stage remembers, for when MLflow is gone."""
    name, _, version = read_link(bundle_dir.parent).get("registered", "").rpartition("/")
    if name and version.isdigit() and bundle_dir.name == MODEL_FOLDER:
        yield VersionRecord(name, int(version), info.id)


def _local_evaluations(folder: Path) -> Iterable[RunRecord]:
    for one in read_provenance(folder):
        facts = {
            "split": one.split,
            "samples": one.samples,
            "code_version": one.code_version,
            "packages_digest": digest(one.packages) if one.packages else "",
            "packages": one.packages,
            "keep": one.keep,
            "selection": one.selection,
            "scores_digest": one.scores_digest,
            "folder": str(folder.resolve()),
        }
        yield RunRecord(
            one.id,
            f"evaluate-{one.stage}-{one.split}",
            EVALUATE,
            (one.corpus_id,) if one.corpus_id else (),
            {},
            one.bundle_id,
            one.split,
            facts=_said(facts),
        )


def _said(facts: Facts) -> dict[str, Any]:
    return {name: value for name, value in facts.items() if value not in ("", None, {})}


def _parents(tags: Mapping[str, str]) -> dict[str, str]:
    return {
        name.removeprefix(PARENT_TAG): value for name, value in tags.items() if name.startswith(PARENT_TAG)
    }
