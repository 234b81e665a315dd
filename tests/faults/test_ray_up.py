"""`ray up ray_cluster.yaml` as it stands, but for addresses, ports and the installation of packages.

Hosts are folders of this machine: see folder_hosts.py. What Ray does on them is real.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from loopback_ray import Cluster, free_ports

from datagen.environment import THREAD_PINS

pytestmark = [pytest.mark.faults, pytest.mark.xdist_group("cluster")]

ROOT = Path(__file__).resolve().parents[2]
WORKER = "127.0.0.2"
NODES_WITHIN_S = 150
LOOK = f"""
import json, os, time, ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
ray.init("auto", log_to_driver=False)
deadline = time.monotonic() + {NODES_WITHIN_S}
while len(nodes := [node["NodeID"] for node in ray.nodes() if node["Alive"]]) < 2 and time.monotonic() < deadline:
    time.sleep(1)
look = ray.remote(num_cpus=1)(lambda: dict(os.environ))
found = [look.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote() for node in nodes]
print("FOUND", json.dumps(ray.get(found)))
"""


def _with_tools(home: Path) -> None:
    """A home as setup leaves it, with this environment's packages and the stand-ins in place of an installation."""
    tools = home / "ssiforge-venv" / "bin"
    tools.mkdir(parents=True)
    stand_in = f"#!{sys.executable}\n" + Path(__file__).with_name("folder_hosts.py").read_text()
    scripts = {"ssh": stand_in, "rsync": stand_in}
    scripts |= {
        name: f'#!/bin/sh\nexec {Path(sys.executable).parent}/{name} "$@"\n' for name in ("python", "ray")
    }
    for name, text in scripts.items():
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    (home / ".profile").write_text(f'export PATH="{Path(sys.executable).parent}:$PATH"\n')


def _cluster_file(cluster: Cluster, head: str) -> Path:
    """The shipped file for two hosts of this machine, beside which other Rays may run."""
    text = (ROOT / "ray_cluster.yaml").read_text()
    gcs, dashboard, client = map(str, free_ports(3))
    apart = "--num-cpus=1 --min-worker-port=0 --max-worker-port=0 --dashboard-agent-listen-port=0"
    for old, new in {
        "192.0.2.10 ": f"{head} ",
        "[192.0.2.11, 192.0.2.12]": f"[{WORKER}]",
        "~/.ssh/id_ed25519": str(cluster.folder / "key"),
        "~/ssiforge-venv/bin/ray stop": "echo other Rays of this machine go on",
        "6379": gcs,
        "8265": dashboard,
        "bin/ray start": f"bin/ray start {apart}",
        " --head ": f" --head --ray-client-server-port={client} ",
    }.items():
        assert old in text, old
        text = text.replace(old, new)
    config = yaml.safe_load(text)
    installs = [c for c in config["setup_commands"] if "-m venv" in c or "pip install" in c]
    assert len(installs) == 2
    config["setup_commands"] = [c for c in config["setup_commands"] if c not in installs]
    (cluster.folder / "key").touch()
    path = cluster.folder / "cluster.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def test_ray_up_starts_head_and_worker_with_token_and_one_thread_a_task(cluster: Cluster) -> None:
    from ray.util import get_node_ip_address

    head = get_node_ip_address()
    hosts = cluster.folder / "hosts"
    (hosts / WORKER).mkdir(parents=True)
    (hosts / head).mkdir()
    laptop = cluster.home("laptop")
    for home in (hosts / WORKER, hosts / head, laptop):
        _with_tools(home)
    environment = cluster.environment(laptop) | {"FOLDER_OF_HOSTS": str(hosts)}
    environment["PATH"] = os.pathsep.join([str(laptop / "ssiforge-venv" / "bin"), environment["PATH"]])
    path = _cluster_file(cluster, head)

    def ray(*words: str) -> str:
        done = subprocess.run(
            ["ray", *words],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=250,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    ray("up", "-y", str(path))
    script = hosts / head / "scripts" / "look.py"  # beside Ray's folder, `import ray` would find that
    script.parent.mkdir()
    script.write_text(LOOK)
    line = next(
        line
        for line in ray("exec", str(path), "python ~/scripts/look.py").splitlines()
        if line.startswith("FOUND")
    )
    found = json.loads(line.removeprefix("FOUND"))
    assert {Path(seen["HOME"]).name for seen in found} == {head, WORKER}
    for seen in found:
        assert THREAD_PINS.items() <= seen.items()
        assert seen["RAY_AUTH_MODE"] == "token"
        assert seen["PATH"].startswith(f"{seen['HOME']}/ssiforge-venv/bin:")
        assert (Path(seen["HOME"]) / ".ray" / "auth_token").stat().st_mode & 0o777 == 0o600
        assert (Path(seen["HOME"]) / "ssiforge" / "pipelines" / "cli.py").is_file()
