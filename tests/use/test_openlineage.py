"""`lineage.ndjson`: valid OpenLineage for every job, joined over jobs by names and versions, and sent when asked."""

import json
import socketserver
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import openlineage_official as official
import pytest

from manifests.corpus import Corpus, read_manifest
from manifests.errors import JobError, JobInterrupted
from manifests.store import open_store
from pipelines.executors import Executor, InProcess
from pipelines.generation.generate import generate
from pipelines.merging.merge import merge
from pipelines.openlineage.events import event as happened
from pipelines.openlineage.events import run_id
from pipelines.openlineage.log import record
from training.tracker import Parent, StageStart

Event = dict[str, Any]


def events_of(place: Path | str) -> list[Event]:
    """The events of a corpus or a run, each checked by the official client."""
    events = [json.loads(line) for line in open_store(place).read("lineage.ndjson").splitlines()]
    for event in events:
        official.check(event)
    assert [event["eventTime"] for event in events] == sorted(event["eventTime"] for event in events)
    return events


def kinds(events: list[Event]) -> list[str]:
    return [event["eventType"] for event in events]


def known(dataset: Event) -> tuple[str, str, str]:
    """Namespace, name and version: what other programs join by."""
    return (
        dataset["namespace"],
        dataset["name"],
        dataset["facets"].get("version", {}).get("datasetVersion", ""),
    )


@pytest.fixture(autouse=True)
def _no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("URL", "ENDPOINT", "API_KEY", "DISABLED"):
        monkeypatch.delenv(f"OPENLINEAGE_{name}", raising=False)


@pytest.fixture
def make(small_recipe: Path, catalogue_path: Path) -> Callable[..., Any]:
    def generated(out: Path | str, samples: int = 4, executor: Executor | None = None, **more: Any) -> Any:
        return generate(
            str(small_recipe), catalogue_path, out, executor or InProcess(), samples=samples, **more
        ).manifest

    return generated


