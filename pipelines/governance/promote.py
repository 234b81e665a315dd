"""`ssiforge promote`: give a registered model an alias, once it is known what went into it and how good it is."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from manifests.errors import UserError
from manifests.licence_names import AllowedLicences
from manifests.store import Place
from pipelines.governance.promote_data import Ancestry, ancestry
from pipelines.governance.promotion_record import alias_holder, begin, end, settle
from pipelines.model_cards.card import summary
from pipelines.models.reference import ModelRef, resolve_model
from pipelines.models.stale_mark import tagged_reasons
from pipelines.tracking.registry import CARD_FILE, logged_models, register, registered_name
from pipelines.tracking.store import BUNDLE_TAG, open_existing_store, pages

MOST_NAMED = 4
_ALIAS = re.compile(r"(?!latest$|v\d+$)[\w-]{1,255}", re.IGNORECASE | re.ASCII)
"""What MLflow takes as an alias."""


@dataclass(frozen=True)
class Check:
    """Something that must hold before a model is promoted."""

    name: str
    problem: str
    """Empty where it holds."""
    note: str = ""
    """What will be done about it, where it holds only then."""


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
    registered_now: bool = False
    """Whether the model had no registered version, and was given one."""

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
    say: Callable[[str], None] = lambda line: None,
) -> Promotion:
    """Check a model, and set an alias of its registered model to it unless `dry_run`.

    A model that a run made and that nobody registered is registered on the way. What is meant is on record before the
    alias is set, and what came of it after (`pipelines.governance.promotion_record`).

    Args:
        reference: any form of `pipelines.models.reference`.
        alias: `candidate`, `champion` or any other name.
        allow_licences: names and patterns; without them every licence is allowed.
        corpora: places to look into, besides those that MLflow recorded or that lie below the current folder.
        dry_run: only check; problems are returned, not raised.
        say: told of earlier promotions that were interrupted.

    Raises:
        UserError: when there is no such model, a check fails, or MLflow does not take the alias.
        JobError: when the audit record cannot be written; then the alias is not set.
    """
    if not _ALIAS.fullmatch(alias):
        raise UserError(
            f"--as {alias}: MLflow refuses it; an alias is of letters, digits, - and _, but not 'latest' or 'v1'"
        )
    allowed = AllowedLicences.parse(allow_licences)
    model = resolve_model(reference)
    client = open_existing_store()
    found = ancestry(model.info.id, corpora)
    checks = (
        _is_registered(client, model),
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
    for line in settle(client):
        say(line)
    was_known = bool(_versions_of(client, model))
    name, version = _registered(client, model)
    before = alias_holder(client, name, alias)
    begun = begin(
        client,
        {
            "model": name,
            "alias": alias,
            "before": before,
            "now": version,
            "registered_now": not was_known,
            "bundle_id": model.info.id,
            "allowed_licences": list(allowed.names) if allowed else None,
            "checks": [check.name for check in checks],
            "evaluations": list(found.evaluations),
        },
    )
    _set_alias(client, begun)
    end(client, begun, "done")
    return replace(
        result,
        version=f"{name}/{version}",
        before=f"{name}/{before}" if before else "",
        registered_now=not was_known,
    )


# --- checks ---------------------------------------------------------------------------------------


def _is_registered(client: Any | None, model: ModelRef) -> Check:
    if client is not None and _versions_of(client, model):
        return Check("registered", "")
    if client is not None and logged_models(client, model.info.id):
        return Check("registered", "", f"a run made it; it will be registered as {_own_name(model)}")
    return Check("registered", "MLflow knows no run that made it, so it cannot be registered")


def _not_evaluated(found: Ancestry, model: ModelRef) -> str:
    if found.evaluations:
        return ""
    return f"it was not evaluated; run 'ssiforge evaluate --model {model.reference} --corpus CORPUS' first"


def _marks(client: Any | None, model: ModelRef) -> Iterator[str]:
    yield from model.stale
    for version in _versions_of(client, model) if client is not None else ():
        yield from tagged_reasons(version.tags)


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
    name, card = _own_name(model), model.bundle_dir / CARD_FILE
    described = summary(card.read_text(encoding="utf-8")) if card.is_file() else ""
    return name, register(
        client, name, str(logged.model_id), str(logged.source_run_id), model.info, described
    )


def _set_alias(client: Any, begun: dict[str, Any]) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.set_registered_model_alias(begun["model"], begun["alias"], begun["now"])
    except MlflowException as error:
        end(client, begun, "not done", str(error.message))
        raise UserError(f"--as {begun['alias']}: MLflow refuses it ({error.message})") from error
