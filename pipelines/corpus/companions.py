"""What lies beside the shards of a corpus for people and for other programs.

Each file is made of the manifest and the tables alone, after them, and can be made again at any time. None of them is
part of the corpus's identity; `companions.json` says what each was when it was written.
"""

from collections.abc import Callable

from manifests.corpus import CorpusManifest
from manifests.store import Store
from pipelines.corpus.attribution import ATTRIBUTION_FILE, write_attribution
from pipelines.corpus.companion_seals import read_seals, seal, unseal
from pipelines.corpus.croissant import CROISSANT_FILE, write_croissant
from pipelines.corpus.croissant_index import INDEX_FILE as CROISSANT_INDEX_FILE
from pipelines.corpus.dataset_card import CARD_FILE, write_dataset_card
from pipelines.corpus.lineage_index import INDEX_FILE, write_index
from pipelines.corpus.openlineage import write_lineage

Companion = Callable[[Store, CorpusManifest], None]
"""Writes its files, whole or not at all, into the store of a finished corpus; the same bytes for the same corpus."""

COMPANIONS: dict[tuple[str, ...], Companion] = {
    (INDEX_FILE,): write_index,
    (ATTRIBUTION_FILE,): write_attribution,
    (CROISSANT_FILE, CROISSANT_INDEX_FILE): write_croissant,
    (CARD_FILE,): write_dataset_card,
}
"""By the files that each writes. `lineage.ndjson` alone has times in it: there, what was written stays."""

COMPANION_FILES = tuple(name for names in COMPANIONS for name in names)


def write_companions(store: Store, manifest: CorpusManifest) -> None:
    """Write those companions of a finished corpus that are missing, or of which it is not known what they were."""
    if read_seals(store).corpus != manifest.id:
        unseal(store, COMPANION_FILES, corpus=manifest.id)
    missing = _missing_companions(store)
    for names in missing:
        COMPANIONS[names](store, manifest)
    if missing:
        seal(store, (name for names in missing for name in names))
    write_lineage(store, manifest)


def _missing_companions(store: Store) -> list[tuple[str, ...]]:
    sealed = read_seals(store).files
    return [
        names for names in COMPANIONS if any(name not in sealed or store.size(name) is None for name in names)
    ]


def remove_companions(store: Store) -> None:
    """Remove what a corpus that is about to change says of itself: interrupted, it would go on saying it."""
    unseal(store, COMPANION_FILES, corpus="")
    for name in COMPANION_FILES:
        store.remove(name)
