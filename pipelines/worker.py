"""The worker's side of `generate`: loads what a corpus is made of once, then renders shards of it.

Nothing here knows which executor called it; a job names files, so that sending it to a process costs nothing.
"""

import ctypes
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

from datagen.degradations import BoundRecipe, bind
from datagen.plan import Material, material
from datagen.shard import Poisoned, ShardTask, write_shard
from manifests.catalogue import Catalogue, read_catalogue
from manifests.corpus import RECIPE_FILE, SOURCES_FILE, ShardRecord
from manifests.documents import check, load_document
from manifests.recipe import Recipe, Split


@dataclass(frozen=True)
class RenderJob:
    """A corpus to be rendered: its folder holds the recipe and the catalogue."""

    root: Path
    seed: int

    def load(self) -> "LoadedJob":
        """Read the recipe and the catalogue, once in each process."""
        return _load(self.root, self.seed)


@dataclass(frozen=True)
class LoadedJob:
    """A job with everything that rendering needs in memory."""

    root: Path
    seed: int
    bound: BoundRecipe
    catalogue: Catalogue

    def pool(self, split: Split) -> Material:
        """What may be drawn from in a split."""
        return self._pools(split)

    @cached_property
    def _pools(self) -> Callable[[Split], Material]:
        return lru_cache(lambda split: material(self.catalogue, self.bound.recipe, split))

    def render(
        self,
        task: ShardTask,
        poisoned: Poisoned = frozenset(),
        on_draw: Callable[[int, int], None] = lambda index, attempt: None,
    ) -> ShardRecord:
        """Render and commit one shard."""
        sources = self.catalogue.by_sha256
        pool = self.pool(task.split)
        try:
            return write_shard(task, self.root, self.bound, pool, sources, self.seed, poisoned, on_draw)
        finally:
            _give_back_memory()


def _give_back_memory() -> None:
    """Return freed memory to the system: glibc keeps what lies between blocks in use, and workers would grow."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)


@lru_cache(maxsize=2)
def _load(root: Path, seed: int) -> LoadedJob:
    document = load_document(str(root / RECIPE_FILE), "recipes")
    bound = bind(check(Recipe, document.content, document), document)
    return LoadedJob(root, seed, bound, read_catalogue(root / SOURCES_FILE))
