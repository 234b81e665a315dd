"""A job one of whose shards nobody can render, for workers to import: in its folder lies a file `poison`."""

import os
import signal
from pathlib import Path

from pipelines.generation.worker import LoadedJob, RenderJob

BAD = ("train", 1)


class PoisonedJob(RenderJob):
    """One of its shards cannot be rendered by anybody."""

    def load(self) -> LoadedJob:
        loaded = super().load()
        return _Poisoned(loaded.store, loaded.seed, loaded.bound, loaded.catalogue)


class _Poisoned(LoadedJob):
    def render(self, task, *rest):  # type: ignore[no-untyped-def]
        if (task.split, task.number) == BAD and (Path(self.store.url).parent / "poison").exists():
            if (Path(self.store.url).parent / "deadly").exists():
                os.kill(os.getpid(), signal.SIGKILL)
            raise RuntimeError("a bug that nobody knew")
        return super().render(task, *rest)
