"""A lineage as a picture: inline SVG, laid out here, without scripts, readable in the light and in the dark.

Colours are CSS variables with defaults, so that a page which holds the picture may set its own.
"""

from html import escape

from pipelines.lineage.graph import Graph, Kind, Node
from pipelines.lineage.layout import Layout, layered

BOX_WIDTH_PX, BOX_HEIGHT_PX = 182, 46
GAP_X_PX, GAP_Y_PX = 22, 54
MARGIN_PX = 12
LABEL_CHARACTERS = 24
"""So many fit into a box."""
HUES: dict[Kind, int] = {
    "source": 35,
    "sources": 35,
    "speaker": 20,
    "licence": 50,
    "recipe": 290,
    "sample": 90,
    "shard": 120,
    "corpus": 150,
    "online": 150,
    "run": 205,
    "model": 225,
    "version": 260,
    "evaluation": 330,
    "export": 180,
}
"""Of each kind of box, in degrees."""

STYLE = """
.lineage{--line:#667085;--ink:#101828;--halo:#fff;--tint:93%;--edge:45%;font:12px system-ui,sans-serif}
@media (prefers-color-scheme:dark){.lineage{--line:#98a2b3;--ink:#f2f4f7;--halo:#14161a;--tint:22%;--edge:60%}}
.lineage text{fill:var(--ink)}
.lineage .kind{font-size:10px;opacity:.8}
.lineage .relation{font-size:10px;text-anchor:middle}
.lineage .relation{paint-order:stroke;stroke:var(--paper,var(--halo));stroke-width:3px}
.lineage path{fill:none;stroke:var(--line);stroke-width:1.2}
.lineage marker path{fill:var(--line);stroke:none}
.lineage rect{stroke-width:1.4;fill:hsl(var(--hue) 60% var(--tint));stroke:hsl(var(--hue) 55% var(--edge))}
.lineage .start rect{stroke-width:3}
.lineage .stale rect{stroke:#d92d20;stroke-dasharray:5 3}
.lineage a:focus rect{stroke-width:4}
"""


def graph_svg(graph: Graph, start: str = "", anchors: str = "") -> str:
    """Draw a graph as one `<svg>` element, its style included.

    Args:
        graph: condensed here where many things stand in one place (`Graph.condensed`).
        start: key of the node to be set off.
        anchors: where boxes link to: `#PREFIX` and the node's number in `sorted(graph.condensed().nodes)`; no links if
            empty.
    """
    graph = graph.condensed()
    keys = sorted(graph.nodes)
    number = {key: place for place, key in enumerate(keys)}
    links = sorted({(edge.origin, edge.made) for edge in graph.edges})
    layout = layered(keys, links)
    width = round(layout.columns * (BOX_WIDTH_PX + GAP_X_PX) - GAP_X_PX + 2 * MARGIN_PX) if keys else 0
    height = layout.rows * (BOX_HEIGHT_PX + GAP_Y_PX) - GAP_Y_PX + 2 * MARGIN_PX if keys else 0
    said = f"Lineage graph: {len(keys)} things and {len(links)} links, origins above"
    parts = [
        f'<svg class="lineage" xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{said}" '
        f'width="{width}" height="{height}" viewBox="0 0 {width} {height}">',
        f"<style>{STYLE}</style>",
        '<defs><marker id="lineage-arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
        'orient="auto-start-reverse"><path d="M0 0L8 4L0 8z"/></marker></defs>',
    ]
    parts += [_line(layout, link) for link in links]
    parts += [_relation(layout, link, graph) for link in links]
    for key in keys:
        box = _box(layout, graph.nodes[key], key == start)
        parts.append(f'<a href="#{anchors}{number[key]}">{box}</a>' if anchors else box)
    return "\n".join([*parts, "</svg>"])


def _corner(column: float, row: int) -> tuple[float, float]:
    """Return the upper left corner of a box, in pixels."""
    x = MARGIN_PX + column * (BOX_WIDTH_PX + GAP_X_PX)
    return x, MARGIN_PX + row * (BOX_HEIGHT_PX + GAP_Y_PX)


def _line(layout: Layout, link: tuple[str, str]) -> str:
    """Draw an edge from the lower side of its origin to the upper side of what was made."""
    points = []
    for place, (column, row) in enumerate(layout.bends[link]):
        x, y = _corner(column, row)
        x += BOX_WIDTH_PX / 2
        if place == 0:
            points.append((x, y + BOX_HEIGHT_PX))
        elif place == len(layout.bends[link]) - 1:
            points.append((x, y - 1))
        else:
            points += [(x, y), (x, y + BOX_HEIGHT_PX)]
    path = f"M{points[0][0]:.1f} {points[0][1]:.1f}"
    for (x0, y0), (x1, y1) in zip(points, points[1:], strict=False):
        middle = (y0 + y1) / 2
        path += f"C{x0:.1f} {middle:.1f} {x1:.1f} {middle:.1f} {x1:.1f} {y1:.1f}"
    return f'<path d="{path}" marker-end="url(#lineage-arrow)"/>'


def _relation(layout: Layout, link: tuple[str, str], graph: Graph) -> str:
    relations = sorted(edge.relation for edge in graph.edges if (edge.origin, edge.made) == link)
    (column, row), (before, _) = layout.bends[link][-1], layout.bends[link][-2]
    x, y = _corner((column + before) / 2, row)  # where the last piece of the line is half way
    words = escape(_shortened(", ".join(relations)))
    return (
        f'<text class="relation" x="{x + BOX_WIDTH_PX / 2:.1f}" y="{y - GAP_Y_PX / 2 + 3:.1f}">{words}</text>'
    )


def _box(layout: Layout, node: Node, is_start: bool) -> str:
    x, y = _corner(*layout.at[node.key])
    classes = " ".join(
        ["box", *(["start"] if is_start else []), *(["stale"] if "stale" in node.facts else [])]
    )
    stale = " (stale)" if "stale" in node.facts else ""
    return (
        f'<g class="{classes}" style="--hue:{HUES[node.kind]}"><title>{escape(f"{node.kind} {_visible(node.label)}")}'
        f'{stale}</title><rect x="{x:.1f}" y="{y:.1f}" width="{BOX_WIDTH_PX}" height="{BOX_HEIGHT_PX}" rx="7"/>'
        f'<text class="kind" x="{x + 9:.1f}" y="{y + 17:.1f}">{node.kind}{stale}</text>'
        f'<text x="{x + 9:.1f}" y="{y + 34:.1f}">{escape(_shortened(_visible(node.label)))}</text></g>'
    )


def _shortened(text: str) -> str:
    """Leave out the middle of a long name: versions and file types stand at its end."""
    half = LABEL_CHARACTERS // 2
    return text if len(text) <= LABEL_CHARACTERS else f"{text[: half - 1]}…{text[-half:]}"


def _visible(text: str) -> str:
    """Replace characters that XML forbids, or that nobody sees."""
    return "".join(char if char.isprintable() else "�" for char in text)
