"""The mark of a model that heard what was withdrawn later, as it lies beside a bundle and in MLflow's tags."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from manifests.canonical import canonical_json
from manifests.files import write_atomically
from pipelines.tracking.store import STALE_TAG

STALE_FILE = "stale.json"
"""Beside a bundle: why it should be trained again. No part of the model's identity."""
MOST_READ_BYTES = 1 << 20
_BETWEEN = "; "
"""Stands between the reasons in a tag."""


def stale_sentence(replaced: str, reason: str) -> str:
    """Say why a model is stale, in one line without the mark that stands between such lines in a tag.

    Args:
        replaced: id of the corpus from which sources were withdrawn.
        reason: as the user gave it.
    """
    why = " ".join(reason.split()).replace(_BETWEEN, ", ")
    return f"trained on data withdrawn from corpus {replaced}" + (f": {why}" if why else "")


def stale_reasons(bundle_dir: Path) -> list[str]:
    """Return why a bundle is stale, from the file beside it; empty for one that is not."""
    path = bundle_dir / STALE_FILE
    try:
        content = json.loads(path.read_bytes()[:MOST_READ_BYTES])
        return [str(reason) for reason in content["reasons"]]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return [f"{STALE_FILE} is damaged"]


def write_stale(bundle_dir: Path, bundle_id: str, reasons: Iterable[str]) -> None:
    """Mark a bundle, for all reasons that it has.

    Raises:
        OSError: when its folder cannot be written.
    """
    content = {"bundle_id": bundle_id, "reasons": sorted(reasons)}
    write_atomically(bundle_dir / STALE_FILE, canonical_json(content) + b"\n")


def tagged_reasons(tags: Mapping[str, str]) -> list[str]:
    """Return why a model is stale, from MLflow's tags; empty for one that is not."""
    return [said for said in tags.get(STALE_TAG, "").split(_BETWEEN) if said]


def stale_tag(reasons: Iterable[str]) -> str:
    """Write reasons as the value of the tag `tracking.STALE_TAG`."""
    return _BETWEEN.join(sorted(reasons))


def stale_warning(reference: str, reasons: Sequence[str]) -> str:
    """Say in a sentence that a model heard withdrawn data."""
    return f"{reference}: stale, {_BETWEEN.join(reasons)}"


def warn_if_stale(reasons: Sequence[str], reference: str, say: Callable[[str], None]) -> None:
    """Say that a model which is about to be used heard withdrawn data, if it did."""
    if reasons:
        say(f"warning: {stale_warning(reference, reasons)}")
