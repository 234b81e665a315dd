"""Which models are at the end of a lineage, in words: what a team must be able to say of a recording or a speaker."""

from dataclasses import dataclass
from typing import Any

from pipelines.lineage.graph import Graph, Kind, Node
from pipelines.lineage.walk import VALIDATION

_ASKED_OF: frozenset[Kind] = frozenset(
    {"source", "speaker", "licence", "sample", "shard", "corpus", "online", "recipe"}
)
"""What models hear, or what decides that. Of a model one asks what was made of it."""
MOST_NAMED = 12


@dataclass(frozen=True)
class Heard:
    """The models that were made of something; each list in the order of names."""

    start: Node
    released: tuple[Node, ...]
    """Registered versions that an alias points at, such as `champion`."""
    registered: tuple[Node, ...]
    """The other registered versions."""
    models: tuple[Node, ...]
    """All models, registered or not."""
    only_validated: tuple[Node, ...]
    """Models whose checkpoints were chosen with it, and that learnt nothing from it."""

    def sentences(self) -> list[str]:
        """Say it; nothing where nobody asks such a thing."""
        if self.start.kind not in _ASKED_OF:
            return []
        trained = len(self.models) - len(self.only_validated)
        lines = [
            f"Released models that heard it: {_names(self.released)}",
            f"Other registered versions: {_names(self.registered)}",
            f"Models trained with it, directly or through the models they were made from: {trained:,}",
        ]
        if self.only_validated:
            lines.append(f"Models only validated with it: {_names(self.only_validated)}")
        if stale := [node for node in (*self.released, *self.registered) if "stale" in node.facts]:
            lines.append("Stale: " + "; ".join(f"{node.label}: {node.facts['stale']}" for node in stale))
        return lines

    def json(self) -> dict[str, Any]:
        """Return names and ids as JSON values."""
        return {
            "released": [node.id for node in self.released],
            "registered": [node.id for node in self.registered],
            "models": [node.id for node in self.models],
            "only_validated": [node.id for node in self.only_validated],
        }


def heard_by(graph: Graph, start: Node) -> Heard:
    """Find the models that were made of something, through whatever lies between."""
    reached = graph.reached(start.key, up=False) - {start.key}
    learnt = graph.reached(start.key, up=False, without=VALIDATION)
    made = sorted((graph.nodes[key] for key in reached), key=lambda node: (node.label, node.id))
    versions = [node for node in made if node.kind == "version"]
    models = [node for node in made if node.kind == "model"]
    return Heard(
        start,
        tuple(node for node in versions if node.facts["aliases"]),
        tuple(node for node in versions if not node.facts["aliases"]),
        tuple(models),
        tuple(node for node in models if node.key not in learnt),
    )


def _names(nodes: tuple[Node, ...]) -> str:
    if not nodes:
        return "none"
    more = f" and {len(nodes) - MOST_NAMED:,} more" if len(nodes) > MOST_NAMED else ""
    return ", ".join(node.label for node in nodes[:MOST_NAMED]) + more
