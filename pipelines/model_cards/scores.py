"""What an evaluation says of one model, as its card tells it: means beside the input's, and where it is worse."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from manifests.errors import UserError
from pipelines.evaluation.evaluate import RESULT_FILE
from pipelines.evaluation.records import EvaluationRecords, read_evaluation
from pipelines.quality.scores import DEGRADED, Column


@dataclass(frozen=True)
class CardScores:
    """The scores of one model and of its input."""

    heard: str
    """What the samples are: a split of a corpus, or recordings."""
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


def scores_of(result: EvaluationRecords, bundle_id: str) -> CardScores | None:
    """Return what an evaluation says of the model with some bundle id; None where it is of other models."""
    system = next((model.system for model in result.models if model.bundle_id == bundle_id), None)
    if system is None:
        return None
    columns = tuple(c for c in result.columns if _mean(result.summary[system], c) is not None)
    wheres = {"over all samples": result.summary}
    wheres |= {f"in '{condition}'": summary for condition, summary in result.by_condition.items()}
    return CardScores(
        heard=result.heard,
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
    result = read_evaluation(folder)
    scores = scores_of(result, bundle_id)
    if scores is None:
        others = ", ".join(model.bundle_id for model in result.models) or "nothing"
        raise UserError(f"{folder / RESULT_FILE}: holds scores of {others}, and not of {bundle_id}")
    return scores
