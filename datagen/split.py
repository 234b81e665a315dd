"""Splits without leaks: a speaker, a noise recording or a room belongs to one split as a whole.

Where a group goes depends on a hash of its kind and name alone, so neither the order of scanning nor the other groups
matter. Only a split that would stay empty takes a group that hashes close to it.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from manifests.recipe import SPLITS
from manifests.source import Source

SHARES = (0.8, 0.1, 0.1)
"""Shares of the groups that train, val and test get."""


def assign_splits(sources: Iterable[Source], shares: Sequence[float] = SHARES) -> tuple[Source, ...]:
    """Return the sources with their split filled in; refused ones get none.

    With three groups of a kind or more, every split gets one. With one or two, train is served first.

    Args:
        sources: any kinds, in any order.
        shares: of the groups, for train, val and test; they add up to 1.
    """
    rows = tuple(sources)
    groups: dict[str, set[str]] = defaultdict(set)
    for source in rows:
        if source.refused is None:
            groups[source.kind].add(source.group)
    split_of = {kind: _splits(kind, names, shares) for kind, names in groups.items()}
    return tuple(
        replace(source, split=None if source.refused else split_of[source.kind][source.group])
        for source in rows
    )


def without_duplicates(sources: Iterable[Source]) -> tuple[Source, ...]:
    """Refuse every file but one of those of a kind that hold the same bytes: the first by group and path stays."""
    rows = sorted(sources, key=lambda source: (source.kind, source.group, source.path))
    first: dict[tuple[str, str], Source] = {}
    kept = []
    for source in rows:
        if source.refused is None:
            original = first.setdefault((source.kind, source.sha256), source)
            if original is not source:
                source = replace(source, refused=f"duplicate of {original.path}", split=None)
        kept.append(source)
    return tuple(kept)


def _splits(kind: str, names: Iterable[str], shares: Sequence[float]) -> dict[str, str]:
    place = {name: _place(kind, name) for name in sorted(names)}
    ends = (shares[0], shares[0] + shares[1], 1.0)
    bounds: dict[str, tuple[float, float]] = dict(
        zip(SPLITS, zip((0.0, *ends), ends, strict=False), strict=True)
    )
    split_of = {name: _split_at(at, bounds) for name, at in place.items()}
    for split in SPLITS[: len(place)]:
        members = [name for name, own in split_of.items() if own == split]
        if members or bounds[split][0] == bounds[split][1]:
            continue
        counts = {own: sum(other == own for other in split_of.values()) for own in set(split_of.values())}
        spare = [name for name, own in split_of.items() if counts[own] > 1 or len(place) < len(SPLITS)]
        nearest = min(spare, key=lambda name: (_distance(place[name], bounds[split]), name))
        if counts[split_of[nearest]] > 1 or split == SPLITS[0]:
            split_of[nearest] = split
    return split_of


def _place(kind: str, name: str) -> float:
    """Where a group stands between 0 and 1."""
    hashed = hashlib.blake2b(f"{kind}\0{name}".encode(), digest_size=8).digest()
    return int.from_bytes(hashed, "big") / 2.0**64


def _split_at(place: float, bounds: Mapping[str, tuple[float, float]]) -> str:
    return next((split for split, (_, end) in bounds.items() if place < end), SPLITS[2])


def _distance(place: float, bound: tuple[float, float]) -> float:
    return max(bound[0] - place, place - bound[1], 0.0)
