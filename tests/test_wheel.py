"""What pip installs holds everything that the code reads from its own folders, shipped models among it."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("manifests", "datagen", "training", "pipelines")
NEEDED = ("pyproject.toml", "README.md", "LICENSE")
SHIPPED_FILES = ("weights.safetensors", "model.json", "MODEL_CARD.md")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Names of the files in a wheel that was built from this source tree with a shipped model `mine` in it."""
    pytest.importorskip(
        "setuptools", minversion="77", reason="building a wheel offline needs setuptools >= 77"
    )
    root = tmp_path_factory.mktemp("wheel")
    for name in PACKAGES:
        shutil.copytree(ROOT / name, root / "source" / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in NEEDED:
        shutil.copy(ROOT / name, root / "source")
    shipped = root / "source" / "training" / "shipped" / "mine"
    shipped.mkdir()
    for name in SHIPPED_FILES:
        (shipped / name).write_text("as it is")
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
    ]
    built = subprocess.run(
        [*command, "--disable-pip-version-check", "--wheel-dir", root / "wheels", root / "source"],
        env=os.environ | {"PYTHONPATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    (wheel,) = (root / "wheels").glob("ssiforge-*.whl")
    return set(zipfile.ZipFile(wheel).namelist())


def test_a_shipped_model_is_installed_whole(installed: set[str]) -> None:
    assert {f"training/shipped/mine/{name}" for name in SHIPPED_FILES} <= installed


def test_every_module_and_every_file_that_code_reads_is_installed(installed: set[str]) -> None:
    kinds = (".py", ".yaml", ".json", ".css", ".js", ".safetensors", "py.typed", "MODEL_CARD.md")
    there = {
        path.relative_to(ROOT).as_posix()
        for name in PACKAGES
        for path in (ROOT / name).rglob("*")
        if path.name.endswith(kinds)
    }
    assert there
    assert there <= installed
