"""`ssiforge lineage`: what went into a model, and which models heard a recording.

```
runs/tiny  runs/tiny/student/model      a run or a model, by its folder
NAME  NAME/3  NAME@champion  m-…  ID    a model, by MLflow's names or the bundle's id (`models:/` may stand before)
RUN_ID  runs:/RUN_ID                    a training run or an evaluation, by MLflow's id or that in `run.json`
corpus/  s3://bucket/corpus  ID         a corpus, by its place or its id (or its beginning)
train-000012  84cdbb34-train-000012     a sample, with the beginning of its corpus's id where several have such a key
corpus/train/shard-000003.tar  SHA256   a shard, by its file or the file's hash
SHA256  speech/p234_001.wav             a source, by its hash (or its beginning), its file, or its path as scanned
speaker:p234  licence:CC-BY-4.0         all that a speaker said, all that is under a licence
RECIPE_DIGEST                           everything made with a recipe
onnx/  onnx/model.onnx  SHA256          an exported model, by its folder, its file or the file's hash
```
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from manifests.canonical import file_sha256
from manifests.corpus import is_corpus, read_manifest
from manifests.errors import UserError
from manifests.experiment import STAGES
from manifests.parts import full_key
from manifests.run_record import read_run
from manifests.store import Place
from pipelines.lineage.graph import Graph, Node
from pipelines.lineage.heard import Heard, heard_by
from pipelines.lineage.known_corpora import KnownCorpus, known_corpora
from pipelines.lineage.known_online import known_online
from pipelines.lineage.records import collect
from pipelines.lineage.walk import Walk
from pipelines.models.folders import bundle_in, found_below
from pipelines.onnx_export.record import ONNX_SUFFIX, read_exports, read_onnx
from pipelines.tracking.records import stored_records
from training.bundle_info import read_info
from training.shipped_models import SHIPPED, shipped_bundle

MIN_PREFIX = 8
_GROUPS: tuple[Literal["speaker", "licence"], ...] = ("speaker", "licence")
"""Words that may stand before a name, with a colon."""
_HEX = re.compile(rf"[0-9a-f]{{{MIN_PREFIX},64}}")
_TOO_SHORT = re.compile(rf"(?=[0-9a-f]*[0-9])[0-9a-f]{{4,{MIN_PREFIX - 1}}}")
"""What looks like the beginning of a digest; a word of letters alone is none."""
_FULL_KEY = re.compile(rf"([0-9a-f]{{{MIN_PREFIX},32}})-(.+)")
"""Of a sample: the beginning of its corpus's id, then its key."""


@dataclass(frozen=True)
class Lineage:
    """The answer: a graph and where it starts."""

    graph: Graph
    """What was asked for: what lies before the start, behind it, or both."""
    start: Node
    heard: Heard
    """The models behind the start, whatever was asked for."""
    not_read: tuple[str, ...] = ()
    """Records that lie here and could not be read, and why: what they would have told is missing."""

    def json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        said = {"not_read": list(self.not_read)} if self.not_read else {}
        return self.graph.json(self.start) | {"heard_by": self.heard.json()} | said

    def json_text(self) -> str:
        """Return it as JSON, a line a node and a line an edge: to read, to compare, and fast for 300,000 samples."""
        texts = []
        for name, value in self.json().items():
            entries = [f"    {_dumped(entry)}" for entry in value] if isinstance(value, list) else []
            inner = "[\n" + ",\n".join(entries) + "\n  ]" if entries else _dumped(value)
            texts.append(f"  {_dumped(name)}: {inner}")
        return "{\n" + ",\n".join(texts) + "\n}"

    def mermaid(self) -> str:
        """Return it as a Mermaid flow chart."""
        return self.graph.mermaid()


