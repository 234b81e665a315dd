"""Where the record of a run's fresh samples lay, so that MLflow can open it again.

MLflow imports this module through the entry-point group `mlflow.dataset_source` while it is itself being imported.
Whoever needs `OnlineSource` imports `mlflow.data` first, or MLflow would find this module half done.
"""

from pathlib import Path
from typing import Any

from mlflow.data.dataset_source import DatasetSource

from manifests.errors import UserError
from manifests.online import OnlineRecord, read_online
from pipelines.tracking.store import ONLINE_SOURCE_TYPE


class OnlineSource(DatasetSource):  # type: ignore[misc]  # mlflow has no types
    """The folder that keeps the recipe and the catalogue of a run's fresh samples, and which samples they are."""

    def __init__(self, location: str, data_id: str) -> None:
        self.location = location
        """Absolute path of `RUN_DIR/online`."""
        self.data_id = data_id

    @staticmethod
    def _get_source_type() -> str:
        return ONLINE_SOURCE_TYPE

    def load(self) -> OnlineRecord:
        """Read the record and check that it is still the one of the run.

        Raises:
            UserError: when it is not there any more, or another one lies there.
        """
        record = read_online(Path(self.location))
        if record is None or record.data_id != self.data_id:
            held = record.data_id if record else "none"
            raise UserError(f"{self.location}: holds the record of fresh samples {held}, not {self.data_id}")
        return record

    @staticmethod
    def _can_resolve(raw_source: Any) -> bool:
        return False  # a folder by itself is no dataset

    @classmethod
    def _resolve(cls, raw_source: Any) -> "OnlineSource":
        raise UserError(f"{raw_source}: fresh samples are named by the run that heard them")

    def to_dict(self) -> dict[str, Any]:
        """Return what MLflow stores of the source."""
        return {"location": self.location, "data_id": self.data_id}

    @classmethod
    def from_dict(cls, source_dict: dict[Any, Any]) -> "OnlineSource":
        """Make a source from what MLflow stored."""
        return cls(source_dict["location"], source_dict["data_id"])
