"""What withdrawing sources from a corpus comes to: found out before anything is written."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from datagen.degradations import BoundRecipe, bind
from datagen.environment import code_version
from manifests.catalogue import Catalogue, read_catalogue
from manifests.corpus import RECIPE_FILE, SAMPLES_FILE, SOURCES_FILE, Corpus, changed_files, open_corpus
from manifests.documents import check, parse_document
from manifests.errors import UserError
from manifests.recipe import Recipe, Split
from manifests.source import WITHDRAWN, Source
from manifests.store import Place, Store, absolute, open_store
from pipelines.corpus.folder import plan_content
from pipelines.generation.checks import check_material
from pipelines.governance.withdraw_sources import sources_meant


@dataclass(frozen=True)
class TakeDown:
    """Sources of a corpus, and what it takes to have them out of it."""

    held: Corpus
    """The corpus as it is."""
    sources: tuple[Source, ...]
    """What goes, by content hash."""
    after: Catalogue
    """The corpus's catalogue with `sources` marked as withdrawn."""
    bound: BoundRecipe
    plan: Mapping[str, Any]
    """Content of `plan.json` of the new version."""
    unavailable: dict[str, list[Split]]
    """Stages that find nothing to draw from any more, and in which splits."""
    affected: Mapping[str, tuple[str, ...]]
    """Keys of the samples to be replaced, by name of their shard."""

    @property
    def hashes(self) -> frozenset[str]:
        """Content hashes of the sources."""
        return frozenset(source.sha256 for source in self.sources)

    @property
    def samples(self) -> int:
        """Number of samples to be replaced."""
        return sum(map(len, self.affected.values()))

    def check_out(self, out: Place) -> None:
        """Look at the place of the new version, and change nothing there.

        Raises:
            UserError: when it is the corpus itself, or holds something else.
        """
        if absolute(self.held.url) == absolute(out):
            raise UserError(f"{out}: is the corpus itself, which runs and models name; choose another --out")
        there = plan_content(open_store(out))
        if there is not None and there != self.plan:
            raise UserError(f"{out}: holds another corpus; choose another --out")


def take_down(references: Sequence[str], corpus: Place) -> TakeDown:
    """Find out what withdrawing some sources from a corpus comes to.

    Args:
        references: what to withdraw, see `pipelines.governance.withdraw_sources`.
        corpus: folder or URI of a finished corpus.

    Raises:
        UserError: when nothing is meant, the corpus is not sound, merged or of another version of the code, or too
            little would be left to draw from.
    """
    held = open_corpus(corpus)
    _check(held)
    before = _catalogue_of(held.store)
    sources = tuple(sources_meant(references, before, held.url))
    hashes = frozenset(source.sha256 for source in sources)
    after = before.refusing(lambda source: WITHDRAWN if source.sha256 in hashes else None)
    bound = _recipe_of(held)
    plan = _plan(held, after)
    unavailable = check_material(bound, after, plan["steps"][-1])
    return TakeDown(held, sources, after, bound, plan, unavailable, samples_holding(held.store, hashes))


def samples_holding(store: Store, hashes: frozenset[str]) -> dict[str, tuple[str, ...]]:
    """Return the keys of the samples that hold any of some sources, by name of their shard, from `samples.parquet`."""
    import pyarrow.parquet as pq

    found: dict[str, list[str]] = {}
    with store.local_copy(SAMPLES_FILE) as path, pq.ParquetFile(path) as table:
        for group in range(table.num_row_groups):
            rows = table.read_row_group(group, columns=["key", "shard", "source_sha256"])
            columns = (rows[name].to_pylist() for name in ("key", "shard", "source_sha256"))
            for key, shard, held in zip(*columns, strict=True):
                if not hashes.isdisjoint(held):
                    found.setdefault(shard, []).append(key)
    return {shard: tuple(keys) for shard, keys in found.items()}


def _check(held: Corpus) -> None:
    manifest = held.manifest
    if manifest.parts:
        names = ", ".join(part.corpus.url for part in held.merged)
        raise UserError(
            f"{held.url}: was merged from others; withdraw from each of them that holds the source and merge "
            f"again ({names})"
        )
    if problem := next(changed_files(held.store, manifest), None):
        raise UserError(f"{held.url}: {problem}; run 'ssiforge generate' again first")
    if manifest.lost_shards:
        raise UserError(
            f"{held.url}: lacks {len(manifest.lost_shards)} shards; run 'ssiforge generate' first"
        )
    if manifest.code_version != code_version():
        raise UserError(
            f"{held.url}: was made by ssiforge {manifest.code_version}; replacements can be drawn by that version "
            f"only, this is {code_version()}"
        )


def _catalogue_of(store: Store) -> Catalogue:
    with store.local_copy(SOURCES_FILE) as path:
        return read_catalogue(path)


def _recipe_of(held: Corpus) -> BoundRecipe:
    document = parse_document(held.store.read(RECIPE_FILE).decode(), held.store.where(RECIPE_FILE))
    bound = bind(check(Recipe, document.content, document), document)
    if bound.digest != held.manifest.recipe_digest:
        raise UserError(
            f"{held.url}: the code of its stages is another now, so replacements would be drawn differently; use the "
            "packages that it was made with"
        )
    return bound


def _plan(held: Corpus, after: Catalogue) -> dict[str, Any]:
    content = plan_content(held.store)
    assert content is not None  # its file is among those that were checked
    taken = sorted({source.sha256 for source in after.withdrawn})
    return content | {"withdrawn": taken, "replaces": held.manifest.id}
