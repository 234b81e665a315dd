"""What an evaluation says of one model, as its card tells it: means beside the input's, and where it is worse."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from manifests.errors import UserError
from pipelines.evaluation.evaluate import FORMAT, RESULT_FILE
from pipelines.quality.scores import DEGRADED, Column


class _Read(BaseModel):
    """Fields that a card has no use for are passed over."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class _Format(_Read):
    format: int


class _Evaluated(_Read):
    system: str
    bundle_id: str


class _Result(_Read):
    corpus_id: str | None
    split: str | None
    samples: int
    models: tuple[_Evaluated, ...]
    columns: tuple[Column, ...]
    summary: dict[str, dict[str, Any]]
    by_condition: dict[str, dict[str, dict[str, Any]]]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class CardScores:
    """The scores of one model and of its input."""

    corpus_id: str | None
    """None for recordings without targets."""
    split: str | None
    samples: int
    notes: tuple[str, ...]
    columns: tuple[Column, ...]
    """Those that were measured."""
    before: Mapping[str, float | None]
    """Means of the input, by column."""
    after: Mapping[str, float | None]
    """Means of the model's output, likewise."""
    worse: tuple[str, ...]
    """Where the model's mean is worse than its input's: over all samples, and by condition."""

    @property
    def title(self) -> str:
        """What was heard: a split of a corpus, or recordings."""
        if self.corpus_id is None:
            return "recordings without references"
        return f"{self.split} split of corpus {self.corpus_id}"


def _scores_of(result: _Result, system: str) -> CardScores:
    columns = tuple(c for c in result.columns if _mean(result.summary[system], c) is not None)
    wheres = {"over all samples": result.summary}
    wheres |= {f"in '{condition}'": summary for condition, summary in result.by_condition.items()}
    return CardScores(
        corpus_id=result.corpus_id,
        split=result.split,
        samples=result.samples,
        notes=result.notes,
        columns=columns,
        before={column.name: _mean(result.summary[DEGRADED], column) for column in columns},
        after={column.name: _mean(result.summary[system], column) for column in columns},
        worse=tuple(
            text
            for where, summary in wheres.items()
            for column in columns
            if (text := _worse(column, summary[DEGRADED], summary[system], where))
        ),
    )


def _worse(column: Column, degraded: Mapping[str, Any], enhanced: Mapping[str, Any], where: str) -> str:
    """Say that and by how much a mean got worse; nothing where it did not, or cannot be compared."""
    before, after = _mean(degraded, column), _mean(enhanced, column)
    if before is None or after is None or not _is_worse(column, before, after):
        return ""
    return f"{column.title} {where}: {before:.{column.digits}f} to {after:.{column.digits}f}"


def _mean(summary: Mapping[str, Any], column: Column) -> float | None:
    said = summary.get(column.name, {})
    # Too loud here and too quiet there are no better together.
    mean = said.get("mean_absolute", said.get("mean"))
    return float(mean) if mean is not None else None


def _is_worse(column: Column, before: float, after: float) -> bool:
    if column.describes:
        return False
    if column.higher_is_better is None:
        return abs(after) > abs(before)
    return after < before if column.higher_is_better else after > before


def read_scores(folder: Path, bundle_id: str) -> CardScores:
    """Read what an evaluation says of a model.

    Args:
        folder: what `ssiforge evaluate` wrote to.
        bundle_id: of the model.

    Raises:
        UserError: when there is no evaluation, one of another format, or one of other models.
    """
    path = folder / RESULT_FILE
    try:
        content = path.read_bytes()
        written_as = _Format.model_validate_json(content).format
        if written_as != FORMAT:
            raise UserError(f"{path}: is of format {written_as}; this version reads format {FORMAT}")
        result = _Result.model_validate_json(content)
        systems = {model.bundle_id: model.system for model in result.models}
        if bundle_id not in systems:
            raise UserError(
                f"{path}: holds scores of {', '.join(systems) or 'nothing'}, and not of {bundle_id}"
            )
        return _scores_of(result, systems[bundle_id])
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValidationError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: not the result of an evaluation of this format") from error