def _dumped(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def lineage(reference: str, corpora: Sequence[Place] = (), up: bool = True, down: bool = True) -> Lineage:
    """Walk from REF back to everything it came from, and forward to everything made of it.

    Args:
        reference: see above.
        corpora: folders or URIs to look into, besides those that MLflow recorded or that lie below the current folder.
        up: whether to answer what it came from.
        down: whether to answer what was made of it.

    Raises:
        UserError: when REF means nothing that is known, or more than one thing.
    """
    folder = Path(reference)
    places = [Path(), *([folder, folder.parent.parent] if folder.is_dir() else []), *_shipped(reference)]
    found = found_below(list(dict.fromkeys(places)))
    stored = stored_records()
    given = [*corpora, reference] if is_corpus(reference) else list(corpora)
    known = known_corpora(given, stored, found)
    walk = Walk(collect(stored, found), known, known_online(stored, found), found)
    start = _start(walk, reference)
    heard = heard_by(walk.graph, start)
    return Lineage(walk.graph.around(start.key, up, down), start, heard, tuple(dict.fromkeys(found.not_read)))


def _shipped(reference: str) -> list[Path]:
    """Return the folder of a model that came with the package, if that is what is asked about."""
    if reference != SHIPPED and not reference.startswith(f"{SHIPPED}:"):
        return []
    return [
        shipped_bundle(name)
        if (name := reference.removeprefix(SHIPPED).removeprefix(":"))
        else shipped_bundle()
    ]


def _start(walk: Walk, reference: str) -> Node:
    path = Path(reference)
    if shipped := _shipped(reference):
        return walk.around_model(read_info(shipped[0]).id)
    if is_corpus(reference):
        return walk.around_corpus(read_manifest(reference).id)
    if path.is_dir():
        return _of_folder(walk, path)
    if path.suffix == ONNX_SUFFIX and path.is_file():
        return walk.around_export(walk.records.exports.get(file_sha256(path)) or read_onnx(path))
    if path.is_file():
        return _of_file(walk, path)
    if (run := walk.records.run_named(reference)) is not None:
        return walk.around_run(run)
    if bundle_id := walk.records.model_named(reference):
        return walk.around_model(bundle_id)
    if _is_text(reference) and (
        found := _of_group(walk, reference) or _by_digest(walk, reference) or _by_name(walk, reference)
    ):
        return found
    more = (
        f" (of a digest, {MIN_PREFIX} digits are needed)" if _TOO_SHORT.fullmatch(reference.lower()) else ""
    )
    raise UserError(f"{reference}: not a model, run, sample or source known here{more}; {_where(walk)}")


def _is_text(reference: str) -> bool:
    """Say whether it is text at all: a catalogue has no name that is not UTF-8, the scan refuses such files."""
    try:
        reference.encode()
    except UnicodeEncodeError:
        return False
    return True


def _of_folder(walk: Walk, folder: Path) -> Node:
    """Start at the model of a folder, or at the run of one that has no model yet."""
    try:
        return walk.around_model(read_info(bundle_in(folder)).id)
    except UserError:
        if exported := next(read_exports(folder), None):
            return walk.around_export(exported)
        for place in (folder, *(folder / stage for stage in reversed(STAGES))):
            run = read_run(place)
            if run is not None and (known := walk.records.run_named(run.id)) is not None:
                return walk.around_run(known)
        raise


def _of_group(walk: Walk, reference: str) -> Node | None:
    for kind in _GROUPS:
        if reference.startswith(f"{kind}:"):
            node = walk.around_group(kind, reference.removeprefix(f"{kind}:"))
            if node is None:
                raise UserError(
                    f"{reference}: no source of a corpus known here has this {kind}; {_where(walk)}"
                )
            return node
    return None


def _by_digest(walk: Walk, reference: str) -> Node | None:
    """Find a corpus or a source by its digest or a beginning that only one has."""
    reference = reference.lower()  # as some tools write hashes
    if not _HEX.fullmatch(reference):
        return None
    named = (*walk.corpora, *walk.online, *walk.corpora_only_named)
    corpora = [i for i in named if i.startswith(reference)]
    sources = {sha256 for data in walk.with_sources for sha256 in data.starting(reference)}
    recipes = {reference} & {
        *(corpus.manifest.recipe_digest for corpus in walk.corpora.values()),
        *(fresh.record.recipe_digest for fresh in walk.online.values()),
    }
    exports = sorted(sha256 for sha256 in walk.records.exports if sha256.startswith(reference))
    shards = _shards(walk, reference)
    found = [*dict.fromkeys(corpora), *sorted(sources), *exports, *dict.fromkeys(sha for *_, sha in shards)]
    if len(found) > 1:
        raise UserError(
            f"{reference}: the beginning of {len(found)} digests; give more of it: {', '.join(found[:4])}"
        )
    if corpora:
        return walk.around_corpus(corpora[0])
    if sources:
        return walk.around_source(found[0])
    if exports:
        return walk.around_export(walk.records.exports[found[0]])
    if shards:
        return _only_shard(walk, reference, shards)
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
    sources = {sha256: path for data in walk.with_sources for sha256, path in data.at(reference).items()}
    if len(sources) > 1:
        paths = ", ".join(sorted(sources.values())[:4])
        raise UserError(f"{reference}: {len(sources)} sources end so; give more of the path: {paths}")
    return walk.around_source(next(iter(sources))) if sources else None


def _of_file(walk: Walk, path: Path) -> Node:
    """Start at a source or a shard, known by its content."""
    sha256 = file_sha256(path)
    if any(data.source(sha256) is not None for data in walk.with_sources):
        return walk.around_source(sha256)
    if shards := _shards(walk, sha256):
        within = [held for held in shards if path.resolve() == Path(held[0].place, held[1]).resolve()]
        return _only_shard(walk, str(path), within or shards)
    raise UserError(f"{path}: no corpus known here holds it (SHA-256 {sha256}); {_where(walk)}")


_Shard = tuple[KnownCorpus, str, str]
"""Corpus, path of the tar within it, hash."""


def _shards(walk: Walk, prefix: str) -> list[_Shard]:
    """Return the shards whose hash begins so."""
    return [
        (corpus, name, sha256)
        for corpus in walk.corpora.values()
        for name, sha256 in corpus.manifest.shards.items()
        if sha256.startswith(prefix)
    ]


def _only_shard(walk: Walk, reference: str, found: Sequence[_Shard]) -> Node:
    """Start at a shard that may be in several versions of a corpus: one has to be meant."""
    if len(found) > 1:
        places = ", ".join(f"{corpus.place}/{name}" for corpus, name, _ in found[:4])
        raise UserError(f"{reference}: {len(found)} corpora have this shard; give the file of one: {places}")
    corpus, name, _ = found[0]
    return walk.around_shard(corpus, name)


def _where(walk: Walk) -> str:
    if not walk.corpora and not walk.records.models:
        return "no corpus and no model was found here; give corpora with --corpus"
    folders = ", ".join(corpus.store.url for corpus in list(walk.corpora.values())[:6]) or "none"
    return f"corpora: {folders}; models: {len(walk.records.models)}"
