"""Where MLflow keeps its records: one absolute place, opened quietly, made once by the process that drives the job.

Without `MLFLOW_TRACKING_URI` it is `mlflow.db` and `mlartifacts/` in the current folder. A relative place would be
another one for each process that starts elsewhere, so a relative SQLite URI is made absolute too.
"""

import logging
import os
import ssl
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import urlopen

from manifests.errors import UserError

STORE_FILE = "mlflow.db"
ARTIFACTS_FOLDER = "mlartifacts"
TAG = "ssiforge."
"""What the names of our own tags begin with."""
JOB_TAG = f"{TAG}job"
BUNDLE_TAG = f"{TAG}bundle_id"
"""Ties MLflow's records to a bundle, which is the same model wherever it lies."""
STALE_TAG = f"{TAG}stale"
"""Of a registered version: why it should not be used any more."""
KEEP_TAG = f"{TAG}keep"
"""The expression by which samples of the corpus were selected."""
KEEP_DIGEST_TAG = f"{TAG}selection"
CORPUS_SOURCE_TYPE = "ssiforge_corpus"
"""Type of a corpus among MLflow's dataset sources."""

ONLINE_SOURCE_TYPE = "ssiforge_online"
"""Type of fresh samples likewise."""

SERVER_PATIENCE_S = 10.0
SHOWN_OF_A_COMPLAINT = 200
"""Characters."""
_SQLITE = "sqlite:///"
_SQLITE_HEADER = b"SQLite format 3\0"


@dataclass(frozen=True)
class Store:
    """An MLflow store."""

    uri: str
    """Tracking URI, absolute."""
    database: Path | None
    """The SQLite file; None for a server."""

    @property
    def artifacts(self) -> Path | None:
        """Folder of the artifacts, beside the database; None where a server decides."""
        return self.database.parent / ARTIFACTS_FOLDER if self.database else None

    @property
    def exists(self) -> bool:
        """Whether something was ever recorded (a server is assumed to be there)."""
        return self.database is None or self.database.is_file()

    def artifact_location(self, experiment: str) -> str | None:
        """Where the artifacts of one MLflow experiment lie, as a URI."""
        # Names may hold dots; a folder called `..` would be another one.
        folder = experiment.lstrip(".") or "experiment"
        return (self.artifacts / folder).as_uri() if self.artifacts else None


def store_location(folder: Path | None = None) -> Store:
    """Say where MLflow keeps its records for a process in `folder` (default: the current one)."""
    uri = os.environ.get("MLFLOW_TRACKING_URI", "").strip()
    base = (folder or Path.cwd()).absolute()
    if not uri:
        database = base / STORE_FILE
    elif uri.startswith(_SQLITE):
        database = base / uri.removeprefix(_SQLITE)
    else:
        return Store(uri, None)
    return Store(f"{_SQLITE}{database}", database)


def open_store(store: Store | None = None) -> Any:
    """Open the store, and make its tables where they are missing; return an `MlflowClient`.

    Raises:
        UserError: when what is to be the database is something else, or the server cannot be reached.
    """
    store = store or store_location()
    _check(store)
    _check_server(store)
    # Set before mlflow is imported: it would print links with pictures and report usage to its makers.
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    # Bars of its own, wherever tqdm happens to be installed.
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    import mlflow

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # `models:/` and `runs:/` addresses are resolved with the process-wide setting.
    mlflow.set_tracking_uri(store.uri)
    mlflow.set_registry_uri(store.uri)
    return mlflow.MlflowClient(store.uri, store.uri)


def _check(store: Store) -> None:
    """Look at the beginning of a database: MLflow's own complaint is of many lines, and names no file."""
    if store.database is None or not store.database.exists():
        return
    try:
        with store.database.open("rb") as stream:
            begins = stream.read(len(_SQLITE_HEADER))
    except OSError as error:
        raise UserError(f"{store.database}: MLflow's records cannot be read ({error.strerror})") from error
    if begins not in (b"", _SQLITE_HEADER):
        raise UserError(f"{store.database}: is no SQLite database, and so not MLflow's records")


def _check_server(store: Store) -> None:
    """Knock at a server's door: MLflow itself would try again for minutes.

    Whatever it answers, it is there; but one that fails already here, or a proxy before one that is down, is of no use.
    """
    if store.database is not None or not store.uri.startswith(("http://", "https://")):
        return
    place = _without_password(store.uri)
    try:
        address = urlsplit(store.uri)
        door = address._replace(
            netloc=address.netloc.rpartition("@")[2], path=f"{address.path.rstrip('/')}/health"
        )
        urlopen(door.geturl(), timeout=SERVER_PATIENCE_S).close()
    except HTTPError as error:
        if error.code >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise UserError(
                f"MLFLOW_TRACKING_URI names {place}, which answers {error.code} {error.reason}: no MLflow runs there"
            ) from error
    except (OSError, ValueError, HTTPException) as error:
        reason = getattr(error, "reason", error)
        if isinstance(reason, ssl.SSLError):  # MLflow has settings of its own for whom to trust
            return
        raise UserError(
            f"MLFLOW_TRACKING_URI names {place}, which does not answer ({reason}); start the server, or unset the "
            "variable to keep records in files"
        ) from error


def refusal(error: Exception) -> str | None:
    """Say in one line what MLflow did not do; None for what is no complaint of its own or of its database.

    A server answers with a page, a database with a statement: the first line tells what happened.
    """
    if not type(error).__module__.startswith(("mlflow.", "sqlalchemy.")):
        return None
    first = next(iter(str(error).splitlines()), type(error).__name__)
    if len(first) > SHOWN_OF_A_COMPLAINT:
        first = f"{first[:SHOWN_OF_A_COMPLAINT]}…"
    return f"MLflow at {_without_password(store_location().uri)}: {first}"


def _without_password(uri: str) -> str:
    scheme, separator, rest = uri.partition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}" if separator else uri


def open_existing_store() -> Any | None:
    """Open the store for reading; None where nothing was ever recorded. Creates nothing."""
    store = store_location()
    return open_store(store) if store.exists else None


def experiment_id(client: Any, name: str) -> str:
    """Return the id of an MLflow experiment, made if it is missing."""
    found = client.get_experiment_by_name(name)
    if found is not None:
        return str(found.experiment_id)
    return str(client.create_experiment(name, artifact_location=store_location().artifact_location(name)))


def all_experiment_ids(client: Any) -> list[str]:
    """Return the ids of every experiment."""
    return [str(e.experiment_id) for e in pages(client.search_experiments)]


def pages(search: Any, *args: Any, **kwargs: Any) -> list[Any]:
    """Call a paged MLflow search until nothing is left."""
    found: list[Any] = []
    token = None
    while True:
        page = search(*args, page_token=token, **kwargs)
        found.extend(page)
        token = getattr(page, "token", None)
        if not token:
            return found
