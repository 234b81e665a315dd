"""A corpus as an MLflow dataset: named by its recipe, identified by its id, found again through its location.

MLflow finds `CorpusSource` through the entry-point group `mlflow.dataset_source`, so that
`mlflow.data.get_source` gives back something that can be opened, in any process where ssiforge is
installed.
"""

import json
from pathlib import Path
from typing import Any

from mlflow.data.dataset import Dataset
from mlflow.data.dataset_source import DatasetSource

from manifests.corpus import CORPUS_FILE, Corpus, CorpusManifest, open_corpus
from manifests.errors import UserError

SOURCE_TYPE = "ssiforge_corpus"


class CorpusSource(DatasetSource):  # type: ignore[misc]  # mlflow has no types
    """Where a corpus lay when it was used, and which one it was."""

    def __init__(self, location: str, corpus_id: str) -> None:
        self.location = location
        """Absolute path or URI."""
        self.corpus_id = corpus_id

    @staticmethod
    def _get_source_type() -> str:
        return SOURCE_TYPE

    def load(self) -> Corpus:
        """Open the corpus and check that it is still the one that was recorded.

        Raises:
            UserError: when it is not there any more, or another one lies there.
        """
        corpus = open_corpus(Path(self.location))
        if corpus.manifest.id != self.corpus_id:
            raise UserError(f"{self.location}: holds corpus {corpus.manifest.id}, not {self.corpus_id}")
        return corpus

    @staticmethod
    def _can_resolve(raw_source: Any) -> bool:
        return isinstance(raw_source, (str, Path)) and (Path(raw_source) / CORPUS_FILE).is_file()

    @classmethod
    def _resolve(cls, raw_source: Any) -> "CorpusSource":
        corpus = open_corpus(Path(raw_source))
        return cls(str(corpus.root.resolve()), corpus.manifest.id)

    def to_dict(self) -> dict[str, Any]:
        """Return what MLflow stores of the source."""
        return {"location": self.location, "corpus_id": self.corpus_id}

    @classmethod
    def from_dict(cls, source_dict: dict[Any, Any]) -> "CorpusSource":
        """Make a source from what MLflow stored."""
        return cls(source_dict["location"], source_dict["corpus_id"])


class CorpusDataset(Dataset):  # type: ignore[misc]
    """A corpus as the input of a run. Its digest is the corpus id, which fits MLflow's 36 characters."""

    def __init__(self, manifest: CorpusManifest, location: str) -> None:
        self._manifest = manifest
        super().__init__(CorpusSource(location, manifest.id), name=manifest.recipe, digest=manifest.id)

    def _compute_digest(self) -> str:
        return self._manifest.id

    @property
    def profile(self) -> dict[str, Any]:
        """What a person wants to know about the corpus at a glance."""
        manifest = self._manifest
        return {
            "recipe": manifest.recipe,
            "recipe_digest": manifest.recipe_digest,
            "catalogue_digest": manifest.catalogue_digest,
            "seed": manifest.seed,
            "hours": manifest.hours,
            "samples": dict(manifest.samples),
            "licences": manifest.licences,
        }

    @property
    def schema(self) -> dict[str, str]:
        """Fields of a sample."""
        return {"degraded": "flac", "target": "flac", "json": "object"}

    def to_dict(self) -> dict[str, str]:
        """Return what MLflow stores of the dataset."""
        described: dict[str, str] = super().to_dict()
        return described | {"schema": json.dumps(self.schema), "profile": json.dumps(self.profile)}


def corpus_dataset(corpus: Corpus) -> CorpusDataset:
    """Describe an open corpus for MLflow."""
    return CorpusDataset(corpus.manifest, str(corpus.root.resolve()))
