"""Fresh samples as an MLflow dataset: named by their recipe, known by what decides them, found in the run folder."""

import json
from typing import Any

from mlflow.data.dataset import Dataset

from manifests.online import OnlineRecord
from pipelines.tracking.online import OnlineSource
from pipelines.tracking.store import TAG


class OnlineDataset(Dataset):  # type: ignore[misc]
    """Fresh samples as the input of a run."""

    def __init__(self, record: OnlineRecord, location: str) -> None:
        self._record = record
        super().__init__(OnlineSource(location, record.data_id), name=record.recipe, digest=record.data_id)

    def _compute_digest(self) -> str:
        return self._record.data_id

    @property
    def profile(self) -> dict[str, Any]:
        """What decides the samples."""
        return self._record.model_dump(mode="json")

    def to_dict(self) -> dict[str, str]:
        """Return what MLflow stores of the dataset."""
        described: dict[str, str] = super().to_dict()
        return described | {"profile": json.dumps(self.profile)}


def online_tags(record: OnlineRecord) -> dict[str, str]:
    """Return the tags by which a run that heard fresh samples is found."""
    allowed = record.allow_licences
    return {
        f"{TAG}online.recipe": record.recipe,
        f"{TAG}online.recipe_digest": record.recipe_digest,
        f"{TAG}online.catalogue_digest": record.catalogue_digest,
        f"{TAG}online.seed": str(record.seed),
        f"{TAG}online.weight": f"{record.weight:g}",
        **({} if allowed is None else {f"{TAG}online.allow_licences": ", ".join(allowed)}),
    }
