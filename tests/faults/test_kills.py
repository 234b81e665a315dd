"""Twenty random SIGKILLs of workers, of a raylet and of the driver lose nothing, double nothing and leave nothing."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from machines import Machines
from processes import children, command, kill_and_wait

from manifests.corpus import open_corpus, read_manifest
from manifests.errors import JobInterrupted
from pipelines.executors import InProcess
from pipelines.generation.generate import fingerprint, generate
from pipelines.generation.local_processes import LocalProcesses
from pipelines.verify import verify

pytestmark = [pytest.mark.faults, pytest.mark.xdist_group("cluster"), pytest.mark.timeout(900)]

SEED = int(os.environ.get("SSIFORGE_KILL_SEED", "20261125"))
SAMPLES = 1_200
LONG = ("seconds=4", "output.samples_per_shard=20")
KILLS = ["worker"] * 14 + ["raylet"] * 2 + ["driver"] * 4


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, small_recipe: Path, catalogue_path: Path) -> Path:
    out = tmp_path_factory.mktemp("corpus") / "undisturbed"
    generate(str(small_recipe), catalogue_path, out, LocalProcesses(2), SAMPLES, seed=SEED, overrides=LONG)
    return out


def _start(recipe: Path, sources: Path, out: Path, *more: str) -> subprocess.Popen[bytes]:
    arguments = [sys.executable, "-m", "pipelines.cli", "generate", str(recipe), "--sources", str(sources)]
    arguments += ["--out", str(out), "--samples", str(SAMPLES), "--seed", str(SEED), *more]
    arguments += [word for setting in LONG for word in ("--set", setting)]
    return subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def _check(out: Path, undisturbed: Path, recipe: Path, sources: Path) -> None:
    done = generate(str(recipe), sources, out, LocalProcesses(2), SAMPLES, seed=SEED, overrides=LONG)
    assert fingerprint(out) == fingerprint(undisturbed), f"seed {SEED}"
    assert done.manifest.id == read_manifest(undisturbed).id
    assert done.manifest.failures == read_manifest(undisturbed).failures
    assert not done.manifest.lost_shards
    keys = Counter(entry.key for shard in open_corpus(out).shards for entry in shard.samples)
    assert set(keys.values()) == {1}
    assert set(keys) == {e.key for shard in open_corpus(undisturbed).shards for e in shard.samples}
    files = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    assert files == {str(p.relative_to(undisturbed)) for p in undisturbed.rglob("*") if p.is_file()}
    assert verify(out).problems == ()


@pytest.fixture
def machines() -> Iterator[Machines]:
    running = Machines()
    running.add()
    running.add()
    yield running
    running.cluster.shutdown()


def test_twenty_kills_of_workers_raylets_and_drivers_change_nothing(
    machines: Machines, undisturbed: Path, tmp_path: Path, small_recipe: Path, catalogue_path: Path
) -> None:
    rng = np.random.default_rng(SEED)
    print(f"seed {SEED}")
    out = tmp_path / "c"

    def start() -> subprocess.Popen[bytes]:
        return _start(small_recipe, catalogue_path, out, "--ray", machines.cluster.address)

    job = start()
    done = Counter[str]()
    for kind in rng.permutation(KILLS):
        if not _wait_for_a_worker(machines, job):
            break
        time.sleep(rng.uniform(0.1, 0.8))
        if kind == "worker" and (workers := machines.workers()):
            kill_and_wait(int(rng.choice(workers)))
        elif kind == "raylet":
            machines.lose(machines.nodes[int(rng.integers(len(machines.nodes)))])
            machines.add()
        else:
            kind = "driver"
            job.kill()
            job.communicate()
            job = start()
        done[str(kind)] += 1
        print(kind, flush=True)
    _, errors = job.communicate(timeout=600)
    assert job.returncode == 0, errors.decode()
    assert done.total() == len(KILLS), f"the job ended after {done}, seed {SEED}"
    _check(out, undisturbed, small_recipe, catalogue_path)


def _wait_for_a_worker(machines: Machines, job: subprocess.Popen[bytes]) -> bool:
    deadline = time.monotonic() + 120
    while not machines.workers():
        if job.poll() is not None:
            return False
        assert time.monotonic() < deadline, "nobody works"
        time.sleep(0.05)
    return True


def test_kills_of_local_workers_and_drivers_change_nothing(
    undisturbed: Path, tmp_path: Path, small_recipe: Path, catalogue_path: Path
) -> None:
    rng = np.random.default_rng(SEED + 1)
    out = tmp_path / "c"
    job = _start(small_recipe, catalogue_path, out)
    for kind in rng.permutation(["worker"] * 8 + ["driver"] * 2):
        while not (spawned := [pid for pid in children(job.pid) if "spawn_main" in command(pid)]):
            assert job.poll() is None, "the job ended before it was disturbed"
            time.sleep(0.02)
        time.sleep(rng.uniform(0.2, 2.0))
        if kind == "worker":
            kill_and_wait(int(rng.choice(spawned)))
            continue
        job.kill()
        job.communicate()
        for pid in spawned:
            kill_and_wait(pid)
        job = _start(small_recipe, catalogue_path, out)
    _, errors = job.communicate(timeout=600)
    assert job.returncode == 0, errors.decode()
    _check(out, undisturbed, small_recipe, catalogue_path)


def test_of_two_jobs_started_at_once_one_works_and_the_other_says_so(
    undisturbed: Path, tmp_path: Path, small_recipe: Path, catalogue_path: Path
) -> None:
    out = tmp_path / "c"
    jobs = [_start(small_recipe, catalogue_path, out) for _ in range(2)]
    ends = sorted(
        ((job.communicate(timeout=300)[1].decode(), job.returncode) for job in jobs), key=lambda e: e[1]
    )
    assert [code for _, code in ends] == [0, 2], ends
    assert f"{out}: another job is writing this corpus" in ends[1][0]
    _check(out, undisturbed, small_recipe, catalogue_path)


@pytest.mark.parametrize("presses", [1, 2])
def test_control_c_stops_at_shard_borders_and_a_second_one_at_once(
    presses: int, undisturbed: Path, tmp_path: Path, small_recipe: Path, catalogue_path: Path
) -> None:
    out = tmp_path / "c"
    job = _start(small_recipe, catalogue_path, out)
    deadline = time.monotonic() + 60
    while len(list(out.rglob("shard-*.json"))) < 2 or not list(out.rglob(".shard-*.tmp")):
        assert time.monotonic() < deadline and job.poll() is None
        time.sleep(0.005)
    begun = {
        path.name[1:].partition(".tar")[0] + path.parent.name for path in out.rglob(".shard-*.tar.*.tmp")
    }
    job.send_signal(signal.SIGINT)
    if presses == 2:
        time.sleep(0.05)
        job.send_signal(signal.SIGINT)
    _, errors = job.communicate(timeout=120)
    said = errors.decode()
    assert job.returncode == 130
    assert "Traceback" not in said
    assert "run the same command again to go on" in said
    assert not list(out.rglob("*.tmp"))
    finished = {path.stem + path.parent.name for path in out.rglob("shard-*.json")}
    if presses == 1:
        assert "stopping when the shards in progress are finished" in said
        assert begun <= finished
    assert json.loads((out / "progress.json").read_text())["state"] == "interrupted"
    _check(out, undisturbed, small_recipe, catalogue_path)


def test_sigterm_lets_ray_finish_the_shards_in_progress(
    machines: Machines, undisturbed: Path, tmp_path: Path, small_recipe: Path, catalogue_path: Path
) -> None:
    out = tmp_path / "c"
    job = _start(small_recipe, catalogue_path, out, "--ray", machines.cluster.address)
    deadline = time.monotonic() + 120
    while len(list(out.rglob("shard-*.json"))) < 3:
        assert time.monotonic() < deadline and job.poll() is None
        time.sleep(0.02)
    job.send_signal(signal.SIGTERM)
    said = job.communicate(timeout=120)[1].decode()
    assert job.returncode == 130, said
    assert "stopping when the shards in progress are finished" in said
    assert json.loads((out / "progress.json").read_text())["state"] == "interrupted"
    assert not list(out.rglob("*.tmp"))
    _check(out, undisturbed, small_recipe, catalogue_path)


def test_a_job_that_is_asked_to_stop_in_its_own_process_stops_after_the_shard(
    tmp_path: Path, small_recipe: Path, catalogue_path: Path
) -> None:
    class Interrupted(InProcess):
        def run(self, job, tasks):  # type: ignore[no-untyped-def]
            for outcome in super().run(job, tasks):
                os.kill(os.getpid(), signal.SIGINT)
                yield outcome

    out = tmp_path / "c"
    with pytest.raises(JobInterrupted, match="interrupted; 1 of 5 shards are finished, run the same command"):
        generate(str(small_recipe), catalogue_path, out, Interrupted(), samples=20, seed=SEED)
    assert len(list(out.rglob("shard-*.tar"))) == 1
