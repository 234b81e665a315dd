"""A corpus in a real S3 server that throttles, fails and drops connections is the corpus of a quiet folder."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from s3_server import S3, at_random, s3_server

from manifests.catalogue import Catalogue, read_catalogue, write_catalogue
from manifests.corpus import open_corpus, read_manifest
from manifests.errors import JobError, UserError
from manifests.store import open_store
from pipelines.executors import InProcess
from pipelines.generation.generate import fingerprint, generate
from pipelines.generation.local_processes import LocalProcesses
from pipelines.scanning.scan import scan
from pipelines.verify import verify

pytestmark = [pytest.mark.faults, pytest.mark.xdist_group("cluster")]

SEED = 11
SAMPLES = 64
LONG = ("seconds=2", "output.samples_per_shard=8")
FAULTS = ("slow_down", "internal_error", "dropped_before", "dropped_after", "cut_off")


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory, small_recipe: Path, catalogue_path: Path) -> Path:
    out = tmp_path_factory.mktemp("corpus") / "quiet"
    generate(str(small_recipe), catalogue_path, out, LocalProcesses(2), SAMPLES, seed=SEED, overrides=LONG)
    return out


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[S3]:
    import s3fs

    with s3_server() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        s3fs.S3FileSystem.clear_instance_cache()
        yield server
    s3fs.S3FileSystem.clear_instance_cache()


def _in_the_bucket(s3: S3, catalogue_path: Path, tmp_path: Path) -> str:
    """Put all sources and a catalogue of them into the bucket; return the catalogue's URI."""
    store = open_store(f"s3://{s3.bucket}/sources")
    rows = []
    for source in read_catalogue(catalogue_path):
        name = Path(source.path).relative_to(catalogue_path.parent).as_posix()
        store.write(name, Path(source.path).read_bytes())
        rows.append(replace(source, path=store.where(name)))
    write_catalogue(Catalogue(rows), tmp_path / "remote.parquet")
    store.write("sources.parquet", (tmp_path / "remote.parquet").read_bytes())
    return store.where("sources.parquet")


def test_faults_on_a_tenth_of_all_requests_change_nothing(
    s3: S3,
    quiet: Path,
    tmp_path: Path,
    small_recipe: Path,
    catalogue_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SSIFORGE_CACHE", str(tmp_path / "cache"))
    sources = _in_the_bucket(s3, catalogue_path, tmp_path)
    place = f"s3://{s3.bucket}/a/corpus"
    s3.choose_fault = at_random(SEED, 0.1, FAULTS)
    done = generate(str(small_recipe), sources, place, LocalProcesses(2), SAMPLES, seed=SEED, overrides=LONG)
    assert set(s3.injected) == set(FAULTS), f"seed {SEED}"
    assert fingerprint(place) == fingerprint(quiet)
    assert done.manifest.id == read_manifest(quiet).id
    assert done.manifest.failures == read_manifest(quiet).failures
    assert not done.manifest.lost_shards
    assert verify(place, rerender=4).problems == ()
    assert sum(len(shard.samples) for shard in open_corpus(place).shards) == SAMPLES
    s3.choose_fault = lambda method, path: None
    strays = [name for name in open_store(place).names() if name.rpartition("/")[2].startswith(".")]
    assert strays == []


def test_a_bucket_that_fails_now_and_then_is_scanned_as_a_folder_is(
    s3: S3, tmp_path: Path, catalogue_path: Path
) -> None:
    _in_the_bucket(s3, catalogue_path, tmp_path)
    s3.choose_fault = at_random(SEED, 0.1, FAULTS)
    roots = {kind: [f"s3://{s3.bucket}/sources/{kind}"] for kind in ("speech", "noise")}
    found = scan(roots, tmp_path / "found.parquet", workers=2)  # type: ignore[arg-type]
    assert s3.injected.total() > 3
    assert [source.identity() for source in found.catalogue] == [
        source.identity() for source in read_catalogue(catalogue_path)
    ]
    s3.choose_fault = lambda method, path: None
    assert scan(roots, tmp_path / "found.parquet", workers=2).examined == 0  # type: ignore[arg-type]


def test_a_driver_killed_while_writing_to_a_bucket_is_finished_by_running_again(
    s3: S3, quiet: Path, small_recipe: Path, catalogue_path: Path
) -> None:
    place = f"s3://{s3.bucket}/b/corpus"
    command = [sys.executable, "-m", "pipelines.cli", "generate", str(small_recipe), "--out", place]
    command += ["--sources", str(catalogue_path), "--samples", str(SAMPLES), "--seed", str(SEED)]
    command += [word for setting in LONG for word in ("--set", setting)]
    job = subprocess.Popen(command, env=os.environ | s3.environment, start_new_session=True)
    store = open_store(place)
    deadline = time.monotonic() + 120
    while not any("train/shard" in name and name.endswith(".json") for name in store.names()):
        assert time.monotonic() < deadline and job.poll() is None
        time.sleep(0.1)
    os.killpg(job.pid, signal.SIGKILL)
    job.wait()
    done = generate(
        str(small_recipe), catalogue_path, place, LocalProcesses(2), SAMPLES, seed=SEED, overrides=LONG
    )
    assert done.kept_shards > 0
    assert fingerprint(place) == fingerprint(quiet)
    assert not [name for name in store.names() if name.rpartition("/")[2].startswith(".")]


def test_permission_lost_in_mid_job_stops_it_with_a_clear_error_and_it_goes_on_later(
    s3: S3, quiet: Path, small_recipe: Path, catalogue_path: Path
) -> None:
    place = f"s3://{s3.bucket}/c/corpus"

    def refuse_later_shards(method: str, path: str):  # type: ignore[no-untyped-def]
        late = "train/shard-000003" in path
        return "forbidden" if method in ("PUT", "POST") and late else None

    s3.choose_fault = refuse_later_shards
    with pytest.raises(
        JobError, match=r"train/shard-000003.*(Access|Forbidden|denied).*run the same command again"
    ):
        generate(str(small_recipe), catalogue_path, place, InProcess(), SAMPLES, seed=SEED, overrides=LONG)
    assert not any("shard-000003" in name for name in open_store(place).names())
    s3.choose_fault = lambda method, path: None
    done = generate(
        str(small_recipe), catalogue_path, place, LocalProcesses(2), SAMPLES, seed=SEED, overrides=LONG
    )
    assert done.kept_shards == 3
    assert fingerprint(place) == fingerprint(quiet)


def test_a_bucket_that_is_missing_forbidden_or_out_of_reach_is_said_before_anything_is_done(
    s3: S3, small_recipe: Path, catalogue_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import s3fs

    def attempt(place: str) -> None:
        generate(str(small_recipe), catalogue_path, place, InProcess(), SAMPLES, seed=SEED, overrides=LONG)

    with pytest.raises(
        UserError, match=r"s3://no-such-bucket/c: cannot be written \(.*bucket does not exist"
    ):
        attempt("s3://no-such-bucket/c")
    s3.choose_fault = lambda method, path: "forbidden"
    with pytest.raises(UserError, match=r"s3://corpora/d: cannot be written \(.*(Access|Forbidden)"):
        attempt("s3://corpora/d")
    s3.choose_fault = lambda method, path: None
    assert open_store("s3://corpora/d").names() == {}
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")  # nobody listens there
    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(UserError, match=r"s3://corpora/d: cannot be written \(.*[Cc]ould not connect"):
        attempt("s3://corpora/d")
