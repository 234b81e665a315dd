"""The settings of a stage as a person reads them: default, what is possible, and what each one means.

All of it is taken from the class: ranges from `Within` and pydantic's constraints, choices from `Literal`, meanings
from the docstrings under the fields (from the name, where there is none).
"""

import ast
import inspect
import re
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from manifests.ranges import Within

REQUIRED = "required"
LEFT_OUT = "left out"
UNITS = {
    "c": "°C",
    "db": "dB",
    "dbfs": "dBFS",
    "hz": "Hz",
    "kbps": "kbit/s",
    "lufs": "LUFS",
    "m": "m",
    "ms": "ms",
    "percent": "%",
    "ppm": "ppm",
    "s": "s",
    "samples": "samples",
}
"""What the last word of a name stands for."""
ACRONYMS = frozenset(("dc", "drr", "eq", "fec", "rms", "rt60", "sdr", "sir", "snr"))
_PLAIN_TYPES: dict[Any, str] = {int: "whole numbers", float: "numbers", str: "text", bool: "true, false"}


@dataclass(frozen=True)
class Setting:
    """One setting, or one field within a setting."""

    name: str
    """`snr_db`; with dots within a setting that has fields of its own."""
    default: Any
    """A JSON value, or `REQUIRED`; of a setting with fields of its own, those that are there."""
    possible: str
    meaning: str
    fields: str = ""
    """Of a setting with fields of its own: name of their class."""

    @property
    def default_text(self) -> str:
        """The default as a recipe would have it."""
        return plain(self.default)


def settings_of(model: type[BaseModel], within: str = "") -> tuple[Setting, ...]:
    """List the settings of a stage, each followed by its own fields where it has some.

    Args:
        model: the stage, or the class of one of its settings.
        within: name of that setting with a dot after it.
    """
    meanings = _docstrings(model)
    found: list[Setting] = []
    for name, field in model.model_fields.items():
        inner = model_within(field.annotation)
        meaning = meanings.get(name) or (first_sentence(inner.__doc__) if inner else _spelled(name, field))
        found.append(
            Setting(
                within + name, _default(field), _possible(field), meaning, inner.__name__ if inner else ""
            )
        )
        if inner:
            found.extend(settings_of(inner, f"{within}{name}."))
    return tuple(found)


def words_of(field: FieldInfo) -> tuple[str, ...]:
    """Return the words that a setting takes any number of, such as kinds of clipping; none for other settings."""
    words = _choices(field)
    return words if all(isinstance(word, str) for word in words) else ()


