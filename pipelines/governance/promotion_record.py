"""The audit record of promotions: what was meant before an alias is set, and what came of it after.

`promotions.ndjson` has a line for each of both, with the same `id`. MLflow has the newer of them, as the tag
`ssiforge.promotion.ID` of the registered model, so that a server that several machines use has all of them. A job that
was killed in between leaves a line without its other half: the next one looks at the registry and adds it.
"""

import uuid
from typing import Any, Literal

from manifests.canonical import canonical_json
from pipelines.governance.audit import PROMOTIONS_FILE, append, recorded, signed
from pipelines.tracking.store import TAG

State = Literal["intended", "done", "not done"]
PROMOTION_TAG = f"{TAG}promotion."
PROMOTED_TAG = f"{TAG}promoted."
"""Of a version, with the alias at its end: its last promotion to that alias."""


def begin(client: Any, line: dict[str, Any]) -> dict[str, Any]:
    """Record what is going to be done, and return the line.

    Args:
        client: of MLflow.
        line: at least `model`, `alias`, `now`: the version, and `before`: the one that has the alias, or nothing.

    Raises:
        JobError: when it cannot be written; nothing should be done then.
    """
    begun = signed({"id": uuid.uuid4().hex, "state": "intended", **line})
    _write(client, begun)
    return begun


def end(client: Any, begun: dict[str, Any], state: State, why: str = "") -> None:
    """Record what came of it.

    Args:
        client: of MLflow.
        begun: as `begin` returned it.
        state: whether the alias was set.
        why: it was not.
    """
    line = begun | {"state": state} | ({"why": why} if why else {})
    _write(client, line)
    if state == "done":
        name, version = line["model"], line["now"]
        client.set_model_version_tag(name, version, f"{PROMOTED_TAG}{line['alias']}", _text(line))


def settle(client: Any) -> list[str]:
    """Add what is missing after jobs that were killed; return a sentence for each."""
    lines = recorded(PROMOTIONS_FILE)
    ended = {line.get("id") for line in lines if line.get("state") != "intended"}
    said = []
    for line in lines:
        if line.get("state") == "intended" and line["id"] not in ended:
            is_set = alias_holder(client, line["model"], line["alias"]) == line["now"]
            end(client, line, "done" if is_set else "not done", "found so by a later run")
            what = "was set" if is_set else "was not set"
            said.append(
                f"{line['model']}/{line['now']}: a promotion to {line['alias']} that was interrupted {what}"
            )
    return said


def alias_holder(client: Any, name: str, alias: str) -> str:
    """Return the version of a registered model that has an alias; empty for none."""
    from mlflow.exceptions import MlflowException

    try:
        return str(client.get_model_version_by_alias(name, alias).version)
    except MlflowException:
        return ""


def _write(client: Any, line: dict[str, Any]) -> None:
    append(PROMOTIONS_FILE, line)
    client.set_registered_model_tag(line["model"], f"{PROMOTION_TAG}{line['id']}", _text(line))


def _text(line: dict[str, Any]) -> str:
    return canonical_json(line).decode()
