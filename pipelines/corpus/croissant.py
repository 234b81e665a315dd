"""`croissant.json`: a corpus as MLCommons Croissant 1.0 describes data, with where it comes from and what to mind.

Its record set is read from `croissant.parquet`, one row a sample, not out of the shards: a reader of Croissant would
unpack every shard into a cache that knows an archive by its relative address alone, so that it would serve one corpus
the audio of another. Shards are named by a pattern a split, whatever their number; `corpus.json` has their hashes.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from manifests.corpus import CORPUS_FILE, SOURCES_FILE, CorpusManifest
from manifests.licence_names import UNKNOWN
from manifests.store import Store
from pipelines.corpus.croissant_index import AUDIO, INDEX_FILE, write_index
from pipelines.corpus.hub_licences import spdx_url
from pipelines.corpus.words import KIND_OF_DATA, LIMITS, PERSONAL, USES, shard_patterns, title, total

CROISSANT_FILE = "croissant.json"
RECORDS = "samples"
"""Name of the record set."""
SPECIFICATIONS = ["http://mlcommons.org/croissant/1.0", "http://mlcommons.org/croissant/RAI/1.0"]

CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "prov": "http://www.w3.org/ns/prov#",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
"""The one that the specification gives, and `prov`."""

MEANINGS = {
    "key": "Name of the sample.",
    "corpus": "Id of the part that holds it.",
    "degraded_audio": "Address of the degraded speech: FLAC at 48 kHz, as a chained URL of fsspec.",
    "target_audio": "Address of what a network should make of it, likewise.",
    "split": "train, val or test; no speaker, noise recording or room is in two of them.",
    "shard": "Tar that holds the sample.",
    "seconds": "Length.",
    "speaker": "Who speaks, as the catalogue of sources names them.",
    "licences": "Licences of the material in it.",
    "target": "Kind of target.",
    "aligned": "Whether degraded and target are aligned in time.",
    "stages": "Degradations in the order in which they were applied.",
}
_MEANINGS_OF_PREFIX = {
    "severity.": "How bad the sample is on a dimension of ITU-T P.804, from 0 to 1.",
    "measured.": "Measured after rendering; the unit is in the name.",
}


def write_croissant(store: Store, manifest: CorpusManifest) -> None:
    """Write the index of the samples and, last, `croissant.json` into a finished corpus."""
    schema = write_index(store, manifest)
    content = described(manifest, schema, store.sha256(INDEX_FILE))
    store.write(CROISSANT_FILE, json.dumps(content, indent=1, ensure_ascii=False).encode() + b"\n")


def described(manifest: CorpusManifest, schema: Any, index_sha256: str) -> dict[str, Any]:
    """Describe a corpus.

    Args:
        manifest: of the corpus.
        schema: of its index, as Arrow has it.
        index_sha256: of the index.
    """
    return {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": SPECIFICATIONS,
        "name": title(manifest),
        "identifier": manifest.id,
        "description": f"{KIND_OF_DATA} {total(manifest)} samples, {manifest.hours:.2f} hours.",
        "license": sorted({spdx_url(licence) for licence in manifest.licences}) or [UNKNOWN],
        "citeAs": f"ssiforge corpus {manifest.id}",
        "keywords": ["speech enhancement", "speech restoration", "48 kHz", "webdataset"],
        "creator": {"@type": "sc:Organization", "name": f"ssiforge {manifest.code_version}"},
        **_responsibility(manifest),
        **_provenance(manifest),
        "distribution": list(_files(manifest, index_sha256)),
        "recordSet": [_records(schema)],
    }


def _responsibility(manifest: CorpusManifest) -> dict[str, Any]:
    """Say what the extension for responsible AI asks for."""
    applied = ", ".join(
        f"{label} {shares.get('drawn', 0.0):.1%}" for label, shares in sorted(manifest.stages.items())
    )
    return {
        "rai:dataCollection": "No recording was made: sources named in sources.parquet were mixed and processed.",
        "rai:dataCollectionType": "Synthetic",
        "rai:dataManipulationProtocol": f"Stages of the recipe, with the share of samples that got each: {applied}.",
        "rai:dataPreprocessingProtocol": [
            "Sources are refused where they are damaged, silent, clipped or empty; speech is resampled to 48 kHz and "
            "set to an active level (ITU-T P.56).",
        ],
        "rai:dataCollectionMissingData": f"{sum(manifest.failures.values())} draws failed and were drawn again; "
        f"{len(manifest.lost_shards)} shards were given up.",
        "rai:dataUseCases": USES,
        "rai:dataLimitations": list(LIMITS),
        "rai:dataBiases": LIMITS[-1],
        "rai:personalSensitiveInformation": PERSONAL,
    }


def _provenance(manifest: CorpusManifest) -> dict[str, Any]:
    """Say in terms of W3C PROV what the corpus was made of, and by what."""
    if manifest.parts:
        sources = [
            {
                "@type": "prov:Entity",
                "prov:label": f"ssiforge corpus {part.corpus}",
                "prov:value": {"recipe": part.recipe, "weight": part.weight, "samples": dict(part.samples)},
            }
            for part in manifest.parts
        ]
    else:
        sources = [
            {
                "@type": "prov:Entity",
                "prov:label": f"catalogue {manifest.catalogue_digest}, see {SOURCES_FILE}",
            },
            {"@type": "prov:Plan", "prov:label": f"recipe {manifest.recipe} {manifest.recipe_digest}"},
        ]
    before = {"grown from": manifest.grown_from, "sources were withdrawn from": manifest.replaces}
    sources += [
        {"@type": "prov:Entity", "prov:label": f"ssiforge corpus {corpus}", "prov:value": how}
        for how, corpus in before.items()
        if corpus
    ]
    return {
        "prov:wasDerivedFrom": sources,
        "prov:wasGeneratedBy": {
            "@type": "prov:Activity",
            "prov:label": f"ssiforge {'merge' if manifest.parts else 'generate'}, seed {manifest.seed}",
            "prov:wasAssociatedWith": {
                "@type": "prov:SoftwareAgent",
                "prov:label": f"ssiforge {manifest.code_version}",
            },
        },
    }


def _files(manifest: CorpusManifest, index_sha256: str) -> Iterator[Mapping[str, Any]]:
    yield {
        "@type": "cr:FileObject",
        "@id": INDEX_FILE,
        "name": INDEX_FILE,
        "description": "One row a sample.",
        "contentUrl": INDEX_FILE,
        "encodingFormat": "application/x-parquet",
        "sha256": index_sha256,
    }
    shards = shard_patterns(manifest)
    for split, patterns in shards.items():
        yield {
            "@type": "cr:FileSet",
            "@id": f"{split}-shards",
            "name": f"{split}-shards",
            "description": f"Samples of the split {split}; {CORPUS_FILE} has the SHA-256 of each shard.",
            "encodingFormat": "application/x-tar",
            "includes": patterns,
        }
    within = [{"@id": f"{split}-shards"} for split in shards]
    for name, extension, media_type in (
        ("degraded-audio", AUDIO["degraded_audio"], "audio/flac"),
        ("target-audio", AUDIO["target_audio"], "audio/flac"),
        ("sample-records", "json", "application/json"),
    ):
        if within:
            yield {
                "@type": "cr:FileSet",
                "@id": name,
                "name": name,
                "containedIn": within,
                "encodingFormat": media_type,
                "includes": f"*.{extension}",
            }


def _records(schema: Any) -> dict[str, Any]:
    return {
        "@type": "cr:RecordSet",
        "@id": RECORDS,
        "name": RECORDS,
        "description": "One record a sample.",
        "key": {"@id": f"{RECORDS}/key"},
        "field": [_field(field.name, str(field.type)) for field in schema],
    }


def _field(name: str, arrow_type: str) -> dict[str, Any]:
    prefix = name.partition(".")[0] + "."
    kinds = {"double": "sc:Float", "int64": "sc:Integer", "bool": "sc:Boolean"}
    kind = "sc:URL" if name in AUDIO else kinds.get(arrow_type, "sc:Text")
    return {
        "@type": "cr:Field",
        "@id": f"{RECORDS}/{name}",
        "name": name,
        "description": MEANINGS.get(name) or _MEANINGS_OF_PREFIX[prefix],
        "dataType": kind,
        **({"repeated": True} if arrow_type.startswith("list") else {}),
        "source": {"fileObject": {"@id": INDEX_FILE}, "extract": {"column": name}},
    }
