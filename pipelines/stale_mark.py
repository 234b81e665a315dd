"""The mark of a model that heard what was withdrawn later, as it lies beside a bundle."""

import json
from collections.abc import Callable
from pathlib import Path

STALE_FILE = "stale.json"
"""Beside a bundle: why it should be trained again. No part of the model's identity."""
MOST_READ_BYTES = 1 << 20


def stale_sentence(replaced: str, reason: str) -> str:
    """Say why a model is stale, in one line without the mark that stands between such lines in a tag.

    Args:
        replaced: id of the corpus from which sources were withdrawn.
        reason: as the user gave it.
    """
    why = " ".join(reason.split()).replace("; ", ", ")
    return f"trained on data withdrawn from corpus {replaced}" + (f": {why}" if why else "")


def stale_reasons(bundle_dir: Path) -> list[str]:
    """Return why a bundle is stale, from the file beside it; empty for one that is not."""
    path = bundle_dir / STALE_FILE
    try:
        content = json.loads(path.read_bytes()[:MOST_READ_BYTES])
        return [str(reason) for reason in content["reasons"]]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError):
        return [f"{STALE_FILE} is damaged"]


def warn_if_stale(bundle_dir: Path, reference: str, say: Callable[[str], None]) -> None:
    """Say that a model which is about to be used heard withdrawn data."""
    for reason in stale_reasons(bundle_dir):
        say(f"warning: {reference}: stale, {reason}")
