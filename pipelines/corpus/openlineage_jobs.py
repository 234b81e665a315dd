"""The events of jobs that read data or models and leave something beside them: `scan`, `score`, `evaluate`, `export`...

A job is known by what it was asked for, by content: done again, it is the same run. What such a job makes is worth more
than the telling of it: an event that cannot be written costs a line on stderr, never the job.
"""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from manifests.canonical import canonical_json
from manifests.errors import JobInterrupted
from manifests.store import Store
from pipelines.corpus.companion_seals import is_sealed, record_sealed
from pipelines.openlineage.events import Json, dataset, event, facet, run_id
from pipelines.openlineage.log import LINEAGE_FILE, record, send

SCAN_JOB = "scan"
SCORE_JOB = "score"
EVALUATE_JOB = "evaluate"
CALIBRATE_JOB = "calibrate"
EXPORT_JOB = "export"
SHOWN_DIGITS = 12


@dataclass
class Telling:
    """A job that is being told of."""

    outputs: list[Json] = field(default_factory=list)
    """What it has made; to be set before it ends."""


@contextmanager
def telling(
    store: Store, job: str, asked: Sequence[object], inputs: Sequence[Json], name: str = LINEAGE_FILE
) -> Iterator[Telling]:
    """Tell that a job starts, and how it ends.

    Args:
        store: where the file of the events lies.
        job: name of the job.
        asked: what decides it, as JSON values by content: neither path nor time.
        inputs: data sets that it reads.
        name: of the file.
    """
    run, made = run_id(canonical_json([job, *asked])), Telling()
    _tell(store, name, event("START", run, job, inputs))
    try:
        yield made
    except (KeyboardInterrupt, JobInterrupted):
        _tell(store, name, event("ABORT", run, job, inputs))
        raise
    except BaseException as error:
        _tell(store, name, event("FAIL", run, job, inputs, error=str(error)))
        raise
    _tell(store, name, event("COMPLETE", run, job, inputs, made.outputs))


def made_dataset(
    name: str, version: str, digests: dict[str, str] | None = None, rows: int | None = None
) -> Json:
    """Return a data set that a job made, with its number of rows where it has some."""
    made = dataset(name, version, digests)
    if rows is not None:
        made["outputFacets"] = {"outputStatistics": facet("outputStatistics", rowCount=rows)}
    return made


def _tell(store: Store, name: str, content: dict[str, Any]) -> None:
    try:
        if name == LINEAGE_FILE and is_sealed(store):
            record_sealed(store, [content])
        else:
            record(store, [content], name)
    except OSError as error:
        where = store.where(name)
        print(f"{where}: cannot be written ({error.strerror or error})", file=sys.stderr, flush=True)
        send(content, "no file")
