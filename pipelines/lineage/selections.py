"""Which sources a run heard that left samples out (`--keep`): those of the samples that it kept, exactly.

A run's selection lies in its folder. One that was moved away is made again from the expression that MLflow or the model
remember, and believed if its digest is theirs: then expression, corpus and values are the same.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from manifests.corpus import open_corpus
from manifests.errors import UserError
from manifests.recipe import SPLITS
from manifests.selection import SELECTION_FILE, Selection, read_selection, written_digest
from pipelines.arrow_values import union
from pipelines.lineage.kept import KeptSamples
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
        self._kept: dict[str, list[KeptSamples] | None] = {}
        self._splits: dict[tuple[str, Sources], frozenset[str] | None] = {}

    def named(self, facts: Mapping[str, Any], corpus_id: str) -> Selection | None:
        """Return the selection that a run, evaluation or model names among its facts; None where it cannot be told."""
        wanted, expression = str(facts["selection"]), str(facts.get("keep", ""))
        asked = (wanted, corpus_id)
        if asked not in self._known:
            self._known[asked] = next(self._candidates(wanted, expression, corpus_id, facts), None)
        return self._known[asked]

    def splits_of(self, selection: Selection, asked: Asked) -> frozenset[str] | None:
        """Return the splits in which anything of what is asked about is kept; None where it cannot be told."""
        if isinstance(asked, Samples):
            keeps = _keeps(selection, asked)
            return None if keeps is None else frozenset([asked.shard.partition("/")[0]] * keeps)
        if (selection.digest, asked) not in self._splits:  # the stages of a run share one
            held = self._kept_by(selection)
            self._splits[selection.digest, asked] = (
                frozenset(split for part in held for split in part.splits_with_any(asked.hashes))
                if held is not None
                else None
            )
        return self._splits[selection.digest, asked]

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
        """Return digest and sources, by corpus, of what a run kept; none where it kept all, or nobody can tell.

        The sources are content hashes, an Arrow array.
        """
        selection = self.named(facts, corpus_id) if facts.get("selection") else None
        if selection is None or selection.corpus_id != corpus_id:
            return "", {}
        held = self._kept_by(selection) or []
        return selection.digest, {part.corpus.manifest.id: union(part.sources.values()) for part in held}

    def _candidates(
        self, wanted: str, expression: str, corpus_id: str, facts: Mapping[str, Any]
    ) -> Iterator[Selection]:
        for path in self._places:
            if written_digest(path) == wanted and (selection := _read_quietly(path)) is not None:
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

    def _kept_by(self, selection: Selection) -> list[KeptSamples] | None:
        """Return what is kept of each corpus; None where one that holds such samples does not lie anywhere known."""
        if selection.digest not in self._kept:
            self._kept[selection.digest] = self._read(selection)
        return self._kept[selection.digest]

    def _read(self, selection: Selection) -> list[KeptSamples] | None:
        of_corpora: dict[str, dict[str, tuple[int, ...]]] = {}
        for name, numbers in selection.kept.items():
            *part, split, tar = name.split("/")
            of_corpora.setdefault(part[0] if part else selection.corpus_id, {})[f"{split}/{tar}"] = numbers
        if not of_corpora.keys() <= self._corpora.keys():
            return None
        held = [KeptSamples(self._corpora[place], kept) for place, kept in of_corpora.items()]
        return held if all(part.can_be_told for part in held) else None


def _read_quietly(path: Path) -> Selection | None:
    if not path.is_file():
        return None
    try:
        return read_selection(path)
    except UserError:  # damaged: the run says itself which expression and digest it was
        return None


def _keeps(selection: Selection, asked: Samples) -> bool | None:
    """Say whether a selection keeps any of some samples; None where the record of their shard cannot be read."""
    corpus, name = asked.corpus, asked.shard
    if selection.corpus_id != corpus.manifest.id:  # of a merged corpus, of which this one is a part
        name = f"{corpus.manifest.id}/{name}"
    if not (numbers := selection.kept.get(name, ())):
        return False
    if (record := corpus.record(asked.shard)) is None:
        return None
    return not asked.keys.isdisjoint(record.samples[number].key for number in numbers)
