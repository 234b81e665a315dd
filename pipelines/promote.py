"""`ssiforge promote`: give a registered model an alias, once it is known what went into it and how good it is."""

import getpass
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from manifests.canonical import canonical_json
from manifests.errors import UserError
from manifests.licence_names import AllowedLicences
from manifests.store import Place
from pipelines.models import ModelRef, resolve_model
from pipelines.promote_data import Ancestry, ancestry
from pipelines.registry import logged_models, register, registered_name
from pipelines.stale_mark import stale_reasons
from pipelines.tracking import BUNDLE_TAG, STALE_TAG, TAG, open_existing_store, pages, store_location

AUDIT_FILE = "promotions.ndjson"
"""Beside MLflow's database, or in the current folder where a server keeps the records: a line a promotion."""
PROMOTED_TAG = f"{TAG}promoted."
MOST_NAMED = 4


@dataclass(frozen=True)
class Check:
    """Something that must hold before a model is promoted."""

    name: str
    problem: str
    """Empty where it holds."""


@dataclass(frozen=True)
class Promotion:
    """What `promote` found and did."""

    bundle_id: str
    alias: str
    checks: tuple[Check, ...]
    version: str = ""
    """`NAME/VERSION` that has the alias now; empty where it was not set."""
    before: str = ""
    """The version that had it; empty for none."""

    @property
    def problems(self) -> tuple[str, ...]:
        """One sentence for each check that does not hold."""
        return tuple(check.problem for check in self.checks if check.problem)


def promote(
    reference: str,
    alias: str,
    allow_licences: Sequence[str] = (),
    corpora: Sequence[Place] = (),
    dry_run: bool = False,
) -> Promotion:
    """Check a model, and set an alias of its registered model to it unless `dry_run`.

    Args:
        reference: any form of `pipelines.models`.
        alias: `candidate`, `champion` or any other name.
        allow_licences: names and patterns; without them every licence is allowed.
        corpora: places to look into, besides those that MLflow recorded or that lie below the current folder.
        dry_run: only check.

    Raises:
        UserError: when there is no such model, a check fails, or MLflow does not take the alias.
    """
    allowed = AllowedLicences.parse(allow_licences)
    model = resolve_model(reference)
    client = open_existing_store()
    found = ancestry(model.info.id, corpora)
    checks = (
        Check("registered", _not_registered(client, model)),
        Check("evaluated", _not_evaluated(found, model)),
        Check("lineage", _shown("its lineage is incomplete", found.missing)),
        Check("not stale", _shown("it is stale", sorted({*found.stale, *_marks(client, model)}))),
        Check("licences", _not_licensed(found, allowed)),
    )
    result = Promotion(model.info.id, alias, checks)
    if dry_run:
        return result
    if result.problems:
        raise UserError(f"{reference}: is not promoted: {result.problems[0]}")
    name, version = _registered(client, model)
    before = _set_alias(client, name, alias, version)
    _audit(client, result, name, version, before, allowed)
    return Promotion(model.info.id, alias, checks, f"{name}/{version}", f"{name}/{before}" if before else "")


# --- checks ---------------------------------------------------------------------------------------


def _not_registered(client: Any | None, model: ModelRef) -> str:
    known = client is not None and (_versions_of(client, model) or logged_models(client, model.info.id))
    return "" if known else "MLflow knows no run that made it, so it cannot be registered"


def _not_evaluated(found: Ancestry, model: ModelRef) -> str:
    if found.evaluations:
        return ""
    return f"it was not evaluated; run 'ssiforge evaluate --model {model.reference} --corpus CORPUS' first"


def _marks(client: Any | None, model: ModelRef) -> Iterator[str]:
    yield from stale_reasons(model.bundle_dir)
    for version in _versions_of(client, model) if client is not None else ():
        if said := version.tags.get(STALE_TAG):
            yield from said.split("; ")


def _not_licensed(found: Ancestry, allowed: AllowedLicences | None) -> str:
    if allowed is None:
        return ""
    refused = allowed.refused(found.licences)
    return _shown(f"its data has licences that are not allowed ({allowed})", refused)


def _shown(what: str, items: Sequence[str]) -> str:
    if not items:
        return ""
    more = f" and {len(items) - MOST_NAMED} more" if len(items) > MOST_NAMED else ""
    return f"{what}: {'; '.join(items[:MOST_NAMED])}{more}"


# --- the registry ---------------------------------------------------------------------------------


def _versions_of(client: Any, model: ModelRef) -> list[Any]:
    """Return the registered versions of a model, those of its own stage first, newest first."""
    found = pages(client.search_model_versions, f"tags.`{BUNDLE_TAG}` = '{model.info.id}'")
    if model.registered:
        found = [one for one in found if f"{one.name}/{one.version}" == model.registered]
    own = _own_name(model)
    return sorted(found, key=lambda one: (one.name != own, one.name, -int(one.version)))


def _own_name(model: ModelRef) -> str:
    return registered_name(str(model.info.experiment.get("name", "ssiforge")), model.info.stage)


def _registered(client: Any, model: ModelRef) -> tuple[str, str]:
    """Return the name and version under which a model is registered, which is done here where it was not."""
    if known := _versions_of(client, model):
        return str(known[0].name), str(known[0].version)
    logged = logged_models(client, model.info.id)[0]
    name = _own_name(model)
    return name, register(client, name, str(logged.model_id), str(logged.source_run_id), model.info)


def _set_alias(client: Any, name: str, alias: str, version: str) -> str:
    from mlflow.exceptions import MlflowException

    before = ""
    with suppress(MlflowException):
        before = str(client.get_model_version_by_alias(name, alias).version)
    try:
        client.set_registered_model_alias(name, alias, version)
    except MlflowException as error:
        raise UserError(f"--as {alias}: MLflow refuses it ({error.message})") from error
    return before


def _audit(
    client: Any, done: Promotion, name: str, version: str, before: str, allowed: AllowedLicences | None
) -> None:
    line = {
        "model": name,
        "alias": done.alias,
        "before": before,
        "now": version,
        "bundle_id": done.bundle_id,
        "by": _user(),
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "allowed_licences": list(allowed.names) if allowed else None,
        "checks": [check.name for check in done.checks],
    }
    client.set_model_version_tag(
        name, version, f"{PROMOTED_TAG}{done.alias}", json.dumps(line, sort_keys=True)
    )
    database = store_location().database
    path = (database.parent if database else Path()) / AUDIT_FILE
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(descriptor, canonical_json(line) + b"\n")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a number without a name, as in containers
        return f"uid {os.getuid()}"
