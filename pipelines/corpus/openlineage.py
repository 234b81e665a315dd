"""The events of the jobs that make a corpus: `generate` and `merge`.

A job is known by its plan (`plan.json`): resumed, moved, or told of again, it is the same run. Its end is written with
what else lies beside the shards, so that a corpus that lacks it gets it from the next run of the same command.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from manifests.catalogue import Catalogue, read_catalogue
from manifests.corpus import PLAN_FILE, SOURCES_FILE, CorpusManifest, read_part
from manifests.errors import JobInterrupted
from manifests.source import KINDS
from manifests.store import Store
from pipelines.corpus.companion_seals import read_seals, record_sealed, seal
from pipelines.openlineage.events import Json, corpus_dataset, dataset, event, facet, run_id
from pipelines.openlineage.log import LINEAGE_FILE, last_of, recorded

MERGE_JOB = "merge"
WITHDRAW_JOB = "withdraw"
_SHOWN_DIGITS = 12


def generate_job(recipe: str) -> str:
    """Name the job that generates corpora of a recipe."""
    return f"generate.{recipe}"


@contextmanager
def told(store: Store, job: str, inputs: list[Json], output: str) -> Iterator[None]:
    """Tell that a job starts, and if it fails or is stopped, that too; its end is `write_lineage`'s.

    Args:
        store: of the corpus, which holds its plan.
        job: name of the job.
        inputs: what it reads.
        output: name of the corpus.
    """
    run = run_id(store.read(PLAN_FILE))
    outputs = [dataset(output)]
    record_sealed(store, [event("START", run, job, inputs, outputs)])
    try:
        yield
    except (KeyboardInterrupt, JobInterrupted):
        record_sealed(store, [event("ABORT", run, job, inputs, outputs)])
        raise
    except BaseException as error:
        record_sealed(store, [event("FAIL", run, job, inputs, outputs, error=str(error))])
        raise


def write_lineage(store: Store, manifest: CorpusManifest) -> None:
    """Tell that the job which made a finished corpus is complete, unless that was told."""
    run = run_id(store.read(PLAN_FILE))
    last = last_of(recorded(store), run)
    if last is not None and last["eventType"] == "COMPLETE" and _version(last) == manifest.id:
        if LINEAGE_FILE not in read_seals(store).files:
            seal(store, [LINEAGE_FILE])
        return
    if last is not None:
        job, inputs = last["job"]["name"], last["inputs"]
    elif manifest.parts:
        job, inputs = MERGE_JOB, part_inputs(store, manifest)
    else:
        # A version that was made larger since has another plan than the withdrawal had, and was told of.
        job = WITHDRAW_JOB if manifest.replaces else generate_job(manifest.recipe)
        inputs = _held_inputs(store, manifest)
    made = corpus_dataset(manifest)
    made["outputFacets"] = {"outputStatistics": _statistics(store, manifest)}
    missing = [] if last is not None else [event("START", run, job, inputs, [dataset(made["name"])])]
    record_sealed(store, [*missing, event("COMPLETE", run, job, inputs, [made])])


def _version(told_of: Json) -> Any:
    for output in told_of["outputs"]:
        return output["facets"].get("version", {}).get("datasetVersion")
    return None


def _statistics(store: Store, manifest: CorpusManifest) -> Json:
    counts: dict[str, int] = {"rowCount": sum(manifest.samples.values())}
    if manifest.shards:
        sizes = store.names()
        counts["size"] = sum(sizes.get(name, 0) for name in manifest.shards)
        counts["fileCount"] = len(manifest.shards)
    return facet("outputStatistics", **counts)


# --- inputs ---------------------------------------------------------------------------------------


def catalogue_inputs(catalogue: Catalogue, digest: str) -> list[Json]:
    """Return the usable sources as data sets: speech, noise and rooms of the catalogue with that digest."""
    licences: dict[str, Counter[str]] = {kind: Counter() for kind in KINDS}
    sizes: Counter[str] = Counter()
    for source in catalogue.usable:
        licences[source.kind][source.licence] += 1
        sizes[source.kind] += source.bytes
    return [
        {
            **dataset(f"catalogue/{digest[:_SHOWN_DIGITS]}/{kind}", digest, licences=held, counted="files"),
            "inputFacets": {
                "inputStatistics": facet("inputStatistics", fileCount=held.total(), size=sizes[kind])
            },
        }
        for kind, held in licences.items()
        if held
    ]


def catalogue_outputs(catalogue: Catalogue, digest: str) -> list[Json]:
    """Return the usable sources as the data sets that a scan made."""
    made = []
    for each in catalogue_inputs(catalogue, digest):
        counts = each.pop("inputFacets")["inputStatistics"]
        found = facet("outputStatistics", fileCount=counts["fileCount"], size=counts["size"])
        made.append({**each, "outputFacets": {"outputStatistics": found}})
    return made


def _held_inputs(store: Store, manifest: CorpusManifest) -> list[Json]:
    with store.local_copy(SOURCES_FILE) as path:
        return catalogue_inputs(read_catalogue(path), manifest.catalogue_digest)


def part_inputs(store: Store, manifest: CorpusManifest) -> list[Json]:
    """Return the parts of a merged corpus."""
    return [corpus_dataset(read_part(store, part)[1]) for part in manifest.parts]
