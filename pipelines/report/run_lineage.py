"""Where the models of a run come from, and what was made of them, as its own files say: a picture and a list."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipelines.evaluation.records import EvaluationRecords
from pipelines.lineage.graph import Graph, Node
from pipelines.lineage.svg import graph_svg
from pipelines.report.markup import Html, join, tag
from pipelines.report.media import data_uri
from pipelines.report.page import scrolling
from pipelines.report.standing import standing_of
from pipelines.trainer.run_records import StageRecords

SHORT = 8
"""So much of an id is shown where people read it."""


def run_lineage(stages: Sequence[StageRecords], evaluations: Mapping[Path, EvaluationRecords]) -> Html | None:
    """Return the graph of a run's finished models; None where there is none yet."""
    graph = _graph(stages, evaluations)
    return _shown(graph) if graph.nodes else None


def evaluation_lineage(found: EvaluationRecords) -> Html:
    """Return the graph of an evaluation: its models, what each was made of, and what they were scored on."""
    graph = Graph()
    for judged in found.models:
        graph.add(Node("model", judged.bundle_id, f"{judged.stage} {judged.bundle_id[:SHORT]}"))
    for judged in found.models:
        model = graph.nodes[f"model:{judged.bundle_id}"]
        data = graph.add(Node("corpus", judged.trained_on, judged.trained_on[:SHORT]))
        graph.link(data, model, "trained on")
        _link_parents(graph, model, judged.parents)
    _add_evaluation(graph, 1, found, {judged.bundle_id for judged in found.models})
    return _shown(graph)


def _shown(graph: Graph) -> Html:
    """Return a graph as a picture, and its links in words."""
    # As a picture it has a style of its own, which the page's policy would not let into the page.
    drawn = data_uri("image/svg+xml", graph_svg(graph).encode())
    said = f"Lineage: {len(graph.nodes)} things, {len(graph.edges)} links; the list below tells them"
    edges = sorted(graph.edges, key=lambda edge: (edge.made, edge.origin, edge.relation))
    told = [
        tag("li", f"{_named(graph.nodes[e.made])} ← {e.relation} ← {_named(graph.nodes[e.origin])}")
        for e in edges
    ]
    return join(
        tag("div", scrolling(tag("img", src=drawn, alt=said), "Lineage graph"), class_="lineage-picture"),
        tag("details", tag("summary", f"In words: {len(edges)} links"), tag("ul", told)),
    )


def _named(node: Node) -> str:
    return f"{node.kind} {node.label} {node.id}"


def _graph(stages: Sequence[StageRecords], evaluations: Mapping[Path, EvaluationRecords]) -> Graph:
    graph = Graph()
    for stage in stages:
        if (info := stage.model) is None:
            continue
        standing = standing_of(stage.folder)
        stale = {"stale": "; ".join(standing.stale)} if standing.stale else {}
        model = graph.add(Node("model", info.id, f"{info.stage} {info.id[:SHORT]}", stale))
        data = graph.add(_data(stage))
        if info.corpus is not None and info.online is None:
            graph.link(graph.add(Node("recipe", info.corpus.recipe, info.corpus.recipe)), data, "recipe of")
        graph.link(data, model, "trained on")
        _link_parents(graph, model, info.parents)
        if standing.registered:
            version = graph.add(Node("version", standing.registered, standing.title))
            graph.link(model, version, "registered as")
    ours = {stage.model.id for stage in stages if stage.model is not None}
    for number, found in enumerate(evaluations.values(), 1):
        _add_evaluation(graph, number, found, ours)
    return graph


def _link_parents(graph: Graph, model: Node, parents: Mapping[Any, str]) -> None:
    for role, parent in parents.items():
        graph.link(graph.add(Node("model", parent, f"{role} {parent[:SHORT]}")), model, f"{role} of")


def _add_evaluation(graph: Graph, number: int, found: EvaluationRecords, ours: set[str]) -> None:
    """Add an evaluation below those of its models that are ours, and below the corpus it was scored on."""
    label = f"{found.split or 'recordings'}, {found.samples} samples"
    scored = graph.add(Node("evaluation", str(number), label))
    for model_id in (judged.bundle_id for judged in found.models if judged.bundle_id in ours):
        graph.link(graph.nodes[f"model:{model_id}"], scored, "scored in")
    if found.corpus_id is not None:
        corpus = graph.add(Node("corpus", found.corpus_id, found.corpus_id[:SHORT]))
        graph.link(corpus, scored, "scored on")


def _data(stage: StageRecords) -> Node:
    online = stage.model is not None and stage.model.online is not None
    return Node("online" if online else "corpus", stage.corpus_id, stage.corpus_id[:SHORT])
