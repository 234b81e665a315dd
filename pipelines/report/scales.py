"""Axes that people can read: round steps, bins that begin and end on them, numbers with as many digits as they need."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
MOST_BINS = 32
LEAST_BINS = 12
"""In between, as many as the rule of Rice asks for: twice the cube root of the number of values."""
_MOST_DIGITS = 10
"""Behind the point, on an axis of values that hardly differ."""
_ROUND = (1.0, 2.0, 2.5, 5.0, 10.0)


def round_step(span: float, most: int) -> float:
    """Return the smallest of 1, 2, 2.5, 5 times a power of ten that divides a span into at most so many steps."""
    if not span > 0.0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(span / most))
    return next(power * factor for factor in (*_ROUND, 20.0) if power * factor * most >= span * (1.0 - 1e-9))


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Return round values within a range, both ends included where they are round."""
    step = round_step(high - low, most)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [number * step + 0.0 for number in range(first, last + 1)]


def ticks_around(high: float, most: int) -> list[float]:
    """Return round values from 0 to the first that is not below a highest value."""
    step = round_step(high, most)
    return [number * step for number in range(max(1, math.ceil(high / step - 1e-9)) + 1)]


def bin_edges(samples: Sequence[Values], whole: bool = False) -> Values:
    """Return edges of equal bins over all values of some arrays, on round numbers.

    Args:
        samples: arrays of finite values; empty ones are allowed.
        whole: whether the values are counts, each of which gets a bin around it.
    """
    filled = [values for values in samples if len(values)]
    low = min((float(values.min()) for values in filled), default=0.0)
    high = max((float(values.max()) for values in filled), default=1.0)
    if whole:
        step = max(1.0, math.ceil((high - low + 1.0) / MOST_BINS))
        count = int((high - low) // step) + 1
        return low - 0.5 + step * np.arange(count + 1, dtype=np.float64)
    if high <= low:
        half = max(abs(low) * 0.05, 0.5)
        return np.array([low - half, low + half])
    held = max((len(values) for values in filled), default=1)
    step = round_step(high - low, min(MOST_BINS, max(LEAST_BINS, math.ceil(2.0 * held ** (1.0 / 3.0)))))
    first = math.floor(low / step + 1e-9)
    last = max(first + 1, math.ceil(high / step - 1e-9))
    return step * np.arange(first, last + 1, dtype=np.float64)


@dataclass(frozen=True)
class Scale:
    """A linear map from values to places in a drawing."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """Return the place of a value."""
        return self.start + (self.end - self.start) * (value - self.low) / ((self.high - self.low) or 1.0)


def coordinate(value: float) -> str:
    """Write a place in a drawing: tenths are enough."""
    return f"{round(value, 1) + 0.0:.1f}".removesuffix(".0")


def figure(value: float) -> str:
    """Write a number to three significant digits, without a power of ten: `-21.3`, `0.042`, `12 400`."""
    if not math.isfinite(value):
        return "–"
    size = abs(value)
    if size < 1e-9:
        return "0"
    digits = max(0, 2 - math.floor(math.log10(size)))
    text = f"{value:,.{min(digits, 6)}f}".replace(",", " ")
    return text.rstrip("0").rstrip(".") if "." in text else text


def tick_labels(values: Sequence[float]) -> list[str]:
    """Write the values of an axis, with more digits than `figure` where they would not differ."""
    labels = [figure(value) for value in values]
    digits = 3
    while len(set(labels)) < len(set(values)) and digits < _MOST_DIGITS:
        labels = [f"{value:.{digits}f}" for value in values]
        digits += 1
    return labels


def percent(share: float) -> str:
    """Write a share as per cent: `12.3 %`; what is there is never written as none."""
    if 0.0 < share < 0.0005:
        return "< 0.1 %"
    return f"{100.0 * share:.1f} %"


def hours(value: float) -> str:
    """Write hours with as many digits as tell minutes apart: `4.17`, and `< 0.01` of what is less."""
    return "< 0.01" if 0.0 < value < 0.005 else f"{value:,.2f}".replace(",", " ")


def count(number: int) -> str:
    """Write a whole number in groups of three digits: `100 000`."""
    return f"{number:,}".replace(",", " ")
