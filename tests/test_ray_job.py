"""What `ray job submit --working-dir .` takes from a checkout, and where the paths of such a job lead."""

import os
import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest

from manifests.errors import UserError
from pipelines.ray_job import check_read, check_written

ROOT = Path(__file__).resolve().parents[1]

LARGE = (
    ".venv/lib/site-packages/torch/torch.so", ".git/objects/ab/cdef", "demo/corpus/train/shard-000000.tar",
    "runs/small/model.safetensors", "evaluations/corpus/rows.parquet", "my-corpus/train/shard-000000.json",
    "my-corpus/samples.parquet", "speech/p1/a.flac", "mlflow.db", "mlruns/0/meta.yaml", "shard-000000.tar",
    "a.flac", "pipelines/__pycache__/cli.cpython-311.pyc",
)  # fmt: skip
WANTED = ("mine.yaml", "sources.parquet")


def test_a_job_uploads_the_code_recipes_and_catalogues_and_nothing_large(tmp_path: Path) -> None:
    from ray._private.ray_constants import get_runtime_env_default_excludes
    from ray._private.runtime_env.packaging import create_package

    checkout = tmp_path / "checkout"
    packages = ("manifests", "datagen", "training", "pipelines")
    for name in packages:
        shutil.copytree(ROOT / name, checkout / name, ignore=shutil.ignore_patterns("__pycache__"))
    files = {str(path.relative_to(checkout)) for path in checkout.rglob("*") if path.is_file()}
    models = {name for name in files if name.startswith("training/shipped/") and name.count("/") > 2}
    assert models
    code = files - models
    for name in (".gitignore", ".rayignore", "pyproject.toml"):
        shutil.copy2(ROOT / name, checkout / name)
    for name in (*LARGE, *WANTED):
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        (checkout / name).write_bytes(os.urandom(100_000))
    package = tmp_path / "package.zip"
    create_package(
        str(checkout), package, include_gitignore=True, excludes=get_runtime_env_default_excludes()
    )
    packed = {name for name in zipfile.ZipFile(package).namelist() if not name.endswith("/")}
    assert packed == code | set(WANTED) | {"pyproject.toml"}
    assert package.stat().st_size < 1.1 * sum((checkout / name).stat().st_size for name in packed)
    assert all((checkout / name).stat().st_size < 50_000 for name in code)


@pytest.fixture
def copy_of_a_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder of a submitted job."""
    folder = tmp_path / "session" / "runtime_resources" / "working_dir_files" / "_ray_pkg_0123"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    return folder


def test_a_job_never_writes_into_its_copy(copy_of_a_job: Path, tmp_path: Path) -> None:
    for path in ("corpus", "./corpora/new", copy_of_a_job / "corpus"):
        with pytest.raises(UserError, match=r"--out .*: lies in the folder that Ray deletes after the job"):
            check_written("--out", path)
    for place in (tmp_path / "corpus", "/data/corpus", "s3://bucket/corpus", "memory://corpus"):
        check_written("--out", place)


def test_a_job_reads_what_was_uploaded_and_is_told_what_was_not(copy_of_a_job: Path) -> None:
    with pytest.raises(UserError, match=r"--sources sources\.parquet: was not uploaded with the job"):
        check_read("--sources", "sources.parquet")
    (copy_of_a_job / "sources.parquet").touch()
    check_read("--sources", "sources.parquet")
    check_read("--sources", "/data/sources.parquet")


@pytest.mark.usefixtures("copy_of_a_job")
@pytest.mark.parametrize("option", ["--out", "--sources", "--cache"])
def test_generate_in_a_job_names_the_option_that_leads_nowhere(
    ssiforge: Any, catalogue_path: Path, small_recipe: Path, tmp_path: Path, option: str
) -> None:
    options = {"--out": tmp_path / "c", "--sources": catalogue_path, "--cache": tmp_path} | {
        option: Path("here")
    }
    words = [word for pair in options.items() for word in pair]
    code, _, errors = ssiforge("generate", small_recipe, "--samples", 4, *words)
    assert code == 2
    assert errors.startswith(f"ssiforge: {option} here: ")
    assert not (tmp_path / "c").exists()


@pytest.mark.usefixtures("copy_of_a_job")
def test_scan_in_a_job_refuses_to_lose_its_catalogue(ssiforge: Any, material_folder: Path) -> None:
    code, _, errors = ssiforge("scan", "--speech", material_folder / "speech", "--out", "sources.parquet")
    assert code == 2
    assert errors.startswith("ssiforge: --out sources.parquet: lies in the folder that Ray deletes")
