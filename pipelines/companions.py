"""What lies beside the shards of a corpus for people and for other programs.

Each file is made of the manifest and the tables alone, after them, and can be made again at any time. None of them is
part of the corpus's identity.
"""

from collections.abc import Callable, Sequence

from manifests.corpus import CorpusManifest
from manifests.store import Store
from pipelines.attribution import ATTRIBUTION_FILE, write_attribution

Companion = Callable[[Store, CorpusManifest], None]
"""Writes its files, whole or not at all, into the store of a finished corpus; the same bytes for the same corpus."""

COMPANIONS: dict[str, Companion] = {ATTRIBUTION_FILE: write_attribution}
"""By the first file that each writes, whose absence says that it is to be made again."""


def write_companions(store: Store, manifest: CorpusManifest, names: Sequence[str] | None = None) -> None:
    """Write all companions of a corpus, or the named ones."""
    for name, write in COMPANIONS.items():
        if names is None or name in names:
            write(store, manifest)


def missing_companions(store: Store) -> list[str]:
    """Name those that are not there."""
    return [name for name in COMPANIONS if store.size(name) is None]
