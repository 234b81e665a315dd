"""Reading the tables and logs of a corpus that may be damaged: one sentence that names the file."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from manifests.errors import UserError
from manifests.store import Store


@contextmanager
def table_of(store: Store, name: str) -> Iterator[Path]:
    """Lend a local copy of a Parquet file of a corpus, to be read within.

    Raises:
        UserError: when it is missing, or what is read within cannot be.
    """
    with told_of(store, name), store.local_copy(name) as path:
        yield path


@contextmanager
def told_of(store: Store, name: str) -> Iterator[None]:
    """Turn what goes wrong while a Parquet file is read into a sentence that names it.

    Raises:
        UserError: when it is missing, or cannot be read.
    """
    import pyarrow as pa

    try:
        yield
    except FileNotFoundError as error:
        raise UserError(f"{store.where(name)}: missing") from error
    except (pa.ArrowException, OSError, KeyError) as error:
        raise UserError(
            f"{store.where(name)}: damaged, or none of this format; run 'ssiforge verify'"
        ) from error


def json_lines(store: Store, name: str) -> list[dict[str, Any]]:
    """Read a file of one JSON object a line; nothing where there is none.

    Raises:
        UserError: naming the first line that is none.
    """
    if store.size(name) is None:
        return []
    found = []
    for number, line in enumerate(store.read(name).splitlines(), 1):
        try:
            content = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{store.where(name)}, line {number}: damaged, it is no JSON") from error
        if not isinstance(content, dict):
            raise UserError(f"{store.where(name)}, line {number}: damaged, it is no JSON object")
        found.append(content)
    return found
