"""What cards and catalogues say of every corpus in the same words."""

from manifests.corpus import CorpusManifest

KIND_OF_DATA = (
    "Degraded speech and, for each sample, the speech that it was made of: synthesised from clean speech, noise and "
    "rooms for training speech signal improvement."
)
USES = (
    "Training and evaluating networks that repair degraded speech: noise, reverberation, bandwidth, clipping, codecs, "
    "packet loss."
)
LIMITS = (
    "Degradations are synthetic: what the recipe does not hold, a network trained on this has not heard.",
    "Transcripts, emotions and identities were not annotated, and voices were not checked for being recognisable.",
    "Who speaks is what the catalogue of sources says; accents, ages and languages are as unbalanced as the sources.",
)
PERSONAL = (
    "Voices are personal data. Speakers are named as in the catalogue of sources, which may be names of people or of "
    "folders; `ssiforge withdraw` takes recordings out again."
)


def title(manifest: CorpusManifest) -> str:
    """Return a name for people."""
    return f"{manifest.recipe}, {manifest.hours:.2f} h"


def total(manifest: CorpusManifest) -> int:
    """Return the number of samples."""
    return sum(manifest.samples.values())


def shard_patterns(manifest: CorpusManifest) -> dict[str, list[str]]:
    """Return, for each split, what matches its shards below the corpus; none for parts that lie elsewhere."""
    held = [(part.folder + "/", part.samples) for part in manifest.parts if not part.place]
    if not manifest.parts:
        held = [("", manifest.samples)]
    found: dict[str, list[str]] = {}
    for folder, samples in held:
        for split in (split for split, count in samples.items() if count):
            found.setdefault(split, []).append(f"{folder}{split}/shard-*.tar")
    return {split: found[split] for split in manifest.samples if split in found}
