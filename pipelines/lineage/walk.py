"""Walks from one thing to everything that it came from and that was made of it."""

from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal

from manifests.parts import Part
from manifests.recipe import SPLITS
from manifests.source import Source
from pipelines.arrow_values import strings, union
from pipelines.corpus.sample_uses import SampleUse
from pipelines.lineage.graph import Graph, Node
from pipelines.lineage.known_corpora import KnownCorpus
from pipelines.lineage.known_online import KnownOnline
from pipelines.lineage.nodes import (
    corpus_node,
    export_node,
    heard_node,
    model_node,
    online_node,
    online_sources_node,
    recipe_node,
    run_node,
    sample_node,
    shard_node,
    source_node,
    sources_node,
    version_node,
)
from pipelines.lineage.records import EVALUATE, ModelRecord, Records, RunRecord
from pipelines.lineage.selections import Asked, Samples, Selections, Sources
from pipelines.models.folders import Found
from pipelines.onnx_export.record import ExportRecord

PERHAPS = "may be data of"
"""The relation of data to a run that left samples out, where nobody can tell any more which."""
VALIDATION = "validation data of"
"""The relation of data that chose among a model's checkpoints, and taught it nothing."""
_HEARD_IN_TRAINING = frozenset({"train", "val"})


class Walk:
    """Builds the graph around one thing."""

    def __init__(
        self,
        records: Records,
        corpora: Sequence[KnownCorpus],
        online: Mapping[str, KnownOnline] = MappingProxyType({}),
        found: Found | None = None,
    ) -> None:
        self.records = records
        self.online = online
        """Fresh samples by id: they stand wherever a corpus may stand."""
        self.corpora = {corpus.manifest.id: corpus for corpus in corpora}
        self.graph = Graph()
        used = {c for run in records.runs.values() for c in run.corpora}
        self.corpora_only_named = sorted(
            (used | {model.corpus_id for model in records.models.values()})
            - set(self.corpora)
            - set(self.online)
            - {""}
        )
        """Ids of corpora that models were trained on and that do not lie anywhere known."""
        self._selections = Selections(found or Found(), self.corpora)
        self._walked: set[tuple[object, ...]] = set()
        """What was gone through already, and in which direction: many ways lead to one thing."""

    @property
    def with_sources(self) -> list[KnownCorpus | KnownOnline]:
        """Everything that sources were drawn for."""
        return [*self.corpora.values(), *self.online.values()]

    def around_model(self, bundle_id: str) -> Node:
        """Back to everything that a model was made of, on to what was made of it."""
        node = self._back_from_model(bundle_id)
        self._on_from_model(bundle_id, node)
        return node

    def around_export(self, export: ExportRecord) -> Node:
        """Back from an exported file to its model, and to everything that was made of."""
        node = self.graph.add(export_node(export))
        self.graph.link(self._back_from_model(export.bundle_id), node, "exported as")
        return node

    def around_run(self, run: RunRecord) -> Node:
        """Back from a run to its inputs, on to its models."""
        node = self._back_from_run(run)
        self._on_from_run(run)
        return node

    def around_corpus(self, corpus_id: str) -> Node:
        """Back from a corpus to recipe and sources, on to its models."""
        node = self._back_from_corpus(corpus_id)
        self._on_from_corpus(corpus_id, node)
        return node

    def around_recipe(self, recipe_digest: str) -> Node:
        """On from a recipe to all that was made with it."""
        for corpus_id, corpus in self.corpora.items():
            if corpus.manifest.recipe_digest == recipe_digest:
                self.around_corpus(corpus_id)
        for data_id, fresh in self.online.items():
            if fresh.record.recipe_digest == recipe_digest:
                self.around_corpus(data_id)
        return self.graph.nodes[f"recipe:{recipe_digest}"]

    def around_sample(self, corpus: KnownCorpus, sample: SampleUse) -> Node:
        """Back from a sample to its recipe and sources, on to the models that heard it."""
        node = self.graph.add(sample_node(corpus, sample))
        self.graph.link(self._recipe(corpus), node, "recipe of")
        for sha256 in sample.sources:
            self.graph.link(self._source(sha256), node, "heard in")
        shard = self._shard(corpus, sample.shard, [sample.key])
        self.graph.link(node, shard, "in")
        self._on_from_shards(corpus, [shard], Samples(corpus, sample.shard, frozenset([sample.key])))
        return node

    def around_shard(self, corpus: KnownCorpus, name: str) -> Node:
        """Back from a shard to its recipe and the sources of its samples, on to the models that heard them."""
        samples = corpus.in_shard(name)
        node = self.graph.add(shard_node(corpus, name, [sample.key for sample in samples], with_record=True))
        self.graph.link(self._recipe(corpus), node, "recipe of")
        hashes = dict.fromkeys(sha256 for sample in samples for sha256 in sample.sources)
        rows = {row.sha256: row for row in corpus.listed(strings(hashes))}
        for sha256 in hashes:
            source = self.graph.add(source_node(sha256, rows.get(sha256)))
            self.graph.link(source, node, "in samples of")
        self._on_from_shards(corpus, [node], Samples(corpus, name, frozenset(s.key for s in samples)))
        return node

    def around_source(self, sha256: str) -> Node:
        """On from a source to the samples that hold it and the models that heard them."""
        node = self._source(sha256)
        asked = Sources(strings([sha256]))
        for corpus in self._corpora_to_search():
            if corpus.manifest.parts:
                self._heard_in(corpus, corpus.samples_with_any(asked.hashes), node, asked)
                continue
            keys = corpus.uses.shards_with(sha256)
            shards = [self._shard(corpus, name, in_shard) for name, in_shard in keys.items()]
            for shard in shards:
                self.graph.link(node, shard, "in samples of")
            if shards:
                self._on_from_shards(corpus, shards, asked)
                self._on_from_what_it_was(corpus, node)
        for corpus in self.corpora.values():
            self._withdrawn_from(corpus, {sha256}, node)
        for data_id, fresh in self.online.items():
            if fresh.source(sha256) is not None:
                self._may_be_heard_in(data_id, node)
        return node

    def _withdrawn_from(self, corpus: KnownCorpus, hashes: Collection[str], node: Node) -> None:
        """Go on to the earlier versions of a corpus that held any of some sources before it was withdrawn."""
        for place, line in enumerate(corpus.withdrawals):
            if any(source["sha256"] in hashes for source in line["sources"]):
                before = self._corpus(line["replaces"])
                self.graph.link(node, before, "withdrawn from")
                splits = {shard.partition("/")[0] for shard in line["samples"]}
                self._on_from_corpus(line["replaces"], before, splits, Sources(strings(hashes)))
                self._on_from_lost(corpus.earlier_than(place), node)

    def around_group(self, kind: Literal["speaker", "licence"], name: str) -> Node | None:
        """On from a speaker or a licence to the corpora and models that heard anything of theirs; None if unknown."""
        searched = {c.manifest.id: c for c in self._corpora_to_search()} | dict(self.online)
        found = {place: data.hashes_with(kind, name) for place, data in searched.items()}
        found = {place: hashes for place, hashes in found.items() if len(hashes)}
        if not found:
            return None
        samples = {
            place: self.corpora[place].samples_with_any(hashes)
            for place, hashes in found.items()
            if place in self.corpora
        }

        def listed() -> list[Source]:
            rows = (row for place, hashes in found.items() for row in searched[place].listed(hashes))
            return list({row.sha256: row for row in rows}.values())

        files = len(union(found.values()))
        node = self.graph.add(heard_node(kind, name, samples, files, listed))
        for place in found:
            if place in samples:
                corpus = self.corpora[place]
                self._heard_in(corpus, samples[place], node, Sources(found[place]))
                if corpus.withdrawals:
                    self._withdrawn_from(corpus, set(found[place].to_pylist()), node)
            else:
                self._may_be_heard_in(place, node)
        return node

    def _corpora_to_search(self) -> list[KnownCorpus]:
        """Return the corpora that have samples of their own, and merged ones of which a part has been moved away."""
        return [
            corpus
            for corpus in self.corpora.values()
            if not corpus.manifest.parts or any(p.corpus not in self.corpora for p in corpus.manifest.parts)
        ]

    def _heard_in(self, corpus: KnownCorpus, samples: Mapping[str, int], node: Node, asked: Asked) -> None:
        """Go on to a corpus of which so many samples, by split, hold one of some sources."""
        if samples:
            made = self._corpus(corpus.manifest.id)
            self.graph.link(node, made, f"heard in {sum(samples.values()):,} samples of")
            self._on_from_corpus(corpus.manifest.id, made, tuple(samples), asked)
            self._on_from_what_it_was(corpus, node)

    def _may_be_heard_in(self, data_id: str, node: Node) -> None:
        """Go on to fresh samples, of which nobody kept a list."""
        made = self._corpus(data_id)
        self.graph.link(node, made, "may be heard in")
        self._on_from_corpus(data_id, made, ("train",))

    def _on_from_what_it_was(self, corpus: KnownCorpus, node: Node) -> None:
        """Go on to versions before this one that lie nowhere any more; it has most of their samples.

        They are the smaller corpus that lay here, and those from which sources were withdrawn.
        """
        replaced = (line.get(name, "") for line in corpus.withdrawals for name in ("replaces", "grown_from"))
        self._on_from_lost([corpus.manifest.grown_from, *replaced], node)

    def _on_from_lost(self, corpora: Sequence[str], node: Node) -> None:
        """Go on to those of some corpora that lie nowhere any more, and may have held a source."""
        for before in corpora:
            if before in self.corpora_only_named:
                earlier = self._corpus(before)
                self.graph.link(node, earlier, "may be heard in")
                self._on_from_corpus(before, earlier)

    def _back_from_model(self, bundle_id: str) -> Node:
        model = self.records.models.get(bundle_id)
        node = self._model(bundle_id)
        if model is None or not self._first_time("back", bundle_id):
            return node
        runs = [self.records.runs[i] for i in sorted(model.run_ids) if i in self.records.runs]
        for run in runs:
            self.graph.link(self._back_from_run(run), node, "made")
        if not runs:  # no run is known: the bundle says by itself what it was made from
            self._link_origins(node, (model.corpus_id,), model.parents, model.facts)
        return node

    def _back_from_run(self, run: RunRecord) -> Node:
        node = self._run(run)
        if self._first_time("back from run", run.run_id):
            self._link_origins(node, run.corpora, run.parents, run.facts)
            if run.job == EVALUATE and run.bundle_id:
                self.graph.link(self._back_from_model(run.bundle_id), node, "scored by")
        return node

    def _link_origins(
        self, node: Node, corpora: Sequence[str], parents: Mapping[str, str], facts: Mapping[str, Any]
    ) -> None:
        for corpus_id in filter(None, corpora):
            selection, kept = self._selections.kept(facts, corpus_id)
            self.graph.link(self._back_from_corpus(corpus_id, with_sources=not kept), node, "data of")
            for place, hashes in kept.items():
                sources = sources_node(self.corpora[place], hashes, selection)
                self.graph.link(self.graph.add(sources), node, "heard by")
        for role, bundle_id in parents.items():
            self.graph.link(self._back_from_model(bundle_id), node, f"{role} of")

    def _back_from_corpus(self, corpus_id: str, with_sources: bool = True) -> Node:
        """Go back from a corpus; a run that left samples of it out names the sources that it heard itself."""
        node = self._corpus(corpus_id)
        corpus = self.corpora.get(corpus_id)
        if not self._first_time("back from corpus", corpus_id, with_sources):
            return node
        if corpus is not None and corpus.manifest.replaces:
            self.graph.link(self._corpus(corpus.manifest.replaces), node, "replaced by")
        if corpus is not None and corpus.manifest.parts:
            for part in corpus.manifest.parts:
                self.graph.link(self._back_from_corpus(part.corpus, with_sources), node, _merged_into(part))
        elif (fresh := self.online.get(corpus_id)) is not None:
            self.graph.link(self._recipe(fresh), node, "recipe of")
            self.graph.link(self.graph.add(online_sources_node(fresh)), node, "material of")
            if fresh.record.corpus_id:
                self.graph.link(self._back_from_corpus(fresh.record.corpus_id), node, "mixed with")
        elif corpus is not None:
            self.graph.link(self._recipe(corpus), node, "recipe of")
            if with_sources:
                self.graph.link(self.graph.add(sources_node(corpus, corpus.used)), node, "material of")
        return node

    def _on_from_corpus(
        self, corpus_id: str, node: Node, splits: Collection[str] = SPLITS, asked: Asked | None = None
    ) -> None:
        """Go on to what was made of some splits of a corpus: what lies in the test split alone trained no model.

        Args:
            corpus_id: of it.
            node: its node.
            splits: in which what is asked about lies.
            asked: what that is; None for the corpus itself. Runs that left all of it out heard nothing of it.
        """
        if not self._first_time("on from corpus", corpus_id, *sorted(splits), asked):
            return
        for merged in self.corpora.values():
            for part in merged.manifest.parts:
                if part.corpus == corpus_id:
                    made = self._corpus(merged.manifest.id)
                    self.graph.link(node, made, _merged_into(part))
                    self._on_from_corpus(merged.manifest.id, made, splits, asked)
        for newer in self.corpora.values():
            if newer.manifest.replaces == corpus_id:
                self.graph.link(node, self._corpus(newer.manifest.id), "replaced by")
        for run in self.records.runs.values():
            if corpus_id not in run.corpora:
                continue
            heard, surely = self._selections.heard(run.facts, corpus_id, splits, asked)
            if run.job == EVALUATE and run.split in heard:
                self.graph.link(node, self._run(run), "data of" if surely else PERHAPS)
            elif run.job != EVALUATE and _HEARD_IN_TRAINING & heard:
                self.graph.link(node, self._on_from_run(run), _relation(heard, surely))
        for model in self.records.models.values():
            if model.corpus_id == corpus_id and not self._runs_of(model):
                heard, surely = self._selections.heard(model.facts, corpus_id, splits, asked)
                if _HEARD_IN_TRAINING & heard:
                    made = self._model(model.bundle_id)
                    self.graph.link(node, made, _relation(heard, surely))
                    self._on_from_model(model.bundle_id, made)

    def _on_from_run(self, run: RunRecord) -> Node:
        node = self._run(run)
        for model in self.records.models.values():
            if run.run_id in model.run_ids:
                made = self._model(model.bundle_id)
                self.graph.link(node, made, "made")
                self._on_from_model(model.bundle_id, made)
        return node

    def _on_from_model(self, bundle_id: str, node: Node) -> None:
        if not self._first_time("on", bundle_id):
            return
        for version in self.records.versions.values():
            if version.bundle_id == bundle_id:
                self.graph.link(node, self.graph.add(version_node(version)), "registered as")
        for export in self.records.exports.values():
            if export.bundle_id == bundle_id:
                self.graph.link(node, self.graph.add(export_node(export)), "exported as")
        for run in self.records.runs.values():
            for role, parent in run.parents.items():
                if parent == bundle_id:
                    self.graph.link(node, self._on_from_run(run), f"{role} of")
            if run.job == EVALUATE and run.bundle_id == bundle_id:
                self.graph.link(node, self._run(run), "scored by")
        for model in self.records.models.values():
            for role, parent in model.parents.items():
                if parent == bundle_id and not self._runs_of(model):
                    self.graph.link(node, self._model(model.bundle_id), f"{role} of")
                    self._on_from_model(model.bundle_id, self._model(model.bundle_id))

    def _on_from_shards(self, corpus: KnownCorpus, shards: Sequence[Node], asked: Asked) -> None:
        node = self._corpus(corpus.manifest.id)
        for shard in shards:
            self.graph.link(shard, node, "part of")
        splits = {shard.label.partition("/")[0] for shard in shards}
        self._on_from_corpus(corpus.manifest.id, node, splits, asked)

    def _first_time(self, *what: object) -> bool:
        """Say whether something is gone through for the first time."""
        is_new = what not in self._walked
        self._walked.add(what)
        return is_new

    def _runs_of(self, model: ModelRecord) -> bool:
        return any(run_id in self.records.runs for run_id in model.run_ids)

    def _model(self, bundle_id: str) -> Node:
        versions = [v for v in self.records.versions.values() if v.bundle_id == bundle_id]
        return self.graph.add(model_node(bundle_id, self.records.models.get(bundle_id), versions))

    def _run(self, run: RunRecord) -> Node:
        return self.graph.add(run_node(run))

    def _corpus(self, corpus_id: str) -> Node:
        """Return the node of a corpus, or of fresh samples."""
        if (fresh := self.online.get(corpus_id)) is not None:
            return self.graph.add(online_node(fresh))
        remembered = (model.corpus for model in self.records.models.values() if model.corpus_id == corpus_id)
        summary = next(filter(None, remembered), None)
        return self.graph.add(corpus_node(corpus_id, self.corpora.get(corpus_id), summary))

    def _source(self, sha256: str) -> Node:
        known = [source for data in self.with_sources if (source := data.source(sha256)) is not None]
        usable = (source for source in known if source.refused is None)
        return self.graph.add(source_node(sha256, next(usable, known[0] if known else None)))

    def _shard(self, corpus: KnownCorpus, name: str, keys: list[str]) -> Node:
        return self.graph.add(shard_node(corpus, name, keys))

    def _recipe(self, data: KnownCorpus | KnownOnline) -> Node:
        return self.graph.add(recipe_node(data, self.with_sources))


def _relation(heard: Collection[str], surely: bool) -> str:
    """Say what data that was heard in some splits is for a training run."""
    if "train" not in heard:
        return VALIDATION
    return "data of" if surely else PERHAPS


def _merged_into(part: Part) -> str:
    return "part of" if part.weight == 1.0 else f"part with weight {part.weight:g} of"
