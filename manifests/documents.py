"""YAML documents that users write: found by name or path, overridden with `--set`, checked with line numbers."""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from manifests.errors import UserError

Location = tuple[str | int, ...]
Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True)
class Document:
    """A parsed YAML mapping that still knows where each of its fields stood."""

    name: str
    """What to call it in a message: a path or a shipped name."""
    content: dict[str, Any]
    lines: dict[Location, int]
    """1-based line of each field, by its path."""

    def where(self, location: Location) -> str:
        """Say where a field is: `FILE, line 12, field 'stages.0.snr_db'` (the line if it is known)."""
        place = self.name
        for end in range(len(location), 0, -1):
            if line := self.lines.get(location[:end]):
                place += f", line {line}"
                break
        return f"{place}, field '{dotted(location)}'" if location else place


def dotted(location: Location) -> str:
    """Write a field's path with dots: `('stages', 0, 'p')` -> `stages.0.p`."""
    return ".".join(str(part) for part in location)


def shipped_names(folder: str) -> list[str]:
    """Names of the documents that ship in `manifests/<folder>`."""
    root = resources.files("manifests").joinpath(folder)
    return sorted(
        entry.name.removesuffix(".yaml") for entry in root.iterdir() if entry.name.endswith(".yaml")
    )


def load_document(reference: str, folder: str) -> Document:
    """Read a YAML document by shipped name or by path.

    Args:
        reference: a shipped name such as `ssi48k`, or the path of a YAML file.
        folder: the folder of `manifests` that holds the shipped ones, `recipes` or `experiments`.

    Raises:
        UserError: when there is no such document, or it is not a YAML mapping.
    """
    path = Path(reference)
    if path.is_file():
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{path}: cannot be read as UTF-8 text ({error})") from error
        return parse_document(text, str(path))
    names = shipped_names(folder)
    if reference in names:
        text = resources.files("manifests").joinpath(folder, f"{reference}.yaml").read_text(encoding="utf-8")
        return parse_document(text, f"{reference} (shipped)")
    guess = suggestion(reference, names)
    raise UserError(
        f"{reference}: no such file, and not one of the shipped {folder}: {', '.join(names)}{guess}"
    )


def parse_document(text: str, name: str) -> Document:
    """Parse YAML text (safe subset) into a document."""
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        content = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error)
        raise UserError(f"{name}{line}: not valid YAML ({problem})") from error
    if not isinstance(content, dict):
        raise UserError(f"{name}: must be a YAML mapping of fields to values")
    lines: dict[Location, int] = {}
    _collect_lines(node, (), lines, name)
    return Document(name, content, lines)


def _collect_lines(node: yaml.Node | None, at: Location, lines: dict[Location, int], name: str) -> None:
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            field = str(key.value)
            if field in seen:
                raise UserError(f"{name}, line {key.start_mark.line + 1}: field '{field}' is given twice")
            seen.add(field)
            lines[(*at, field)] = key.start_mark.line + 1
            _collect_lines(value, (*at, field), lines, name)
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            lines[(*at, index)] = item.start_mark.line + 1
            _collect_lines(item, (*at, index), lines, name)


def with_overrides(document: Document, settings: Iterable[str]) -> Document:
    """Apply `--set a.b=c` options: each value is read as YAML, list items are named by their number.

    Raises:
        UserError: when an option has no `=`, or its path runs through something that has no fields.
    """
    content = yaml.safe_load(yaml.safe_dump(document.content))
    for setting in settings:
        path, equals, text = setting.partition("=")
        if not equals or not path.strip():
            raise UserError(f"--set {setting}: write it as field.subfield=value")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise UserError(f"--set {setting}: the value is not valid YAML") from error
        _assign(content, path.strip().split("."), value, setting)
    return Document(document.name, content, document.lines)


def _assign(content: Any, parts: list[str], value: Any, setting: str) -> None:
    for depth, part in enumerate(parts):
        last = depth == len(parts) - 1
        if isinstance(content, list):
            if not part.isdecimal() or int(part) >= len(content):
                raise UserError(
                    f"--set {setting}: '{part}' is not the number of an item (0 to {len(content) - 1})"
                )
            if last:
                content[int(part)] = value
            content = content[int(part)]
        elif isinstance(content, dict):
            if last:
                content[part] = value
            elif content.get(part) is None:
                content[part] = {}
            content = content[part]
        else:
            raise UserError(f"--set {setting}: '{'.'.join(parts[:depth])}' has no fields")


def check(model: type[Model], content: Any, document: Document, at: Location = ()) -> Model:
    """Validate `content`, which stands at `at` in `document`, or say in one sentence what is wrong with it.

    Raises:
        UserError: naming the field, its line, and, for a name that is not known, the allowed names.
    """
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise UserError("; ".join(_sentences(error, model, document, at))) from error


_WANTED = {
    "dict_type": "must be a mapping of fields to values, such as {field: value}",
    "list_type": "must be a list, such as [value]",
    "model_attributes_type": "must be a mapping of fields to values, such as {field: value}",
    "model_type": "must be a mapping of fields to values, such as {field: value}",
    "tuple_type": "must be a list, such as [value]",
}
"""Where pydantic speaks of tuples, dictionaries and instances, what a YAML file or `--set` has to have."""


def _sentences(error: ValidationError, model: type[BaseModel], document: Document, at: Location) -> list[str]:
    sentences = []
    problems = error.errors(include_url=False)
    for problem in problems:
        if problem["type"] == "too_short" and any(_lies_within(other, problem) for other in problems):
            continue  # items that were refused do not count; what is wrong with them is said already
        location = tuple(part for part in problem["loc"] if not str(part).startswith("function-"))
        where = document.where((*at, *location))
        if problem["type"] == "extra_forbidden":
            allowed = sorted(_fields_at(model, location[:-1]))
            guess = suggestion(str(location[-1]), allowed)
            sentences.append(f"{where}: no such field; allowed here: {', '.join(allowed)}{guess}")
        elif problem["type"] == "missing":
            sentences.append(f"{where}: is required")
        elif problem["type"] == "too_short" and problem["ctx"]["actual_length"] == 0:
            sentences.append(f"{where}: must not be empty")
        elif problem["type"] in _WANTED:
            sentences.append(f"{where}: {_WANTED[problem['type']]}")
        else:
            message = problem["msg"].removeprefix("Value error, ")
            sentences.append(f"{where}: {message[:1].lower()}{message[1:]}")
    return sentences


def _lies_within(problem: Any, outer: Any) -> bool:
    return len(problem["loc"]) > len(outer["loc"]) and problem["loc"][: len(outer["loc"])] == outer["loc"]


def _fields_at(model: type[BaseModel], location: Location) -> list[str]:
    current: Any = model
    for part in location:
        if isinstance(part, int):
            continue
        field = getattr(current, "model_fields", {}).get(part)
        current = _model_within(field.annotation) if field else None
    return list(getattr(current, "model_fields", {}))


def _model_within(annotation: Any) -> Any:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        if found := _model_within(argument):
            return found
    return None


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return ` (did you mean 'x'?)` for the closest known name, or nothing."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean '{close[0]}'?)" if close else ""
