"""Where the boxes of a lineage are drawn: rows of a layered graph, origins above what was made of them.

The steps are those of Sugiyama, Tagawa and Toda (1981): layers by the longest path, waypoints where an edge passes a
layer, orders by barycentres, places beside the neighbours' mean. Equal graphs give equal pictures.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

SWEEPS = 8
"""Down and up again; more change little."""

Link = tuple[str, str]
"""Origin and what was made of it."""


@dataclass(frozen=True)
class Layout:
    """Places in units of a column and a row."""

    at: Mapping[str, tuple[float, int]]
    """Column (from 0, the box's left edge) and row (from 0) of each node."""
    bends: Mapping[Link, tuple[tuple[float, int], ...]]
    """Columns and rows that an edge passes on its way, those of its ends included."""
    columns: float
    """Width of the widest row."""
    rows: int


def layered(nodes: Sequence[str], links: Iterable[Link]) -> Layout:
    """Lay out a graph.

    Args:
        nodes: keys, in the order in which boxes of a row stand where nothing else decides.
        links: between them; one that closes a circle is drawn, but moves nothing.
    """
    given = list(dict.fromkeys(link for link in links if link[0] != link[1]))
    forward = _without_circles(nodes, given)
    row = _rows(nodes, forward)
    chains = {link: _chain(link, row) for link in given}
    order: list[list[str]] = [[] for _ in range(max(row.values(), default=-1) + 1)]
    for node in nodes:
        order[row[node]].append(node)
    neighbours: dict[str, list[str]] = {node: [] for node in nodes}
    for chain in chains.values():
        for name, at_row in chain[1:-1]:
            order[at_row].append(name)
            neighbours.setdefault(name, [])
        for (first, _), (second, _) in zip(chain, chain[1:], strict=False):
            neighbours[first].append(second)
            neighbours[second].append(first)
    where = {name: at_row for at_row, names in enumerate(order) for name in names}
    _sort(order, neighbours, where)
    column = _columns(order, neighbours, where)
    width = max((column[name] + 1.0 for name in column), default=0.0)
    return Layout(
        {node: (column[node], row[node]) for node in nodes},
        {link: tuple((column[name], at_row) for name, at_row in chain) for link, chain in chains.items()},
        width,
        len(order),
    )


def _without_circles(nodes: Sequence[str], links: Sequence[Link]) -> list[Link]:
    """Leave out links that lead back to where a walk came from."""
    made: dict[str, list[str]] = {node: [] for node in nodes}
    for origin, name in links:
        made[origin].append(name)
    begun: set[str] = set()
    done: set[str] = set()
    kept: list[Link] = []
    for first in nodes:
        waiting = [(first, iter(made[first]))] if first not in begun else []
        begun.add(first)
        while waiting:
            node, rest = waiting[-1]
            for after in rest:
                if after in begun and after not in done:
                    continue
                kept.append((node, after))
                if after not in begun:
                    begun.add(after)
                    waiting.append((after, iter(made[after])))
                    break
            else:
                done.add(node)
                waiting.pop()
    return kept


def _rows(nodes: Sequence[str], links: Sequence[Link]) -> dict[str, int]:
    """Put each node below all its origins, and one without origins right above the first thing made of it."""
    made: dict[str, list[str]] = {node: [] for node in nodes}
    missing = dict.fromkeys(nodes, 0)
    for origin, name in links:
        made[origin].append(name)
        missing[name] += 1
    is_root = {node for node in nodes if missing[node] == 0}
    row = dict.fromkeys(nodes, 0)
    ready = [node for node in nodes if node in is_root]
    for node in ready:
        for after in made[node]:
            row[after] = max(row[after], row[node] + 1)
            missing[after] -= 1
            if missing[after] == 0:
                ready.append(after)
    for node in is_root:
        if made[node]:
            row[node] = min(row[after] for after in made[node]) - 1
    return row


def _chain(link: Link, row: Mapping[str, int]) -> list[tuple[str, int]]:
    """Return the names of an edge's ends and waypoints with their rows."""
    origin, made = link
    step = 1 if row[made] >= row[origin] else -1
    between = range(row[origin] + step, row[made], step)
    return [(origin, row[origin]), *((f"{origin}\n{made}\n{r}", r) for r in between), (made, row[made])]


def _sort(order: list[list[str]], neighbours: Mapping[str, Sequence[str]], where: Mapping[str, int]) -> None:
    """Order each row by the mean place of the neighbours in the row before it, downwards and upwards in turn."""
    for sweep in range(SWEEPS):
        down = sweep % 2 == 0
        for at_row in range(1, len(order)) if down else range(len(order) - 2, -1, -1):
            beside = at_row - 1 if down else at_row + 1
            place = {name: number for number, name in enumerate(order[beside])}
            now = {name: number for number, name in enumerate(order[at_row])}
            mean: dict[str, float] = {}
            for name in order[at_row]:
                near = [place[other] for other in neighbours[name] if where[other] == beside]
                mean[name] = sum(near) / len(near) if near else float(now[name])
            order[at_row].sort(key=lambda name, mean=mean, now=now: (mean[name], now[name]))  # type: ignore[misc]


def _columns(
    order: Sequence[Sequence[str]], neighbours: Mapping[str, Sequence[str]], where: Mapping[str, int]
) -> dict[str, float]:
    """Give each node a column: near its neighbours' mean, a whole column right of its left one."""
    column = {name: float(number) for names in order for number, name in enumerate(names)}
    for sweep in range(SWEEPS):
        for at_row, names in enumerate(order) if sweep % 2 == 0 else reversed(list(enumerate(order))):
            wanted = []
            for name in names:
                near = [column[other] for other in neighbours[name] if where[other] != at_row]
                wanted.append(sum(near) / len(near) if near else column[name])
            for name, value in zip(names, _apart(wanted), strict=True):
                column[name] = value
    least = min(column.values(), default=0.0)
    return {name: round(value - least, 3) for name, value in column.items()}


def _apart(wanted: Sequence[float]) -> list[float]:
    """Move places, in order, as little as possible (in the mean square) until each is a column from the next.

    Pool-adjacent-violators over `wanted - number`, whose non-decreasing fit is the answer.
    """
    blocks: list[tuple[float, int]] = []
    for number, value in enumerate(wanted):
        mean, count = value - number, 1
        while blocks and blocks[-1][0] > mean:
            before, more = blocks.pop()
            mean, count = (before * more + mean * count) / (more + count), more + count
        blocks.append((mean, count))
    fitted = [mean for mean, count in blocks for _ in range(count)]
    return [value + number for number, value in enumerate(fitted)]
