"""A lineage as a tree on a terminal: above all where something comes from, then where it went."""

from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from pipelines.lineage import Lineage
from pipelines.lineage_graph import Node

MAX_CHILDREN = 40
PLAIN_WIDTH = 1000
"""Lines of a file or a pipe are not broken."""
_LONG_FACTS = (
    "folder",
    "path",
    "run_id",
    "bundle_id",
    "id",
    "digest",
    "sha256",
    "experiment_digest",
    "stage",
    "name",
)
"""Shown at the start only, or not at all: they would fill the lines of a tree."""

Neighbours = Callable[[str], list[tuple[str, Node]]]


def print_lineage(answer: Lineage, console: Console | None = None) -> None:
    """Print what the start was made from, and what was made of it."""
    console = console or Console()
    if not console.is_terminal:
        console = Console(width=PLAIN_WIDTH)
    graph, start = answer.graph, answer.start
    console.print(_headline("", start, bold=True))
    for name, value in start.facts.items():
        for line in _fact_lines(name, value):
            console.print(Text(f"  {line}", style="dim"))
    for title, neighbours in (("made from", graph.origins), ("made into", graph.made_from)):
        if neighbours(start.key):
            tree = Tree(Text(title, style="bold"))
            _grow(tree, start, neighbours, {start.key})
            console.print(tree)


def _grow(tree: Tree, node: Node, neighbours: Neighbours, seen: set[str]) -> None:
    found = neighbours(node.key)
    for relation, other in found[:MAX_CHILDREN]:
        again = other.key in seen
        branch = tree.add(_headline(relation, other, again=again))
        if not again:
            seen.add(other.key)
            _grow(branch, other, neighbours, seen)
    if len(found) > MAX_CHILDREN:
        tree.add(Text(f"… and {len(found) - MAX_CHILDREN} more (--json lists all)", style="dim"))


def _headline(relation: str, node: Node, bold: bool = False, again: bool = False) -> Text:
    text = Text()
    if relation:
        text.append(f"{relation}: " if not relation.endswith(" of") else f"({relation[:-3]}) ", style="dim")
    text.append(node.kind, style="cyan")
    text.append(f" {_printable(node.label)}", style="bold" if bold else "")
    if again:
        text.append(" (see above)", style="dim")
    elif not bold:
        short = [
            line
            for name, value in node.facts.items()
            if name not in _LONG_FACTS
            for line in _fact_lines(name, value)
        ]
        if short:
            text.append("  " + "; ".join(short), style="dim")
    return text


def _fact_lines(name: str, value: Any) -> list[str]:
    """Return a fact as words; lists are counted, tables of counts are listed."""
    label = name.replace("_", " ")
    if isinstance(value, dict):
        return [f"{label}: " + ", ".join(f"{_printable(str(key))} {count}" for key, count in value.items())]
    if isinstance(value, list):
        return [f"{len(value)} {label}"] if name == "samples" else []
    return [f"{label} {_printable(str(value))}"] if value not in ("", None) else []


def _printable(text: str) -> str:
    """Replace what would steer the terminal: names of files are other people's."""
    return "".join(char if char.isprintable() else "�" for char in text)
