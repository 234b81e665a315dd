"""What MLflow recorded, as plain values: read through its client, or from a local database in a hundredth of the time.

Importing MLflow and opening its store takes seconds; a lineage question is to take less than two. A local SQLite
database is read directly, read-only, if it is of the one revision that this code was compared with (the tests compare
both readings) and has every column that is asked for. Anything else (a server, another MLflow, a database that is
locked) goes through the client. A cache of our own beside MLflow would be as fast, and wrong as soon as somebody
deletes a run or moves an alias in MLflow's pages.
"""

import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from pipelines.tracking.store import BUNDLE_TAG, Store, open_store, pages, store_location

KNOWN_REVISIONS = frozenset({"dc11669786a5"})
"""Of MLflow's database schema, as its table `alembic_version` names them: that of MLflow 3.17."""
LOCK_TIMEOUT_S = 1.0

_COLUMNS: Mapping[str, frozenset[str]] = {
    "experiments": frozenset({"experiment_id", "lifecycle_stage"}),
    "runs": frozenset({"run_uuid", "name", "status", "start_time", "lifecycle_stage", "experiment_id"}),
    "tags": frozenset({"key", "value", "run_uuid"}),
    "params": frozenset({"key", "value", "run_uuid"}),
    "inputs": frozenset({"source_type", "source_id", "destination_type", "destination_id"}),
    "datasets": frozenset(
        {"dataset_uuid", "digest", "dataset_source_type", "dataset_source", "dataset_profile"}
    ),
    "logged_models": frozenset(
        {"model_id", "experiment_id", "creation_timestamp_ms", "lifecycle_stage", "source_run_id"}
    ),
    "logged_model_tags": frozenset({"model_id", "tag_key", "tag_value"}),
    "model_versions": frozenset({"name", "version", "source", "run_id", "current_stage"}),
    "model_version_tags": frozenset({"key", "value", "name", "version"}),
    "registered_model_aliases": frozenset({"alias", "version", "name"}),
}
_DELETED_STAGE = "Deleted_Internal"
"""What MLflow calls the stage of a version that was deleted."""


@dataclass(frozen=True)
class StoredDataset:
    """Data that a run used."""

    source_type: str
    digest: str
    source: str
    """JSON text."""
    profile: str
    """JSON text; empty where there is none."""


@dataclass(frozen=True)
class StoredRun:
    """A run that was not deleted."""

    run_id: str
    name: str
    status: str
    seed: str
    """Its parameter `seed`; empty where there is none."""
    tags: Mapping[str, str]
    datasets: tuple[StoredDataset, ...] = ()


@dataclass(frozen=True)
class StoredModel:
    """A logged model of ssiforge."""

    model_id: str
    run_id: str
    tags: Mapping[str, str]

    @property
    def bundle_id(self) -> str:
        """Identity of the bundle."""
        return self.tags[BUNDLE_TAG]


@dataclass(frozen=True)
class StoredVersion:
    """A version of a registered model of ssiforge."""

    name: str
    version: int
    run_id: str
    tags: Mapping[str, str]
    aliases: tuple[str, ...] = ()

    @property
    def bundle_id(self) -> str:
        """Identity of the bundle."""
        return self.tags[BUNDLE_TAG]


@dataclass(frozen=True)
class Stored:
    """Everything of ours in a store."""

    runs: tuple[StoredRun, ...] = ()
    """Oldest first."""
    models: tuple[StoredModel, ...] = ()
    """Newest first."""
    versions: tuple[StoredVersion, ...] = ()
    """By name, oldest first."""

    @property
    def datasets(self) -> Iterable[StoredDataset]:
        """Every use of data by a run."""
        return (dataset for run in self.runs for dataset in run.datasets)


def stored_records(store: Store | None = None) -> Stored | None:
    """Read everything that lineage needs; None where nothing was ever recorded."""
    store = store or store_location()
    if not store.exists:
        return None
    return _from_database(store) or from_client(open_store(store))


def _from_database(store: Store) -> Stored | None:
    """Read a local database; None if it is not of the form that is known."""
    if store.database is None:
        return None
    try:
        uri = f"{store.database.absolute().as_uri()}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True, timeout=LOCK_TIMEOUT_S)) as database:
            database.execute("BEGIN")  # one state of the store, whoever writes meanwhile
            return from_database(database)
    except sqlite3.Error:
        return None


def from_database(database: sqlite3.Connection) -> Stored | None:
    """Read an open database; None if it is not of the form that is known.

    Raises:
        sqlite3.Error: when it cannot be read.
    """
    if {row[0] for row in database.execute("SELECT version_num FROM alembic_version")} - KNOWN_REVISIONS:
        return None
    for table, columns in _COLUMNS.items():
        held = {row[1] for row in database.execute(f"PRAGMA table_info({table})")}
        if not columns <= held:
            return None
    return Stored(_runs(database), _models(database), _versions(database))


