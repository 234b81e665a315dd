"""A corpus as an MLflow dataset: named by its recipe, identified by its id, found again through its location."""

import json
from typing import Any

from mlflow.data.dataset import Dataset

from manifests.corpus import Corpus, CorpusManifest
from manifests.store import absolute
from pipelines.tracking.source import CorpusSource


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
        parts = {part.corpus: part.weight for part in manifest.parts}
        return ({"parts": parts} if parts else {}) | {
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
    return CorpusDataset(corpus.manifest, absolute(corpus.url))
