"""Who changed what, when and why: lines that are added to a plain file and never taken out.

The files lie beside MLflow's database; where a server keeps MLflow's records, in the current folder.
"""

import getpass
import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from manifests.canonical import canonical_json
from manifests.errors import JobError
from pipelines.tracking.store import store_location

PROMOTIONS_FILE = "promotions.ndjson"
WITHDRAWALS_FILE = "withdrawals.ndjson"


def audit_file(name: str) -> Path:
    """Return where a file of such lines lies."""
    database = store_location().database
    return (database.parent if database else Path()) / name


def signed(line: Mapping[str, Any]) -> dict[str, Any]:
    """Return a line that says who did it, and that it is now."""
    return {**line, "by": _user(), "at": datetime.now(UTC).isoformat(timespec="seconds")}


def append(name: str, line: Mapping[str, Any]) -> None:
    """Add a line, on the disk when this returns.

    Raises:
        JobError: when it cannot be written.
    """
    path = audit_file(name)
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            size = os.fstat(descriptor).st_size
            is_torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
            content = (b"\n" if is_torn else b"") + canonical_json(dict(line)) + b"\n"
            if os.write(descriptor, content) < len(content):
                raise OSError("the disk is full")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise JobError(f"{path}: the audit record cannot be written ({error.strerror or error})") from error


def append_new(name: str, line: Mapping[str, Any]) -> None:
    """Add a signed line, unless one says the same already.

    Raises:
        JobError: when it cannot be written.
    """
    if not any({**held, **line} == held for held in recorded(name)):
        append(name, signed(line))


def recorded(name: str) -> list[dict[str, Any]]:
    """Return the lines so far; what a lost machine left of one is left out."""
    try:
        content = audit_file(name).read_bytes()
    except FileNotFoundError:
        return []
    lines = []
    for written in content.splitlines():
        try:
            line = json.loads(written)
        except ValueError:
            continue
        if isinstance(line, dict):
            lines.append(line)
    return lines


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a number without a name, as in containers
        return f"uid {os.getuid()}"
