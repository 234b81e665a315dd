"""What became of a stage's model after it was trained, as plain files say: version, aliases, why it is stale."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.governance.audit import PROMOTIONS_FILE, audit_file
from pipelines.models.stale_mark import stale_reasons
from pipelines.tracking.link import read_link
from training.bundle_info import MODEL_FOLDER

_SQLITE = "sqlite:///"


@dataclass(frozen=True)
class Standing:
    """Of one model."""

    registered: str = ""
    """`NAME/VERSION`; empty where it was not registered."""
    aliases: tuple[str, ...] = ()
    """Those that `ssiforge promote` gave it and did not give to another version later."""
    stale: tuple[str, ...] = ()
    """Why it should be trained again."""

    @property
    def title(self) -> str:
        """`NAME/VERSION @champion`."""
        return " ".join([self.registered, *(f"@{alias}" for alias in self.aliases)])


def standing_of(stage_dir: Path) -> Standing:
    """Read it; MLflow is not asked."""
    link = read_link(stage_dir)
    registered = link.get("registered", "")
    name, _, version = registered.rpartition("/")
    holders = {line["alias"]: line["now"] for line in _promotions(link) if line["model"] == name}
    return Standing(
        registered,
        tuple(sorted(alias for alias, now in holders.items() if name and now == version)),
        tuple(stale_reasons(stage_dir / MODEL_FOLDER)),
    )


def _promotions(link: Mapping[str, str]) -> Sequence[Mapping[str, str]]:
    """Return the promotions that were done, oldest first: recorded beside MLflow's database, or in the current place.

    What is no such line is passed over, as the audit record's own reader does.
    """
    uri = link.get("tracking_uri", "")
    beside = Path(uri.removeprefix(_SQLITE)).parent / PROMOTIONS_FILE if uri.startswith(_SQLITE) else None
    path = beside if beside is not None and beside.is_file() else audit_file(PROMOTIONS_FILE)
    try:
        written = path.read_bytes().splitlines()
    except OSError:
        return ()
    return [line for line in map(_promotion, written) if line]


def _promotion(written: bytes) -> dict[str, str]:
    try:
        line: Any = json.loads(written)
        if line["state"] != "done":
            return {}
        return {name: str(line[name]) for name in ("model", "alias", "now")}
    except (ValueError, KeyError, TypeError):
        return {}
