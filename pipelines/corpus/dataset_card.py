"""`README.md` of a corpus: the card that people read and, behind YAML, the one that model hubs read.

It is made of the manifest alone, so that the same corpus has the same card wherever it lies.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import yaml

from manifests.corpus import (
    RECIPE_FILE,
    SOURCES_FILE,
    CorpusManifest,
    read_part,
    read_shard_record,
    record_name,
)
from manifests.licence_names import UNKNOWN, is_unrecognised
from manifests.store import Store
from pipelines.corpus.attribution import ATTRIBUTION_FILE
from pipelines.corpus.croissant import CROISSANT_FILE, RECORDS
from pipelines.corpus.hub_licences import hub_licences
from pipelines.corpus.words import KIND_OF_DATA, LIMITS, PERSONAL, USES, shard_patterns, title, total
from pipelines.markdown import NUMBER, TEXT, escaped, table

CARD_FILE = "README.md"
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
_LARGEST = "1M<n<10M"
_FIELDS = {
    "degraded.flac": "what a network hears: FLAC, one channel at 48 kHz",
    "target.flac": "what it should make of it: likewise, and aligned unless `json` says otherwise",
    "json": "everything drawn and measured: sources with start and length, stages in the order applied, levels, "
    "severities after ITU-T P.804, licences",
}


def write_dataset_card(store: Store, manifest: CorpusManifest) -> None:
    """Write the card of a finished corpus."""
    store.write(CARD_FILE, dataset_card(manifest, _members(store, manifest)).encode())


def dataset_card(manifest: CorpusManifest, members: Sequence[str]) -> str:
    """Return the card as text.

    Args:
        manifest: of the corpus.
        members: what each sample has, by extension.
    """
    sections = {
        "": f"{KIND_OF_DATA}\n\n{table(('', ''), list(_facts(manifest)))}",
        "How it was made": _made(manifest),
        "Content": _content(manifest),
        "Fields": _fields(members),
        "Loading": _loading(manifest),
        "Limits": "\n".join(f"- {limit}" for limit in _limits(manifest)),
    }
    front = yaml.safe_dump(_front_matter(manifest, members), sort_keys=False, allow_unicode=True, width=10**6)
    body = "\n\n".join(f"## {name}\n\n{text}" if name else text for name, text in sections.items())
    return f"---\n{front}---\n\n# {escaped(title(manifest))}\n\n{body}\n"


def _members(store: Store, manifest: CorpusManifest) -> tuple[str, ...]:
    """Return what each sample has: in a merged corpus, what the samples of any part have."""
    held = [read_part(store, part) for part in manifest.parts] or [(store, manifest)]
    found: set[str] = set()
    for place, each in held:
        for name, _ in each.shards_in_order()[:1]:
            record = read_shard_record(place, record_name(name))
            found.update(record.samples[0].members)
    return tuple(sorted(found))


def _front_matter(manifest: CorpusManifest, members: Sequence[str]) -> dict[str, Any]:
    """Return what dataset hubs read; the names of fields and types are theirs."""
    licences = hub_licences(manifest.licences)
    patterns = shard_patterns(manifest)
    # Given here because it cannot be inferred: what `json` holds depends on the stages that a sample got.
    features = [{"name": name, "dtype": "json" if name == "json" else "binary"} for name in members]
    features += [{"name": name, "dtype": "string"} for name in ("__key__", "__url__")]
    loading = {
        "configs": [
            {
                "config_name": "default",
                "data_files": [
                    {"split": split, "path": paths[0] if len(paths) == 1 else paths}
                    for split, paths in patterns.items()
                ],
            }
        ],
        "dataset_info": {"config_name": "default", "features": features},
    }
    return {
        "pretty_name": title(manifest),
        "license": licences[0] if len(licences) == 1 else licences,
        "task_categories": ["audio-to-audio"],
        "size_categories": [next((name for limit, name in _SIZES if total(manifest) < limit), _LARGEST)],
        "tags": ["speech-enhancement", "speech-restoration", "webdataset", "48khz", "synthetic"],
        **(loading if patterns else {}),
    }


def _facts(manifest: CorpusManifest) -> Iterator[tuple[str, object]]:
    yield "id", manifest.id
    yield "samples", f"{total(manifest)} of {manifest.frames_per_sample / manifest.sample_rate_hz:g} s"
    yield "hours", f"{manifest.hours:.2f}"
    yield "audio", f"{manifest.sample_rate_hz} Hz, one channel, FLAC"
    if not manifest.parts:
        yield "recipe", f"{manifest.recipe}, {manifest.recipe_digest}"
        yield "catalogue of sources", manifest.catalogue_digest
        yield "seed", manifest.seed
    if manifest.grown_from:
        yield "grown from", manifest.grown_from
    if manifest.replaces:
        yield "replaces", f"{manifest.replaces}, from which sources were withdrawn"
    software = {"ssiforge": manifest.code_version} | manifest.environment
    yield "made with", ", ".join(f"{name} {version}" for name, version in software.items())


def _made(manifest: CorpusManifest) -> str:
    if manifest.parts:
        rows = [
            (part.corpus, part.recipe, f"{part.hours:.2f}", f"{part.weight:g}") for part in manifest.parts
        ]
        return (
            "Merged from corpora, each with the weight at which its training samples are seen:\n\n"
            + table(("corpus", "recipe", "hours", "weight"), rows, (TEXT, TEXT, NUMBER, NUMBER))
        )
    command = (
        f"ssiforge generate {RECIPE_FILE} --sources {SOURCES_FILE} --out CORPUS "
        f"--samples {total(manifest)} --seed {manifest.seed}"
    )
    stages = [
        (label, f"{shares.get('asked', 0.0):.1%}", f"{shares.get('drawn', 0.0):.1%}")
        for label, shares in manifest.stages.items()
    ]
    # A corpus that was made larger ends some shards where it ended.
    made = "the same samples, cut into other shards" if manifest.grown_from else "it again"
    return "\n\n".join(
        (
            f"Where the files of `{SOURCES_FILE}` lie, this makes {made}:",
            f"```\n{command}\n```",
            "Degradations, with the share of samples for which the recipe asks for each, and which got it:",
            table(("stage", "asked", "drawn"), stages, (TEXT, NUMBER, NUMBER)),
        )
    )


def _content(manifest: CorpusManifest) -> str:
    words = list(dict.fromkeys(word for counts in manifest.splits.values() for word in counts))
    splits = [
        (split, count, *(manifest.splits.get(split, {}).get(word, 0) for word in words))
        for split, count in manifest.samples.items()
    ]
    licences = sorted(manifest.licences.items(), key=lambda item: (-item[1], item[0]))
    head = ("split", "samples", *(word.replace("_", " ") for word in words))
    return "\n\n".join(
        (
            table(head, splits, (TEXT, *(NUMBER for _ in head[1:]))),
            "No speaker, noise recording or room is in two splits. Licences of the material, with the number of "
            "samples that hold some:",
            table(("licence", "samples"), licences, (TEXT, NUMBER)) if licences else "None was recorded.",
            f"`{ATTRIBUTION_FILE}` names every recording, whose it is, and its licence.",
        )
    )


def _fields(members: Sequence[str]) -> str:
    lines = [f"- `KEY.{name}`: {_FIELDS.get(name, 'a stem that the recipe asks for')}" for name in members]
    return (
        "Shards are tars (WebDataset); a sample is a few files with one key:\n\n"
        + "\n".join(lines)
        + "\n\n`samples.parquet` has one row a sample with the same values, `quarantine.jsonl` what failed, and "
        "`corpus.json` the SHA-256 of each of them."
    )


def _loading(manifest: CorpusManifest) -> str:
    pattern = next((paths[0] for paths in shard_patterns(manifest).values()), None)
    croissant = f"""```python
import mlcroissant

records = mlcroissant.Dataset("{CROISSANT_FILE}").records("{RECORDS}")  # Croissant: values, and addresses of the audio
```"""
    if pattern is None:
        return (
            "Its parts lie where `corpus.json` says. `ssiforge train EXPERIMENT --corpus .` reads it as a whole, with "
            "its weights; each part has a card of its own.\n\n" + croissant
        )
    first = pattern.replace("*", "000000")
    return f"""In this folder:

