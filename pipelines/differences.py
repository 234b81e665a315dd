"""Say in which fields two documents differ."""

from collections.abc import Iterator, Mapping
from typing import Any

MOST_SHOWN = 3
_NOTHING = "nothing"


def differences(before: Any, now: Any) -> str:
    """Name the fields that differ, with their values: `stages.0.p (there 0.8, now 0.5)`; empty for equal documents.

    Args:
        before: a JSON value.
        now: another.
    """
    held, given = dict(_leaves(before)), dict(_leaves(now))
    names = [
        f"{name} (there {held.get(name, _NOTHING)}, now {given.get(name, _NOTHING)})"
        for name in dict.fromkeys((*given, *held))
        if held.get(name, _NOTHING) != given.get(name, _NOTHING)
    ]
    more = len(names) - MOST_SHOWN
    return ", ".join(names[:MOST_SHOWN]) + (f", and {more} more" if more > 0 else "")


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    below = f"{path}." if path else ""
    if isinstance(value, Mapping):
        for key, child in value.items():
            yield from _leaves(child, f"{below}{key}")
    elif isinstance(value, (list, tuple)) and any(isinstance(child, (dict, list)) for child in value):
        for index, child in enumerate(value):
            yield from _leaves(child, f"{below}{index}")
    else:
        yield path, list(value) if isinstance(value, tuple) else value
