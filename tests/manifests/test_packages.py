"""What is recorded of the code: versions, and the state of our own files, wherever they lie."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from datagen.environment import environment
from manifests.packages import SOURCE, SOURCE_DIGITS, locked_packages, source_digest

ROOT = Path(__file__).resolve().parents[2]
SAYS = "from manifests.packages import SOURCE, locked_packages; print(locked_packages()[SOURCE])"


def said_in(folder: Path) -> str:
    """What a process says that finds our packages in a folder."""
    environment = os.environ | {"PYTHONPATH": str(folder)}
    command = [sys.executable, "-c", SAYS]
    return subprocess.run(
        command, cwd=folder, env=environment, check=True, capture_output=True, text=True
    ).stdout.strip()


def test_the_state_of_our_code_stands_among_the_versions(tmp_path: Path) -> None:
    for name in ("manifests", "datagen", "training", "pipelines"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    ours = locked_packages()[SOURCE]
    assert len(ours) == SOURCE_DIGITS
    assert said_in(tmp_path) == ours  # wherever it lies
    changed = tmp_path / "training" / "losses" / "spectral.py"
    changed.write_text(changed.read_text() + "\n")
    after = said_in(tmp_path)
    assert after != ours
    changed.rename(changed.with_name("other.py"))
    assert said_in(tmp_path) not in (ours, after)


def test_shards_tell_of_what_renders_them_alone() -> None:
    assert environment()[SOURCE] == source_digest("manifests", "datagen") != locked_packages()[SOURCE]
    assert source_digest("manifests", "no_such_package_of_ours") == source_digest("manifests")
