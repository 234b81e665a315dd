"""The scores that `ssiforge score` can give a sample: their columns, how they are measured, and by what exactly.

Everything here is a pure function of a sample's two waves: no clock, no order, no number of threads.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from datagen.environment import package_version
from manifests.canonical import rounded
from manifests.documents import suggestion
from manifests.errors import UserError
from pipelines.quality.dnsmos import Dnsmos, dnsmos, model_hashes
from pipelines.quality.metrics import Audio, MeasurementError, Metric, reference_metrics

Identity = dict[str, Any]
"""What decides the value of a metric beside the audio: packages with their versions, and hashes of networks."""

DIGITS = 6
"""Scores are rounded to so many digits behind the point."""
DEFAULT = ("dnsmos",)


@dataclass(frozen=True)
class ScoreMetric:
    """Something to measure on every sample."""

    name: str
    """As `--metrics` names it."""
    columns: tuple[str, ...]
    measure: Callable[[Audio, Audio], tuple[float, ...]]
    """(target, degraded), each (N,) at 48 kHz -> a value for each column; may raise MeasurementError."""
    packages: tuple[str, ...]
    """Those that compute it."""
    uses_networks: bool = False

    @property
    def identity(self) -> Identity:
        """What must be equal for two scores to be comparable."""
        versions = {name: package_version(name) for name in ("ssiforge", "numpy", *self.packages)}
        return {"packages": versions, "models": model_hashes() if self.uses_networks else {}}

    def measured(self, target: Audio, degraded: Audio) -> tuple[tuple[float | None, ...], str]:
        """Return a value for each column and no reason, or nothing but Nones and why."""
        nothing = (None,) * len(self.columns)
        try:
            values = tuple(rounded(value, DIGITS) for value in self.measure(target, degraded))
        except MeasurementError as error:
            return nothing, str(error)
        return (nothing, "not a finite number") if None in values else (values, "")


def available() -> dict[str, ScoreMetric]:
    """Return all metrics whose packages are installed, by name."""
    predicted = [
        _predicted("dnsmos", "dnsmos_", lambda target, degraded: _in_order(dnsmos(degraded))),
        _predicted("target_dnsmos", "target_dnsmos_", lambda target, degraded: _in_order(dnsmos(target))),
    ]
    compared = [_compared(metric) for metric in reference_metrics()]
    return {metric.name: metric for metric in (*predicted, *compared)}


def chosen(names: Sequence[str]) -> tuple[ScoreMetric, ...]:
    """Return the metrics that `--metrics` names, each once.

    Raises:
        UserError: when one is unknown, or its package is not installed.
    """
    known = available()
    for name in names:
        if name == "pesq_wb" and name not in known:
            raise UserError(
                "--metrics pesq_wb: the optional package is not installed (pip install 'ssiforge[pesq]')"
            )
        if name not in known:
            raise UserError(
                f"--metrics {name}: no such metric; there are {', '.join(known)}{suggestion(name, known)}"
            )
    if not names:
        raise UserError(f"--metrics: names no metric; there are {', '.join(known)}")
    return tuple(known[name] for name in dict.fromkeys(names))


_ORDER = ("ovrl", "sig", "bak", "p808")
_PACKAGES = {"estoi": ("scipy", "pystoi"), "pesq_wb": ("soxr", "pesq"), "level_error_db": ("scipy",)}
"""Beside numpy."""


def _in_order(scores: Dnsmos) -> tuple[float, ...]:
    return tuple(getattr(scores, name) for name in _ORDER)


def _predicted(name: str, prefix: str, measure: Callable[[Audio, Audio], tuple[float, ...]]) -> ScoreMetric:
    columns = tuple(f"{prefix}{column}" for column in _ORDER)
    return ScoreMetric(name, columns, measure, ("onnxruntime", "soxr", "speechmos"), uses_networks=True)


def _compared(metric: Metric) -> ScoreMetric:
    return ScoreMetric(
        metric.name,
        (metric.name,),
        lambda target, degraded: (metric.measure(target, degraded),),
        _PACKAGES.get(metric.name, ()),
    )
