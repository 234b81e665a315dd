"""What an evaluation says of one model, as its card tells it: means beside those of the input, and where it is worse."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from manifests.errors import UserError
from pipelines.evaluate import FORMAT, RESULT_FILE
from pipelines.scores import DEGRADED, Column


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


class CardScores:
    """The scores of one model and of its input."""

    def __init__(self, result: _Result, system: str) -> None:
        self.corpus_id = result.corpus_id
        """None for recordings without targets."""
        self.split = result.split
        self.samples = result.samples
        self.notes = result.notes
        self.columns = tuple(c for c in result.columns if _mean(result.summary[system], c) is not None)
        """Those that were measured."""
        self._result = result
        self._system = system

    @property
    def title(self) -> str:
        """What was heard: a split of a corpus, or recordings."""
        if self.corpus_id is None:
            return "recordings without references"
        return f"{self.split} split of corpus {self.corpus_id}"

    def means(self, system: str | None = None) -> dict[str, float | None]:
        """Return the means by column of the model, or of the input (`DEGRADED`)."""
        summary = self._result.summary[system or self._system]
        return {column.name: _mean(summary, column) for column in self.columns}

    def worse(self) -> list[str]:
        """Say where the model's mean is worse than its input's: over all samples, and by condition."""
        found = self._worse_in(self._result.summary, "over all samples")
        for condition, summary in self._result.by_condition.items():
            found += self._worse_in(summary, f"in '{condition}'")
        return found

    def _worse_in(self, summary: Mapping[str, Mapping[str, Any]], where: str) -> list[str]:
        if not {DEGRADED, self._system} <= summary.keys():
            return []
        found = []
        for column in self.columns:
            before, after = (_mean(summary[system], column) for system in (DEGRADED, self._system))
            if before is not None and after is not None and _is_worse(column, before, after):
                shown = f"{before:.{column.digits}f} to {after:.{column.digits}f}"
                found.append(f"{column.title} {where}: {shown}")
        return found


def _mean(summary: Mapping[str, Any], column: Column) -> float | None:
    mean = summary.get(column.name, {}).get("mean")
    return float(mean) if mean is not None else None


def _is_worse(column: Column, before: float, after: float) -> bool:
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
        return CardScores(result, systems[bundle_id])
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValidationError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: not the result of an evaluation of this format") from error
