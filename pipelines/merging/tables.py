"""The tables of a merged corpus, and what its parts' tables say of leaks between splits."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from manifests.catalogue import Catalogue, read_catalogue
from manifests.corpus import SAMPLES_FILE, SOURCES_FILE, Corpus
from manifests.errors import UserError
from manifests.parts import Part
from manifests.source import Source
from manifests.store import Store
from pipelines.corpus.shard_result import GROUP_WORDS
from pipelines.corpus.table import column_order


@dataclass(frozen=True)
class Material:
    """What the samples of a corpus are made of."""

    url: str
    """Of the corpus."""
    catalogue: Catalogue
    used: dict[str, dict[str, Source]]
    """For each split, the sources that its samples hold, by content hash."""

    def groups(self, split: str, kind: str) -> set[str]:
        """Return the speakers, noise recordings or rooms that a split's samples hold."""
        return {source.group for source in self.used.get(split, {}).values() if source.kind == kind}


def read_material(corpus: Corpus) -> Material:
    """Read what a corpus holds from its tables, which are checked first.

    Raises:
        UserError: when a table is missing, or is not what it was when the corpus was finished.
    """
    store = corpus.store
    for name in (SAMPLES_FILE, SOURCES_FILE):
        if store.size(name) is None or store.sha256(name) != corpus.manifest.files.get(name):
            raise UserError(
                f"{store.where(name)}: missing or changed since the corpus was finished; "
                "run the 'ssiforge generate' that made it again"
            )
    with store.local_copy(SOURCES_FILE) as path:
        catalogue = read_catalogue(path)
    with store.local_copy(SAMPLES_FILE) as path:
        hashes = _hashes_by_split(path)
    rows = catalogue.by_sha256
    try:
        used = {split: {sha256: rows[sha256] for sha256 in sorted(held)} for split, held in hashes.items()}
    except KeyError as error:
        raise UserError(
            f"{store.where(SOURCES_FILE)}: lacks a source that samples hold ({error.args[0]})"
        ) from error
    return Material(store.url, catalogue, used)


def _hashes_by_split(path: Path) -> dict[str, set[str]]:
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    hashes: dict[str, set[str]] = {}
    with pq.ParquetFile(path) as table:
        for group in range(table.num_row_groups):
            rows = table.read_row_group(group, columns=["split", "source_sha256"])
            for split in pc.unique(rows["split"]).to_pylist():
                held = rows.filter(pc.equal(rows["split"], split))["source_sha256"]
                hashes.setdefault(split, set()).update(pc.unique(pc.list_flatten(held)).to_pylist())
    return hashes


def check_leaks(materials: Sequence[Material]) -> None:
    """Look whether any speaker, noise recording, room or file is in two splits of corpora that are to be one.

    Raises:
        UserError: naming the first that is.
    """
    first: dict[tuple[str, str], tuple[str, str]] = {}
    for material in materials:
        for split, sources in material.used.items():
            for what, name in _kept_apart(sources):
                there, url = first.setdefault((what, name), (split, material.url))
                if there != split:
                    raise UserError(
                        f"{what} '{name}' is in the split {there} of {url} and in {split} of {material.url}: "
                        "together they would test on what they train on"
                    )


def check_withdrawn(materials: Sequence[Material]) -> None:
    """Look whether a corpus holds what was withdrawn from another: together it would be back.

    Raises:
        UserError: naming the first that does.
    """
    for one in materials:
        hashes = {source.sha256: source.name for source in one.catalogue.withdrawn}
        for other in materials:
            held = {sha256 for used in other.used.values() for sha256 in used}
            if back := sorted(hashes.keys() & held):
                raise UserError(
                    f"{other.url}: holds {hashes[back[0]]}, which was withdrawn from {one.url} ({len(back)} sources "
                    "in all); withdraw it there as well"
                )


def _kept_apart(sources: dict[str, Source]) -> Iterator[tuple[str, str]]:
    for source in sources.values():
        yield GROUP_WORDS[source.kind].removesuffix("s").replace("_", " "), source.group
        yield "file of content", source.sha256


def joined_catalogue(materials: Sequence[Material]) -> Catalogue:
    """Return the usable sources of all; of those that several name, the row of the first whose samples hold it."""
    rows: dict[tuple[str, str], Source] = {}
    held = [source for one in materials for sources in one.used.values() for source in sources.values()]
    for source in (*held, *(source for one in materials for source in one.catalogue.usable)):
        rows.setdefault((source.kind, source.sha256), source)
    return Catalogue(rows.values())


def write_samples(path: Path, parts: Sequence[tuple[Part, Store]]) -> None:
    """Write the rows of all parts' `samples.parquet`, a row group at a time.

    `key` becomes the full name, and a column `corpus` says which part a sample is in. A stage that only some parts
    have leaves its columns empty in the others.

    Args:
        path: of the table.
        parts: with the places where they lie.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = _common_schema(pa, [_schema(pq, store) for _, store in parts])
    with pq.ParquetWriter(path, schema) as writer:
        for part, store in parts:
            with store.local_copy(SAMPLES_FILE) as held, pq.ParquetFile(held) as table:
                for group in range(table.num_row_groups):
                    writer.write_table(_named(pa, table.read_row_group(group), part, schema))


def _schema(pq: Any, store: Store) -> Any:
    with store.local_copy(SAMPLES_FILE) as path:
        return pq.read_schema(path)


def _common_schema(pa: Any, schemas: Sequence[Any]) -> Any:
    """One type a column: numbers become floats where any is one, other mixtures become text."""
    types: dict[str, list[Any]] = {"corpus": [pa.string()]}
    for field in (field for schema in schemas for field in schema):
        of_column = types.setdefault(field.name, [])
        if field.type not in of_column and not pa.types.is_null(field.type):
            of_column.append(field.type)
    return pa.schema(
        [pa.field(name, _common_type(pa, types[name])) for name in sorted(types, key=column_order)]
    )


def _common_type(pa: Any, types: Sequence[Any]) -> Any:
    if len(types) < 2:
        return types[0] if types else pa.null()
    return pa.float64() if set(types) == {pa.int64(), pa.float64()} else pa.string()


def _named(pa: Any, rows: Any, part: Part, schema: Any) -> Any:
    """Return a part's rows in the columns of all, each sample by its full name."""
    columns = {name: rows[name] for name in rows.column_names}
    columns["key"] = pa.array([part.key(key) for key in rows["key"].to_pylist()])
    columns["corpus"] = pa.array([part.corpus] * len(rows))
    return pa.table(
        [
            columns[field.name].cast(field.type) if field.name in columns else pa.nulls(len(rows), field.type)
            for field in schema
        ],
        schema=schema,
    )
