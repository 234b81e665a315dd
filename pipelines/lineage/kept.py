"""Which sources the samples of a corpus hold that a selection keeps: by the corpus's index, its table, or its tars."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manifests.corpus import SAMPLES_FILE
from pipelines.arrow_values import strings, text, union
from pipelines.corpus.lineage_index import IndexedUses
from pipelines.corpus.sample_uses import columns_of, opened
from pipelines.lineage.known_corpora import KnownCorpus


@dataclass(frozen=True)
class KeptSamples:
    """Some samples of a corpus."""

    corpus: KnownCorpus
    numbers: Mapping[str, tuple[int, ...]]
    """Of the samples in their shards, by shard."""

    @property
    def can_be_told(self) -> bool:
        """Whether there is a record of each of them: `ssiforge verify` names a table that lacks some."""
        try:
            _ = self.sources if self._index is None else self._rows
        except (IndexError, KeyError):
            return False
        return True

    def splits_with_any(self, hashes: Any) -> frozenset[str]:
        """Return the splits in which they hold at least one of some sources (an Arrow array of hashes)."""
        import pyarrow.compute as pc

        if self._index is not None:
            return self._index.splits_with_any(hashes, self._rows)
        return frozenset(
            split for split, held in self.sources.items() if pc.any(pc.is_in(hashes, value_set=held)).as_py()
        )

    @cached_property
    def sources(self) -> Mapping[str, Any]:
        """Hashes of what they hold, Arrow arrays by split."""
        if self._index is not None:
            return self._index.sources_of(self._rows)
        table = opened(self.corpus.store, SAMPLES_FILE)
        found: dict[str, list[Any]] = {}
        for split, hashes in self._of_tars() if table is None else self._of_table(table):
            found.setdefault(split, []).append(hashes)
        return {split: union(arrays) for split, arrays in found.items()}

    @cached_property
    def _index(self) -> IndexedUses | None:
        uses = self.corpus.uses
        return uses if isinstance(uses, IndexedUses) and uses.knows_order else None

    @cached_property
    def _rows(self) -> NDArray[np.bool_]:
        assert self._index is not None
        return self._index.kept_rows(self.numbers)

    def _of_tars(self) -> Iterator[tuple[str, Any]]:
        for name, numbers in self.numbers.items():
            samples = self.corpus.in_shard(name)
            hashes = (sha256 for number in numbers for sha256 in samples[number].sources)
            yield name.partition("/")[0], strings(hashes)

    def _of_table(self, table: Any) -> Iterator[tuple[str, Any]]:
        """Search `samples.parquet`, whose rows may be in any order: numbers in a shard follow the keys."""
        import pyarrow.compute as pc

        keys: dict[str, list[str]] = {}
        for group in range(table.num_row_groups):
            rows = columns_of(table, group, ["shard", "key"])
            for name, key in zip(rows["shard"].to_pylist(), rows["key"].to_pylist(), strict=True):
                if name in self.numbers:
                    keys.setdefault(name, []).append(key)
        wanted: dict[str, list[str]] = {}
        for name, numbers in self.numbers.items():
            # Their numbers have six digits and may have more: a longer key comes later.
            in_order = sorted(keys.get(name, ()), key=lambda key: (len(key), key))
            of_split = wanted.setdefault(name.partition("/")[0], [])
            of_split += (f"{name} {in_order[number]}" for number in numbers)
        arrays = {split: strings(names) for split, names in wanted.items()}
        for group in range(table.num_row_groups):
            rows = columns_of(table, group, ["shard", "key", "source_sha256"])
            names = pc.binary_join_element_wise(rows["shard"], rows["key"], text(" "))
            for split, chosen in arrays.items():
                held = rows["source_sha256"].filter(pc.is_in(names, value_set=chosen))
                yield split, pc.list_flatten(held.combine_chunks()).unique()
