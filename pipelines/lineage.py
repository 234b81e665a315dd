"""`ssiforge lineage`: what went into a model, and which models heard a recording.

REF is a model (any form of `pipelines.models`), an MLflow run, a corpus (folder or id), a sample key (with the
beginning of its corpus's id before it, where several corpora have such a sample: `84cdbb34-train-000012`), a source's
SHA-256 (or its beginning), or the path of a source.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from manifests.canonical import file_sha256
from manifests.corpus import is_corpus, read_manifest
from manifests.errors import UserError
from manifests.parts import full_key
from manifests.store import Place
from pipelines.known_corpora import known_corpora
from pipelines.known_online import known_online
from pipelines.lineage_graph import Graph, Node
from pipelines.lineage_records import collect
from pipelines.lineage_walk import Walk
from pipelines.models import resolve_model
from pipelines.tracking import open_existing_store

MIN_PREFIX = 8
_HEX = re.compile(rf"[0-9a-f]{{{MIN_PREFIX},64}}")
_FULL_KEY = re.compile(rf"([0-9a-f]{{{MIN_PREFIX},32}})-(.+)")
"""Of a sample: the beginning of its corpus's id, then its key."""


@dataclass(frozen=True)
class Lineage:
    """The answer: a graph and where it starts."""

    graph: Graph
    start: Node

    def json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return self.graph.json(self.start)

    def mermaid(self) -> str:
        """Return it as a Mermaid flow chart."""
        return self.graph.mermaid()


def lineage(reference: str, corpora: Sequence[Place] = ()) -> Lineage:
    """Walk from REF back to everything it came from, and forward to everything made of it.

    Args:
        reference: see above.
        corpora: folders or URIs to look into, besides those that MLflow recorded or that lie below the current folder.

    Raises:
        UserError: when REF means nothing that is known, or more than one thing.
    """
    client = open_existing_store()
    folder = Path(reference)
    given = [*corpora, reference] if is_corpus(reference) else list(corpora)
    known = known_corpora(given, client)
    places = [Path(), *([folder, folder.parent.parent] if folder.is_dir() else [])]
    folders = list(dict.fromkeys(place.resolve() for place in places))
    walk = Walk(collect(client, folders), known, known_online(client, folders))
    return Lineage(walk.graph, _start(walk, reference))


def _start(walk: Walk, reference: str) -> Node:
    path = Path(reference)
    if is_corpus(reference):
        return walk.around_corpus(read_manifest(reference).id)
    if path.is_dir():
        return walk.around_model(resolve_model(reference).info.id)
    if path.is_file():
        return walk.around_source(_source_of_file(walk, path))
    if (run := walk.records.runs.get(reference.removeprefix("runs:/"))) is not None:
        return walk.around_run(run)
    if reference in walk.records.models:
        return walk.around_model(reference)
    if found := _by_digest(walk, reference) or _by_name(walk, reference):
        return found
    try:
        return walk.around_model(resolve_model(reference).info.id)
    except UserError as error:
        raise UserError(
            f"{reference}: not a model, run, sample or source known here; {_where(walk)}"
        ) from error


def _by_digest(walk: Walk, reference: str) -> Node | None:
    """Find a corpus or a source by its digest or a beginning that only one has."""
    if not _HEX.fullmatch(reference):
        return None
    named = (*walk.corpora, *walk.online, *walk.corpora_only_named)
    corpora = [i for i in named if i.startswith(reference)]
    sources = {s for data in walk.with_sources for s in data.sources if s.startswith(reference)}
    recipes = {reference} & {
        *(corpus.manifest.recipe_digest for corpus in walk.corpora.values()),
        *(fresh.record.recipe_digest for fresh in walk.online.values()),
    }
    found = [*dict.fromkeys(corpora), *sorted(sources)]
    if len(found) > 1:
        raise UserError(
            f"{reference}: the beginning of {len(found)} digests; give more of it: {', '.join(found[:4])}"
        )
    if corpora:
        return walk.around_corpus(corpora[0])
    if sources:
        return walk.around_source(found[0])
    return walk.around_recipe(reference) if recipes else None


def _by_name(walk: Walk, reference: str) -> Node | None:
    """Find a sample by its key, or a source by its path as the catalogue has it."""
    corpus_id, key = named.groups() if (named := _FULL_KEY.fullmatch(reference)) else ("", reference)
    holders = [
        c for c in walk.corpora.values() if not c.manifest.parts and c.manifest.id.startswith(corpus_id)
    ]
    held = [(c, s) for c in holders if (s := c.sample(key)) is not None]
    if len(held) > 1:
        names = ", ".join(f"{full_key(c.manifest.id[:MIN_PREFIX], key)} in {c.store.url}" for c, _ in held)
        raise UserError(
            f"{reference}: {len(held)} corpora have a sample of this key; give its full name: {names}"
        )
    if held:
        return walk.around_sample(*held[0])
    tail = "/" + reference.lstrip("/")
    sources = {
        s.sha256: s.path
        for data in walk.with_sources
        for s in data.sources.values()
        if s.path == reference or s.path.endswith(tail)
    }
    if len(sources) > 1:
        paths = ", ".join(sorted(sources.values())[:4])
        raise UserError(f"{reference}: {len(sources)} sources end so; give more of the path: {paths}")
    return walk.around_source(next(iter(sources))) if sources else None


def _source_of_file(walk: Walk, path: Path) -> str:
    sha256 = file_sha256(path)
    if not any(sha256 in data.sources for data in walk.with_sources):
        raise UserError(f"{path}: no corpus known here holds it (SHA-256 {sha256}); {_where(walk)}")
    return sha256


def _where(walk: Walk) -> str:
    if not walk.corpora and not walk.records.models:
        return "no corpus and no model was found here; give corpora with --corpus"
    folders = ", ".join(corpus.store.url for corpus in list(walk.corpora.values())[:6]) or "none"
    return f"corpora: {folders}; models: {len(walk.records.models)}"
