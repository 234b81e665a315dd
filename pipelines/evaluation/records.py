"""What an evaluation left in its folder, checked: the means of `evaluation.json`, whoever wrote it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from manifests.errors import UserError
from pipelines.evaluation.evaluate import FORMAT, RESULT_FILE
from pipelines.models.size import ModelSize
from pipelines.quality.scores import DEGRADED, Column


class _Read(BaseModel):
    """Fields that a page has no use for are passed over."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class Judged(_Read):
    """A model that was evaluated."""

    system: str
    stage: str
    bundle_id: str
    trained_on: str
    parents: dict[str, str] = {}
    """Bundle ids of what it was made from, by role; earlier evaluations did not say it."""
    size: ModelSize | None = None
    """Nor this."""


class Compared(_Read):
    """A difference of two systems in one score."""

    mean: float | None
    low: float | None
    high: float | None
    better: float | None
    p: float | None
    verdict: str
    n: int


class Comparison(_Read):
    """Two systems on the same samples."""

    system: str
    against: str
    scores: dict[str, Compared]

    @model_validator(mode="before")
    @classmethod
    def _as_written(cls, content: Any) -> Any:
        # `with` is a word of the language.
        return content | {"against": content.get("with")} if isinstance(content, dict) else content


class _Format(_Read):
    format: int


class EvaluationRecords(_Read):
    """The content of `evaluation.json`."""

    corpus_id: str | None
    split: str | None
    samples: int
    unreadable: int
    models: tuple[Judged, ...]
    columns: tuple[Column, ...]
    summary: dict[str, dict[str, Any]]
    """By system, as `pipelines.quality.summary.summarised` makes it."""
    by_condition: dict[str, dict[str, dict[str, Any]]]
    comparisons: tuple[Comparison, ...]
    failures: dict[str, int]
    notes: tuple[str, ...]

    @model_validator(mode="after")
    def _summaries_have_all_scores(self) -> "EvaluationRecords":
        systems = (DEGRADED, *(model.system for model in self.models))
        for summary in (self.summary, *self.by_condition.values()):
            if missing := [system for system in systems if system not in summary]:
                raise ValueError(f"a summary has no '{missing[0]}'")
            for entries in summary.values():
                for column in self.columns:
                    _check_entry(entries[column.name], column)
                if not isinstance(entries["samples"], int) or not isinstance(entries["small"], bool):
                    raise ValueError("a summary says not how many samples it is of")
        return self

    @property
    def heard(self) -> str:
        """What was listened to, in words."""
        if self.corpus_id is None:
            return "recordings without references"
        return f"{self.split} split of corpus {self.corpus_id}"


def _check_entry(entry: Mapping[str, Any], column: Column) -> None:
    absolute = ["mean_absolute"] if column.higher_is_better is None and not column.describes else []
    for name in ("mean", "low", "high", *absolute):
        if entry[name] is not None and not isinstance(entry[name], int | float):
            raise ValueError(f"{name} of {column.name} is not a number")
    if not isinstance(entry["failures"], int):
        raise ValueError(f"failures of {column.name} are not a number")


def is_evaluation(folder: Path) -> bool:
    """Say whether a folder holds the result of an evaluation."""
    return (folder / RESULT_FILE).is_file()


def read_evaluation(folder: Path) -> EvaluationRecords:
    """Read an evaluation.

    Raises:
        UserError: when there is none, or one of another format.
    """
    path = folder / RESULT_FILE
    try:
        content = path.read_bytes()
        written_as = _Format.model_validate_json(content).format
        if written_as != FORMAT:
            raise UserError(f"{path}: is of format {written_as}; this version reads format {FORMAT}")
        return EvaluationRecords.model_validate_json(content)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValidationError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: not the result of an evaluation of format {FORMAT}") from error
