"""`lineage.ndjson`: the events of the jobs that made a corpus or a run, one a line, and sent where that is asked for.

The times stand here and nowhere else: the file is in no digest, and whatever is written anew about a corpus takes from
it what happened when. `OPENLINEAGE_URL` (with `OPENLINEAGE_ENDPOINT` and `OPENLINEAGE_API_KEY`) names a server that is
told each event as it happens. What cannot be sent is said, and stays in the file.
"""

import json
import os
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Sequence
from http.client import HTTPException
from typing import Any

from manifests.store import Store

LINEAGE_FILE = "lineage.ndjson"
DEFAULT_ENDPOINT = "api/v1/lineage"
SEND_TIMEOUT_S = 5.0

Json = dict[str, Any]


def recorded(store: Store, name: str = LINEAGE_FILE) -> list[Json]:
    """Return the events so far; a line that is no event is left out."""
    return [content for line in _held(store, name).splitlines() if (content := _event(line)) is not None]


def is_event(line: bytes) -> bool:
    """Whether a line of the file is an event."""
    return _event(line) is not None


def _event(line: bytes) -> Json | None:
    try:
        content: Json = json.loads(line)
        _ = content["eventType"], content["run"]["runId"], content["job"]["name"]
    except (ValueError, KeyError, TypeError):
        return None
    return content


def _held(store: Store, name: str) -> bytes:
    try:
        return store.read(name)
    except (FileNotFoundError, NotADirectoryError):
        return b""


def record(store: Store, events: Sequence[Json], name: str = LINEAGE_FILE) -> None:
    """Add events to the file, whole or not at all, and send them. What stands there stays, byte for byte.

    Raises:
        OSError: when the file cannot be written.
    """
    held = _held(store, name)
    cut_off = b"\n" if held and not held.endswith(b"\n") else b""
    lines = b"".join(json.dumps(each, ensure_ascii=False).encode() + b"\n" for each in events)
    store.write(name, held + cut_off + lines)
    for each in events:
        send(each, store.where(name))


def last_of(events: Sequence[Json], run: str) -> Json | None:
    """Return the last event of a run."""
    return next((each for each in reversed(events) if each["run"]["runId"] == run), None)


def send(content: Json, kept_in: str) -> None:
    """Send an event to the server that the environment names; a failure is a line on stderr.

    Args:
        content: the event.
        kept_in: where it can be read, whatever happens.
    """
    server = os.environ.get("OPENLINEAGE_URL", "").strip()
    if not server or os.environ.get("OPENLINEAGE_DISABLED", "").strip().lower() == "true":
        return
    endpoint = os.environ.get("OPENLINEAGE_ENDPOINT", "").strip() or DEFAULT_ENDPOINT
    address = f"{server.rstrip('/')}/{endpoint.lstrip('/')}"
    try:
        _post(address, json.dumps(content).encode(), os.environ.get("OPENLINEAGE_API_KEY", "").strip())
    except (OSError, ValueError, HTTPException) as error:
        reason = f"HTTP {error.code}" if isinstance(error, urllib.error.HTTPError) else str(error)
        print(
            f"OPENLINEAGE_URL: {content['eventType']} of {content['job']['name']} was not sent ({reason}); it is kept "
            f"in {kept_in}",
            file=sys.stderr,
            flush=True,
        )


def _post(address: str, content: bytes, key: str) -> None:
    if not address.startswith(("http://", "https://")):
        raise ValueError("it is no http:// or https:// address")
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
    request = urllib.request.Request(address, content, headers, method="POST")
    failed: list[Exception] = []

    def send() -> None:
        try:
            # What it says beside its status is not waited for.
            _OPENER.open(request, timeout=SEND_TIMEOUT_S).close()
        except Exception as error:
            failed.append(error)

    # The timeout above is one of each piece of an answer, and a server may take a second over each letter.
    sending = threading.Thread(target=send, daemon=True)
    sending.start()
    sending.join(SEND_TIMEOUT_S)
    if sending.is_alive():
        raise TimeoutError(f"no answer within {SEND_TIMEOUT_S:g} s")
    if failed:
        raise failed[0]


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """The key is for the server that was named, and for no other."""

    def redirect_request(self, *_: Any) -> None:
        """Follow none: the answer is then an error."""


_OPENER = urllib.request.build_opener(_NoRedirects)
