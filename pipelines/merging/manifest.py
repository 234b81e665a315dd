"""What `corpus.json` of a merged corpus says: sums over its parts, each sample counted once whatever its weight."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from datagen.environment import code_version, environment
from manifests.corpus import CorpusManifest
from manifests.parts import Part, merged_id
from manifests.recipe import SPLITS
from pipelines.corpus.shard_result import GROUP_WORDS
from pipelines.merging.tables import Material


def merged_manifest(
    parts: tuple[Part, ...],
    manifests: Sequence[CorpusManifest],
    materials: Sequence[Material],
    catalogue_digest: str,
    files: dict[str, str],
) -> CorpusManifest:
    """Return the sealed manifest of a merged corpus.

    Args:
        parts: by id.
        manifests: of the parts, in their order.
        materials: what their samples hold, in their order.
        catalogue_digest: of all their sources.
        files: SHA-256 of the merged corpus's own files.
    """
    samples = _total(manifest.samples for manifest in manifests)
    return CorpusManifest(
        id=merged_id(parts),
        recipe=" + ".join(dict.fromkeys(manifest.recipe for manifest in manifests)),
        recipe_digest="",
        catalogue_digest=catalogue_digest,
        seed=0,
        code_version=code_version(),
        sample_rate_hz=manifests[0].sample_rate_hz,
        frames_per_sample=min(manifest.frames_per_sample for manifest in manifests),
        samples={split: samples[split] for split in SPLITS if samples[split]},
        hours=round(sum(manifest.hours for manifest in manifests), 6),
        parts=parts,
        shards={},
        splits={
            split: {word: len(_groups(materials, split, kind)) for kind, word in GROUP_WORDS.items()}
            for split in SPLITS
            if samples[split]
        },
        licences=_sorted(_total(manifest.licences for manifest in manifests)),
        stages=_stages(manifests),
        tolerances=_tolerances(manifests),
        failures=_sorted(_total(manifest.failures for manifest in manifests)),
        lost_shards={
            f"{part.name}/{shard}": reason
            for part, manifest in zip(parts, manifests, strict=True)
            for shard, reason in manifest.lost_shards.items()
        },
        environment=environment(),
        timings={},
        files=files,
    ).sealed()


def _total(counts: Iterable[Mapping[Any, int]]) -> Counter[str]:
    total: Counter[str] = Counter()
    for each in counts:
        total.update(each)
    return total


def _sorted(counts: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted(counts.items()))


def _groups(materials: Sequence[Material], split: str, kind: str) -> set[str]:
    return {group for one in materials for group in one.groups(split, kind)}


def _stages(manifests: Sequence[CorpusManifest]) -> dict[str, dict[str, float]]:
    """How often each stage was asked for and drawn, as shares of all samples."""
    total = sum(_count(manifest) for manifest in manifests)
    labels = dict.fromkeys(label for manifest in manifests for label in manifest.stages)
    return {
        label: {
            word: round(
                sum(_count(one) * one.stages.get(label, {}).get(word, 0.0) for one in manifests) / total, 6
            )
            for word in ("asked", "drawn")
        }
        for label in labels
    }


def _count(manifest: CorpusManifest) -> int:
    return sum(manifest.samples.values())


def _tolerances(manifests: Sequence[CorpusManifest]) -> dict[str, dict[str, int]]:
    names = sorted({name for manifest in manifests for name in manifest.tolerances})
    return {
        name: dict(_total(one.tolerances[name] for one in manifests if name in one.tolerances))
        for name in names
    }
