"""The place of a corpus while a job holds it: locked, free of strangers, and with a plan of what it is going to be."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from datagen.degradations import BoundRecipe
from datagen.environment import code_version
from datagen.shard import is_temporary, sweep_temporaries
from manifests.canonical import canonical_json
from manifests.catalogue import Catalogue, read_catalogue, write_catalogue
from manifests.corpus import PLAN_FILE, PROGRESS_FILE, RECIPE_FILE, ROOMS_FOLDER, SOURCES_FILE
from manifests.errors import JobError, UserError
from manifests.recipe import Split
from manifests.source import WITHDRAWN, Source
from manifests.store import Place, Store, open_store
from pipelines.corpus.lock import LOCK_FILE, locked
from pipelines.differences import differences

MERGED = "merge"
"""Field of `plan.json` of a merged corpus, which has no recipe of its own."""

Counts = Mapping[Split, int]
"""Samples of each split."""


@dataclass(frozen=True)
class Plan:
    """What a corpus is going to be: the content of `plan.json`, but for the catalogue."""

    recipe_digest: str
    seed: int
    steps: tuple[Counts, ...]
    """What the corpus was to hold when it was begun, and each time it was made larger; the last is what it holds."""
    allow_licences: tuple[str, ...] | None = None
    """Licences of which sources were drawn; None for any."""
    withdrawn: tuple[str, ...] = ()
    """Content hashes of sources that were taken down: no sample may hold them."""
    replaces: str = ""
    """Id of the corpus from which they were withdrawn."""

    @property
    def counts(self) -> Counts:
        """Samples of each split in the end."""
        return self.steps[-1]


@contextmanager
def corpus_folder(place: Place) -> Iterator[Store]:
    """Hold the place of a corpus for one job: made, writable, locked, and free of stale temporaries.

    Folders that were made for it and are still empty at the end are removed again.

    Raises:
        UserError: when the place cannot be written, or another job holds it.
        JobError: when writing fails later, because the disk is full, for example.
    """
    store = open_store(place)
    made = _missing_folders(store.folder) if store.folder else []
    try:
        with locked(store):
            try:
                sweep_temporaries(store)
                try:
                    yield store
                finally:
                    sweep_temporaries(store)  # what workers left that were killed on the way
            except OSError as error:
                raise JobError(
                    f"{error.filename or store.url}: {error.strerror or error}; what was finished is kept, "
                    "run the same command again to go on"
                ) from error
    finally:
        for folder in made:
            with suppress(OSError):
                folder.rmdir()


def _missing_folders(out: Path) -> list[Path]:
    return [folder for folder in (out, *out.parents) if not folder.exists()]


def planned(
    store: Store,
    bound: BoundRecipe,
    counts: Counts,
    seed: int,
    allow_licences: tuple[str, ...] | None = None,
) -> Plan:
    """Return what a corpus is going to be, or is to be made into, before any work is done for it.

    A corpus of the same recipe and seed may be asked to become larger: what it holds stays, and a step is added.

    Raises:
        UserError: when the place holds another corpus, something else, or more than is asked for.
    """
    held = _held_plan(store)
    if held is None:
        return Plan(bound.digest, seed, (dict(counts),), allow_licences)
    _check_same(store, held, _identity(bound.digest, seed, allow_licences), bound)
    steps: tuple[Counts, ...] = tuple(held["steps"])
    last = steps[-1]
    wanted = {split: max(last.get(split, 0), counts.get(split, 0)) for split in (*last, *counts)}
    if wanted == last:
        spare = sum(last.values()) - sum(counts.values())
        # Rounding the shares of a larger corpus may leave a split as it was: that is no smaller corpus.
        if spare >= len(last):
            raise UserError(
                f"{store.url}: holds {sum(last.values())} samples and {sum(counts.values())} are asked for; "
                "a corpus can only be made larger"
            )
    else:
        steps = (*steps, wanted)
    taken = tuple(held.get("withdrawn", ())), held.get("replaces", "")
    return Plan(bound.digest, seed, steps, allow_licences, *taken)


def begin(store: Store, bound: BoundRecipe, catalogue: Catalogue, plan: Plan) -> None:
    """Write down what the corpus is going to be, or check that the place holds that very corpus.

    The plan comes first: whatever interrupts this, the place is recognised by the next run. The catalogue is written
    again when source files have moved since.

    Raises:
        UserError: when the place holds something else; names what differs.
    """
    content = _identity(plan.recipe_digest, plan.seed, plan.allow_licences)
    content |= {"catalogue_digest": catalogue.as_drawn.digest}
    held = _held_plan(store)
    if held is not None:
        _check_same(store, held, content, bound)
    content |= {"recipe": bound.recipe.name, "steps": [dict(step) for step in plan.steps]}
    if plan.withdrawn:
        content |= {"withdrawn": list(plan.withdrawn), "replaces": plan.replaces}
    content = {name: value for name, value in content.items() if value is not None}
    if held != content:
        store.write(PLAN_FILE, canonical_json(content) + b"\n")
    rows = rows_to_keep(catalogue)
    if _held_catalogue(store) != rows:
        with store.new_file(SOURCES_FILE) as path:
            write_catalogue(rows, path)
    text = recipe_yaml(bound)
    if store.size(RECIPE_FILE) is None or store.read(RECIPE_FILE) != text:
        store.write(RECIPE_FILE, text)


def rows_to_keep(catalogue: Catalogue) -> Sequence[Source]:
    """Return what a corpus's `sources.parquet` holds: what may be read, and what was withdrawn, marked so."""
    if not catalogue.withdrawn:
        return catalogue.usable
    return Catalogue((*catalogue.usable, *catalogue.withdrawn)).sources


