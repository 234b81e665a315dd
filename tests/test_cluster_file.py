"""`ray_cluster.yaml`, in both variants: Ray accepts it, and its commands leave a node as they should."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from datagen.environment import THREAD_PINS

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "ray_cluster.yaml").read_text()


def _block(name: str) -> str:
    """The lines between the marks of a variant."""
    found = re.search(rf"^# >>> {name}\n(.*?)^# <<< {name}\n", TEXT, re.M | re.S)
    assert found is not None
    return found[1]


def _variant(name: str) -> str:
    """The file as its first comment tells to change it."""
    if name == "on premises":
        return TEXT
    commented = _block("AWS")
    assert all(line == "#" or line.startswith("# ") for line in commented.splitlines())
    uncommented = "".join(f"{line[2:]}\n" for line in commented.splitlines())
    return TEXT.replace(_block("on premises"), "").replace(commented, uncommented)


def _prepared(name: str) -> dict[str, Any]:
    from ray.autoscaler._private.util import prepare_config

    config: dict[str, Any] = prepare_config(yaml.safe_load(_variant(name)))
    return config


@pytest.mark.parametrize("name", ["on premises", "AWS"])
def test_the_cluster_file_passes_ray_s_own_validation(name: str) -> None:
    from ray.autoscaler._private.util import validate_config

    validate_config(_prepared(name))


@pytest.mark.parametrize("name", ["on premises", "AWS"])
def test_the_dashboard_is_for_the_head_alone_and_nodes_start_ray_with_their_environment(name: str) -> None:
    config = _prepared(name)
    (head,) = (command for command in config["head_start_ray_commands"] if "ray start" in command)
    (worker,) = (command for command in config["worker_start_ray_commands"] if "ray start" in command)
    assert "--dashboard-host=127.0.0.1" in head
    for command in (head, worker):
        assert command.startswith(". ~/ssiforge-env.sh;")
        assert "~/ssiforge-venv/bin/ray start" in command
        assert "ulimit -n 65536" in command


def test_on_aws_workers_are_spot_instances_and_the_head_is_not() -> None:
    types = _prepared("AWS")["available_node_types"]
    assert types["spot"]["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
    assert "InstanceMarketOptions" not in types["head"]["node_config"]
    assert types["spot"]["min_workers"] <= types["spot"]["max_workers"]
    assert types["head"]["max_workers"] == 0


def test_addresses_and_accounts_are_those_reserved_for_documentation() -> None:
    assert all(
        address.startswith("192.0.2.")
        for address in re.findall(r"\d+\.\d+\.\d+\.\d+", TEXT)
        if address != "127.0.0.1"
    )
    assert set(re.findall(r"\b\d{12}\b", TEXT)) == {"123456789012"}
    assert re.findall(r"ami-\w+", TEXT) == ["ami-00000000000000000"]


def test_nodes_get_every_package_and_what_its_installation_reads() -> None:
    import tomllib

    mounts = yaml.safe_load(TEXT)["file_mounts"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = [name.rstrip("*") for name in project["tool"]["setuptools"]["packages"]["find"]["include"]]
    files = [project["project"]["readme"], *project["project"]["license-files"]]
    for name in [*packages, *files, "pyproject.toml", "constraints.txt"]:
        assert mounts[f"~/ssiforge/{name}"] == name
        assert (ROOT / name).exists()
    assert mounts["~/.ray/auth_token"] == "~/.ray/auth_token"


def _run_as_ray_does(command: str, home: Path) -> subprocess.CompletedProcess[str]:
    from ray.autoscaler._private.command_runner import _with_interactive

    (home / ".profile").write_text(f'export PATH="{Path(sys.executable).parent}:$PATH"\n')
    environment = {"HOME": str(home), "PATH": os.environ["PATH"]}
    return subprocess.run(
        ["bash", "-c", " ".join(_with_interactive(command))],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def _setup(home: Path) -> None:
    """Run what sets up a node, but for the installation of packages."""
    for command in yaml.safe_load(TEXT)["setup_commands"]:
        if "-m venv" not in command and "pip install" not in command:
            done = _run_as_ray_does(command, home)
            assert done.returncode == 0, done.stderr


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A user's home on a node, to which `ray up` has copied the token."""
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("0" * 64)
    (tmp_path / ".bashrc").write_text('case $- in *i*) ;; *) return ;; esac\nexport OWN="line"\n')
    return tmp_path


def test_every_shell_of_a_node_has_the_token_mode_one_thread_and_the_tools(home: Path) -> None:
    _setup(home)
    shell = f"set -e; . {home}/.bashrc; env"  # not interactive: the owner's own lines end it early
    found = subprocess.run(
        ["bash", "-c", shell],
        env={"HOME": str(home), "PATH": "/bin:/usr/bin"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    assert {f"{name}={value}" for name, value in THREAD_PINS.items()} <= set(found)
    assert "RAY_AUTH_MODE=token" in found
    assert f"PATH={home}/ssiforge-venv/bin:/bin:/usr/bin" in found
    assert (home / ".ray" / "auth_token").stat().st_mode & 0o777 == 0o600


def test_setting_up_a_node_again_changes_nothing(home: Path) -> None:
    _setup(home)
    before = {path: path.read_bytes() for path in home.rglob("*") if path.is_file()}
    _setup(home)
    assert {path: path.read_bytes() for path in home.rglob("*") if path.is_file()} == before
    assert (home / ".bashrc").read_text().count("ssiforge-env.sh") == 1


def test_a_node_with_an_old_python_is_told_so(home: Path) -> None:
    (check,) = (c for c in yaml.safe_load(TEXT)["setup_commands"] if "sys.version_info" in c)
    assert _run_as_ray_does(check, home).returncode == 0
    old = _run_as_ray_does(check.replace("(3, 11)", "(3, 99)"), home)
    assert old.returncode == 1
    assert re.search(
        r"this node has Python 3\.\d+\.\d+; ssiforge needs 3\.11 or newer, the same on every", old.stderr
    )


def test_a_worker_with_another_python_than_the_head_is_told_so(home: Path) -> None:
    tools = home / "ssiforge-venv" / "bin"
    tools.mkdir(parents=True)
    (tools / "python").symlink_to(sys.executable)
    (check,) = yaml.safe_load(TEXT)["worker_setup_commands"]
    (at_the_head,) = (c for c in yaml.safe_load(TEXT)["head_start_ray_commands"] if "--version" in c)
    assert _run_as_ray_does(at_the_head, home).returncode == 0
    assert _run_as_ray_does(check, home).returncode == 0
    (home / "ssiforge-python").write_text("Python 3.12.1\n")
    other = _run_as_ray_does(check, home)
    assert other.returncode == 1
    assert "the head Python 3.12.1; Ray needs the same on all" in other.stdout
