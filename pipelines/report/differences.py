"""How far two sets of values are apart, in numbers and in words."""

from dataclasses import dataclass

import numpy as np

from pipelines.report.markup import Html, tag
from pipelines.report.page import table
from pipelines.report.scales import Values, figure, percent
from pipelines.report.summary import Measure

ALIKE, SOMEWHAT, DIFFERENT = 0.1, 0.25, 0.5
"""Kolmogorov-Smirnov distances up to which two distributions are called so."""
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

    def in_words(self) -> str:
        """Say how alike they are, and which way B differs."""
        how = (
            "alike"
            if self.ks <= ALIKE
            else "somewhat different"
            if self.ks <= SOMEWHAT
            else "different"
            if self.ks <= DIFFERENT
            else "very different"
        )
        apart = float(np.median(self.b) - np.median(self.a))
        if self.ks <= ALIKE or abs(apart) < 1e-9:
            return how
        unit = f" {self.measure.unit}" if self.measure.unit and " " not in self.measure.unit else ""
        unit = " dB" if unit == " dBFS" else " percentage points" if unit == " %" else unit
        return f"{how}: in B the median is {figure(abs(apart))}{unit} {'higher' if apart > 0 else 'lower'}"


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
            tag("span", one.in_words(), class_="bad" if one.ks > DIFFERENT else None),
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