def with_withdrawn(catalogue: Catalogue, store: Store, withdrawn: Sequence[str]) -> Catalogue:
    """Mark what was withdrawn from a corpus in a catalogue that may still name it, or not any more.

    Args:
        catalogue: what is to be drawn from.
        store: of the corpus, whose own catalogue knows the rows.
        withdrawn: content hashes.
    """
    if not withdrawn:
        return catalogue
    hashes = frozenset(withdrawn)
    marked = catalogue.refusing(lambda source: WITHDRAWN if source.sha256 in hashes else None)
    with store.local_copy(SOURCES_FILE) as path:
        held = read_catalogue(path).withdrawn
    known = {source.sha256 for source in marked.withdrawn}
    return marked.extended(source for source in held if source.sha256 not in known)


def recipe_yaml(bound: BoundRecipe) -> bytes:
    """Write out a recipe, with every setting that it leaves to its default."""
    return yaml.safe_dump(bound.recipe.written(), sort_keys=False, allow_unicode=True, width=110).encode()


def _identity(recipe_digest: str, seed: int, allow_licences: tuple[str, ...] | None) -> dict[str, Any]:
    """What is known of a plan before rooms are simulated for it."""
    allowed = None if allow_licences is None else list(allow_licences)
    return {
        "recipe_digest": recipe_digest,
        "seed": seed,
        "code_version": code_version(),
        "allow_licences": allowed,
    }


def _held_plan(store: Store) -> dict[str, Any] | None:
    """Read the plan of a begun corpus; None for an empty place.

    Raises:
        UserError: when the place holds something else, or the plan is damaged.
    """
    held = plan_content(store)
    if held is None:
        return None
    if MERGED in held:
        raise UserError(
            f"{store.url}: holds a corpus that was merged from others, into which nothing can be generated; "
            "choose another --out, and merge that with it"
        )
    try:
        counts = [count for step in held["steps"] for count in step.values()]
        if not counts or not all(isinstance(count, int) for count in counts):
            raise ValueError
    except (ValueError, AttributeError, KeyError, TypeError) as error:
        raise _damaged(store) from error
    return held


def plan_content(store: Store) -> dict[str, Any] | None:
    """Read `plan.json`; None for an empty place.

    Raises:
        UserError: when the place holds something else, or the plan is damaged.
    """
    try:
        content = json.loads(store.read(PLAN_FILE))
    except (FileNotFoundError, NotADirectoryError):
        # Rooms come before the plan: their number is part of what the plan names.
        known = {LOCK_FILE, ROOMS_FOLDER, PROGRESS_FILE}
        names = (name for name in store.names() if not is_temporary(name))
        strangers = sorted({name.partition("/")[0] for name in names} - known)
        if strangers:
            raise UserError(
                f"{store.url}: is not empty and holds no corpus (found '{strangers[0]}')"
            ) from None
        return None
    except ValueError as error:
        raise _damaged(store) from error
    if not isinstance(content, dict):
        raise _damaged(store)
    return content


def _damaged(store: Store) -> UserError:
    return UserError(f"{store.where(PLAN_FILE)}: damaged; the folder cannot be continued")


def _check_same(store: Store, held: dict[str, Any], content: dict[str, Any], bound: BoundRecipe) -> None:
    differs = []
    for field, value in content.items():
        if held.get(field) == value:
            continue
        where = _recipe_differences(store, bound) if field == "recipe_digest" else ""
        values = f"(there {_short(held.get(field))}, now {_short(value)})"
        differs.append(f"{field.removesuffix('_digest')} {where or values}")
    if differs:
        raise UserError(f"{store.url}: holds another corpus; it differs in {', '.join(differs)}")


def _recipe_differences(store: Store, bound: BoundRecipe) -> str:
    """Name the fields; empty where the recipe cannot be read, or only the code of its stages is another."""
    try:
        held = yaml.safe_load(store.read(RECIPE_FILE))
    except (OSError, yaml.YAMLError):
        return ""
    return differences(held, bound.recipe.written())


def _short(value: object) -> str:
    text = str(value)
    return text[:8] if len(text) == 32 else text


def _held_catalogue(store: Store) -> Sequence[Source] | None:
    try:
        with store.local_copy(SOURCES_FILE) as path:
            return read_catalogue(path).sources
    except (UserError, FileNotFoundError):
        return None
