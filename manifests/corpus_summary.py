"""What a corpus is made of, in a few lines: what a model that leaves the house says of the data it heard."""

from pydantic import BaseModel, ConfigDict

from manifests.corpus import CorpusManifest
from manifests.recipe import Split


class PartSummary(BaseModel):
    """One of the corpora that a merged one is made of."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    recipe: str
    hours: float
    weight: float
    """How often its training samples are seen an epoch."""


class CorpusSummary(BaseModel):
    """Taken from `corpus.json`; it names no place."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    recipe: str
    hours: float
    """Of all splits."""
    samples: dict[Split, int]
    licences: dict[str, int]
    """Number of samples that hold material under each licence."""
    parts: tuple[PartSummary, ...] = ()
    """Of a merged corpus."""


def summary_of(manifest: CorpusManifest) -> CorpusSummary:
    """Sum up a corpus."""
    return CorpusSummary(
        recipe=manifest.recipe,
        hours=manifest.hours,
        samples=manifest.samples,
        licences=dict(sorted(manifest.licences.items())),
        parts=tuple(
            PartSummary(id=part.corpus, recipe=part.recipe, hours=part.hours, weight=part.weight)
            for part in manifest.parts
        ),
    )
