"""Nodes of a cluster come and go in mid-job, and the corpus is the one that a single process makes."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from machines import Machines

from manifests.corpus import open_corpus
from pipelines.executors import InProcess
from pipelines.generation.generate import fingerprint, generate
from pipelines.generation.local_processes import LocalProcesses
from pipelines.generation.ray_tasks import RayTasks
from pipelines.verify import verify

pytestmark = [pytest.mark.faults, pytest.mark.xdist_group("cluster"), pytest.mark.timeout(600)]

SAMPLES = 480
RECIPE = """
name: with-rooms
seconds: 4
splits: {train: 0.6, val: 0.2, test: 0.2}
output: {samples_per_shard: 8}
rooms: {count: 12, positions: 2, rt60_s: [0.2, 0.4]}
stages:
  - {stage: room, p: 0.5}
  - {stage: noise, p: 0.8, snr_db: [0, 20]}
  - {stage: clipping, p: 0.3}
"""


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "rooms.yaml"
    path.write_text(RECIPE)
    return path


@pytest.fixture
def machines() -> Iterator[Machines]:
    running = Machines()
    for _ in range(3):
        running.add()
    yield running
    running.cluster.shutdown()


def test_a_node_that_leaves_and_one_that_joins_in_mid_job_change_nothing(
    machines: Machines, tmp_path: Path, recipe: Path, catalogue_path: Path
) -> None:
    cache, alone, out = tmp_path / "cache", tmp_path / "alone", tmp_path / "c"
    generate(str(recipe), catalogue_path, alone, LocalProcesses(2), SAMPLES, seed=3, cache=cache)
    command = [
        sys.executable,
        "-m",
        "pipelines.cli",
        "generate",
        str(recipe),
        "--sources",
        str(catalogue_path),
    ]
    command += ["--out", str(out), "--samples", str(SAMPLES), "--seed", "3", "--cache", str(cache)]
    job = subprocess.Popen([*command, "--ray", machines.cluster.address], stderr=subprocess.PIPE, text=True)
    _wait_for(lambda: len(list(out.rglob("shard-*.json"))) >= 4 and machines.workers(), job)
    machines.lose(next(node for node in machines.nodes if machines.workers_of(node)))
    machines.add()
    _wait_for(lambda: machines.workers_of(machines.nodes[-1]), job)  # the newcomer gets work
    _, errors = job.communicate(timeout=300)
    assert job.returncode == 0, errors
    manifest = open_corpus(out).manifest
    assert fingerprint(out) == fingerprint(alone)
    assert manifest.failures == open_corpus(alone).manifest.failures
    assert not manifest.lost_shards
    assert not list(out.rglob(".*"))
    # Workers on other machines do not see the driver's cache of rooms: they read them from the corpus.
    assert len(list((out / "rooms").rglob("*.wav"))) == 24
    for room in cache.rglob("room-*"):
        room.unlink()
    assert verify(out, rerender=20).problems == ()


def _wait_for(condition: Callable[[], object], job: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert job.poll() is None, "the job ended before it was disturbed"
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_cluster_renders_into_a_bucket_what_one_process_renders_into_a_folder(
    machines: Machines, tmp_path: Path, recipe: Path, catalogue_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from s3_server import s3_server

    generate(
        str(recipe), catalogue_path, tmp_path / "alone", InProcess(), 24, seed=4, cache=tmp_path / "cache"
    )
    with s3_server() as s3:
        for name, value in s3.environment.items():
            monkeypatch.setenv(name, value)
        machines.add()  # it inherits the credentials; the others were there before the bucket
        for node in list(machines.nodes[:-1]):
            machines.lose(node)
        place = f"s3://{s3.bucket}/corpus"
        address = machines.cluster.address
        generate(str(recipe), catalogue_path, place, RayTasks(address), 24, seed=4, cache=tmp_path / "cache")
        assert fingerprint(place) == fingerprint(tmp_path / "alone")
        assert verify(place, rerender=4).problems == ()
