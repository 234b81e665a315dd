"""What a corpus says of what it was made of: its recipe, its sources, and those that could not be used."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

import yaml

from manifests.corpus import QUARANTINE_FILE, RECIPE_FILE, SOURCES_FILE
from manifests.documents import parse_document
from manifests.errors import UserError
from manifests.store import Store
from pipelines.corpus.reading import json_lines, table_of

_PATH = re.compile(r"(?<= )/.*|\b\w+://.*")
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
EXAMPLES = 3
RECIPE_WIDTH = 100
"""Letters in a line."""


@dataclass(frozen=True)
class KindOfSource:
    """All sources of one kind."""

    kind: str
    """`speech`, `noise` or `rir`."""
    files: int
    hours: float


@dataclass(frozen=True)
class Refusals:
    """Source files that were refused for one reason."""

    kind: str
    reason: str
    count: int
    examples: tuple[str, ...]
    """Names of the first of them."""


def read_recipe(store: Store) -> str:
    """Return the recipe of a corpus, with each range and each choice on one line; nothing where there is none.

    One that is no YAML any more is given as it stands.
    """
    if store.size(RECIPE_FILE) is None:
        return ""
    written = store.read(RECIPE_FILE).decode(errors="replace")
    try:
        content = parse_document(written, store.where(RECIPE_FILE)).content
    except UserError:
        return written
    return yaml.safe_dump(
        content, sort_keys=False, allow_unicode=True, width=RECIPE_WIDTH, default_flow_style=None
    )


def read_kinds(store: Store) -> tuple[KindOfSource, ...]:
    """Return what may be drawn from the catalogue of a corpus, by kind: nothing that was withdrawn."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    with table_of(store, SOURCES_FILE) as path:
        table = pq.read_table(path, columns=["kind", "seconds", "refused"])
    table = table.filter(pc.is_null(table["refused"]))
    groups = table.group_by("kind").aggregate([("seconds", "sum"), ("seconds", "count")]).to_pylist()
    kinds = [
        KindOfSource(row["kind"], row["seconds_count"], (row["seconds_sum"] or 0.0) / 3600.0)
        for row in groups
    ]
    return tuple(sorted(kinds, key=lambda one: (one.kind != "speech", one.kind)))


def read_names(store: Store, hashes: Iterable[str]) -> Mapping[str, str]:
    """Return the file name of each source that a catalogue holds of some content hashes."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    with table_of(store, SOURCES_FILE) as path:
        table = pq.read_table(path, columns=["sha256", "path"])
    rows = table.filter(pc.is_in(table["sha256"], pa.array(sorted(set(hashes)), pa.string())))
    return {
        sha256: PurePosixPath(path or "").name
        for sha256, path in zip(rows["sha256"].to_pylist(), rows["path"].to_pylist(), strict=True)
    }


def read_refusals(store: Store) -> tuple[Refusals, ...]:
    """Return why source files were refused, the most frequent reason first; nothing where no quarantine is kept."""
    counts: Counter[tuple[str, str]] = Counter()
    examples: dict[tuple[str, str], list[str]] = {}
    for entry in json_lines(store, QUARANTINE_FILE):
        if entry.get("what") != "source":
            continue
        kind = str(entry.get("kind")), _without_particulars(str(entry.get("reason")))
        counts[kind] += 1
        if counts[kind] <= EXAMPLES:
            examples.setdefault(kind, []).append(PurePosixPath(str(entry.get("path"))).name)
    order = sorted(counts, key=lambda kind: (-counts[kind], kind))
    return tuple(Refusals(*kind, counts[kind], tuple(examples[kind])) for kind in order)


def _without_particulars(reason: str) -> str:
    """Return a reason without the paths and numbers that make each file's its own."""
    return _NUMBER.sub("#", _PATH.sub("another file", reason))
