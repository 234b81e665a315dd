"""The scores of one shard, and the file that keeps them until the job is done.

A part file lies in `scores/SPLIT/SHARD.json` and holds all that was measured on the shard with this content hash. It is
written by the driver, whole or not at all, so a job that is killed loses the shards in progress and nothing else.
"""

from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict, ValidationError

from manifests.corpus import ShardRecord
from manifests.store import Store
from pipelines.scoring.columns import Identity

PARTS_FOLDER = "scores"


class MetricScores(BaseModel):
    """What one metric found on the samples of a shard."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    identity: Identity
    columns: dict[str, tuple[float | None, ...]]
    """A value for each sample, in the shard's order."""
    failures: dict[str, str] = {}
    """Why a sample has none, by key."""


class ShardScores(BaseModel):
    """All scores of a shard."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    shard: str
    """Name of the tar within the corpus."""
    sha256: str
    metrics: dict[str, MetricScores] = {}

    def merged(self, other: "ShardScores") -> "ShardScores":
        """Add the metrics of another measurement of the same shard."""
        return self.model_copy(update={"metrics": self.metrics | other.metrics})

    def only(self, identities: Mapping[str, Identity]) -> "ShardScores":
        """Leave out metrics that were measured by something else than `identities` names."""
        kept = {
            name: scores
            for name, scores in self.metrics.items()
            if name in identities and scores.identity == identities[name]
        }
        return self.model_copy(update={"metrics": kept})


def part_name(record: ShardRecord) -> str:
    """Name of a shard's part file within the corpus."""
    return f"{PARTS_FOLDER}/{record.split}/{record.name}.json"


def read_part(store: Store, record: ShardRecord) -> ShardScores | None:
    """Read what an interrupted job left for a shard; None where that is nothing, or of another shard.

    What is damaged counts as nothing: it is measured again.
    """
    try:
        part = ShardScores.model_validate_json(store.read(part_name(record)))
    except (FileNotFoundError, NotADirectoryError, ValidationError):
        return None
    return part if part.sha256 == record.sha256 else None


def write_part(store: Store, record: ShardRecord, scores: ShardScores) -> None:
    """Write a shard's part file."""
    store.write(part_name(record), scores.model_dump_json().encode() + b"\n")
