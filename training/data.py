"""What a run hears: the samples of a corpus, fresh ones, or both."""

from dataclasses import dataclass

from manifests.corpus import Corpus
from manifests.errors import UserError
from manifests.parts import exact
from manifests.selection import Selection
from training.fresh import MixedSource
from training.shards import Reader
from training.source import FreshSamples, SampleSource


@dataclass(frozen=True)
class Data:
    """The data of a run.

    Raises:
        UserError: when there is neither a corpus nor fresh samples.
    """

    corpus: Corpus | None
    selection: Selection | None = None
    """Which of the corpus's samples are used; None for all."""
    fresh: FreshSamples | None = None

    def __post_init__(self) -> None:
        if self.corpus is None and self.fresh is None:
            raise UserError("give --corpus, or --online with --sources")

    @property
    def id(self) -> str:
        """Identity: the id of the corpus, or that of the record of fresh samples, which names the corpus."""
        if self.fresh is not None:
            return self.fresh.record.data_id
        return self._corpus.manifest.id

    @property
    def name(self) -> str:
        """What it is, for messages."""
        names = [f"recipe {self.fresh.record.recipe}"] if self.fresh is not None else []
        return " with ".join(names + ([self.corpus.url] if self.corpus is not None else []))

    def training(self) -> SampleSource:
        """Return where training samples come from: fresh ones and those of the corpus by weight."""
        if self.fresh is None:
            return Reader(self._corpus, "train", self.selection)
        fresh = self.fresh.source("train")
        weight = exact(self.fresh.record.weight)
        if weight == 1:
            return fresh
        return MixedSource(fresh, Reader(self._corpus, "train", self.selection), weight)

    def validation(self) -> SampleSource:
        """Return where validation samples come from: the corpus where there is one."""
        if self.corpus is None and self.fresh is not None:
            return self.fresh.source("val")
        return Reader(self._corpus, "val", self.selection)

    @property
    def _corpus(self) -> Corpus:
        if self.corpus is None:
            raise RuntimeError("fresh samples of a share below 1 come with a corpus")
        return self.corpus
