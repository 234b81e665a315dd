"""What fresh samples are drawn from: the record that an online run and its models keep, and where a run keeps it.

```
RUN_DIR/online/
  online.json      the record       recipe.yaml  the recipe as it is used
  sources.parquet  the rows of the catalogue that may be drawn from, simulated rooms among them
```
"""

from pathlib import Path
from typing import Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
)

from manifests.canonical import canonical_json, digest
from manifests.errors import UserError
from manifests.files import write_atomically

ONLINE_FOLDER = "online"
ONLINE_FILE = "online.json"
EPOCH_SAMPLES = 10_000
"""Fresh samples never end; so many of them are called an epoch."""


class OnlineRecord(BaseModel):
    """Everything that decides which fresh samples a run hears, and in which mixture."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    recipe: str
    """Its name."""
    recipe_digest: str
    catalogue_digest: str
    """Of the usable rows, simulated rooms among them."""
    seed: int
    """Of every draw."""
    weight: float = Field(default=1.0, gt=0.0, le=1.0)
    """Share of the samples that are fresh, a decimal, taken as written; the others come from the corpus."""
    corpus_id: str = ""
    """The corpus beside it, which gives the other samples and those for validation; empty where there is none."""
    code_version: str
    """Of the renderer."""
    allow_licences: tuple[str, ...] | None = None
    """The list by which sources were left to be drawn, sorted; None where all were."""

    @property
    def data_id(self) -> str:
        """Identity of the data: stands in a model and a checkpoint where the id of a corpus would.

        As with a corpus, what a list of licences leaves is what counts: the digest of the catalogue has it.
        """
        return digest(self.model_dump(mode="json", exclude={"allow_licences"}))

    @model_serializer(mode="wrap")
    def _without_no_list(self, written: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out the list where there is none: ids of models that were made before there was one stay."""
        content: dict[str, Any] = written(self)
        if content.get("allow_licences", ()) is None:
            del content["allow_licences"]
        return content


def write_online(folder: Path, record: OnlineRecord) -> None:
    """Write the record of a run; it comes last in its folder.

    Raises:
        OSError: when it cannot be written.
    """
    write_atomically(folder / ONLINE_FILE, canonical_json(record.model_dump(mode="json")) + b"\n")


def read_online(folder: Path) -> OnlineRecord | None:
    """Read the record of a run; None where there is none.

    Args:
        folder: `RUN_DIR/online`.

    Raises:
        UserError: when what lies there is none.
    """
    path = folder / ONLINE_FILE
    try:
        return OnlineRecord.model_validate_json(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    except ValidationError as error:
        raise UserError(f"{path}: not the record of an online run of this format") from error
