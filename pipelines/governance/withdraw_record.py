"""`withdrawals.ndjson`: what went out of the versions of a corpus, why, and which models had heard it.

A line a version, oldest first: the corpus before (`replaces`) and after (`corpus`), the reason, the sources, the
samples that held them by shard, and the ids of the models that were trained on them; `grown_from` is the
smaller corpus that the one before had been made of. No clock, host or path is in it.
"""

from collections.abc import Iterable
from typing import Any

from manifests.canonical import canonical_json
from manifests.corpus import CORPUS_FILE, WITHDRAWALS_FILE, CorpusManifest
from manifests.store import Store
from pipelines.corpus.reading import json_lines
from pipelines.governance.take_down import TakeDown


def begun_line(meant: TakeDown, reason: str) -> bytes:
    """Return the line of a withdrawal of which only the cause is known yet."""
    manifest = meant.held.manifest
    grown = {"grown_from": manifest.grown_from} if manifest.grown_from else {}
    return _written(
        {
            "replaces": manifest.id,
            **grown,
            "reason": reason,
            "sources": [
                {
                    "sha256": source.sha256,
                    "kind": source.kind,
                    "group": source.group,
                    "name": source.name,
                    "licence": source.licence,
                }
                for source in meant.sources
            ],
            "samples": {shard: list(keys) for shard, keys in sorted(meant.affected.items())},
        }
    )


def lines_of(store: Store) -> list[bytes]:
    """Return the lines of a corpus, with their ends; none for one from which nothing was withdrawn."""
    held = store.read(WITHDRAWALS_FILE) if store.size(WITHDRAWALS_FILE) is not None else b""
    return held.splitlines(keepends=True)


def completed(store: Store, corpus_id: str, models: Iterable[str]) -> None:
    """Write into the last line what came of it; models that it names already stay.

    Args:
        store: of the new version.
        corpus_id: of the new version.
        models: bundle ids.
    """
    *before, last = lines_of(store)
    *_, line = json_lines(store, WITHDRAWALS_FILE)
    line |= {"corpus": corpus_id, "models": sorted({*line.get("models", ()), *models})}
    if _written(line) != last:
        store.write(WITHDRAWALS_FILE, b"".join((*before, _written(line))))


def resealed(store: Store, manifest: CorpusManifest) -> CorpusManifest:
    """Let `corpus.json` name the lines as they are now; nothing else of the corpus changes."""
    files = {**manifest.files, WITHDRAWALS_FILE: store.sha256(WITHDRAWALS_FILE)}
    if files == manifest.files:
        return manifest
    manifest = manifest.model_copy(update={"files": files}).sealed()
    store.write(CORPUS_FILE, manifest.written())
    return manifest


def _written(line: dict[str, Any]) -> bytes:
    return canonical_json(line) + b"\n"
