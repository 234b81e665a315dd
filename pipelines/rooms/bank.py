"""Rooms for a recipe: simulates those that its bank lacks, and brings them to where workers can read them."""

import signal
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from datagen.degradations import BoundRecipe
from datagen.environment import pin_threads
from datagen.rooms import Rows, bank_sources
from datagen.split import assign_splits
from manifests.cache import cache_directory
from manifests.catalogue import Catalogue
from manifests.corpus import ROOMS_FOLDER
from manifests.errors import JobError
from manifests.source import Source
from manifests.store import Store, absolute
from pipelines.corpus.outstanding import asked_of
from pipelines.progress import JobProgress

ROOM_STAGE = "room"


def simulated_rooms(
    bound: BoundRecipe, cache: Path | None, say: Callable[[str], None], workers: int = 2
) -> Rows:
    """Return a recipe's simulated rooms with their splits, rendered or taken from the cache.

    There are none for a recipe without a bank, or without a `room` stage.
    """
    bank = bound.recipe.rooms
    used = any(
        c.stage is not None and c.stage.name == ROOM_STAGE for step in bound.steps for c in step.choices
    )
    if bank is None or not used:
        return ()
    folder = cache or cache_directory()
    say(f"rooms: {bank.count} simulated, {bank.positions} positions in each, cached in {folder}")
    return tuple(assign_splits(bank_sources(bank, folder, partial(in_processes, workers))))


def with_rooms(catalogue: Catalogue, rooms: Rows) -> Catalogue:
    """Return a catalogue with simulated rooms, each once, though it may name some of them.

    The one that a corpus keeps names all: their rows give way to those that lead to files that are there, but for rooms
    that were withdrawn.
    """
    if not rooms:
        return catalogue
    held = {_as_room(row): row for row in catalogue.of_kind("rir")}
    new = [room for room in rooms if (row := held.get(_as_room(room))) is None or row.refused is None]
    again = {_as_room(room) for room in new} & held.keys()
    if again:
        catalogue = Catalogue(row for row in catalogue if row.kind != "rir" or _as_room(row) not in again)
    return catalogue.extended(new)


def _as_room(source: Source) -> Source:
    """Return what is the same of a room wherever its file lies, and whether it was withdrawn or not."""
    return replace(source, path="", bytes=0, mtime_ns=0, refused=None)


def copied_into(store: Store, rooms: Rows, say: Callable[[str], None]) -> Rows:
    """Copy simulated rooms into a corpus, for workers that do not see this machine's cache.

    Args:
        store: of the corpus.
        rooms: rows that lead to files of this machine.
        say: told how many are copied.

    Returns:
        The rows with their places in the corpus: the same identities, other paths.
    """
    names = [f"{ROOMS_FOLDER}/{Path(room.path).parent.name}/{Path(room.path).name}" for room in rooms]
    sizes = store.names(ROOMS_FOLDER)
    missing = [(room, name) for room, name in zip(rooms, names, strict=True) if sizes.get(name) != room.bytes]
    if missing:
        say(f"rooms: {len(missing)} responses are copied into the corpus, for workers on other machines")

    def copy(each: tuple[Source, str]) -> None:
        room, name = each
        store.write(name, Path(room.path).read_bytes())

    for _ in asked_of(store, copy, missing):
        pass
    place = absolute(store.url)
    return tuple(replace(room, path=f"{place}/{name}") for room, name in zip(rooms, names, strict=True))


def in_processes(workers: int, simulate: Callable[[int], Rows], numbers: Collection[int]) -> Iterator[Rows]:
    """Map `simulate` over the numbers of rooms in processes of one thread each, with a progress bar.

    Raises:
        JobError: when a process dies.
    """
    pin_threads()
    pool = ProcessPoolExecutor(
        min(workers, len(numbers)), get_context("spawn"), signal.signal, (signal.SIGINT, signal.SIG_IGN)
    )
    try:
        with JobProgress("rooms", len(numbers), "rooms") as progress:
            for room in pool.map(simulate, numbers):
                yield room
                progress.advance(1)
    except BrokenExecutor as error:
        raise JobError("a process that simulated rooms died; is the machine out of memory?") from error
    finally:
        pool.shutdown(cancel_futures=True)
