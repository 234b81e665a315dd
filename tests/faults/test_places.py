"""A full, read-only or forbidden disk stops the job with a sentence; nothing is half done, and it goes on later."""

import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import soundfile
from processes import obey_permissions

from manifests.corpus import read_shard_record
from manifests.recipe import SAMPLE_RATE_HZ
from manifests.store import open_store
from pipelines.executors import InProcess
from pipelines.generation.generate import fingerprint, generate
from pipelines.onnx_export.export import noisy_voice
from pipelines.openlineage.log import LINEAGE_FILE
from training.shipped_models import SHIPPED

pytestmark = pytest.mark.faults

SEED = 5
SAMPLES = 120
LONG = ("seconds=4", "output.samples_per_shard=10")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, small_recipe: Path, catalogue_path: Path) -> Path:
    out = tmp_path_factory.mktemp("corpus") / "undisturbed"
    generate(str(small_recipe), catalogue_path, out, InProcess(), SAMPLES, seed=SEED, overrides=LONG)
    return out


def _start(recipe: Path, sources: Path, out: Path, **more: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "pipelines.cli", "generate", str(recipe), "--sources", str(sources)]
    command += ["--out", str(out), "--samples", str(SAMPLES), "--seed", str(SEED)]
    command += [word for setting in LONG for word in ("--set", setting)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, **more)  # type: ignore[call-overload]


def _nothing_is_half_done(out: Path, swept: bool = True) -> None:
    """Every shard with a record is whole, and nothing else has a final name."""
    store = open_store(out)
    sizes = store.names()
    for name in (name for name in sizes if "/shard-" in name and name.endswith(".json")):
        record = read_shard_record(store, name)
        assert store.sha256(record.tar_name) == record.sha256
    assert "corpus.json" not in sizes
    for name in (
        name for name in sizes if name.endswith(".tar")
    ):  # without a record it does not exist; yet no cut one
        assert sizes[name] % 512 == 0
    assert not swept or not [name for name in sizes if name.endswith(".tmp")]


def test_a_full_disk(small_disk: Path, undisturbed: Path, small_recipe: Path, catalogue_path: Path) -> None:
    out = small_disk / "c"
    job = _start(small_recipe, catalogue_path, out)
    _, errors = job.communicate(timeout=120)
    assert job.returncode == 1, errors
    assert "No space left on device" in errors
    assert "what was finished is kept, run the same command again to go on" in errors
    assert "Traceback" not in errors
    _nothing_is_half_done(out)
    subprocess.run(["mount", "-o", "remount,size=200m", str(small_disk)], check=True)
    kept = len(list(out.rglob("shard-*.json")))
    done = generate(str(small_recipe), catalogue_path, out, InProcess(), SAMPLES, seed=SEED, overrides=LONG)
    assert done.kept_shards == kept > 0
    assert fingerprint(out) == fingerprint(undisturbed)


def test_a_full_disk_under_a_model_and_what_it_enhances(small_disk: Path) -> None:
    voice, ballast = small_disk / "voice.wav", small_disk / "ballast"
    soundfile.write(voice, noisy_voice(6.0), SAMPLE_RATE_HZ)
    (small_disk / "out").mkdir()
    commands = (
        ("export", "--model", SHIPPED, "--out", str(small_disk / "out")),
        ("enhance", str(voice), str(small_disk / "out" / "voice.wav")),
    )
    for left_bytes, command in zip((2_000_000, 300_000), commands, strict=True):
        ballast.unlink(missing_ok=True)
        ballast.write_bytes(bytes(shutil.disk_usage(small_disk).free - left_bytes))
        job = subprocess.run(
            [sys.executable, "-m", "pipelines.cli", *command], capture_output=True, text=True
        )
        assert job.returncode == 2
        assert job.stderr.splitlines()[-1].endswith("(No space left on device)")
        assert {path.name for path in (small_disk / "out").iterdir()} <= {LINEAGE_FILE}


def test_a_read_only_target(small_disk: Path, small_recipe: Path, catalogue_path: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    job = _start(small_recipe, catalogue_path, small_disk / "c")
    _, errors = job.communicate(timeout=120)
    assert job.returncode == 2, errors
    assert f"{small_disk / 'c'}: cannot be written (Read-only file system)" in errors


def test_a_forbidden_target(tmp_path: Path, small_recipe: Path, catalogue_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o555)
    job = _start(small_recipe, catalogue_path, tmp_path / "locked" / "c", preexec_fn=obey_permissions)
    _, errors = job.communicate(timeout=120)
    assert job.returncode == 2, errors
    assert f"{tmp_path / 'locked' / 'c'}: cannot be written (Permission denied)" in errors


def test_permission_lost_in_mid_job(
    tmp_path: Path, undisturbed: Path, small_recipe: Path, catalogue_path: Path
) -> None:
    out = tmp_path / "c"
    job = _start(small_recipe, catalogue_path, out, preexec_fn=obey_permissions)
    deadline = time.monotonic() + 60
    while not list(out.rglob("train/shard-*.json")):
        assert time.monotonic() < deadline and job.poll() is None
        time.sleep(0.01)
    (out / "train").chmod(0o555)
    _, errors = job.communicate(timeout=120)
    (out / "train").chmod(0o755)
    assert job.returncode == 1, errors
    assert "Permission denied" in errors
    assert "what was finished is kept, run the same command again to go on" in errors
    assert "Traceback" not in errors
    _nothing_is_half_done(out, swept=False)  # nobody may remove there what was being written
    done = generate(str(small_recipe), catalogue_path, out, InProcess(), SAMPLES, seed=SEED, overrides=LONG)
    assert done.kept_shards > 0
    assert fingerprint(out) == fingerprint(undisturbed)
    assert not list(out.rglob("*.tmp"))
