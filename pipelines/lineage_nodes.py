"""What a lineage says of each kind of thing."""

from collections import Counter
from typing import Any

from manifests.source import Source
from pipelines.known_corpora import KnownCorpus
from pipelines.known_online import KnownOnline
from pipelines.lineage_graph import Node
from pipelines.lineage_records import ModelRecord, RunRecord

SHORT = 12
"""Digits of a digest that are shown."""


def model_node(bundle_id: str, model: ModelRecord | None) -> Node:
    """Describe a model; None for one that is only mentioned by another."""
    if model is None:
        return Node("model", bundle_id, f"{bundle_id[:SHORT]} (not found here)")
    names = ", ".join(model.registered)
    facts = {
        "bundle_id": bundle_id,
        "stage": model.stage,
        "registered": names,
        "stale": "; ".join(model.stale),
        "code_version": model.code_version,
        "folder": ", ".join(model.folders),
    }
    return Node("model", bundle_id, f"{model.stage} {bundle_id[:SHORT]}", facts)


def run_node(run: RunRecord) -> Node:
    """Describe an MLflow run."""
    facts = {"run_id": run.run_id, "status": run.status, **run.facts}
    return Node("evaluation" if run.job == "evaluate" else "run", run.run_id, run.name, facts)


def corpus_node(corpus_id: str, corpus: KnownCorpus | None) -> Node:
    """Describe a corpus; None for one that lies nowhere known."""
    if corpus is None:
        return Node("corpus", corpus_id, f"{corpus_id} (not found here)")
    manifest = corpus.manifest
    facts = {
        "id": corpus_id,
        "folder": corpus.place,
        "hours": round(manifest.hours, 3),
        "samples": ", ".join(f"{split} {count}" for split, count in manifest.samples.items()),
        "seed": "" if manifest.parts else manifest.seed,
        "code_version": manifest.code_version,
        "licences": manifest.licences,
    }
    return Node("corpus", corpus_id, f"{manifest.recipe} {corpus_id[:SHORT]}", facts)


def online_node(fresh: KnownOnline) -> Node:
    """Describe fresh samples."""
    record = fresh.record
    facts = {
        "id": record.data_id,
        "folder": str(fresh.place) if fresh.place else "not found",
        "seed": record.seed,
        "share_of_samples": record.weight,
        "code_version": record.code_version,
    }
    return Node("online", record.data_id, f"fresh samples of {record.recipe} {record.data_id[:SHORT]}", facts)


def online_recipe_node(fresh: KnownOnline) -> Node:
    """Describe the recipe of fresh samples."""
    digest = fresh.record.recipe_digest
    return Node("recipe", digest, fresh.record.recipe, {"digest": digest})


def online_sources_node(fresh: KnownOnline) -> Node:
    """Describe the sources from which fresh training samples are drawn; the files are among the facts."""
    digest = fresh.record.catalogue_digest
    if not fresh.sources:
        return Node("sources", digest, f"{digest[:SHORT]} (catalogue not found here)", {"digest": digest})
    label, facts = _described(list(fresh.sources.values()))
    return Node("sources", f"{digest}/{fresh.record.data_id}", label, {"digest": digest, **facts})


def recipe_node(corpus: KnownCorpus) -> Node:
    """Describe the recipe of a corpus."""
    manifest = corpus.manifest
    return Node("recipe", manifest.recipe_digest, manifest.recipe, {"digest": manifest.recipe_digest})


def sources_node(corpus: KnownCorpus) -> Node:
    """Describe all sources that the samples of a corpus hold; the files themselves are among the facts."""
    rows = [source for sha256, source in corpus.sources.items() if sha256 in corpus.used]
    label, facts = _described(rows)
    digest = corpus.manifest.catalogue_digest
    return Node("sources", f"{digest}/{corpus.manifest.id}", label, facts)


def _described(rows: list[Source]) -> tuple[str, dict[str, Any]]:
    """Sum up sources in words, and list them."""
    kinds, licences = Counter(row.kind for row in rows), Counter(row.licence for row in rows)
    speakers = {row.speaker for row in rows if row.speaker}
    counts = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
    facts: dict[str, Any] = {
        "files": len(rows),
        "speakers": len(speakers),
        "licences": dict(sorted(licences.items())),
        "sources": [{"sha256": row.sha256, "name": row.name, **_source_facts(row)} for row in rows],
    }
    return f"{counts} of {len(speakers)} speakers", facts


def source_node(sha256: str, source: Source | None) -> Node:
    """Describe one recording; None for one that no catalogue holds."""
    if source is None:
        return Node("source", sha256, f"{sha256[:SHORT]} (in no catalogue)")
    return Node("source", sha256, source.name, {"sha256": sha256, **_source_facts(source)})


def _source_facts(source: Source) -> dict[str, Any]:
    return {
        "kind": source.kind,
        "group": source.group,
        "licence": source.licence,
        "split": source.split,
        "path": source.path,
        "seconds": round(source.seconds, 3),
    }
