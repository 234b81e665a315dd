"""Rooms for a recipe: simulates those that its bank lacks, and adds them to the catalogue."""

import signal
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from datagen.degradations import BoundRecipe
from datagen.environment import pin_threads
from datagen.rooms import Rows, bank_sources
from datagen.split import assign_splits
from manifests.cache import cache_directory
from manifests.catalogue import Catalogue
from manifests.errors import JobError
from pipelines.progress import JobProgress

ROOM_STAGE = "room"


def with_simulated_rooms(
    catalogue: Catalogue, bound: BoundRecipe, cache: Path | None, say: Callable[[str], None], workers: int = 2
) -> Catalogue:
    """Return the catalogue with the recipe's simulated rooms, rendered or taken from the cache.

    A recipe without a bank, or without a `room` stage, leaves the catalogue as it is.
    """
    bank = bound.recipe.rooms
    used = any(
        c.stage is not None and c.stage.name == ROOM_STAGE for step in bound.steps for c in step.choices
    )
    if bank is None or not used:
        return catalogue
    folder = cache or cache_directory()
    say(f"rooms: {bank.count} simulated, {bank.positions} positions in each, cached in {folder}")
    rooms = bank_sources(bank, folder, partial(in_processes, workers))
    return catalogue.extended(assign_splits(rooms))


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
