"""Runs, jobs and data sets as OpenLineage 2-0-2 events: plain JSON, without its client.

Data sets are named by content, so that every program that tells of the same data set means the same one: a catalogue by
its digest, a corpus by what decides its samples (and its id is its version), a model as MLflow registers it (and the id
of its bundle is its version). Times stand in the events alone.
"""

import re
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Any, Literal

from datagen.environment import code_version
from manifests.canonical import digest
from manifests.corpus import CorpusManifest
from manifests.online import OnlineRecord

EventType = Literal["START", "COMPLETE", "FAIL", "ABORT"]
Json = dict[str, Any]

NAMESPACE = "ssiforge"
MODELS_NAMESPACE = "mlflow"
_RUNS = uuid.UUID("6d2f3c52-5b0a-5d44-9a4e-1f0a4c7b8e21")
"""Of run ids that are made from content."""
_SPECIFICATION = "https://openlineage.io/spec"
_SCHEMAS = {
    "version": "1-0-1/DatasetVersionDatasetFacet",
    "outputStatistics": "1-0-2/OutputStatisticsOutputDatasetFacet",
    "inputStatistics": "1-0-0/InputStatisticsInputDatasetFacet",
    "sourceCodeLocation": "1-1-0/SourceCodeLocationJobFacet",
    "jobType": "2-0-4/JobTypeJobFacet",
    "processing_engine": "1-1-1/ProcessingEngineRunFacet",
    "parent": "1-2-0/ParentRunFacet",
    "errorMessage": "1-0-1/ErrorMessageRunFacet",
}
"""Of the facets that the specification defines: version and name."""
_NAME_DIGITS = 12
_ERROR_CHARACTERS = 2_000
_ADDRESS = re.compile(r"\b[A-Za-z][A-Za-z0-9+.-]*://([^\s'\"()<>,;]*[^\s'\"()<>,;:.])")
_ABSOLUTE = re.compile(r"(?<![\w./])~?/(?:[^/\n:]*/)*(?=[^/:\s])")
_RELATIVE = re.compile(r"(?<!\S)(?:[\w.-]+/)+(?=[\w.-]+\.\w)")
"""Folders before the name of a file."""


def producer() -> str:
    """Return what made the events: a package URL."""
    return f"pkg:pypi/{NAMESPACE}@{code_version()}"


def facet(kind: str, /, **fields: Any) -> Json:
    """Return a facet of the specification, with where its schema is."""
    path = _SCHEMAS[kind]
    return {
        "_producer": producer(),
        "_schemaURL": f"{_SPECIFICATION}/facets/{path}.json#/$defs/{path.partition('/')[2]}",
        **fields,
    }


def own_facet(kind: str, /, **fields: Any) -> Json:
    """Return a facet of our own, whose schema `KIND.json` is a file of this package."""
    return {
        "_producer": producer(),
        "_schemaURL": f"{producer()}#pipelines/openlineage/facets/{kind}.json",
        **fields,
    }


def run_id(content: bytes) -> str:
    """Return the id of a run that is known by what it was asked for: the same when it is resumed."""
    return str(uuid.uuid5(_RUNS, content.hex()))


def now() -> str:
    """Return the time of an event."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def event(
    kind: EventType,
    run: str,
    job: str,
    inputs: Sequence[Json] = (),
    outputs: Sequence[Json] = (),
    parent: tuple[str, str] | None = None,
    error: str = "",
) -> Json:
    """Return what happened to a run, now.

    Args:
        kind: what happened.
        run: id of the run, a UUID.
        job: name of the job.
        inputs: data sets that were read.
        outputs: data sets that were written.
        parent: run and job that this run is a part of.
        error: why it failed.
    """
    run_facets = {"processing_engine": facet("processing_engine", version=code_version(), name=NAMESPACE)}
    if parent is not None:
        run_facets["parent"] = facet(
            "parent", run={"runId": parent[0]}, job={"namespace": NAMESPACE, "name": parent[1]}
        )
    if error:
        run_facets["errorMessage"] = facet(
            "errorMessage", message=without_places(error)[:_ERROR_CHARACTERS], programmingLanguage="PYTHON"
        )
    return {
        "eventType": kind,
        "eventTime": now(),
        "producer": producer(),
        "schemaURL": f"{_SPECIFICATION}/2-0-2/OpenLineage.json#/$defs/RunEvent",
        "run": {"runId": run, "facets": run_facets},
        "job": {
            "namespace": NAMESPACE,
            "name": job,
            "facets": {
                "jobType": facet("jobType", processingType="BATCH", integration="SSIFORGE", jobType="JOB"),
                "sourceCodeLocation": facet(
                    "sourceCodeLocation", type="package", url=producer(), version=code_version()
                ),
            },
        },
        "inputs": list(inputs),
        "outputs": list(outputs),
    }


def without_places(text: str) -> str:
    """Return a message without folders and hosts: of a path or an address its last name alone is left."""
    text = _ADDRESS.sub(lambda found: PurePosixPath(found[1].partition("/")[2]).name or "an address", text)
    return _RELATIVE.sub("", _ABSOLUTE.sub("", text))


# --- data sets ------------------------------------------------------------------------------------


def dataset(
    name: str,
    version: str = "",
    digests: Mapping[str, str] | None = None,
    licences: Mapping[str, int] | None = None,
    counted: Literal["files", "samples"] = "samples",
    namespace: str = NAMESPACE,
    seed: int | None = None,
) -> Json:
    """Return a data set; its version is not known before it is made."""
    facets: Json = {}
    if version:
        facets["version"] = facet("version", datasetVersion=version)
    if digests:
        seeded = {} if seed is None else {"seed": seed}
        facets["ssiforge_digests"] = own_facet("DigestsFacet", digests=dict(digests), **seeded)
    if licences:
        facets["ssiforge_licences"] = own_facet(
            "LicencesFacet", counted=counted, licences=dict(sorted(licences.items()))
        )
    return {"namespace": namespace, "name": name, "facets": facets}


def corpus_name(recipe: str, recipe_digest: str, catalogue_digest: str, seed: int, version: str) -> str:
    """Name a corpus by what decides its samples: one that is made larger keeps its name."""
    decided = digest([recipe_digest, catalogue_digest, seed, version])
    return f"corpus/{recipe}-{decided[:_NAME_DIGITS]}"


def merged_name(corpus_id: str) -> str:
    """Name a merged corpus."""
    return f"corpus/merged-{corpus_id[:_NAME_DIGITS]}"


def corpus_dataset(manifest: CorpusManifest) -> Json:
    """Return a finished corpus."""
    if manifest.parts:
        digests = {f"part {part.name}": part.corpus for part in manifest.parts}
        name, seed = merged_name(manifest.id), None
    else:
        digests = {"recipe": manifest.recipe_digest}
        seed = manifest.seed
        name = corpus_name(
            manifest.recipe,
            manifest.recipe_digest,
            manifest.catalogue_digest,
            manifest.seed,
            manifest.code_version,
        )
    digests["catalogue"] = manifest.catalogue_digest
    if manifest.grown_from:
        digests["grown from"] = manifest.grown_from
    if manifest.replaces:
        digests["replaces"] = manifest.replaces
    return dataset(name, manifest.id, digests, manifest.licences, seed=seed)


def online_dataset(record: OnlineRecord) -> Json:
    """Return the samples that a run renders for itself."""
    digests = {"recipe": record.recipe_digest, "catalogue": record.catalogue_digest}
    name = f"online/{record.recipe}-{record.data_id[:_NAME_DIGITS]}"
    return dataset(name, record.data_id, digests, seed=record.seed)
