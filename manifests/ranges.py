"""Ranges that a recipe declares, and how a value is drawn from one.

A range is written `[low, high]`, or a single number for a constant. Its unit stands in the field's name
(`snr_db`, `cutoff_hz`). Limits say what is physically possible, so that an impossible range is an error
when the recipe is read and not when the millionth sample is rendered.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

import numpy as np
from pydantic import Field, GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

Choice = TypeVar("Choice")

Span = tuple[float, float]
"""A range, low end and high end included."""


@dataclass(frozen=True)
class Within:
    """What a range may hold at most: `Annotated[Span, Within(-30.0, 60.0)]`."""

    low: float
    high: float

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Check the range before pydantic sees it; write it as a list."""
        return core_schema.no_info_before_validator_function(
            self._checked,
            handler(source),
            serialization=core_schema.plain_serializer_function_ser_schema(_written),
        )

    def _checked(self, value: Any) -> Span:
        pair = (value, value) if _is_number(value) else value
        if not (isinstance(pair, (list, tuple)) and len(pair) == 2 and all(_is_number(x) for x in pair)):
            raise ValueError("must be one number, or a list [low, high] of two numbers")
        first, last = float(pair[0]), float(pair[1])
        if not (math.isfinite(first) and math.isfinite(last)):
            raise ValueError("must be finite")
        if first > last:
            raise ValueError(f"is empty: its low end {first:g} is above its high end {last:g}")
        if first < self.low or last > self.high:
            raise ValueError(f"[{first:g}, {last:g}] leaves what is possible, {self.low:g} to {self.high:g}")
        return (first, last)


class Whole(Within):
    """A range of whole numbers: `Annotated[Span, Whole(1, 5)]`."""

    def _checked(self, value: Any) -> Span:
        first, last = super()._checked(value)
        if not (first.is_integer() and last.is_integer()):
            raise ValueError("must hold whole numbers")
        return first, last


def _written(pair: Span) -> list[float]:
    return [float(end) for end in pair]  # defaults may be whole numbers; a digest must not see the difference


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


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


def one_of(rng: np.random.Generator, choices: Sequence[Choice]) -> Choice:
    """Draw one of some choices, all as likely."""
    return choices[int(rng.integers(len(choices)))]