class Breaks(InProcess):
    """Fails before the first shard."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self._error = error

    def run(self, job: Any, tasks: Any) -> Iterator[Any]:
        raise self._error
        yield


# --- corpora --------------------------------------------------------------------------------------


def test_a_corpus_tells_what_it_was_made_of_and_what_it_is(make: Callable[..., Any], tmp_path: Path) -> None:
    manifest = make(tmp_path / "c")
    start, complete = events_of(tmp_path / "c")
    assert kinds([start, complete]) == ["START", "COMPLETE"]
    assert start["run"]["runId"] == complete["run"]["runId"]
    assert start["job"]["name"] == complete["job"]["name"] == "generate.small"
    assert start["inputs"] == complete["inputs"]
    (made,) = complete["outputs"]
    assert known(made)[1:] == (start["outputs"][0]["name"], manifest.id)
    assert made["facets"]["ssiforge_digests"]["digests"] == {
        "recipe": manifest.recipe_digest,
        "catalogue": manifest.catalogue_digest,
    }
    assert made["facets"]["ssiforge_licences"]["licences"] == manifest.licences
    counts = made["outputFacets"]["outputStatistics"]
    tars = [tmp_path / "c" / name for name in manifest.shards]
    assert counts["rowCount"] == 4
    assert (counts["fileCount"], counts["size"]) == (len(tars), sum(tar.stat().st_size for tar in tars))
    kinds_of_source = {each["name"].rpartition("/")[2]: each for each in complete["inputs"]}
    assert kinds_of_source.keys() == {"speech", "noise"}
    for each in kinds_of_source.values():
        assert known(each)[2] == manifest.catalogue_digest
        files = each["inputFacets"]["inputStatistics"]["fileCount"]
        assert sum(each["facets"]["ssiforge_licences"]["licences"].values()) == files > 0
    assert str(tmp_path) not in (tmp_path / "c" / "lineage.ndjson").read_text()


def test_a_finished_corpus_is_told_of_once(make: Callable[..., Any], tmp_path: Path) -> None:
    make(tmp_path / "c")
    before = (tmp_path / "c" / "lineage.ndjson").read_bytes()
    make(tmp_path / "c")
    assert (tmp_path / "c" / "lineage.ndjson").read_bytes() == before


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (JobError("no \x1b space"), "FAIL"),
        (JobInterrupted("stopped"), "ABORT"),
        (KeyboardInterrupt(), "ABORT"),
    ],
)
def test_a_job_that_fails_or_is_stopped_says_so_and_goes_on_as_the_same_run(
    make: Callable[..., Any], tmp_path: Path, error: BaseException, kind: str
) -> None:
    with pytest.raises(type(error)):
        make(tmp_path / "c", executor=Breaks(error))
    make(tmp_path / "c")
    events = events_of(tmp_path / "c")
    assert kinds(events) == ["START", kind, "START", "COMPLETE"]
    assert len({event["run"]["runId"] for event in events}) == 1
    facets = events[1]["run"]["facets"]
    assert facets.get("errorMessage", {}).get("message") == (str(error) if kind == "FAIL" else None)


def test_a_corpus_made_larger_is_another_version_of_the_same(
    make: Callable[..., Any], tmp_path: Path
) -> None:
    first = make(tmp_path / "c")
    second = make(tmp_path / "c", samples=8)
    ends = [event for event in events_of(tmp_path / "c") if event["eventType"] == "COMPLETE"]
    names = [known(end["outputs"][0]) for end in ends]
    assert [version for _, _, version in names] == [first.id, second.id]
    assert len({name for _, name, _ in names}) == 1
    assert len({end["run"]["runId"] for end in ends}) == 2
    assert ends[1]["outputs"][0]["facets"]["ssiforge_digests"]["digests"]["grown from"] == first.id


def test_a_merged_corpus_is_made_of_what_its_parts_told_of(make: Callable[..., Any], tmp_path: Path) -> None:
    make(tmp_path / "a", seed=1)
    make(tmp_path / "b", seed=2)
    merge([tmp_path / "a", tmp_path / "b"], tmp_path / "both")
    start, complete = events_of(tmp_path / "both")
    assert (start["job"]["name"], kinds([start, complete])) == ("merge", ["START", "COMPLETE"])
    parts = {known(events_of(tmp_path / name)[-1]["outputs"][0]) for name in "ab"}
    assert {known(each) for each in complete["inputs"]} == parts
    made = complete["outputs"][0]
    assert known(made)[1:] == (start["outputs"][0]["name"], read_manifest(tmp_path / "both").id)
    assert made["outputFacets"]["outputStatistics"]["rowCount"] == 8


def test_a_bucket_and_a_folder_tell_of_the_same_run(make: Callable[..., Any], tmp_path: Path) -> None:
    bucket = f"memory://{uuid.uuid4().hex}/corpus"
    make(tmp_path / "c")
    make(bucket)

    def timeless(place: Path | str) -> list[Event]:
        return [event | {"eventTime": ""} for event in events_of(place)]

    assert timeless(bucket) == timeless(tmp_path / "c")


# --- a server -------------------------------------------------------------------------------------


def test_events_are_sent_to_the_server_that_the_environment_names(
    make: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with official.server() as received:
        monkeypatch.setenv("OPENLINEAGE_URL", received.url + "/")
        monkeypatch.setenv("OPENLINEAGE_API_KEY", "a key")
        make(tmp_path / "c")
        assert received.events == events_of(tmp_path / "c")
        assert set(received.paths) == {"/api/v1/lineage"}
        assert set(received.keys) == {"Bearer a key"}
        monkeypatch.setenv("OPENLINEAGE_ENDPOINT", "/elsewhere")
        make(tmp_path / "d", samples=5)
        assert received.paths[-1] == "/elsewhere"
        sent = len(received.events)
        make(tmp_path / "d", samples=5)
        monkeypatch.setenv("OPENLINEAGE_DISABLED", "true")
        make(tmp_path / "e", samples=6)
        assert len(received.events) == sent


@pytest.mark.parametrize(
    "said, told",
    [
        ("/tmp/i6/bad/train/shard-000000.tar: damaged", "shard-000000.tar: damaged"),
        ("/home/a b/c d/x.wav: cut; see /var/log/y.txt", "x.wav: cut; see y.txt"),
        ("s3://bucket/corpus/train/shard.tar: missing", "shard.tar: missing"),
        ("http://user:secret@host:5000/api/v1 does not answer", "v1 does not answer"),
        ("https://host.example.org: refused", "an address: refused"),
        ("corpus/train/shard.tar: damaged, and/or gone", "shard.tar: damaged, and/or gone"),
        ("~/data/speech: missing; 48 dB/s of 3/4", "speech: missing; 48 dB/s of 3/4"),
    ],
)
def test_what_went_wrong_is_told_without_folders_and_hosts(said: str, told: str) -> None:
    failed = happened("FAIL", run_id(b"x"), "job", error=said)
    assert failed["run"]["facets"]["errorMessage"]["message"] == told


class _Dripping(socketserver.BaseRequestHandler):
    """Answers, a letter at a time."""

    def handle(self) -> None:
        self.request.recv(65_536)
        with suppress(OSError):
            for letter in b"HTTP/1.1 201 Created\r\nX-Letters: " + b"x" * 1_000:
                self.request.send(bytes([letter]))
                time.sleep(0.05)


def test_a_server_that_takes_a_second_over_each_letter_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("pipelines.openlineage.log.SEND_TIMEOUT_S", 0.3)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Dripping) as server:
        server.daemon_threads = True
        server.block_on_close = False
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("OPENLINEAGE_URL", f"http://127.0.0.1:{server.server_address[1]}")
        record(open_store(str(tmp_path)), [happened("START", run_id(b"x"), "job")])
        server.shutdown()
    assert "was not sent (no answer within 0.3 s)" in capsys.readouterr().err
    assert (tmp_path / "lineage.ndjson").is_file()


@pytest.mark.parametrize("trouble", ["gone", "refuses", "redirects", "no address"])
def test_a_server_in_trouble_costs_a_warning_and_no_corpus(
    make: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    trouble: str,
) -> None:
    monkeypatch.setenv("OPENLINEAGE_API_KEY", "a secret")
    with (
        official.server() as stranger,
        official.server(303 if trouble == "redirects" else 500, f"{stranger.url}/x") as received,
    ):
        addresses = {"gone": "http://127.0.0.1:9", "no address": "file:///etc/passwd"}
        monkeypatch.setenv("OPENLINEAGE_URL", addresses.get(trouble, received.url))
        make(tmp_path / "c")
    assert kinds(events_of(tmp_path / "c")) == ["START", "COMPLETE"]
    said = capsys.readouterr().err
    assert f"COMPLETE of generate.small was not sent ({'HTTP' if trouble.startswith('re') else ''}" in said
    assert f"it is kept in {tmp_path}/c/lineage.ndjson" in said
    assert "a secret" not in said
    assert stranger.paths == []


# --- training -------------------------------------------------------------------------------------


def start_of(stage: str, corpus: Corpus, run_dir: Path, parents: tuple[Parent, ...] = ()) -> StageStart:
    stage_dir = run_dir / stage
    stage_dir.mkdir(parents=True, exist_ok=True)
    return StageStart(
        "tiny", stage, stage_dir, {"seed": 3}, "d" * 32, "/c", corpus.manifest, parents, "cpu", 12, 2
    )


@pytest.fixture
def run_dir(store: Any, tmp_path: Path) -> Path:
    return tmp_path / "runs" / "tiny"


def test_a_run_tells_of_its_stages_and_models(
    store: Any, run_dir: Path, corpus: Corpus, make_bundle: Callable[..., Any]
) -> None:
    from pipelines.openlineage.events import corpus_dataset
    from pipelines.trainer.mlflow_tracker import MlflowTracker
    from pipelines.trainer.openlineage import TrainingLineage
    from training.tracker import Several

    infos: dict[str, Any] = {}
    lineage = TrainingLineage(run_dir, "tiny")
    tracker = Several((MlflowTracker(store), lineage))
    with lineage:
        for stage, role in (("teacher", None), ("student", "teacher")):
            parents = (Parent(role, infos[role].id, run_dir / role / "model"),) if role else ()
            start = start_of(stage, corpus, run_dir, parents)
            tracker.stage_started(start)
            infos[stage] = make_bundle(start.stage_dir / "model", stage, corpus.manifest.id)
            tracker.model_finished(start.stage_dir / "model", infos[stage])
            tracker.stage_ended("finished")
    events = events_of(run_dir)
    told = [(event["job"]["name"], event["eventType"]) for event in events]
    assert told == [
        ("train.tiny", "START"),
        ("train.tiny.teacher", "START"),
        ("train.tiny.teacher", "COMPLETE"),
        ("train.tiny.student", "START"),
        ("train.tiny.student", "COMPLETE"),
        ("train.tiny", "COMPLETE"),
    ]
    heard = known(corpus_dataset(corpus.manifest))
    models = {stage: ("mlflow", f"ssiforge-tiny-{stage}", infos[stage].id) for stage in infos}
    assert [known(each) for each in events[2]["inputs"]] == [heard]
    assert [known(each) for each in events[2]["outputs"]] == [models["teacher"]]
    assert [known(each) for each in events[4]["inputs"]] == [heard, models["teacher"]]
    assert [known(each) for each in events[4]["outputs"]] == [models["student"]]
    assert {known(each) for each in events[5]["outputs"]} == set(models.values())
    for event in events[1:5]:
        assert event["run"]["facets"]["parent"]["run"]["runId"] == events[0]["run"]["runId"]
        stage = event["job"]["name"].rpartition(".")[2]
        link = json.loads((run_dir / stage / "mlflow.json").read_text())
        assert uuid.UUID(event["run"]["runId"]).hex == link["run_id"]


@pytest.mark.parametrize(
    ("status", "error", "kind"),
    [("failed", JobError("lost"), "FAIL"), ("stopped", KeyboardInterrupt(), "ABORT")],
)
def test_a_run_that_ended_badly_goes_on_as_the_same_run(
    run_dir: Path,
    corpus: Corpus,
    make_bundle: Callable[..., Any],
    status: Any,
    error: BaseException,
    kind: str,
) -> None:
    from pipelines.trainer.openlineage import TrainingLineage

    with pytest.raises(type(error)), TrainingLineage(run_dir, "tiny") as first:
        first.stage_started(start_of("teacher", corpus, run_dir))
        first.stage_ended(status, "lost")
        raise error
    with TrainingLineage(run_dir, "tiny") as second:
        second.stage_started(start_of("teacher", corpus, run_dir))
        info = make_bundle(run_dir / "teacher" / "model")
        second.model_finished(run_dir / "teacher" / "model", info)
        second.stage_ended("finished")
    events = events_of(run_dir)
    assert kinds(events) == ["START", "START", kind, kind, "START", "START", "COMPLETE", "COMPLETE"]
    assert len({event["run"]["runId"] for event in events}) == 2


def test_a_model_whose_process_died_is_told_of_by_the_next_run(
    run_dir: Path, corpus: Corpus, make_bundle: Callable[..., Any]
) -> None:
    from pipelines.trainer.openlineage import TrainingLineage

    TrainingLineage(run_dir, "tiny").stage_started(start_of("teacher", corpus, run_dir))
    info = make_bundle(run_dir / "teacher" / "model")
    for _ in range(2):
        with TrainingLineage(run_dir, "tiny"):
            pass
    events = events_of(run_dir)
    assert kinds(events) == ["START", "START", "COMPLETE", "COMPLETE"]
    assert [known(each)[2] for each in events[2]["outputs"]] == [info.id]
    assert [known(each)[2] for each in events[3]["outputs"]] == [info.id]