```python
import datasets

corpus = datasets.load_dataset(".")  # Hugging Face; audio as FLAC bytes, `json` as objects
```

```python
import os

os.environ["WDS_SECURE"] = "1"  # before the import: no shell, no unpickling
import webdataset

samples = webdataset.WebDataset("{first}", shardshuffle=False)
```

```
ssiforge train EXPERIMENT --corpus .
```

{croissant}"""


def _limits(manifest: CorpusManifest) -> Iterator[str]:
    yield from LIMITS
    yield PERSONAL
    yield f"Meant for: {USES[0].lower()}{USES[1:]}"
    if unknown := manifest.licences.get(UNKNOWN, 0):
        yield f"The licence of material in {unknown} of the samples is not known."
    if texts := [licence for licence in manifest.licences if is_unrecognised(licence)]:
        yield (
            f"{len(texts)} of the licences above are texts that name no licence for certain: read them, and "
            f"`{ATTRIBUTION_FILE}`, which says whose recordings they are of."
        )
    if redrawn := sum(manifest.failures.values()):
        yield f"{redrawn} draws failed and were drawn again (`quarantine.jsonl`)."
    if manifest.lost_shards:
        yield f"{len(manifest.lost_shards)} shards were given up; their samples are missing."
    if out := sum(counts.get("out", 0) for counts in manifest.tolerances.values()):
        checked = sum(counts.get("checked", 0) for counts in manifest.tolerances.values())
        yield f"{out} of {checked} promised values were delivered outside their tolerance (`corpus.json`)."
