"""What steps came to: the numbers of each, and their means between two sendings of metrics."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from training.tracker import Metric


@dataclass(frozen=True)
class Outcome:
    """What one step came to. Its numbers stay on the device until somebody reads them."""

    step: int
    """How many steps had been done with it."""
    names: tuple[str, ...]
    values: Tensor
    """(len(names),): losses and the norm of the gradient."""
    keys: tuple[str, ...]
    """Of its samples."""

    def read(self) -> dict[str, float]:
        """Return the numbers by name; waits for the device."""
        return dict(zip(self.names, self.values.tolist(), strict=True))


@dataclass
class Window:
    """Means of what happened since metrics were last sent."""

    sums: dict[str, float] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    """Steps that had a loss of that name: some begin or end within a stage."""
    seconds: dict[str, float] = field(default_factory=dict)
    steps: int = 0

    def add(self, values: Mapping[str, float] | None) -> None:
        """Take in one step; `values` is None for one that was skipped."""
        self.steps += 1
        for name, value in (values or {}).items():
            self.sums[name] = self.sums.get(name, 0.0) + value
            self.counts[name] += 1

    def spend(self, seconds: Mapping[str, float]) -> None:
        """Take in how long the parts of steps took."""
        for name, taken in seconds.items():
            self.seconds[name] = self.seconds.get(name, 0.0) + taken

    def metrics(self, step: int) -> list[Metric]:
        """Return the means as metrics of `step`."""
        trained = [
            Metric(f"train/{name}", self.sums[name] / count, step) for name, count in self.counts.items()
        ]
        timed = [Metric(f"time/{name}_s", spent / self.steps, step) for name, spent in self.seconds.items()]
        return [*trained, *timed]
