"""Scores of samples: what is measured on each, as columns and rows."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from manifests.canonical import rounded
from pipelines.quality.dnsmos import Dnsmos, dnsmos
from pipelines.quality.metrics import Audio, MeasurementError, reference_metrics
from pipelines.quality.recordings import MEASURES
from pipelines.quality.sigmos import Sigmos, SigmosScores, open_sigmos

DEGRADED = "degraded"
"""What the input is called among the systems that are compared."""
DIGITS = 6
"""Scores are rounded to so many digits behind the point."""

_DNSMOS_TITLES = {"ovrl": "OVRL", "sig": "SIG", "bak": "BAK", "p808": "P808"}
_SIGMOS_TITLES = {name: f"σ{name}" for name in ("ovrl", "sig", "noise", "col", "disc", "loud", "reverb")}


@dataclass(frozen=True)
class Column:
    """A score as tables and files show it."""

    name: str
    title: str
    higher_is_better: bool | None
    """None where nearest to zero is best, or nothing is."""
    digits: int
    describes: bool = False
    """Whether no value is better than another: a recording's bandwidth, for example."""

    @property
    def heading(self) -> str:
        """The title, with an arrow to where better values lie."""
        if self.describes:
            return self.title
        return self.title + {True: "↑", False: "↓", None: "→0"}[self.higher_is_better]


@dataclass(frozen=True)
class Sample:
    """Something to enhance and to score; waves are (N,) at 48 kHz."""

    key: str
    degraded: Audio
    target: Audio | None
    conditions: tuple[str, ...] = ()
    speaker: str | None = None
    """None where nobody knows."""


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
    speaker: str | None = None


def columns(with_reference: bool, with_sigmos: bool = False) -> tuple[Column, ...]:
    """Return the scores that are measured, in the order in which they are shown."""
    predicted = [Column(f"dnsmos_{name}", title, True, 2) for name, title in _DNSMOS_TITLES.items()]
    if with_sigmos:
        predicted += [Column(f"sigmos_{name}", title, True, 2) for name, title in _SIGMOS_TITLES.items()]
    if with_reference:
        others = [Column(m.name, m.title, m.higher_is_better, m.digits) for m in reference_metrics()]
    else:
        others = [Column(m.name, m.title, None, m.digits, describes=True) for m in MEASURES]
    return (*predicted, *others)


def score_all(sample: Sample, estimates: Mapping[str, Audio], sigmos: Path | None = None) -> tuple[Row, ...]:
    """Measure the input and each system's output for one sample.

    Args:
        sample: with a target, outputs are compared with it; without, they are described.
        estimates: by system, (N,) at 48 kHz.
        sigmos: network of `pipelines.quality.sigmos`, if there is one.
    """
    return tuple(
        score(sample, system, estimate, sigmos)
        for system, estimate in ({DEGRADED: sample.degraded} | dict(estimates)).items()
    )


def score(sample: Sample, system: str, estimate: Audio, sigmos: Path | None = None) -> Row:
    """Measure one system's output for one sample, (N,) at 48 kHz."""
    scores: dict[str, float | None] = {}
    failures: dict[str, str] = {}

    def measure(names: Sequence[str], of: Callable[..., float | tuple[float, ...]], *signals: Audio) -> None:
        try:
            value = of(*signals)
        except MeasurementError as error:
            scores.update(dict.fromkeys(names))
            failures.update(dict.fromkeys(names, str(error)))
        else:
            values = value if isinstance(value, tuple) else (value,)
            scores.update({name: rounded(x, DIGITS) for name, x in zip(names, values, strict=True)})

    measure([f"dnsmos_{name}" for name in Dnsmos._fields], dnsmos, estimate)
    if sigmos is not None:
        measure([f"sigmos_{name}" for name in SigmosScores._fields], _opened(sigmos).score, estimate)
    if sample.target is not None:
        for metric in reference_metrics():
            measure([metric.name], metric.measure, sample.target, estimate)
    else:
        for described in MEASURES:
            measure([described.name], described.measure, estimate)
    return Row(sample.key, system, sample.conditions, scores, failures, sample.speaker)


@cache
def _opened(sigmos: Path) -> Sigmos:
    """Open the network once in each process."""
    return open_sigmos(sigmos)


def by_system(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Sort rows by their systems, which keep their order."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row.system, []).append(row)
    return found