def model_within(annotation: Any) -> type[BaseModel] | None:
    """Return the class of a setting with fields of its own; None for plain ones."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) in (Union, UnionType):
        return next(filter(None, map(model_within, get_args(annotation))), None)
    return None


def first_sentence(docstring: str | None) -> str:
    """Return the first sentence of a docstring on one line."""
    text = " ".join(inspect.cleandoc(docstring or "").split("\n\n")[0].split())
    # Neither an initial (R. Bristow-Johnson) nor an abbreviation before a small letter ends a sentence.
    end = re.search(r"(?<!\b[A-Z])[.!?](?= [A-Z`]|$)", text)
    return text[: end.end()] if end else text


def meaning_of_name(name: str) -> str:
    """Spell out a name: `high_shelf_hz` becomes 'High shelf, in Hz.' and so on."""
    *words, last = name.split("_")
    unit = UNITS.get(last) if words else None
    spelled = " ".join(
        word.upper() if word in ACRONYMS else word for word in (words if unit else [*words, last])
    )
    return f"{spelled[:1].upper()}{spelled[1:]}{f', in {unit}' if unit else ''}."


def plain(value: Any) -> str:
    """Write a JSON value as YAML in a recipe would: `[-5, 30]`, one number for a range of one."""
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, float | int):
        return number(value)
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(plain, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{name}: {plain(item)}' for name, item in value.items())}}}"
    return str(value)


def number(value: float) -> str:
    """Write a number without a power of ten: `0.00001`, `44100`."""
    if value == int(value):
        return str(int(value))
    return f"{value:g}" if abs(value) >= 1e-4 else f"{value:.10f}".rstrip("0")


def _spelled(name: str, field: FieldInfo) -> str:
    meaning = meaning_of_name(name)
    return f"{meaning[:-1]}; one of them is drawn." if _choices(field) else meaning


def _choices(field: FieldInfo) -> tuple[Any, ...]:
    """Values of which a setting holds any number; empty for other settings."""
    if get_origin(field.annotation) is not tuple:
        return ()
    member = get_args(field.annotation)[0]
    return get_args(member) if get_origin(member) is Literal else ()


def rounded(value: Any, digits: int = 4) -> Any:
    """Round all numbers within a JSON value to so many digits."""
    if isinstance(value, float):
        return float(f"{value:.{digits}g}")
    if isinstance(value, list):
        return [rounded(item, digits) for item in value]
    if isinstance(value, dict):
        return {name: rounded(item, digits) for name, item in value.items()}
    return value


def _default(field: FieldInfo) -> Any:
    if field.is_required():
        return REQUIRED
    value = field.get_default(call_default_factory=True)
    if isinstance(value, BaseModel):
        return ", ".join(name for name in type(value).model_fields if getattr(value, name) is not None)
    if value is None and model_within(field.annotation):
        return LEFT_OUT
    return list(value) if isinstance(value, tuple) else value


def _possible(field: FieldInfo) -> str:
    return _of_annotation(field.annotation, field.metadata)


def _of_annotation(annotation: Any, metadata: Iterable[Any] = ()) -> str:
    metadata = [
        part for item in metadata for part in (item.metadata if isinstance(item, FieldInfo) else [item])
    ]
    if limits := _limits(metadata):
        return limits
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _of_annotation(arguments[0], arguments[1:])
    if origin in (Union, UnionType):
        parts = [_of_annotation(part) for part in arguments if part is not NoneType]
        optional = NoneType in arguments and not model_within(annotation)
        return ", or ".join([*parts, *(["null"] if optional else [])])
    if origin is Literal:
        return ", ".join(map(plain, arguments))
    if origin is tuple:
        member = arguments[0]
        return _of_annotation(member) if get_origin(member) is Literal else f"any of {_of_annotation(member)}"
    if model_within(annotation):
        return "the settings below"
    return _PLAIN_TYPES.get(annotation, "any value")


def _limits(metadata: list[Any]) -> str:
    low: Any = None
    high: Any = None
    for part in metadata:
        if isinstance(part, Within):
            low, high = part.low, part.high
        low = getattr(part, "ge", getattr(part, "gt", low))
        high = getattr(part, "le", getattr(part, "lt", high))
    if low is None and high is None:
        return ""
    if high is None:
        return f"at least {plain(low)}"
    return f"at most {plain(high)}" if low is None else f"{plain(low)} to {plain(high)}"


@lru_cache(maxsize=256)
def _docstrings(model: type[BaseModel]) -> dict[str, str]:
    """Return the strings that stand under the fields of a class and its bases, each on one line."""
    found: dict[str, str] = {}
    for cls in reversed(model.__mro__):
        if not issubclass(cls, BaseModel) or cls is BaseModel:
            continue
        try:
            body = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]
        except (OSError, TypeError, SyntaxError, IndexError):  # typed into an interpreter
            continue
        statements = body.body if isinstance(body, ast.ClassDef) else []
        for field, text in zip(statements, statements[1:], strict=False):
            if (
                isinstance(field, ast.AnnAssign)
                and isinstance(field.target, ast.Name)
                and isinstance(text, ast.Expr)
                and isinstance(text.value, ast.Constant)
                and isinstance(text.value.value, str)
            ):
                found[field.target.id] = " ".join(text.value.value.split())
    return found
