"""Which sources a run heard that left samples out (`--keep`): those of the samples that it kept, exactly.

A run's selection lies in its folder. One that was moved away is made again from the expression that MLflow or the model
remember, and believed if its digest is theirs: then expression, corpus and values are the same.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from manifests.corpus import SAMPLES_FILE, open_corpus, read_shard_record, record_name
from manifests.errors import UserError
from manifests.recipe import SPLITS
from manifests.selection import SELECTION_FILE, Selection, read_selection
from pipelines.arrow_values import strings, text, union
from pipelines.corpus.sample_uses import columns_of, opened
from pipelines.lineage.known_corpora import KnownCorpus
from pipelines.models.folders import Found

_TRAINED_ON = ("train", "val")


@dataclass(frozen=True, eq=False)
class Sources:
    """Some sources that a question is about."""

    hashes: Any
    """Content hashes, an Arrow array."""


@dataclass(frozen=True, eq=False)
class Samples:
    """Some samples of one shard that a question is about."""

    corpus: KnownCorpus
    shard: str
    """Path of the tar within the corpus."""
    keys: frozenset[str]


Asked = Sources | Samples


class Selections:
    """What is known of the selections that runs made, each read or made once."""

    def __init__(self, found: Found, corpora: Mapping[str, KnownCorpus]) -> None:
        self._corpora = corpora
        self._places = [folder / SELECTION_FILE for folder in found.runs]
        self._known: dict[tuple[str, str], Selection | None] = {}
        self._sources: dict[str, Mapping[str, Mapping[str, Any]] | None] = {}

    def named(self, facts: Mapping[str, Any], corpus_id: str) -> Selection | None:
        """Return the selection that a run, evaluation or model names among its facts; None where it cannot be told."""
        wanted, expression = str(facts["selection"]), str(facts.get("keep", ""))
        asked = (wanted, corpus_id)
        if asked not in self._known:
            self._known[asked] = next(self._candidates(wanted, expression, corpus_id, facts), None)
        return self._known[asked]

    def sources(self, selection: Selection) -> Mapping[str, Mapping[str, Any]] | None:
        """Return the hashes of the sources of what was kept, Arrow arrays by corpus and split.

        None where a corpus that holds such samples does not lie anywhere known.
        """
        if selection.digest not in self._sources:
            self._sources[selection.digest] = self._read(selection)
        return self._sources[selection.digest]

    def splits_of(self, selection: Selection, asked: Asked) -> frozenset[str] | None:
        """Return the splits in which anything of what is asked about is kept; None where it cannot be told."""
        if isinstance(asked, Samples):
            return frozenset([asked.shard.partition("/")[0]]) if _keeps(selection, asked) else frozenset()
        import pyarrow.compute as pc

        held = self.sources(selection)
        if held is None:
            return None
        return frozenset(
            split
            for of_corpus in held.values()
            for split, hashes in of_corpus.items()
            if pc.any(pc.is_in(asked.hashes, value_set=hashes)).as_py()
        )

    def heard(
        self, facts: Mapping[str, Any], corpus_id: str, splits: Collection[str], asked: Asked | None
    ) -> tuple[frozenset[str], bool]:
        """Return the splits in which a run or model heard anything of what is asked about, and whether that is sure.

        Args:
            facts: of the run or model.
            corpus_id: of the corpus that it used.
            splits: in which what is asked about lies.
            asked: what that is; None for the corpus itself.
        """
        everything = frozenset(splits)
        if asked is None or not facts.get("selection"):
            return everything, True
        selection = self.named(facts, corpus_id)
        if (
            selection is not None and selection.corpus_id != corpus_id
        ):  # fresh samples beside it: all are heard
            return everything, True
        kept = self.splits_of(selection, asked) if selection is not None else None
        return (everything, False) if kept is None else (everything & kept, True)

    def kept(self, facts: Mapping[str, Any], corpus_id: str) -> tuple[str, Mapping[str, Any]]:
        """Return digest and sources, by corpus, of what a run kept; none where it kept all, or nobody can tell."""
        selection = self.named(facts, corpus_id) if facts.get("selection") else None
        if selection is None or selection.corpus_id != corpus_id:
            return "", {}
        held = self.sources(selection) or {}
        return selection.digest, {place: union(of_splits.values()) for place, of_splits in held.items()}

    def _candidates(
        self, wanted: str, expression: str, corpus_id: str, facts: Mapping[str, Any]
    ) -> Iterator[Selection]:
        for path in self._places:
            if (selection := _read_quietly(path)) is not None and selection.digest == wanted:
                yield selection
        corpus = self._corpora.get(corpus_id)
        if corpus is None or not expression:
            return
        from pipelines.selection.selecting import select

        for splits in (_TRAINED_ON, _TRAINED_ON[:1], (str(facts.get("split", "")),), SPLITS):
            try:
                selection = select(open_corpus(corpus.store.url), expression, splits)
            except (OSError, UserError):  # its values are not there any more
                continue
            if selection.digest == wanted:
                yield selection

    def _read(self, selection: Selection) -> Mapping[str, Mapping[str, Any]] | None:
        of_corpora: dict[str, dict[str, tuple[int, ...]]] = {}
        for name, numbers in selection.kept.items():
            *part, split, tar = name.split("/")
            of_corpora.setdefault(part[0] if part else selection.corpus_id, {})[f"{split}/{tar}"] = numbers
        if not of_corpora.keys() <= self._corpora.keys():
            return None
        try:
            return {place: _sources_of(self._corpora[place], kept) for place, kept in of_corpora.items()}
        except IndexError:  # a table that lacks samples: 'ssiforge verify' names it
            return None


def _read_quietly(path: Path) -> Selection | None:
    if not path.is_file():
        return None
    try:
        return read_selection(path)
    except UserError:  # damaged: the run says itself which expression and digest it was
        return None


def _keeps(selection: Selection, asked: Samples) -> bool:
    """Say whether a selection keeps any of some samples."""
    corpus, name = asked.corpus, asked.shard
    if selection.corpus_id != corpus.manifest.id:  # of a merged corpus, of which this one is a part
        name = f"{corpus.manifest.id}/{name}"
    return not asked.keys.isdisjoint(_keys(corpus, asked.shard, selection.kept.get(name, ())))


def _keys(corpus: KnownCorpus, shard: str, numbers: Sequence[int]) -> list[str]:
    """Return the keys of some samples of a shard, of which its record knows the order."""
    if not numbers:
        return []
    entries = read_shard_record(corpus.store, record_name(shard)).samples
    return [entries[number].key for number in numbers]


def _sources_of(corpus: KnownCorpus, kept: Mapping[str, tuple[int, ...]]) -> Mapping[str, Any]:
    """Return the hashes of the sources of some samples, Arrow arrays by split."""
    found: dict[str, list[Any]] = {}
    table = opened(corpus.store, SAMPLES_FILE)
    listed = _of_tars(corpus, kept) if table is None else _of_table(table, kept)
    for split, hashes in listed:
        found.setdefault(split, []).append(hashes)
    return {split: union(arrays) for split, arrays in found.items()}


def _of_tars(corpus: KnownCorpus, kept: Mapping[str, tuple[int, ...]]) -> Iterator[tuple[str, Any]]:
    for name, numbers in kept.items():
        samples = corpus.in_shard(name)
        hashes = (sha256 for number in numbers for sha256 in samples[number].sources)
        yield name.partition("/")[0], strings(hashes)


def _of_table(table: Any, kept: Mapping[str, tuple[int, ...]]) -> Iterator[tuple[str, Any]]:
    """Search `samples.parquet`, whose rows may be in any order: numbers in a shard follow the keys."""
    import pyarrow.compute as pc

    keys: dict[str, list[str]] = {}
    for group in range(table.num_row_groups):
        rows = columns_of(table, group, ["shard", "key"])
        for name, key in zip(rows["shard"].to_pylist(), rows["key"].to_pylist(), strict=True):
            if name in kept:
                keys.setdefault(name, []).append(key)
    wanted: dict[str, list[str]] = {}
    for name, numbers in kept.items():
        in_order = sorted(keys.get(name, ()))
        of_split = wanted.setdefault(name.partition("/")[0], [])
        of_split += (f"{name} {in_order[number]}" for number in numbers)
    arrays = {split: strings(names) for split, names in wanted.items()}
    for group in range(table.num_row_groups):
        rows = columns_of(table, group, ["shard", "key", "source_sha256"])
        names = pc.binary_join_element_wise(rows["shard"], rows["key"], text(" "))
        for split, chosen in arrays.items():
            held = rows["source_sha256"].filter(pc.is_in(names, value_set=chosen))
            yield split, pc.list_flatten(held.combine_chunks()).unique()
