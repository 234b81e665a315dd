"""The state of the code behind a stage: its own file and every file of its package that it imports, however far."""

import ast
import importlib.util
import inspect
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from manifests.canonical import digest, file_sha256


def source_digest(cls: type) -> str | None:
    """Return a digest over the sources that `cls` is made of, by module name; None if it has no source file.

    Followed are `import` statements anywhere in a file that lead to modules of the same top-level package. What
    other packages do is told by their versions (`datagen.environment`).
    """
    try:
        source = inspect.getsourcefile(cls)
    except TypeError:
        source = None
    if source is None or not Path(source).is_file():
        return None
    found: dict[str, str] = {}
    waiting = {cls.__module__: Path(source)}
    while waiting:
        module, path = waiting.popitem()
        found[module], imported = _read(module, path)
        waiting |= {name: file for name, file in imported if name not in found}
    return digest(found)


@lru_cache(maxsize=1024)
def _read(module: str, path: Path) -> tuple[str, tuple[tuple[str, Path], ...]]:
    """SHA-256 of a file, and the modules of its own package that it imports, with their files."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    top = module.partition(".")[0]
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = {
        name for node in ast.walk(tree) for name in _names(node, package) if name.partition(".")[0] == top
    }
    found = {name: file for name in names if (file := _file_of(name)) is not None}
    return file_sha256(path), tuple(sorted(found.items()))


def _names(node: ast.AST, package: str) -> Iterator[str]:
    """Modules that a statement may import: with `from a import b`, both `a` and `a.b`."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        parents = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
        base = ".".join([*parents, *([node.module] if node.module else [])])
        yield base
        yield from (f"{base}.{alias.name}" for alias in node.names)


def _file_of(name: str) -> Path | None:
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return None
    origin = spec.origin if spec else None
    return Path(origin) if origin and origin.endswith(".py") else None
