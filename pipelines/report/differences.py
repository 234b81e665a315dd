"""How far two sets of values are apart, in numbers and in words."""

import math
from dataclasses import dataclass

import numpy as np

from pipelines.report.markup import Html, tag
from pipelines.report.page import table
from pipelines.report.scales import Values, figure, percent
from pipelines.report.summary import Measure

ALIKE, DIFFERENT = 0.1, 0.5
DEGREES = ((0.25, "somewhat different"), (DIFFERENT, "different"))
"""Kolmogorov-Smirnov distances up to which two distributions are called so."""
DISTANCES = {"dBFS": "dB", "%": "percentage points", "0 to 1": ""}
"""Units of differences, where they are not those of the values."""
CENTRAL = (0.05, 0.95)


@dataclass(frozen=True)
class Difference:
    """Two distributions of one measure, neither of them empty."""

    measure: Measure
    a: Values
    b: Values

    @property
    def ks(self) -> float:
        """Kolmogorov-Smirnov distance: the largest difference of the two cumulative shares, 0 to 1."""
        at = np.sort(np.concatenate([self.a, self.b]))
        below_a = np.searchsorted(np.sort(self.a), at, "right") / len(self.a)
        below_b = np.searchsorted(np.sort(self.b), at, "right") / len(self.b)
        return float(np.abs(below_a - below_b).max())

    @property
    def wasserstein(self) -> float:
        """Wasserstein-1 distance in the measure's unit: how far values must be moved to turn one into the other."""
        at = np.sort(np.concatenate([self.a, self.b]))
        below_a = np.searchsorted(np.sort(self.a), at[:-1], "right") / len(self.a)
        below_b = np.searchsorted(np.sort(self.b), at[:-1], "right") / len(self.b)
        return float((np.abs(below_a - below_b) * np.diff(at)).sum())

    @property
    def covered(self) -> float:
        """Share of B that lies where the middle 90 % of A lie."""
        low, high = np.quantile(self.a, CENTRAL)
        return float(((self.b >= low) & (self.b <= high)).mean())

    @property
    def chance(self) -> float:
        """KS distance that arrays of these sizes from one distribution exceed once in twenty times (Smirnov, 1948)."""
        return 1.36 * math.sqrt((len(self.a) + len(self.b)) / (len(self.a) * len(self.b)))

    @property
    def is_large(self) -> bool:
        """Whether they are far apart, and chance does not explain it."""
        return self.ks > max(DIFFERENT, self.chance)

    def in_words(self) -> str:
        """Say how alike they are, and which way B differs."""
        if self.ks <= ALIKE:
            return "alike"
        if self.ks <= self.chance:
            return "too few values to tell them apart"
        how = next((word for limit, word in DEGREES if self.ks <= limit), "very different")
        apart = float(np.median(self.b) - np.median(self.a))
        if abs(apart) < 1e-9:
            return how
        unit = DISTANCES.get(self.measure.unit, self.measure.unit)
        by = f"{figure(abs(apart))} {unit}".strip()
        return f"{how}: in B the median is {by} {'higher' if apart > 0 else 'lower'}"


def differences_table(differences: list[Difference]) -> Html:
    """Return the differences as a table, the largest first."""
    ordered = sorted(differences, key=lambda one: -one.ks)
    rows = [
        (
            one.measure.axis,
            _middle(one.a),
            _middle(one.b),
            figure(one.wasserstein),
            f"{one.ks:.2f}",
            percent(one.covered),
            tag("span", one.in_words(), class_="bad" if one.is_large else None),
        )
        for one in ordered
    ]
    head = (
        "measure",
        "A: median (90 %)",
        "B: median (90 %)",
        "Wasserstein",
        "KS",
        "B within A's 90 %",
        "in words",
    )
    return table(head, rows, (1, 2, 3, 4, 5), "Differences between A and B, the largest first")


def _middle(values: Values) -> str:
    low, median, high = (figure(float(value)) for value in np.quantile(values, (CENTRAL[0], 0.5, CENTRAL[1])))
    return f"{median} ({low} to {high})"


EXPLAINED = (
    "Wasserstein: how far values must be moved on average to turn one distribution into the other, in the unit of the "
    "measure. KS: the largest difference of the cumulative shares, 0 (the same) to 1 (no overlap)."
)
