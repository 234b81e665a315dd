"""The folder of a corpus while a job holds it: locked, free of strangers, and with a plan of what it is going to be."""

import fcntl
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import yaml

from datagen.degradations import BoundRecipe
from datagen.environment import code_version
from datagen.shard import sweep_temporaries
from manifests.canonical import canonical_json
from manifests.catalogue import Catalogue, read_catalogue, write_catalogue
from manifests.corpus import PLAN_FILE, RECIPE_FILE, SOURCES_FILE
from manifests.errors import JobError, UserError
from manifests.files import write_atomically
from manifests.recipe import Split
from manifests.source import Source

LOCK_FILE = ".lock"

Plan = dict[str, Any]
"""The content of `plan.json`."""


@contextmanager
def corpus_folder(out: Path) -> Iterator[None]:
    """Hold a corpus folder for one job: made, writable, locked, and free of stale temporaries.

    Folders that were made for it and are still empty at the end are removed again.

    Raises:
        UserError: when the folder cannot be written, or another job holds it.
        JobError: when writing fails later, because the disk is full, for example.
    """
    made = [folder for folder in (out, *out.parents) if not folder.exists()]
    try:
        with _locked(out):
            sweep_temporaries(out)
            try:
                yield
            except OSError as error:
                raise JobError(
                    f"{error.filename or out}: {error.strerror or error}; what was finished is kept, "
                    "run the same command again to go on"
                ) from error
            finally:
                sweep_temporaries(out)  # what workers left that were killed on the way
    finally:
        for folder in made:
            with suppress(OSError):
                folder.rmdir()


@contextmanager
def _locked(out: Path) -> Iterator[None]:
    path = out / LOCK_FILE
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock = path.open("w")
    except OSError as error:
        raise UserError(f"{out}: cannot be written ({error.strerror or error})") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UserError(f"{out}: another job is writing this corpus") from error
        if not _is_still(lock, path):  # the job that held it finished and removed it in this very moment
            raise UserError(f"{out}: another job is writing this corpus")
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def _is_still(lock: IO[str], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(lock.fileno()), path.stat())
    except OSError:
        return False


def check_place(out: Path, bound: BoundRecipe, counts: dict[Split, int], seed: int) -> None:
    """Refuse a folder that holds another corpus or something else, before any work is done for it.

    Raises:
        UserError: naming what differs.
    """
    path = out / PLAN_FILE
    if not path.is_file():
        strangers = sorted(entry.name for entry in out.iterdir() if entry.name != LOCK_FILE)
        if strangers:
            raise UserError(f"{out}: is not empty and holds no corpus (found '{strangers[0]}')")
        return
    _check_same(out, _asked(bound, counts, seed))


def begin(out: Path, bound: BoundRecipe, catalogue: Catalogue, counts: dict[Split, int], seed: int) -> None:
    """Write down what the corpus is going to be, or check that the folder holds that very corpus.

    The plan comes first: whatever interrupts this, the folder is recognised by the next run. The catalogue is written
    again when source files have moved since.

    Raises:
        UserError: when the folder holds something else; names what differs.
    """
    check_place(out, bound, counts, seed)
    plan = _asked(bound, counts, seed) | {"recipe": bound.recipe.name, "catalogue_digest": catalogue.digest}
    if (out / PLAN_FILE).is_file():
        _check_same(out, plan)
    else:
        write_atomically(out / PLAN_FILE, canonical_json(plan) + b"\n")
    if _held_catalogue(out / SOURCES_FILE) != catalogue.usable:
        write_catalogue(catalogue.usable, out / SOURCES_FILE)
    text = yaml.safe_dump(bound.recipe.written(), sort_keys=False, allow_unicode=True, width=110).encode()
    path = out / RECIPE_FILE
    if not path.is_file() or path.read_bytes() != text:
        write_atomically(path, text)


def _asked(bound: BoundRecipe, counts: dict[Split, int], seed: int) -> Plan:
    """What is known of a plan before rooms are simulated for it."""
    return {
        "recipe_digest": bound.digest,
        "seed": seed,
        "samples": dict(counts),
        "code_version": code_version(),
    }


def _check_same(out: Path, plan: Plan) -> None:
    try:
        held = json.loads((out / PLAN_FILE).read_bytes())
        differs = [
            f"{field.removesuffix('_digest')} (there {_short(held.get(field))}, now {_short(value)})"
            for field, value in plan.items()
            if held.get(field) != value and field != "recipe"
        ]
    except (OSError, ValueError, AttributeError) as error:
        raise UserError(f"{out / PLAN_FILE}: damaged; the folder cannot be continued") from error
    if differs:
        raise UserError(f"{out}: holds another corpus; it differs in {', '.join(differs)}")


def _short(value: object) -> str:
    text = str(value)
    return text[:8] if len(text) == 32 else text


def _held_catalogue(path: Path) -> Sequence[Source] | None:
    try:
        return read_catalogue(path).sources
    except UserError:
        return None
