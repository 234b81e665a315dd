"""Scores of samples, and their means with what the means do not hold."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from manifests.canonical import rounded
from pipelines.dnsmos import Dnsmos, dnsmos
from pipelines.metrics import Audio, MeasurementError, Metric, reference_metrics

DEGRADED = "degraded"
"""What the input is called among the systems that are compared."""
ALL = "all"

_DNSMOS_TITLES = {"ovrl": "OVRL", "sig": "SIG", "bak": "BAK", "p808": "P808"}


@dataclass(frozen=True)
class Column:
    """A score as tables and files show it."""

    name: str
    title: str
    higher_is_better: bool | None
    digits: int


@dataclass(frozen=True)
class Row:
    """The scores of one system on one sample."""

    key: str
    system: str
    conditions: tuple[str, ...]
    scores: Mapping[str, float | None]
    """None where a score is not defined on this sample."""
    failures: Mapping[str, str] = field(default_factory=dict)
    """Why, by score."""


def columns(with_reference: bool) -> tuple[Column, ...]:
    """Return the scores that are measured, in the order in which they are shown."""
    predicted = tuple(Column(f"dnsmos_{name}", title, True, 2) for name, title in _DNSMOS_TITLES.items())
    if not with_reference:
        return predicted
    compared = tuple(Column(m.name, m.title, m.higher_is_better, m.digits) for m in reference_metrics())
    return (*predicted, *compared)


def score(
    key: str, system: str, estimate: Audio, target: Audio | None, conditions: Sequence[str] = ()
) -> Row:
    """Measure one system's output for one sample, (N,) at 48 kHz, against the target if there is one."""
    scores: dict[str, float | None] = {}
    failures: dict[str, str] = {}
    try:
        predicted = dnsmos(estimate)
        scores |= {f"dnsmos_{name}": rounded(getattr(predicted, name), 6) for name in _DNSMOS_TITLES}
    except MeasurementError as error:
        scores |= {f"dnsmos_{name}": None for name in Dnsmos._fields}
        failures |= {f"dnsmos_{name}": str(error) for name in Dnsmos._fields}
    for metric in reference_metrics() if target is not None else ():
        assert target is not None
        scores[metric.name], reason = _measured(metric, target, estimate)
        if reason:
            failures[metric.name] = reason
    return Row(key, system, tuple(conditions), scores, failures)


def _measured(metric: Metric, target: Audio, estimate: Audio) -> tuple[float | None, str]:
    try:
        return rounded(metric.measure(target, estimate), 6), ""
    except MeasurementError as error:
        return None, str(error)


def summarised(rows: Iterable[Row], shown: Sequence[Column]) -> dict[str, dict[str, Any]]:
    """Return, for each system and score, the mean over the samples that have it, and how many have not.

    `{system: {"samples": n, score: {"mean": x or None, "failures": k}}}`
    """
    by_system: dict[str, list[Row]] = {}
    for row in rows:
        by_system.setdefault(row.system, []).append(row)
    return {
        system: {"samples": len(of_system), **{c.name: _mean(of_system, c.name) for c in shown}}
        for system, of_system in by_system.items()
    }


def _mean(rows: Sequence[Row], name: str) -> dict[str, Any]:
    values = [value for row in rows if (value := row.scores[name]) is not None]
    mean = rounded(sum(values) / len(values), 6) if values else None
    return {"mean": mean, "failures": len(rows) - len(values)}


def by_condition(rows: Sequence[Row], shown: Sequence[Column]) -> dict[str, dict[str, Any]]:
    """Return the summary of each condition, in alphabetical order."""
    names = sorted({condition for row in rows for condition in row.conditions})
    return {name: summarised((row for row in rows if name in row.conditions), shown) for name in names}


def reasons(rows: Iterable[Row]) -> dict[str, int]:
    """Count failures by score and reason."""
    found: dict[str, int] = {}
    for row in rows:
        for name, reason in row.failures.items():
            found[f"{name}: {reason}"] = found.get(f"{name}: {reason}", 0) + 1
    return dict(sorted(found.items()))
