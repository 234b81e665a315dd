"""The parts of a merged corpus: complete corpora of their own, referred to or copied, each with a weight.

```
merged/
  corpus.json  plan.json  sources.parquet  samples.parquet
  parts/ID/    a copied part, byte for byte; one that is referred to stays where it is
```
"""

from collections.abc import Iterable, Sequence
from fractions import Fraction

from pydantic import BaseModel, ConfigDict, Field

from manifests.canonical import digest
from manifests.recipe import Split
from manifests.store import Store

PARTS_FOLDER = "parts"
LEAST_WEIGHT, MOST_WEIGHT = 0.001, 1000.0
_SHORTEST_NAME = 8


class Part(BaseModel):
    """A corpus within a merged one, as the merged one's `corpus.json` names it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    corpus: str = Field(pattern=r"^[0-9a-f]{32}$")
    """Its id; names a folder too, so it must not lead out of one."""
    name: str = Field(pattern=r"^[0-9a-f]{8,32}$")
    """The beginning of its id that no other part shares: full names of its samples begin with it."""
    weight: float = Field(ge=LEAST_WEIGHT, le=MOST_WEIGHT)
    """How often its training samples are seen an epoch, relative to their number; a decimal, taken as written."""
    place: str = ""
    """Absolute path or URI; empty for a copy, which lies below `parts/`."""
    recipe: str
    samples: dict[Split, int]
    hours: float

    @property
    def folder(self) -> str:
        """Where its copy lies within the merged corpus."""
        return f"{PARTS_FOLDER}/{self.corpus}"

    def place_in(self, store: Store) -> str:
        """Return where it lies, as a part of the merged corpus in `store`."""
        return self.place or store.where(self.folder)

    def key(self, key: str) -> str:
        """Return a sample's full name: keys of different parts are alike."""
        return full_key(self.name, key)


def full_key(name: str, key: str) -> str:
    """Return the full name of a part's sample: a valid key too, and a valid file name."""
    return f"{name}-{key}"


def part_names(ids: Sequence[str]) -> list[str]:
    """Return the beginnings by which ids are told apart, all of one length."""
    length = _SHORTEST_NAME
    while len({i[:length] for i in ids}) < len(ids):
        length += 1
    return [i[:length] for i in ids]


def merged_id(parts: Iterable[Part]) -> str:
    """Identity of a merged corpus: its parts' ids and weights, in order. No path: a part may be moved."""
    return digest({"parts": [[part.corpus, part.weight] for part in parts]})


def exact(weight: float) -> Fraction:
    """Return a weight as the decimal that was written: 0.1 is a tenth."""
    return Fraction(str(weight))


def product(weight: float, other: float) -> float:
    """Multiply weights as decimals: 0.1 times 3 is 0.3."""
    return float(exact(weight) * exact(other))
