"""A lineage as a tree on a terminal: above all where something comes from, then where it went."""

from collections.abc import Callable, Mapping
from typing import Any

from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from pipelines.lineage.answer import Lineage
from pipelines.lineage.graph import MOST_ALIKE, Deferred, Node

SHOWN_OF_MANY = 3
"""So many are named where more than `MOST_ALIKE` of a kind stand side by side."""
MOST_COUNTED = 4
"""Rows of a table of counts that a branch of the tree shows."""
PLAIN_WIDTH = 1000
"""Lines of a file or a pipe are not broken."""
_LONG_FACTS = frozenset(
    {
        "folder",
        "path",
        "run_id",
        "mlflow_run_id",
        "record_id",
        "bundle_id",
        "id",
        "digest",
        "sha256",
        "experiment_digest",
        "stage_digest",
        "packages_digest",
        "packages",
        "recipe_digest",
        "catalogue_digest",
        "scores_digest",
        "selection",
        "stage",
        "name",
        "aliases",
    }
)
"""Shown at the start only, or not at all: they would fill the lines of a tree."""

Neighbours = Callable[[str], list[tuple[str, Node]]]


def print_lineage(answer: Lineage, console: Console | None = None) -> None:
    """Print what the start was made from, what was made of it, and which models heard it."""
    console = console or Console()
    if not console.is_terminal:
        console = Console(width=PLAIN_WIDTH)
    graph, start = answer.graph, answer.start
    console.print(_headline("", start, bold=True))
    for name, value in start.facts.items():
        for line in fact_lines(name, value):
            console.print(Text(f"  {line}", style="dim"))
    for title, neighbours in (("made from", graph.origins), ("made into", graph.made_from)):
        if neighbours(start.key):
            tree = Tree(Text(title, style="bold"))
            _grow(tree, start, neighbours, {start.key})
            console.print(tree)
    for sentence in answer.heard.sentences():
        console.print(Text(printable(sentence)))


def _grow(tree: Tree, node: Node, neighbours: Neighbours, seen: set[str]) -> None:
    alike: dict[tuple[str, str], list[Node]] = {}
    for relation, other in neighbours(node.key):
        alike.setdefault((relation, other.kind), []).append(other)
    for (relation, _), others in alike.items():
        if len(others) > MOST_ALIKE:
            branch = tree.add(_many(relation, others))
            for other in others:
                seen.add(other.key)
                _grow(branch, other, _unseen(neighbours, seen), seen)
            continue
        for other in others:
            again = other.key in seen
            branch = tree.add(_headline(relation, other, again=again))
            if not again:
                seen.add(other.key)
                _grow(branch, other, neighbours, seen)


def _unseen(neighbours: Neighbours, seen: set[str]) -> Neighbours:
    """Leave out what was shown before: of many things side by side, only what is new is said."""
    return lambda key: [(relation, node) for relation, node in neighbours(key) if node.key not in seen]


def _many(relation: str, nodes: list[Node]) -> Text:
    text = _relation(relation)
    text.append(f"{len(nodes):,} {nodes[0].kind}s", style="cyan")
    names = ", ".join(printable(node.label) for node in nodes[:SHOWN_OF_MANY])
    text.append(f" {names}, … (--json lists all)")
    if samples := sum(len(node.facts.get("samples", ())) for node in nodes if node.kind == "shard"):
        text.append(f"  {samples:,} samples", style="dim")
    return text


def _headline(relation: str, node: Node, bold: bool = False, again: bool = False) -> Text:
    text = _relation(relation)
    text.append(node.kind, style="cyan")
    text.append(f" {printable(node.label)}", style="bold" if bold else "")
    if again:
        text.append(" (see above)", style="dim")
    elif not bold:
        short = [
            line
            for name, value in node.facts.items()
            if name not in _LONG_FACTS
            for line in fact_lines(name, value, MOST_COUNTED)
        ]
        if short:
            text.append("  " + "; ".join(short), style="dim")
    return text


def _relation(relation: str) -> Text:
    text = Text()
    if relation:
        text.append(f"{relation}: " if not relation.endswith(" of") else f"({relation[:-3]}) ", style="dim")
    return text


def fact_lines(name: str, value: Any, most: int | None = None) -> list[str]:
    """Return a fact as words; long lists are counted or left out, tables of counts are listed.

    Args:
        name: of the fact.
        value: of it.
        most: so many of a table's rows, the largest; all if not given.
    """
    label = name.replace("_", " ")
    if name == "packages":
        return [f"{len(value)} packages"]
    if isinstance(value, Mapping):
        rows = list(value.items())
        if most is not None and len(rows) > most:
            rows = sorted(rows, key=lambda row: row[1], reverse=True)[:most]
        more = [f"{len(value) - len(rows)} others"] if len(rows) < len(value) else []
        return [
            f"{label}: " + ", ".join([*(f"{printable(str(key))} {_counts(of)}" for key, of in rows), *more])
        ]
    if isinstance(value, Deferred):
        return []
    if isinstance(value, list):
        return [f"{len(value):,} {label}"] if name == "samples" else []
    return [f"{label} {in_short(value)}"] if value not in ("", None) else []


def in_short(value: Any) -> str:
    """Return one value as text for people: numbers are rounded, `--json` has them whole."""
    return f"{value:.6g}" if isinstance(value, float) else printable(str(value))


def _counts(value: Any) -> str:
    if isinstance(value, Mapping):
        return "(" + ", ".join(f"{printable(str(key))} {of}" for key, of in value.items()) + ")"
    return str(value)


def printable(text: str) -> str:
    """Replace what would steer the terminal: names of files are other people's."""
    return "".join(char if char.isprintable() else "�" for char in text)
