"""Where a corpus lay when a run used it, so that MLflow can open it again.

MLflow imports this module through the entry-point group `mlflow.dataset_source` while it is itself being imported.
Whoever needs `CorpusSource` imports `mlflow.data` first, or MLflow would find this module half done.
"""

from typing import Any

from mlflow.data.dataset_source import DatasetSource

from manifests.corpus import Corpus, is_corpus, open_corpus
from manifests.errors import UserError
from manifests.store import Place, absolute
from pipelines.tracking.store import CORPUS_SOURCE_TYPE


class CorpusSource(DatasetSource):  # type: ignore[misc]  # mlflow has no types
    """Where a corpus lay when it was used, and which one it was."""

    def __init__(self, location: str, corpus_id: str) -> None:
        self.location = location
        """Absolute path or URI."""
        self.corpus_id = corpus_id

    @staticmethod
    def _get_source_type() -> str:
        return CORPUS_SOURCE_TYPE

    def load(self) -> Corpus:
        """Open the corpus and check that it is still the one that was recorded.

        Raises:
            UserError: when it is not there any more, or another one lies there.
        """
        corpus = open_corpus(self.location)
        if corpus.manifest.id != self.corpus_id:
            raise UserError(f"{self.location}: holds corpus {corpus.manifest.id}, not {self.corpus_id}")
        return corpus

    @staticmethod
    def _can_resolve(raw_source: Any) -> bool:
        return isinstance(raw_source, Place) and is_corpus(raw_source)

    @classmethod
    def _resolve(cls, raw_source: Any) -> "CorpusSource":
        corpus = open_corpus(raw_source)
        return cls(absolute(corpus.url), corpus.manifest.id)

    def to_dict(self) -> dict[str, Any]:
        """Return what MLflow stores of the source."""
        return {"location": self.location, "corpus_id": self.corpus_id}

    @classmethod
    def from_dict(cls, source_dict: dict[Any, Any]) -> "CorpusSource":
        """Make a source from what MLflow stored."""
        return cls(source_dict["location"], source_dict["corpus_id"])
