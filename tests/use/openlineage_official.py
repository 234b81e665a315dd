"""Events as the official OpenLineage client understands them, and a server that receives them."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jsonschema
from openlineage.client import event_v2
from openlineage.client.generated import (
    dataset_version_dataset,
    error_message_run,
    input_statistics_input_dataset,
    job_type_job,
    output_statistics_output_dataset,
    parent_run,
    processing_engine_run,
    source_code_location_job,
)
from openlineage.client.serde import Serde

import pipelines

PACKAGE = Path(pipelines.__file__).parents[1]
FACETS = {
    "version": dataset_version_dataset.DatasetVersionDatasetFacet,
    "errorMessage": error_message_run.ErrorMessageRunFacet,
    "inputStatistics": input_statistics_input_dataset.InputStatisticsInputDatasetFacet,
    "jobType": job_type_job.JobTypeJobFacet,
    "outputStatistics": output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet,
    "processing_engine": processing_engine_run.ProcessingEngineRunFacet,
    "sourceCodeLocation": source_code_location_job.SourceCodeLocationJobFacet,
}


def check(event: dict[str, Any]) -> None:
    """Rebuild an event from the official classes, which check it, and compare what they write with what we wrote."""
    run, job = event["run"], event["job"]
    rebuilt = event_v2.RunEvent(
        eventType=event_v2.RunState(event["eventType"]),
        eventTime=event["eventTime"],
        producer=event["producer"],
        run=event_v2.Run(run["runId"], _facets(run["facets"])),
        job=event_v2.Job(job["namespace"], job["name"], _facets(job["facets"])),
        inputs=[_dataset(event_v2.InputDataset, each, "inputFacets") for each in event["inputs"]],
        outputs=[_dataset(event_v2.OutputDataset, each, "outputFacets") for each in event["outputs"]],
    )
    assert _compact(Serde.to_dict(rebuilt)) == _compact(_without_own(event))


def _dataset(kind: Any, content: dict[str, Any], statistics: str) -> Any:
    more = {statistics: _facets(content.get(statistics, {}))}
    return kind(content["namespace"], content["name"], facets=_facets(content["facets"]), **more)


def _facets(content: dict[str, Any]) -> dict[str, Any]:
    found = {}
    for name, facet in content.items():
        fields = {key: value for key, value in facet.items() if not key.startswith("_")}
        if name.startswith("ssiforge_"):
            _check_own(facet)
        elif name == "parent":
            run, job = parent_run.Run(**fields["run"]), parent_run.Job(**fields["job"])
            found[name] = parent_run.ParentRunFacet(run=run, job=job, producer=facet["_producer"])
        else:
            found[name] = FACETS[name](**fields, producer=facet["_producer"])
    return found


def _check_own(facet: dict[str, Any]) -> None:
    """Check a facet of our own by the schema that it names, which is a file of the package."""
    package, _, path = facet["_schemaURL"].partition("#")
    assert package == facet["_producer"]
    schema = json.loads((PACKAGE / path).read_text())
    jsonschema.validators.Draft202012Validator.check_schema(schema)
    jsonschema.validate(facet, schema)


def _without_own(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_own(each) for key, each in value.items() if not key.startswith("ssiforge_")}
    return [_without_own(each) for each in value] if isinstance(value, list) else value


def _compact(value: Any) -> Any:
    """Leave out what is empty: the client writes it or does not, by kind of facet."""
    if isinstance(value, dict):
        pairs = {key: _compact(each) for key, each in value.items()}
        return {key: each for key, each in pairs.items() if each not in (None, {}, [])}
    return [_compact(each) for each in value] if isinstance(value, list) else value


@dataclass
class Received:
    """What a server was sent."""

    url: str
    events: list[dict[str, Any]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)


@contextmanager
def server(status: int = 201, location: str = "") -> Iterator[Received]:
    """Run a server on loopback that receives events and answers with `status`."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.events.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self._answer()

        def do_GET(self) -> None:
            self._answer()

        def _answer(self) -> None:
            received.paths.append(self.path)
            received.keys.append(self.headers["Authorization"])
            self.send_response(status)
            if location:
                self.send_header("Location", location)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        received = Received(f"http://127.0.0.1:{running.server_port}")
        thread = threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield received
        finally:
            running.shutdown()
            thread.join()
