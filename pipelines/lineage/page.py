"""A lineage as a page: the graph drawn, and every thing in it with its facts. One file, no script, works offline."""

from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from manifests.errors import UserError
from manifests.files import write_atomically
from pipelines.lineage.answer import Lineage
from pipelines.lineage.graph import Deferred, Graph, Node
from pipelines.lineage.svg import graph_svg
from pipelines.lineage.tree import in_short

MOST_LISTED = 60
"""Rows of a long list that the page shows."""
MOST_IN_LINE = 3
"""Items of a list that need not be unfolded."""
ANCHOR = "n"

_ALLOWED = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
"""What the page may load: nothing but its own styles and its empty icon."""
_STYLE = """
:root{color-scheme:light dark;--paper:#fff;--ink:#101828;--soft:#475467;--line:#d0d5dd;--card:#f9fafb;--link:#1849a9}
@media (prefers-color-scheme:dark){:root{--paper:#10141b;--ink:#f2f4f7;--soft:#b0b8c4;--line:#344054;--card:#1a2029;
--link:#84adff}}
*{box-sizing:border-box}
body{margin:0 auto;padding:1rem;max-width:1400px;background:var(--paper);color:var(--ink);
font:16px/1.5 system-ui,sans-serif;overflow-wrap:anywhere}
h1{font-size:1.4rem;line-height:1.25;margin:.2rem 0 .8rem}h2{font-size:1.1rem;margin:1.6rem 0 .6rem}
h3{font-size:1rem;margin:0 0 .3rem}
a{color:var(--link)}a:focus-visible,.graph:focus-visible{outline:3px solid var(--link);outline-offset:2px}
.graph{overflow-x:auto;border:1px solid var(--line);border-radius:8px;padding:.4rem}
.graph svg{display:block;margin:auto;min-width:max-content}
.cards{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,340px),1fr));gap:.8rem}
.card{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:.8rem;min-width:0}
.card:target{border-color:var(--link);box-shadow:0 0 0 2px var(--link)}
.kind{color:var(--soft);font-size:.85rem}p.stale{color:#b42318;font-weight:600}
@media (prefers-color-scheme:dark){p.stale{color:#fda29b}}
dl{margin:.3rem 0;display:grid;grid-template-columns:minmax(6rem,auto) 1fr;gap:.1rem .8rem;font-size:.85rem}
dt{color:var(--soft)}dd{margin:0;min-width:0}ul{margin:.2rem 0;padding-left:1.2rem;font-size:.9rem}
@media print{.graph{overflow:visible}.graph svg{min-width:0;max-width:100%;height:auto}
.card{break-inside:avoid}details::details-content{content-visibility:visible}}
"""


def write_page(answer: Lineage, path: Path) -> None:
    """Write the page, whole or not at all.

    Raises:
        UserError: when it cannot be written.
    """
    try:
        write_atomically(path, page(answer).encode())
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror})") from error


def page(answer: Lineage) -> str:
    """Return the page as HTML."""
    drawn = answer.graph.condensed()
    number = {key: place for place, key in enumerate(sorted(drawn.nodes))}
    start = answer.start
    title = f"Lineage of {start.kind} {_text(start.label)}"
    said = "".join(f"<li>{_text(sentence)}</li>" for sentence in answer.heard.sentences())
    cards = "".join(_card(drawn, drawn.nodes[key], number) for key in _in_order(drawn, start.key))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{_ALLOWED}">'
        f'<link rel="icon" href="data:,"><title>{title}</title><style>{_STYLE}</style></head><body><main>'
        f"<h1>{title}</h1>{f'<ul>{said}</ul>' if said else ''}"
        '<h2 id="graph">What was made of what</h2>'
        '<div class="graph" tabindex="0" role="region" aria-label="Graph, scrollable; each box leads to its facts">'
        f'{graph_svg(answer.graph, start.key, ANCHOR)}</div><h2>Facts</h2><div class="cards">{cards}</div>'
        "</main></body></html>\n"
    )


def _in_order(graph: Graph, start: str) -> list[str]:
    """Return keys with the start first."""
    return sorted(graph.nodes, key=lambda key: (key != start, key))


def _card(graph: Graph, node: Node, number: Mapping[str, int]) -> str:
    stale = f'<p class="stale">stale: {_text(node.facts["stale"])}</p>' if "stale" in node.facts else ""
    facts = "".join(
        f"<dt>{_text(name.replace('_', ' '))}</dt><dd>{_value(value)}</dd>"
        for name, value in node.facts.items()
        if value not in ("", None, []) and name not in ("stale", "sources")
    )
    near = "".join(
        f'<li>{_text(word)} <a href="#{ANCHOR}{number[other.key]}">{other.kind} {_text(other.label)}</a>'
        f" ({_text(relation)})</li>"
        for word, found in (("from", graph.origins(node.key)), ("into", graph.made_from(node.key)))
        for relation, other in found
    )
    return (
        f'<section class="card" id="{ANCHOR}{number[node.key]}"><div class="kind">{node.kind}</div>'
        f"<h3>{_text(node.label)}</h3>{stale}<dl>{facts}</dl>{_sources(node)}"
        f"{f'<ul>{near}</ul>' if near else ''}</section>"
    )


def _sources(node: Node) -> str:
    """List the sources of a node, where they are few enough to be read."""
    rows = node.facts.get("sources")
    if not isinstance(rows, Deferred):
        return ""
    if node.facts["files"] > MOST_LISTED:
        return "<p>ssiforge lineage --json lists the files.</p>"
    items = "".join(f"<li>{_text(row['name'])} ({_text(row['licence'])})</li>" for row in rows)
    return f"<details><summary>Files</summary><ul>{items}</ul></details>"


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        items = "".join(f"<li>{_text(name)} {_value(of)}</li>" for name, of in value.items())
        return f"<details><summary>{len(value):,}</summary><ul>{items}</ul></details>"
    if isinstance(value, list):
        if len(value) <= MOST_IN_LINE:
            return ", ".join(map(_text, value))
        more = f"<li>… {len(value) - MOST_LISTED:,} more</li>" if len(value) > MOST_LISTED else ""
        items = "".join(f"<li>{_text(one)}</li>" for one in value[:MOST_LISTED])
        return f"<details><summary>{len(value):,}</summary><ul>{items}{more}</ul></details>"
    return _text(value)


def _text(value: Any) -> str:
    return escape(in_short(value))
