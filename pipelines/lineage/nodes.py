"""What a lineage says of each kind of thing."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

from manifests.canonical import digest
from manifests.corpus_summary import CorpusSummary
from manifests.packages import PROJECT
from manifests.source import WITHDRAWN, Source
from pipelines.corpus.catalogue_queries import Summary
from pipelines.corpus.sample_uses import SampleUse
from pipelines.lineage.graph import Deferred, Node
from pipelines.lineage.known_corpora import KnownCorpus
from pipelines.lineage.known_online import KnownOnline
from pipelines.lineage.records import EVALUATE, ModelRecord, RunRecord, VersionRecord
from pipelines.onnx_export.record import ExportRecord

SHORT = 12
"""Digits of a digest that are shown."""


def model_node(bundle_id: str, model: ModelRecord | None, versions: Sequence[VersionRecord] = ()) -> Node:
    """Describe a model; None for one that is only mentioned by another.

    Args:
        bundle_id: of it.
        model: what is known of it.
        versions: under which it is registered.
    """
    if model is None:
        return Node("model", bundle_id, f"{bundle_id[:SHORT]} (not found here)")
    facts = {
        "bundle_id": bundle_id,
        "stage": model.stage,
        "registered": ", ".join(_named(version) for version in versions),
        **model.facts,
        "folder": ", ".join(model.folders),
    }
    reasons = (*model.stale, *(version.stale for version in versions if version.stale))
    if stale := "; ".join(dict.fromkeys(reasons)):
        facts["stale"] = stale
    return Node("model", bundle_id, f"{model.stage} {bundle_id[:SHORT]}", facts)


def version_node(version: VersionRecord) -> Node:
    """Describe a registered version."""
    facts = {"bundle_id": version.bundle_id, "aliases": list(version.aliases)}
    stale = {"stale": version.stale} if version.stale else {}
    return Node("version", version.title, _named(version), facts | stale)


def _named(version: VersionRecord) -> str:
    return " ".join([version.title, *(f"@{alias}" for alias in version.aliases)])


def export_node(export: ExportRecord) -> Node:
    """Describe an exported file."""
    facts = {"sha256": export.sha256, **export.facts, "folder": ", ".join(export.folders)}
    return Node("export", export.sha256, export.title, facts)


def run_node(run: RunRecord) -> Node:
    """Describe a training run, or an evaluation."""
    facts = {"run_id": run.run_id, **run.facts}
    if run.job == EVALUATE:
        return Node("evaluation", run.run_id, f"{run.name} of {run.bundle_id[:SHORT]}", facts)
    return Node("run", run.run_id, f"{run.name} {run.run_id[:SHORT]}", facts)


def corpus_node(corpus_id: str, corpus: KnownCorpus | None, summary: CorpusSummary | None = None) -> Node:
    """Describe a corpus.

    Args:
        corpus_id: of it.
        corpus: None for one that lies nowhere known.
        summary: what a model remembers of that.
    """
    if corpus is None and summary is not None:
        remembered = {
            "id": corpus_id,
            "hours": round(summary.hours, 3),
            "samples": _counted(summary.samples),
            "licences": dict(summary.licences),
        }
        return Node("corpus", corpus_id, f"{summary.recipe} {corpus_id[:SHORT]} (not found here)", remembered)
    if corpus is None:
        return Node("corpus", corpus_id, f"{corpus_id} (not found here)")
    manifest = corpus.manifest
    facts = {
        "id": corpus_id,
        "folder": corpus.place,
        "hours": round(manifest.hours, 3),
        "samples": _counted(manifest.samples),
        "seed": "" if manifest.parts else manifest.seed,
        **_software(manifest.code_version, manifest.environment),
        "recipe_digest": manifest.recipe_digest,
        "catalogue_digest": manifest.catalogue_digest,
        "grown_from": manifest.grown_from,
        "licences": manifest.licences,
    }
    return Node("corpus", corpus_id, f"{manifest.recipe} {corpus_id[:SHORT]}", facts)


def _counted(samples: Mapping[Any, int]) -> str:
    return ", ".join(f"{split} {count}" for split, count in samples.items())


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
    if record.allow_licences is not None:
        facts["allow_licences"] = list(record.allow_licences)
    return Node("online", record.data_id, f"fresh samples of {record.recipe} {record.data_id[:SHORT]}", facts)


def online_sources_node(fresh: KnownOnline) -> Node:
    """Describe the sources from which fresh training samples are drawn; the files are among the facts."""
    rows_digest = fresh.record.catalogue_digest
    if not fresh.sources:
        return Node(
            "sources",
            rows_digest,
            f"{rows_digest[:SHORT]} (catalogue not found here)",
            {"digest": rows_digest},
        )
    rows = list(fresh.sources.values())
    kinds, licences = Counter(row.kind for row in rows), Counter(row.licence for row in rows)
    speakers = {row.speaker for row in rows if row.speaker}
    label, facts = _described(Summary(kinds, licences, len(speakers), len(rows)), lambda: rows)
    drawn_by = {"code_version": fresh.record.code_version}
    node_id = f"{rows_digest}/{fresh.record.data_id}"
    return Node("sources", node_id, label, {"digest": rows_digest} | drawn_by | facts)


def sample_node(corpus: KnownCorpus, sample: SampleUse) -> Node:
    """Describe a sample of a corpus: its specification by the digest that the record of its shard has."""
    facts: dict[str, str | int] = {
        "speaker": sample.speaker,
        "split": sample.split,
        "licences": ", ".join(sample.licences),
    }
    if (entry := corpus.entry(sample)) is not None:
        facts |= {"index": entry.index, "attempt": entry.attempt, "spec_digest": entry.spec_digest}
    return Node(
        "sample", f"{corpus.manifest.id}/{sample.key}", sample.key, facts | _rendered_by(corpus, sample.shard)
    )


def shard_node(corpus: KnownCorpus, name: str, keys: Sequence[str], with_record: bool = False) -> Node:
    """Describe a shard.

    Args:
        corpus: whose it is.
        name: path of its tar within that.
        keys: of the samples in it that matter.
        with_record: also say what its own record does: of many shards, that takes its time.
    """
    facts: dict[str, Any] = {"sha256": corpus.manifest.shards.get(name, ""), "samples": list(keys)}
    if with_record:
        facts |= _rendered_by(corpus, name)
    return Node("shard", f"{corpus.manifest.id}/{name}", name, facts)


def _rendered_by(corpus: KnownCorpus, shard: str) -> dict[str, Any]:
    """Say what code rendered a shard: a corpus may be made larger, or mended, by a later one."""
    record = corpus.record(shard)
    return _software(record.environment.get(PROJECT, ""), record.environment) if record is not None else {}


def _software(code: str, packages: Mapping[str, str]) -> dict[str, Any]:
    return {"code_version": code, "packages": dict(packages), "packages_digest": digest(packages)}


def recipe_node(data: KnownCorpus | KnownOnline, known: Iterable[KnownCorpus | KnownOnline]) -> Node:
    """Describe the recipe of a corpus or of fresh samples, and which code it was read by.

    Args:
        data: of which it is.
        known: everything else that may be of the same recipe.
    """
    name, recipe_digest, *_ = _recipe_of(data)
    same = [_recipe_of(one) for one in (data, *known)]
    codes = sorted({code for _, other, code, _ in same if other == recipe_digest and code})
    packages = sorted({held for _, other, _, held in same if other == recipe_digest and held})
    facts = {
        "digest": recipe_digest,
        "code_version": ", ".join(codes),
        "packages_digest": ", ".join(packages),
    }
    return Node("recipe", recipe_digest, name, facts)


def _recipe_of(data: KnownCorpus | KnownOnline) -> tuple[str, str, str, str]:
    """Return name and digest of a recipe, version of the code and digest of the packages that drew by it."""
    if isinstance(data, KnownOnline):
        record = data.record
        return record.recipe, record.recipe_digest, record.code_version, ""
    manifest = data.manifest
    return manifest.recipe, manifest.recipe_digest, manifest.code_version, digest(manifest.environment)


def sources_node(corpus: KnownCorpus, used: Any, selection: str = "") -> Node:
    """Describe sources that samples of a corpus hold; the files themselves are among the facts.

    Args:
        corpus: whose samples they are.
        used: hashes of the sources, an Arrow array.
        selection: digest of the selection of samples; empty for all.
    """
    catalogue = corpus.catalogue
    label, facts = _described(catalogue.summed(used), lambda: catalogue.listed(used))
    manifest = corpus.manifest
    drawn_by = {"code_version": manifest.code_version, "packages_digest": digest(manifest.environment)}
    place = (manifest.catalogue_digest, manifest.id, *([selection] if selection else []))
    return Node("sources", "/".join(place), label, drawn_by | facts)


def _described(summary: Summary, rows: Callable[[], list[Source]]) -> tuple[str, dict[str, Any]]:
    """Say in words what sources are, and list them for who asks."""
    counts = ", ".join(f"{count:,} {kind}" for kind, count in sorted(summary.kinds.items()))
    facts: dict[str, Any] = {
        "files": summary.files,
        "speakers": summary.speakers,
        "licences": dict(sorted(summary.licences.items())),
        "sources": Deferred(lambda: [listed(row) for row in rows()]),
    }
    return f"{counts} of {summary.speakers:,} speakers", facts


def listed(source: Source) -> dict[str, Any]:
    """Describe one source of many."""
    return {"sha256": source.sha256, "name": source.name, **_source_facts(source)}


def heard_node(
    kind: Literal["speaker", "licence"],
    name: str,
    samples: Mapping[str, Mapping[str, int]],
    files: int,
    rows: Callable[[], list[Source]],
) -> Node:
    """Describe a speaker or a licence by the sources that are theirs.

    Args:
        kind: which of the two.
        name: of it.
        samples: how many hold such a source, by corpus and split.
        files: number of the sources.
        rows: returns the sources.
    """
    heard = {place: dict(of_splits) for place, of_splits in samples.items()}
    sources = Deferred(lambda: [listed(row) for row in rows()])
    return Node(kind, name, name, {"files": files, "heard": heard, "sources": sources})


def source_node(sha256: str, source: Source | None) -> Node:
    """Describe one recording; None for one that no catalogue holds."""
    if source is None:
        return Node("source", sha256, f"{sha256[:SHORT]} (in no catalogue)")
    return Node("source", sha256, source.name, {"sha256": sha256, **_source_facts(source)})


def _source_facts(source: Source) -> dict[str, Any]:
    withdrawn = {"withdrawn": "yes"} if source.refused == WITHDRAWN else {}
    return {
        "kind": source.kind,
        "group": source.group,
        "licence": source.licence,
        "split": source.split,
        "path": source.path,
        "seconds": round(source.seconds, 3),
        **withdrawn,
    }
