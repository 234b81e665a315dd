"""The worker's side of `generate`: loads what a corpus is made of once, then renders shards of it.

Nothing here knows which executor called it; a job names a place, so that sending it to a process costs nothing.
"""

import ctypes
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache

from datagen.chain import StageClock
from datagen.degradations import BoundRecipe, bind
from datagen.plan import Material, material
from datagen.shard import KeptSample, OnDraw, Poisoned, ShardTask, is_finished, write_shard
from manifests.catalogue import Catalogue, read_catalogue
from manifests.corpus import RECIPE_FILE, SOURCES_FILE
from manifests.documents import check, parse_document
from manifests.files import TEMPORARY_SUFFIX
from manifests.recipe import Recipe, Split
from manifests.store import Store, open_store
from pipelines.corpus.shard_result import ShardDone, recalled, reported


@dataclass(frozen=True)
class RenderJob:
    """A corpus to be rendered: its folder holds the recipe and the catalogue."""

    place: str
    """Absolute path or URI of the corpus."""
    seed: int

    def load(self) -> "LoadedJob":
        """Read the recipe and the catalogue, once in each process."""
        return _load(self.place, self.seed)

    def mark(self, task: ShardTask, draw: tuple[int, int] | None) -> None:
        """Leave the draw that a worker is at in a file, swept like every temporary; None removes it."""
        name = _mark_name(task)
        if draw is None:
            open_store(self.place).remove(name)
        else:
            open_store(self.place).write(name, json.dumps(draw).encode())

    def marked(self, task: ShardTask) -> tuple[int, int] | None:
        """Read and remove the mark of a worker that died."""
        try:
            index, attempt = json.loads(open_store(self.place).read(_mark_name(task)))
        except (OSError, ValueError):
            return None
        self.mark(task, None)
        return int(index), int(attempt)


@dataclass(frozen=True)
class LoadedJob:
    """A job with everything that rendering needs in memory."""

    store: Store
    seed: int
    bound: BoundRecipe
    catalogue: Catalogue

    def pool(self, split: Split) -> Material:
        """What may be drawn from in a split."""
        return self._pools(split)

    @cached_property
    def _pools(self) -> Callable[[Split], Material]:
        return lru_cache(lambda split: material(self.catalogue.as_drawn, self.bound.recipe, split))

    @cached_property
    def withdrawn(self) -> frozenset[str]:
        """Content hashes of sources that no sample may hold."""
        return frozenset(source.sha256 for source in self.catalogue.withdrawn)

    def render(
        self,
        task: ShardTask,
        poisoned: Poisoned = frozenset(),
        on_draw: OnDraw = lambda index, attempt: None,
        kept: Callable[[int], KeptSample | None] = lambda index: None,
    ) -> ShardDone:
        """Render and commit one shard.

        Args:
            task: which shard.
            poisoned: draws that are known to kill the process.
            on_draw: called with (index, attempt) before each draw is rendered.
            kept: returns a sample that was rendered before, by its index.

        Raises:
            ShardFailed: when it cannot be finished, however often it is tried.
            OSError: when it cannot be written.
        """
        sources = self.catalogue.by_sha256
        pool = self.pool(task.split)
        clock = StageClock()
        try:
            written = write_shard(
                task,
                self.store,
                self.bound,
                pool,
                sources,
                self.seed,
                poisoned,
                on_draw,
                clock,
                self.withdrawn,
                kept,
            )
        finally:
            give_back_memory()
        return reported(task, written, clock.seconds)

    def recall(self, task: ShardTask) -> ShardDone | None:
        """Report a shard that another worker committed before it was lost, so that nothing is rendered twice."""
        size = self.store.size(task.tar_name)
        if size is None or self.store.size(task.record_name) is None:
            return None
        return (
            recalled(task, self.store) if is_finished(task, self.store.read(task.record_name), size) else None
        )


def _mark_name(task: ShardTask) -> str:
    return f"{task.split}/.{task.name}.draw{TEMPORARY_SUFFIX}"


def give_back_memory() -> None:
    """Return freed memory to the system: glibc keeps what lies between blocks in use, and workers would grow."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)


@lru_cache(maxsize=2)
def _load(place: str, seed: int) -> LoadedJob:
    store = open_store(place)
    document = parse_document(store.read(RECIPE_FILE).decode(), store.where(RECIPE_FILE))
    bound = bind(check(Recipe, document.content, document), document)
    with store.local_copy(SOURCES_FILE) as path:
        catalogue = read_catalogue(path)
    return LoadedJob(store, seed, bound, catalogue)
