"""What a `--keep` expression says of each row: whole columns at once, null and NaN never comparing as true."""

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.selection.grammar import (
    All,
    Column,
    Compare,
    Condition,
    Holds,
    IsNull,
    IsTrue,
    Literally,
    Not,
    OneOf,
    Operand,
    mistake,
)

Mask = NDArray[np.bool_]
_COMPARISONS: dict[str, Callable[[Any, Any], Any]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}


@dataclass(frozen=True)
class Values:
    """A column's values."""

    kind: str
    """`number`, `string`, `truth value`, `list`, or `nothing` for a column of nulls alone."""
    values: NDArray[Any]
    """(N,); anything where `known` is False."""
    known: Mask
    """(N,); False for null and NaN."""


def values_of(column: Any) -> Values:
    """Turn an Arrow column into values."""
    import pyarrow.types as types

    kind = column.type
    known = np.asarray(column.is_valid().to_numpy(zero_copy_only=False), dtype=bool)
    if types.is_integer(kind) or types.is_floating(kind):
        numbers = np.asarray(column.to_numpy(zero_copy_only=False), dtype=np.float64)
        return Values("number", numbers, known & ~np.isnan(numbers))
    if types.is_null(kind):
        return Values("nothing", np.zeros(len(column)), known)
    name = "truth value" if types.is_boolean(kind) else "list" if types.is_list(kind) else "string"
    held = np.empty(len(column), dtype=object)
    held[:] = column.to_pylist()
    return Values(name, held, known)


def kept_rows(condition: Condition, columns: Mapping[str, Values], text: str) -> Mask:
    """Say for each row whether a condition holds.

    Args:
        condition: what was parsed.
        columns: every column that it names.
        text: the expression, for messages.

    Raises:
        UserError: when things of different kinds are compared.
    """

    def rows(part: Condition) -> Mask:
        match part:
            case Compare():
                return _compared(part, columns, text)
            case OneOf(column, values):
                of_column = columns[column.name]
                found = np.zeros(len(of_column.known), dtype=bool)
                for value in values:
                    found |= _compared(Compare(column, "==", value), columns, text)
                return found
            case Holds(value, column):
                return _holding(value, column, columns[column.name], text)
            case IsNull(column):
                return ~columns[column.name].known
            case IsTrue(column):
                held = columns[column.name]
                if held.kind not in ("truth value", "nothing"):
                    raise mistake(
                        text, column, f"{column.name} is a {held.kind}: compare it with something, named"
                    )
                return _compared(Compare(column, "==", Literally(True, column.position)), columns, text)
            case Not(inner):
                return ~rows(inner)
            case All(parts):
                return reduce(np.logical_and, [rows(inner) for inner in parts])
        return reduce(np.logical_or, [rows(inner) for inner in part.parts])

    return rows(condition)


def _compared(compare: Compare, columns: Mapping[str, Values], text: str) -> Mask:
    sides = [_side(operand, columns) for operand in (compare.left, compare.right)]
    kinds = {side.kind for side in sides} - {"nothing"}
    known: Mask = sides[0].known & sides[1].known
    for operand, side in zip((compare.left, compare.right), sides, strict=True):
        ordering = compare.operator not in ("==", "!=")
        if side.kind == "list":
            raise mistake(text, operand, f"{_named(operand)} holds lists, write 'VALUE' in it;")
        if ordering and side.kind == "truth value":
            raise mistake(text, operand, f"{_named(operand)} is neither larger nor smaller than anything")
    if len(kinds) == 2:
        first, second = (
            f"{_named(o)} is a {s.kind}" for o, s in zip((compare.left, compare.right), sides, strict=True)
        )
        raise mistake(text, compare.right, f"{first} and {second}: they cannot be compared")
    result = np.zeros(known.shape, dtype=bool)
    left, right = (np.broadcast_to(side.values, known.shape)[known] for side in sides)
    result[known] = np.asarray(_COMPARISONS[compare.operator](left, right), dtype=bool)
    return result


def _holding(value: Literally, column: Column, held: Values, text: str) -> Mask:
    if held.kind not in ("list", "nothing"):
        raise mistake(text, column, f"{column.name} holds no lists but is a {held.kind}")
    if not isinstance(value.value, str):
        raise mistake(text, value, f"{column.name} holds strings, and {_named(value)} is none")
    rows = zip(held.values, held.known, strict=True)
    return np.array([bool(known) and value.value in items for items, known in rows], dtype=bool)


def _side(operand: Operand, columns: Mapping[str, Values]) -> Values:
    if isinstance(operand, Column):
        return columns[operand.name]
    value = operand.value
    kind = "truth value" if isinstance(value, bool) else "string" if isinstance(value, str) else "number"
    content = np.empty(1, dtype=np.float64 if kind == "number" else object)
    content[0] = value
    return Values(kind, content, np.ones(1, dtype=bool))


def _named(operand: Operand) -> str:
    if isinstance(operand, Column):
        return operand.name
    return f"{operand.value:g}" if isinstance(operand.value, float) else repr(operand.value)
