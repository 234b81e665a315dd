"""What lies beside the shards of a corpus for people and for other programs.

Each file is made of the manifest and the tables alone, after them, and can be made again at any time. None of them is
part of the corpus's identity.
"""

from collections.abc import Callable, Sequence

from manifests.corpus import CorpusManifest
from manifests.store import Store
from pipelines.attribution import ATTRIBUTION_FILE, write_attribution
from pipelines.croissant import CROISSANT_FILE, write_croissant
from pipelines.dataset_card import CARD_FILE, write_dataset_card
from pipelines.lineage_index import INDEX_FILE, write_index
from pipelines.openlineage_corpus import write_lineage
from pipelines.openlineage_log import LINEAGE_FILE

Companion = Callable[[Store, CorpusManifest], None]
"""Writes its files, whole or not at all, into the store of a finished corpus; the same bytes for the same corpus.

`lineage.ndjson` alone has times in it: there, what was written stays, and what is missing is added.
"""

COMPANIONS: dict[str, Companion] = {
    INDEX_FILE: write_index,
    ATTRIBUTION_FILE: write_attribution,
    CROISSANT_FILE: write_croissant,
    CARD_FILE: write_dataset_card,
    LINEAGE_FILE: write_lineage,
}
"""By the first file that each writes, whose absence says that it is to be made again."""


def write_companions(store: Store, manifest: CorpusManifest, names: Sequence[str] | None = None) -> None:
    """Write all companions of a corpus, or the named ones."""
    for name, write in COMPANIONS.items():
        if names is None or name in names:
            write(store, manifest)


def missing_companions(store: Store) -> list[str]:
    """Name those that are not there, or may lack something."""
    return [name for name in COMPANIONS if name == LINEAGE_FILE or store.size(name) is None]


def remove_companions(store: Store) -> None:
    """Remove what a corpus that is about to change says of itself: interrupted, it would go on saying it."""
    for name in COMPANIONS:
        if name != LINEAGE_FILE:
            store.remove(name)