def _runs(database: sqlite3.Connection) -> tuple[StoredRun, ...]:
    tags = _grouped(database.execute("SELECT run_uuid, key, value FROM tags"))
    seeds = dict(database.execute("SELECT run_uuid, value FROM params WHERE key = 'seed'"))
    used: dict[str, list[StoredDataset]] = {}
    for run_id, *fields in database.execute(
        "SELECT i.destination_id, d.dataset_source_type, d.digest, d.dataset_source, d.dataset_profile"
        " FROM inputs i JOIN datasets d ON d.dataset_uuid = i.source_id"
        " WHERE i.source_type = 'DATASET' AND i.destination_type = 'RUN' ORDER BY d.digest"
    ):
        used.setdefault(run_id, []).append(StoredDataset(*("" if text is None else text for text in fields)))
    rows = database.execute(
        "SELECT r.run_uuid, r.name, r.status FROM runs r JOIN experiments e USING (experiment_id)"
        " WHERE r.lifecycle_stage = 'active' AND e.lifecycle_stage = 'active' ORDER BY r.start_time, r.run_uuid"
    )
    return tuple(
        StoredRun(
            run_id,
            name or "",
            status,
            seeds.get(run_id, ""),
            tags.get(run_id, {}),
            tuple(used.get(run_id, ())),
        )
        for run_id, name, status in rows
    )


def _models(database: sqlite3.Connection) -> tuple[StoredModel, ...]:
    tags = _grouped(database.execute("SELECT model_id, tag_key, tag_value FROM logged_model_tags"))
    rows = database.execute(
        "SELECT m.model_id, m.source_run_id FROM logged_models m JOIN experiments e USING (experiment_id)"
        " WHERE m.lifecycle_stage = 'active' AND e.lifecycle_stage = 'active'"
        " ORDER BY m.creation_timestamp_ms DESC, m.model_id"
    )
    return tuple(
        StoredModel(model_id, run_id or "", tags[model_id])
        for model_id, run_id in rows
        if BUNDLE_TAG in tags.get(model_id, {})
    )


def _versions(database: sqlite3.Connection) -> tuple[StoredVersion, ...]:
    tags = _grouped(
        ((name, version), key, value)
        for name, version, key, value in database.execute(
            "SELECT name, version, key, value FROM model_version_tags"
        )
    )
    aliases: dict[tuple[str, int], list[str]] = {}
    for name, version, alias in database.execute(
        "SELECT name, version, alias FROM registered_model_aliases ORDER BY alias"
    ):
        aliases.setdefault((name, int(version)), []).append(alias)
    rows = database.execute(
        "SELECT name, version, run_id FROM model_versions WHERE current_stage IS NOT ? ORDER BY name, version",
        (_DELETED_STAGE,),
    )
    return tuple(
        StoredVersion(
            name, version, run_id or "", tags[name, version], tuple(aliases.get((name, version), ()))
        )
        for name, version, run_id in rows
        if BUNDLE_TAG in tags.get((name, version), {})
    )


def _grouped(rows: Iterable[tuple[Any, str, str | None]]) -> dict[Any, dict[str, str]]:
    """Collect tags by what they belong to."""
    found: dict[Any, dict[str, str]] = {}
    for owner, key, value in rows:
        found.setdefault(owner, {})[key] = value or ""
    return found


def from_client(client: Any) -> Stored:
    """Read a store through MLflow's client."""
    experiments = [str(found.experiment_id) for found in pages(client.search_experiments)]
    runs: list[Any] = []
    models: list[Any] = []
    if experiments:
        runs = pages(client.search_runs, experiments)
        runs.sort(key=lambda run: (int(run.info.start_time), str(run.info.run_id)))
        models = pages(client.search_logged_models, experiments)
    models.sort(key=lambda model: (-int(model.creation_timestamp), str(model.model_id)))
    versions = sorted(
        pages(client.search_model_versions), key=lambda version: (str(version.name), int(version.version))
    )
    aliases: dict[tuple[str, int], list[str]] = {}  # they stand at the registered model alone
    for model in pages(client.search_registered_models):
        for alias, version in (getattr(model, "aliases", None) or {}).items():
            aliases.setdefault((str(model.name), int(version)), []).append(str(alias))
    return Stored(
        tuple(_client_run(run) for run in runs),
        tuple(
            StoredModel(str(model.model_id), str(model.source_run_id or ""), dict(model.tags))
            for model in models
            if BUNDLE_TAG in model.tags
        ),
        tuple(
            StoredVersion(
                str(version.name),
                int(version.version),
                str(version.run_id or ""),
                dict(version.tags),
                tuple(sorted(aliases.get((str(version.name), int(version.version)), ()))),
            )
            for version in versions
            if BUNDLE_TAG in version.tags
        ),
    )


def _client_run(run: Any) -> StoredRun:
    used = [item.dataset for item in (run.inputs.dataset_inputs if run.inputs else [])]
    return StoredRun(
        str(run.info.run_id),
        str(run.info.run_name or ""),
        str(run.info.status),
        run.data.params.get("seed", ""),
        dict(run.data.tags),
        tuple(
            StoredDataset(
                str(dataset.source_type), str(dataset.digest), str(dataset.source), str(dataset.profile or "")
            )
            for dataset in sorted(used, key=lambda dataset: str(dataset.digest))
        ),
    )
