"""One job at a time writes a corpus.

In a folder the kernel keeps the lock and lets go of it with the process that held it. An object store keeps nothing:
there the lock is an object that only one can create and that its owner renews. An owner that was killed stops
renewing, so whoever finds an old lock watches it for a while, without comparing clocks.
"""

import fcntl
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO

from manifests.errors import UserError
from manifests.folder import Folder
from manifests.object_store import ObjectStore
from manifests.store import Store

LOCK_FILE = ".lock"
RENEWED_EVERY_S = 10.0
WATCHED_FOR_S = 35.0
"""A lock of another machine that does not change for so long has no owner any more."""


@contextmanager
def locked(store: Store) -> Iterator[None]:
    """Hold the lock of a corpus.

    Raises:
        UserError: when the place cannot be written, or another job holds the lock.
    """
    holding = _locked_folder(store) if isinstance(store, Folder) else _locked_prefix(store)  # type: ignore[arg-type]
    with holding:
        yield


def _taken(store: Store, by: str = "") -> UserError:
    return UserError(f"{store.url}: another job is writing this corpus{by}")


@contextmanager
def _locked_folder(store: Folder) -> Iterator[None]:
    path = store.root / LOCK_FILE
    try:
        store.root.mkdir(parents=True, exist_ok=True)
        lock = path.open("w")
    except OSError as error:
        raise UserError(f"{store.url}: cannot be written ({error.strerror or error})") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise _taken(store) from error
        if not _is_still(lock, path):  # the job that held it finished and removed it in this very moment
            raise _taken(store)
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def _is_still(lock: IO[str], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(lock.fileno()), path.stat())
    except OSError:
        return False


@dataclass(frozen=True)
class _Claim:
    """Content of the lock object."""

    owner: str
    host: str
    process: int
    renewed: int = 0

    def written(self) -> bytes:
        return json.dumps(asdict(self)).encode()

    def died_here(self) -> bool:
        """Whether the owner was a process of this machine that is gone."""
        if self.host != socket.gethostname():
            return False
        try:
            os.kill(self.process, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            return False
        return False


@contextmanager
def _locked_prefix(store: ObjectStore) -> Iterator[None]:
    claim = _Claim(uuid.uuid4().hex, socket.gethostname(), os.getpid())
    try:
        store.knock()
        _acquire(store, claim)
    except OSError as error:
        raise UserError(f"{store.url}: cannot be written ({error.strerror or error})") from error
    ended = threading.Event()
    renewing = threading.Thread(target=_renew, args=(store, claim, ended), daemon=True)
    renewing.start()
    try:
        yield
    finally:
        ended.set()
        renewing.join()
        if (now := _read(store)) is not None and now.owner == claim.owner:
            with suppress(OSError):  # it expires by itself
                store.remove(LOCK_FILE)


def _acquire(store: ObjectStore, claim: _Claim) -> None:
    if not store.create(LOCK_FILE, claim.written()):
        held = _read(store)
        # A request that was repeated after its answer was lost finds what it made itself.
        if held is not None and held.owner != claim.owner:
            if not held.died_here():
                _watch(store, held)
            store.remove(LOCK_FILE)
            store.create(LOCK_FILE, claim.written())
    now = _read(store)
    if now is None or now.owner != claim.owner:
        raise _taken(store, f" ({now.host}, process {now.process})" if now else "")


def _watch(store: ObjectStore, held: _Claim) -> None:
    """Wait until a lock's owner must have renewed it.

    Raises:
        UserError: when it has.
    """
    deadline = time.monotonic() + WATCHED_FOR_S
    while time.monotonic() < deadline:
        time.sleep(min(1.0, WATCHED_FOR_S / 10))
        if _read(store) != held:
            raise _taken(store, f" ({held.host}, process {held.process})")


def _renew(store: ObjectStore, claim: _Claim, ended: threading.Event) -> None:
    while not ended.wait(RENEWED_EVERY_S):
        claim = replace(claim, renewed=claim.renewed + 1)
        with suppress(OSError):  # a store that is away for a moment; the next renewal may pass
            store.write(LOCK_FILE, claim.written())


def _read(store: ObjectStore) -> _Claim | None:
    try:
        return _Claim(**json.loads(store.read(LOCK_FILE)))
    except (OSError, ValueError, TypeError):
        return None
