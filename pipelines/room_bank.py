"""Rooms for a recipe: simulates those that its bank lacks, and adds them to the catalogue."""

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from datagen.degradations import BoundRecipe
from datagen.environment import pin_threads
from datagen.rooms import bank_sources, cache_directory
from datagen.split import assign_splits
from manifests.source import Catalogue

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
    say(f"rooms: {bank.count} simulated, cached in {folder}")
    pin_threads()
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as processes:
        rooms = bank_sources(bank, folder, processes.map)
    return catalogue.extended(assign_splits(rooms))
