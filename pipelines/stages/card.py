"""What is known about a stage without running it: place in the chain, settings, promises, measured cost."""

import inspect
import json
from dataclasses import asdict, dataclass
from functools import lru_cache
from importlib import resources
from typing import Any

from datagen.degradations import provenance, stage_class, stage_names
from datagen.degradations.base import Tolerance
from datagen.degradations.registry import BUILT_IN, place_of
from manifests.sample import Axis
from pipelines.stages.settings import UNITS, Setting, first_sentence, number, settings_of

COSTS = "costs.json"
"""Beside the stages; written by `benchmarks/stages.py`."""


@dataclass(frozen=True)
class Cost:
    """What one variant of a stage was measured to cost."""

    variant: str
    """The codec, the kind of clipping, and so on; empty for a stage that has no variants."""
    ms: float
    """CPU time for 10 s at 48 kHz on one thread, in milliseconds."""
    delay_samples: tuple[float, float]
    """Smallest and largest delay that it declared and the engine removed, in samples at 48 kHz."""


@dataclass(frozen=True)
class StageCard:
    """All that a catalogue says about one stage."""

    name: str
    place: str
    """Where in the chain it belongs."""
    axis: Axis | None
    summary: str
    description: str
    """The whole docstring."""
    package: str
    settings: tuple[Setting, ...]
    promises: dict[str, Tolerance]
    warps_time: bool
    costs: tuple[Cost, ...]
    """One for each variant; empty where nothing was measured."""

    @property
    def delay_text(self) -> str:
        """`none`, `312 samples, removed`, `moves time`, or `-` where it was not measured."""
        if self.warps_time:
            return "moves time"
        if not self.costs:
            return "-"
        low = round(min(cost.delay_samples[0] for cost in self.costs), 1)
        high = round(max(cost.delay_samples[1] for cost in self.costs), 1)
        if low == high == 0.0:
            return "none"
        return f"{number(low) if low == high else f'{number(low)} to {number(high)}'} samples, removed"

    @property
    def ranges_text(self) -> str:
        """What it draws from by default: `snr_db [-5, 30], sources [1, 3]`; settings within settings left out."""
        drawn = [s for s in self.settings if (s.fields or isinstance(s.default, list)) and "." not in s.name]
        return ", ".join(f"{setting.name} {setting.default_text}" for setting in drawn)

    @property
    def cost_text(self) -> str:
        """Milliseconds for 10 s of audio, as a range over the variants."""
        if not self.costs:
            return "-"
        low, high = milliseconds(min(c.ms for c in self.costs)), milliseconds(max(c.ms for c in self.costs))
        return low if low == high else f"{low} to {high}"

    def plain(self) -> dict[str, Any]:
        """Return the card as JSON values."""
        return asdict(self) | {"delay": self.delay_text}


def cards() -> tuple[list[StageCard], list[str]]:
    """Return the cards of all stages in the order of the chain, and why some registered ones have none."""
    from manifests.errors import UserError

    found, problems = [], []
    for name in stage_names():
        try:
            found.append(card(name))
        except UserError as error:
            problems.append(str(error))
    order = list(BUILT_IN)
    found.sort(key=lambda card: (order.index(card.name) if card.name in order else len(order), card.name))
    return found, problems


def card(name: str) -> StageCard:
    """Return the card of one stage.

    Raises:
        UserError: when there is no such stage, or its package cannot be loaded.
    """
    cls = stage_class(name)
    return StageCard(
        name=name,
        place=place_of(name),
        axis=cls.axis,
        summary=first_sentence(cls.__doc__),
        description=inspect.cleandoc(cls.__doc__ or ""),
        package=provenance(cls)[0],
        settings=settings_of(cls),
        promises=dict(cls.promises),
        warps_time=cls.warps_time,
        costs=measured_costs()[1].get(name, ()),
    )


@lru_cache(maxsize=1)
def measured_costs() -> tuple[str, dict[str, tuple[Cost, ...]]]:
    """Return the machine that costs were measured on, and the costs of each stage; nothing where there is no file."""
    file = resources.files("datagen.degradations").joinpath(COSTS)
    if not file.is_file():
        return "", {}
    content = json.loads(file.read_text(encoding="utf-8"))
    costs = {
        name: tuple(Cost(row["variant"], row["ms"], tuple(row["delay_samples"])) for row in rows)
        for name, rows in content["stages"].items()
    }
    return content["machine"], costs


def milliseconds(value: float) -> str:
    """Write a duration with as many digits as a timing is good for: `0.4`, `7.1`, `23`."""
    return f"{value:.1f}" if value < 10.0 else f"{value:.0f}"


def tolerance_text(name: str, tolerance: Tolerance) -> str:
    """Say how far a value may be off: `± 0.1 dB`."""
    unit = UNITS.get(name.rpartition("_")[2], "") if "_" in name else ""
    parts = []
    if tolerance.absolute:
        parts.append(f"{number(float(f'{tolerance.absolute:.3g}'))} {unit}".strip())
    if tolerance.relative:
        parts.append(f"{number(100.0 * tolerance.relative)} %")
    return f"± {' and '.join(parts)}" if parts else "exactly"
