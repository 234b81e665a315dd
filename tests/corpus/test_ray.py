"""Ray renders the bytes that processes render, and fails as they do: on one local Ray, whose start takes seconds."""

import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from faulty_recipe import write_recipe
from half_a_shard import generate_big, wait_for_half_a_shard

from manifests.corpus import open_corpus
from manifests.errors import JobError
from pipelines.executors import InProcess
from pipelines.generation.generate import fingerprint, generate
from pipelines.generation.local_processes import LocalProcesses
from pipelines.generation.ray_tasks import RayTasks
from pipelines.verify import verify

SAMPLES = 20
SEED = 7

pytestmark = pytest.mark.usefixtures("ray_session")


@pytest.fixture(scope="module")
def ray_session(installed_stages: Path) -> Iterator[None]:
    """A local Ray of two CPUs, whose workers know the stages of `stages.py` and the job of `poisoned.py`."""
    import ray

    known = [str(installed_stages), str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(known))
        ray.init(
            "local", num_cpus=2, include_dashboard=False, object_store_memory=100 * 2**20, log_to_driver=False
        )
    yield
    ray.shutdown()


def test_ray_makes_the_same_bytes(tmp_path: Path, small_recipe: Path, catalogue_path: Path) -> None:
    for name, executor in (("here", InProcess()), ("ray", RayTasks())):
        generate(str(small_recipe), catalogue_path, tmp_path / name, executor, samples=SAMPLES, seed=SEED)
    assert fingerprint(tmp_path / "ray") == fingerprint(tmp_path / "here")
    assert not list((tmp_path / "ray").rglob(".*"))


@pytest.mark.usefixtures("user_stages")
def test_ray_says_which_shard_failed_and_why(tmp_path: Path, catalogue_path: Path) -> None:
    recipe = write_recipe(tmp_path / "r.yaml", "does_nothing", "limits: {max_attempts: 2}")
    with pytest.raises(JobError, match="could not be rendered in 2 attempts.*changed nothing"):
        generate(recipe, catalogue_path, tmp_path / "a", RayTasks(), samples=4)
    recipe = write_recipe(tmp_path / "r.yaml", "runs_out_of_memory")
    for executor in (RayTasks(), LocalProcesses(1)):
        with pytest.raises(JobError, match=r"\w+/shard-000000: a worker failed: MemoryError: 9 GB"):
            generate(recipe, catalogue_path, tmp_path / "b", executor, samples=4)
    assert not list(tmp_path.rglob("*.tar"))


@pytest.mark.usefixtures("poisoned")
def test_ray_gives_the_same_shard_up(tmp_path: Path, small_recipe: Path, catalogue_path: Path) -> None:
    done = generate(str(small_recipe), catalogue_path, tmp_path / "c", RayTasks(), 60, seed=1)
    assert list(done.manifest.lost_shards) == ["train/shard-000001.tar"]
    assert "RuntimeError: a bug that nobody knew" in done.manifest.lost_shards["train/shard-000001.tar"]


@pytest.mark.faults
@pytest.mark.xdist_group("cluster")
@pytest.mark.usefixtures("user_stages")
def test_ray_finds_the_same_deadly_draws_as_local_processes(tmp_path: Path, catalogue_path: Path) -> None:
    recipe = write_recipe(tmp_path / "r.yaml", "kills_its_process", "limits: {max_failed_share: 0.9}")
    generate(recipe, catalogue_path, tmp_path / "a", LocalProcesses(2), samples=6, seed=2)
    generate(recipe, catalogue_path, tmp_path / "b", RayTasks(), samples=6, seed=2)
    assert open_corpus(tmp_path / "a").manifest.failures
    assert fingerprint(tmp_path / "b") == fingerprint(tmp_path / "a")
    assert verify(tmp_path / "b").problems == ()


@pytest.mark.faults
@pytest.mark.xdist_group("cluster")
def test_a_ray_worker_killed_in_mid_shard_changes_nothing(
    tmp_path: Path, small_recipe: Path, catalogue_path: Path
) -> None:
    undisturbed, out = tmp_path / "undisturbed", tmp_path / "c"
    generate_big(small_recipe, catalogue_path, undisturbed, InProcess())
    killed: list[int] = []

    def kill_one() -> None:
        wait_for_half_a_shard(out)
        killed.append(_own_ray_workers()[0])
        os.kill(killed[0], signal.SIGKILL)

    killer = threading.Thread(target=kill_one)
    killer.start()
    generate_big(small_recipe, catalogue_path, out, RayTasks())
    killer.join()
    assert killed
    assert fingerprint(out) == fingerprint(undisturbed)
    assert open_corpus(out).manifest.failures == open_corpus(undisturbed).manifest.failures
    assert not list(out.rglob(".*"))


def _own_ray_workers() -> list[int]:
    """Processes that render as Ray tasks of this very process; others may run Ray on this machine too."""
    listing = subprocess.run(
        ["ps", "-A", "-ww", "-o", "pid=,ppid=,args="], capture_output=True, text=True, check=True
    )
    rows = [line.split(None, 2) for line in listing.stdout.splitlines()]
    parent = {int(row[0]): int(row[1]) for row in rows}

    def is_ours(pid: int) -> bool:
        return pid == os.getpid() or (pid in parent and is_ours(parent[pid]))

    named = [int(row[0]) for row in rows if len(row) > 2 and row[2].startswith("ray::_render_with_ray")]
    return [pid for pid in named if is_ours(pid)]
