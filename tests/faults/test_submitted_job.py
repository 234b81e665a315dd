"""`ray job submit --working-dir . -- ssiforge generate ... --ray auto`, against a head with token authentication."""

import json
import os
import shutil
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from loopback_ray import Cluster, free_ports

from manifests.corpus import open_corpus
from pipelines.executors import InProcess
from pipelines.generation.generate import generate
from pipelines.verify import verify

pytestmark = [pytest.mark.faults, pytest.mark.xdist_group("cluster")]

ROOT = Path(__file__).resolve().parents[2]
CODE = ("manifests", "datagen", "training", "pipelines", "pyproject.toml", ".gitignore", ".rayignore")
SAMPLES = 8
SEED = 7
PROOF = "package-of-the-upload"
"""A package whose version the uploaded code records with every shard, and the installed code does not."""


@dataclass(frozen=True)
class Head:
    """A running head."""

    url: str
    environment: dict[str, str]

    def submit(self, checkout: Path, *command: object) -> subprocess.CompletedProcess[str]:
        """Submit a job from a checkout and wait for its end."""
        words = [
            "ray",
            "job",
            "submit",
            "--address",
            self.url,
            "--working-dir",
            ".",
            "--",
            *map(str, command),
        ]
        return subprocess.run(
            words,
            cwd=checkout,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=240,
        )

    def status_of_post(self, headers: dict[str, str], job: dict[str, str]) -> int:
        """HTTP status of an attempt to submit a job."""
        request = urllib.request.Request(
            f"{self.url}/api/jobs/", json.dumps(job).encode(), headers | {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code


@pytest.fixture(scope="module")
def head(cluster: Cluster) -> Iterator[Head]:
    home = cluster.home("head")
    environment = cluster.environment(home) | {"RAY_AUTH_MODE": "token"}
    gcs, dashboard, agent, agent_grpc, metrics, client = free_ports(6)
    command = ["ray", "start", "--head", "--num-cpus=2", "--object-store-memory=100000000"]
    command += ["--node-ip-address=127.0.0.1", f"--port={gcs}", f"--ray-client-server-port={client}"]
    command += [
        "--dashboard-host=127.0.0.1",
        f"--dashboard-port={dashboard}",
        f"--metrics-export-port={metrics}",
    ]
    command += [f"--dashboard-agent-listen-port={agent}", f"--dashboard-agent-grpc-port={agent_grpc}"]
    command += ["--min-worker-port=0", "--max-worker-port=0", "--disable-usage-stats"]
    subprocess.run(command, env=environment, check=True, timeout=120, stdout=subprocess.DEVNULL)
    yield Head(f"http://127.0.0.1:{dashboard}", environment)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory, small_recipe: Path) -> Path:
    """A checkout whose code says so in every shard's record, with a recipe, and a corpus that must stay at home."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in CODE:
        source = ROOT / name
        copy = shutil.copytree if source.is_dir() else shutil.copy2
        copy(source, folder / name)
    code = folder / "datagen" / "environment.py"
    changed = code.read_text().replace("_AUDIO_PACKAGES = (", f'_AUDIO_PACKAGES = ("{PROOF}", ')
    code.write_text(changed)
    assert PROOF in code.read_text()
    shutil.copy2(small_recipe, folder / "small.yaml")
    (folder / "corpus" / "train").mkdir(parents=True)
    (folder / "corpus" / "train" / "shard-000000.tar").write_bytes(os.urandom(1_000_000))
    return folder


def test_a_submitted_job_renders_the_same_corpus_with_the_uploaded_code(
    head: Head, checkout: Path, catalogue_path: Path, small_recipe: Path, tmp_path: Path
) -> None:
    words = ["--sources", catalogue_path, "--samples", SAMPLES, "--seed", SEED, "--ray", "auto"]
    job = head.submit(checkout, "ssiforge", "generate", "small.yaml", "--out", tmp_path / "c", *words)
    assert job.returncode == 0, job.stdout + job.stderr
    assert verify(tmp_path / "c").problems == ()
    here = generate(
        str(small_recipe), catalogue_path, tmp_path / "here", InProcess(), samples=SAMPLES, seed=SEED
    ).manifest
    submitted = open_corpus(tmp_path / "c")
    assert submitted.manifest.id == here.id
    assert submitted.manifest.shards == here.shards
    assert all(shard.environment[PROOF] == "absent" for shard in submitted.shards)
    assert PROOF not in here.environment


def test_a_job_that_would_write_into_ray_s_copy_is_refused(
    head: Head, checkout: Path, catalogue_path: Path
) -> None:
    words = ["--sources", catalogue_path, "--samples", SAMPLES, "--ray", "auto"]
    job = head.submit(checkout, "ssiforge", "generate", "small.yaml", "--out", "corpora/new", *words)
    assert job.returncode != 0
    assert "--out corpora/new: lies in the folder that Ray deletes after the job" in job.stdout + job.stderr
    assert not list(Path(head.environment["HOME"]).rglob("corpora"))


def test_without_the_token_no_job_is_taken(head: Head, cluster: Cluster, tmp_path: Path) -> None:
    job = {"entrypoint": f"touch {tmp_path / 'was-here'}"}
    assert head.status_of_post({}, job) == 401
    assert head.status_of_post({"Authorization": f"Bearer {'0' * 64}"}, job) == 403
    assert head.status_of_post({"Authorization": f"Bearer {cluster.token}"}, {"entrypoint": "true"}) == 200
    assert not (tmp_path / "was-here").exists()
