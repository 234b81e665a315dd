"""What was made from what: nodes, edges, and how a graph of them is written down."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

Kind = Literal[
    "model",
    "version",
    "run",
    "evaluation",
    "export",
    "corpus",
    "online",
    "recipe",
    "shard",
    "sample",
    "sources",
    "source",
    "speaker",
    "licence",
]

MOST_ALIKE = 6
"""More things of one kind with the same neighbours are drawn as one."""


@dataclass(frozen=True)
class Deferred:
    """A long list among the facts of a node, made when somebody looks at it: a picture or a tree does not."""

    load: Callable[[], list[Any]]
    """Returns JSON values."""

    @cached_property
    def values(self) -> list[Any]:
        """The list."""
        return self.load()

    def __iter__(self) -> Iterator[Any]:
        return iter(self.values)


@dataclass(frozen=True)
class Node:
    """A thing with a lineage."""

    kind: Kind
    id: str
    """Unique among its kind: a digest where there is one."""
    label: str
    """For people."""
    facts: dict[str, Any] = field(default_factory=dict, compare=False)
    """JSON values, or `Deferred` ones."""

    @property
    def key(self) -> str:
        """Identity within a graph."""
        return f"{self.kind}:{self.id}"


@dataclass(frozen=True)
class Edge:
    """`made` came out of `origin`."""

    origin: str
    """Key of the older node."""
    made: str
    """Key of the younger node."""
    relation: str
    """How: `trained on`, `output of`, `teacher of`."""


class Graph:
    """A directed graph from origins to what was made of them. Adding something twice changes nothing."""

    def __init__(self) -> None:
        self.nodes: dict[str, Node] = {}
        self.edges: dict[Edge, None] = {}
        self._origins: dict[str, list[Edge]] = {}
        self._made: dict[str, list[Edge]] = {}

    def add(self, node: Node) -> Node:
        """Add a node, or find the one that is there."""
        return self.nodes.setdefault(node.key, node)

    def link(self, origin: Node, made: Node, relation: str) -> None:
        """Say that `made` came out of `origin`."""
        edge = Edge(origin.key, made.key, relation)
        if edge not in self.edges:
            self.edges[edge] = None
            self._origins.setdefault(made.key, []).append(edge)
            self._made.setdefault(origin.key, []).append(edge)

    def origins(self, key: str) -> list[tuple[str, Node]]:
        """Return what a node was made of: relation and node."""
        return [(edge.relation, self.nodes[edge.origin]) for edge in self._origins.get(key, ())]

    def made_from(self, key: str) -> list[tuple[str, Node]]:
        """Return what was made of a node: relation and node."""
        return [(edge.relation, self.nodes[edge.made]) for edge in self._made.get(key, ())]

    def reached(self, key: str, up: bool, without: str = "") -> set[str]:
        """Return the keys of all that a node came from (`up`) or that was made of it, its own among them.

        Args:
            key: of the node.
            up: the direction.
            without: a relation whose edges are not followed.
        """
        found = {key}
        waiting = [key]
        for at in waiting:
            for edge in (self._origins if up else self._made).get(at, ()):
                other = edge.origin if up else edge.made
                if other not in found and edge.relation != without:
                    found.add(other)
                    waiting.append(other)
        return found

    def around(self, key: str, up: bool, down: bool) -> "Graph":
        """Return what a node came from and what was made of it, or one of the two."""
        if up and down and len(self.reached(key, True) | self.reached(key, False)) == len(self.nodes):
            return self
        kept = Graph()
        for wanted, direction in ((up, True), (down, False)):
            reached = self.reached(key, direction) if wanted else {key}
            for name, node in self.nodes.items():
                if name in reached:
                    kept.add(node)
            for edge in self.edges:
                if edge.origin in reached and edge.made in reached:
                    kept.link(self.nodes[edge.origin], self.nodes[edge.made], edge.relation)
        return kept

    def json(self, start: Node) -> dict[str, Any]:
        """Return the graph as JSON values."""
        return {
            "start": start.key,
            "nodes": [
                {"key": n.key, "kind": n.kind, "id": n.id, "label": n.label, "facts": _written(n.facts)}
                for n in sorted(self.nodes.values(), key=lambda node: node.key)
            ],
            "edges": [
                {"origin": e.origin, "made": e.made, "relation": e.relation}
                for e in sorted(self.edges, key=lambda edge: (edge.origin, edge.made, edge.relation))
            ],
        }

    def condensed(self) -> "Graph":
        """Return the graph to be drawn: many things of one kind with the same neighbours become one."""
        near: dict[str, list[tuple[bool, str]]] = {key: [] for key in self.nodes}
        for edge in self.edges:
            near[edge.origin].append((True, edge.made))
            near[edge.made].append((False, edge.origin))
        alike: dict[tuple[str, frozenset[tuple[bool, str]]], list[str]] = {}
        for key, node in self.nodes.items():
            alike.setdefault((node.kind, frozenset(near[key])), []).append(key)
        stands_for: dict[str, Node] = dict(self.nodes)
        for keys in alike.values():
            first = self.nodes[keys[0]]
            if len(keys) > MOST_ALIKE and near[first.key]:
                names = [self.nodes[key].label for key in keys]
                one = Node(
                    first.kind, f"{len(keys)} as {first.id}", f"{len(keys):,} {first.kind}s", {"among": names}
                )
                stands_for |= dict.fromkeys(keys, one)
        drawn = Graph()
        for node in stands_for.values():
            drawn.add(node)
        for edge in self.edges:
            drawn.link(stands_for[edge.origin], stands_for[edge.made], edge.relation)
        return drawn

    def mermaid(self) -> str:
        """Return the graph, condensed, as a Mermaid flow chart, origins above."""
        drawn = self.condensed()
        number = {key: f"n{place}" for place, key in enumerate(sorted(drawn.nodes))}
        lines = ["flowchart TD"]
        for key in sorted(drawn.nodes):
            node = drawn.nodes[key]
            lines.append(f'  {number[key]}["{_escaped(node.kind)}: {_escaped(node.label)}"]')
        edges = sorted(drawn.edges, key=lambda edge: (edge.origin, edge.made, edge.relation))
        lines += [f'  {number[e.origin]} -->|"{_escaped(e.relation)}"| {number[e.made]}' for e in edges]
        return "\n".join(lines) + "\n"


def _written(facts: dict[str, Any]) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, Deferred) else value for name, value in facts.items()}


def _escaped(text: str) -> str:
    """Write text so that Mermaid reads it as text: its own marks and HTML's as entity codes."""
    return "".join(
        char if char.isalnum() or char in " .,-_/()+@=" else "<br>" if char == "\n" else f"#{ord(char)};"
        for char in text
    )
