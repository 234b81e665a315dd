"""`companions.json`: the SHA-256 of each file beside a corpus that its manifest does not name, for `verify` to compare.

Whoever writes such a file seals it right after: what `pipelines.corpus.companions` makes of the corpus,
`scores.parquet`, and the log `lineage.ndjson`, of which the sealed beginning may be followed by what a job told before
it was killed. It is no part of the corpus's identity, and a corpus without it, made before there was one, is as sound
as before.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence

from pydantic import BaseModel, ConfigDict, ValidationError

from manifests.canonical import digest
from manifests.corpus import CorpusManifest
from manifests.store import Store
from pipelines.openlineage.log import LINEAGE_FILE, Json, is_event, record

SEALS_FILE = "companions.json"
FORMAT = 1


class Seal(BaseModel):
    """What a file was when it was written."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sha256: str
    bytes: int


class Seals(BaseModel):
    """The content of `companions.json`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: int = FORMAT
    corpus: str = ""
    """Id of the corpus that the files describe; empty while it changes."""
    files: dict[str, Seal] = {}
    """By name."""
    checksum: str = ""
    """Digest of all other fields."""

    def written(self) -> bytes:
        """Return the one form in which it is written, with its checksum."""
        checksum = digest(self.model_dump(mode="json", exclude={"checksum"}))
        return self.model_copy(update={"checksum": checksum}).model_dump_json(indent=2).encode() + b"\n"


def is_sealed(store: Store) -> bool:
    """Whether a corpus has seals at all; those made before there were any have none."""
    return store.size(SEALS_FILE) is not None


def read_seals(store: Store) -> Seals:
    """Return the seals of a corpus; none where there is no such file, or a damaged one."""
    return _read(store) or Seals()


def _read(store: Store) -> Seals | None:
    """Read the file; None where it is not there, or not as it was written."""
    try:
        content = store.read(SEALS_FILE)
        seals = Seals.model_validate_json(content)
    except (FileNotFoundError, NotADirectoryError, ValidationError):
        return None
    return seals if seals.format == FORMAT and seals.written() == content else None


def seal(store: Store, names: Iterable[str]) -> None:
    """Remember what files are now that were just written, those of them that are there.

    Raises:
        OSError: when a file cannot be read or written.
    """
    seals = read_seals(store)
    files = dict(seals.files)
    for name in names:
        size = store.size(name)
        files.pop(name, None)
        if size is not None:
            files[name] = Seal(sha256=store.sha256(name), bytes=size)
    _write(store, Seals(corpus=seals.corpus, files=files))


def record_sealed(store: Store, events: Sequence[Json]) -> None:
    """Add events to a corpus's log and seal it, unless it was changed: then `verify` goes on saying so."""
    changed = store.size(LINEAGE_FILE) is not None and broken(store, LINEAGE_FILE)
    record(store, events)
    if not changed:
        seal(store, [LINEAGE_FILE])


def unseal(store: Store, names: Iterable[str], corpus: str | None = None) -> None:
    """Forget what files were that are about to be removed or written again.

    Args:
        store: of the corpus.
        names: of the files.
        corpus: id of the corpus that the files describe from now on; None where that stays as it was.
    """
    seals = read_seals(store)
    gone = set(names)
    files = {name: held for name, held in seals.files.items() if name not in gone}
    _write(store, Seals(corpus=seals.corpus if corpus is None else corpus, files=files))


def _write(store: Store, seals: Seals) -> None:
    content = seals.model_copy(update={"files": dict(sorted(seals.files.items()))}).written()
    if not is_sealed(store) or store.read(SEALS_FILE) != content:
        store.write(SEALS_FILE, content)


def broken(store: Store, name: str) -> str | None:
    """Say what is wrong with one file; None where it is as it was sealed, or was not."""
    held = read_seals(store).files.get(name)
    return None if held is None else _broken(store, name, held)


def broken_seals(store: Store, manifest: CorpusManifest) -> Iterator[str]:
    """Name the sealed files of a finished corpus that are missing, or not what they were when they were written."""
    seals = _read(store)
    if seals is None:
        if is_sealed(store):
            yield f"{SEALS_FILE}: its content changed since it was written"
        return
    if seals.corpus not in ("", manifest.id):
        yield f"{SEALS_FILE}: names the files of another corpus ({seals.corpus})"
        return
    for name, held in seals.files.items():
        if problem := _broken(store, name, held):
            yield problem


def _broken(store: Store, name: str, held: Seal) -> str | None:
    check: Callable[[Store, str, Seal], bool] = _begins_as_sealed if name == LINEAGE_FILE else _is_as_sealed
    try:
        return None if check(store, name, held) else f"{name}: its content changed since it was written"
    except (FileNotFoundError, NotADirectoryError):
        return f"{name}: is missing"
    except OSError as error:
        return f"{name}: cannot be read ({error.strerror or error})"


def _is_as_sealed(store: Store, name: str, held: Seal) -> bool:
    return store.sha256(name) == held.sha256


def _begins_as_sealed(store: Store, name: str, held: Seal) -> bool:
    content = store.read(name)
    told, more = content[: held.bytes], content[held.bytes :]
    return hashlib.sha256(told).hexdigest() == held.sha256 and all(map(is_event, more.splitlines()))
