"""Ranges that a recipe declares, and how a value is drawn from one.

A range is written `[low, high]`, or a single number for a constant. Its unit stands in the field's name
(`snr_db`, `cutoff_hz`). Limits say what is physically possible, so that an impossible range is an error
when the recipe is read and not when the millionth sample is rendered.
"""

import math
from collections.abc import Callable
from typing import Annotated, Any

import numpy as np
from pydantic import BeforeValidator, Field, PlainSerializer

Span = tuple[float, float]


def _as_pair(value: Any) -> Any:
    return (value, value) if isinstance(value, (int, float)) and not isinstance(value, bool) else value


def _within(low: float, high: float) -> Callable[[Any], Any]:
    def check(value: Any) -> Any:
        pair = _as_pair(value)
        numbers = isinstance(pair, (list, tuple)) and all(
            isinstance(x, (int, float)) and not isinstance(x, bool) for x in pair
        )
        if not numbers or len(pair) != 2:
            raise ValueError("must be one number, or a list [low, high] of two numbers")
        first, last = float(pair[0]), float(pair[1])
        if not (math.isfinite(first) and math.isfinite(last)):
            raise ValueError("must be finite")
        if first > last:
            raise ValueError(f"is empty: its low end {first:g} is above its high end {last:g}")
        if first < low or last > high:
            raise ValueError(f"[{first:g}, {last:g}] leaves what is possible, {low:g} to {high:g}")
        return (first, last)

    return check


def span(low: float, high: float) -> Any:
    """Make the pydantic type of a range that must lie within `low` to `high` (inclusive)."""
    return Annotated[
        tuple[float, float],
        BeforeValidator(_within(low, high)),
        PlainSerializer(lambda pair: list(pair), return_type=list[float]),
    ]


Probability = Annotated[float, Field(ge=0.0, le=1.0)]


def uniform(rng: np.random.Generator, bounds: Span) -> float:
    """Draw uniformly from `bounds`."""
    return float(rng.uniform(*bounds))


def log_uniform(rng: np.random.Generator, bounds: Span) -> float:
    """Draw uniformly on a logarithmic axis from `bounds`, both above 0."""
    return float(np.exp(rng.uniform(math.log(bounds[0]), math.log(bounds[1]))))


def integer(rng: np.random.Generator, bounds: Span) -> int:
    """Draw a whole number from `bounds`, both ends included."""
    return int(rng.integers(math.ceil(bounds[0]), math.floor(bounds[1]) + 1))
