"""Nested settings as one level of dotted names, as trackers show them, and their digest."""

from collections.abc import Mapping
from typing import Any

from manifests.canonical import digest


def flat(content: dict[str, Any], at: str = "") -> dict[str, Any]:
    """Flatten nested settings to dotted names."""
    params: dict[str, Any] = {}
    for name, value in content.items():
        params |= flat(value, f"{at}{name}.") if isinstance(value, dict) else {f"{at}{name}": value}
    return params


def settings_digest(params: Mapping[str, Any]) -> str:
    """Digest flat settings, in whatever order."""
    return digest(dict(params))
