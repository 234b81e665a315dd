"""A withdrawal that is killed, stopped or out of space leaves nothing half done, and goes on to the same bytes."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tiny_bundles import tiny_bundle

from manifests.catalogue import read_catalogue
from manifests.corpus import read_manifest
from pipelines.corpus.companion_seals import SEALS_FILE
from pipelines.executors import InProcess
from pipelines.generation.generate import fingerprint, generate
from pipelines.governance.take_down import take_down
from pipelines.lineage.answer import lineage
from pipelines.models.stale_mark import STALE_FILE
from pipelines.openlineage.log import LINEAGE_FILE
from pipelines.verify import verify

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]

DISTURBED = Path(__file__).with_name("disturbed.py")
SAMPLES = 40
REASON = "asked to"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory, small_recipe: Path, catalogue_path: Path) -> Path:
    out = tmp_path_factory.mktemp("taken") / "corpus"
    generate(str(small_recipe), catalogue_path, out, InProcess(), SAMPLES, seed=5)
    return out


@pytest.fixture(scope="module")
def source(corpus: Path) -> str:
    """A noise that several shards hold and others do not."""
    rows = read_catalogue(corpus / "sources.parquet").of("noise", "train")
    affected = {row.sha256: take_down([row.sha256], corpus).affected for row in rows}
    return max(affected, key=lambda sha256: len(affected[sha256]))


@pytest.fixture
def place(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a model that was trained on the corpus, and no MLflow."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    tiny_bundle(tmp_path / "model", "teacher", read_manifest(corpus).id)
    return tmp_path


@pytest.fixture(scope="module")
def undisturbed(corpus: Path, source: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    tiny_bundle(folder / "model", "teacher", read_manifest(corpus).id)
    done = subprocess.run(_command(source, corpus, "out"), cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder / "out"


def _command(source: str, corpus: Path, out: Path | str) -> list[str]:
    words = ["withdraw", source, "--corpus", str(corpus), "--out", str(out), "--reason", REASON]
    return [sys.executable, "-m", "pipelines.cli", *words, "--workers", "0"]


def _disturbed(command: list[str], number: str, name: str, time: int) -> subprocess.CompletedProcess[str]:
    arguments = [sys.executable, str(DISTURBED), number, name, str(time), *command[3:]]
    return subprocess.run(arguments, capture_output=True, text=True)


def _files(corpus: Path) -> dict[str, Any]:
    """All that a corpus is, but for when it was made and how long that took."""
    files: dict[str, Any] = {
        str(path.relative_to(corpus)): path.read_bytes() for path in corpus.rglob("*") if path.is_file()
    }
    for name in (LINEAGE_FILE, "progress.json"):
        del files[name]
    manifest = json.loads(files["corpus.json"])
    clocks = ("timings", "stage_seconds", "checksum")
    files["corpus.json"] = {name: value for name, value in manifest.items() if name not in clocks}
    seals = json.loads(files[SEALS_FILE])
    files[SEALS_FILE] = {name: seal for name, seal in seals["files"].items() if name != LINEAGE_FILE}
    return files


def _finished(command: list[str], out: Path, undisturbed: Path, source: str) -> None:
    """Run the command again: it ends as if nothing had happened."""
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert _files(out) == _files(undisturbed)
    assert verify(out).problems == ()
    (bundle,) = (node for node in lineage(source, [out]).graph.nodes.values() if node.kind == "model")
    (line,) = map(json.loads, (out / "withdrawals.ndjson").read_text().splitlines())
    assert line["models"] == [bundle.id] and line["corpus"] == read_manifest(out).id
    assert json.loads(Path("model", STALE_FILE).read_text())["bundle_id"] == bundle.id
    before, after = (node for node in lineage(str(out)).graph.nodes.values() if node.kind == "corpus")
    assert {before.id, after.id} == {line["replaces"], line["corpus"]}


def test_killed_at_every_step_it_comes_to_the_same_bytes(
    place: Path, corpus: Path, source: str, undisturbed: Path
) -> None:
    out = place / "out"
    command = _command(source, corpus, out)
    held = fingerprint(corpus)
    rewritten = sorted(take_down([source], corpus).affected)
    kept = sorted(read_manifest(corpus).shards.keys() - set(rewritten))
    steps = [
        *(("plan.json", 1), ("sources.parquet", 1), ("withdrawals.ndjson", 1)),
        *((kept[0], 1), (kept[-1].replace(".tar", ".json"), 1)),
        *((rewritten[0], 1), (rewritten[-1].replace(".tar", ".json"), 1)),
        *(("withdrawals.ndjson", 1), ("samples.parquet", 1), ("corpus.json", 1)),
        *(("croissant.json", 1), (LINEAGE_FILE, 1), (f"model/{STALE_FILE}", 1)),
    ]
    for name, time in steps:
        killed = _disturbed(command, "SIGKILL", name, time)
        assert killed.returncode == -9, (name, killed.returncode, killed.stderr)
        assert not (place / "model" / STALE_FILE).exists()
    _finished(command, out, undisturbed, source)
    assert fingerprint(corpus) == held


@pytest.mark.parametrize(
    ("number", "step"),
    [("SIGINT", "kept"), ("SIGTERM", "kept"), ("SIGTERM", "rewritten"), ("SIGTERM", "corpus.json")],
)
def test_asked_to_stop_it_says_so_in_a_sentence(
    place: Path, corpus: Path, source: str, undisturbed: Path, number: str, step: str
) -> None:
    rewritten = sorted(take_down([source], corpus).affected)
    kept = sorted(read_manifest(corpus).shards.keys() - set(rewritten))
    name = {"kept": kept[0], "rewritten": rewritten[0]}.get(step, step)
    out = place / "out"
    command = _command(source, corpus, out)
    stopped = _disturbed(command, number, name, 1)
    assert stopped.returncode == 130, stopped.stderr
    *_, last = stopped.stderr.splitlines()
    assert last.startswith("ssiforge: interrupted") and last.endswith("run the same command again to go on")
    assert "Traceback" not in stopped.stderr
    assert not [path for path in out.rglob(".*") if path.is_file()]
    assert not (out / "corpus.json").exists() and not (place / "model" / STALE_FILE).exists()
    _finished(command, out, undisturbed, source)


def test_a_full_disk(small_disk: Path, place: Path, corpus: Path, source: str, undisturbed: Path) -> None:
    subprocess.run(["mount", "-o", "remount,size=1m", str(small_disk)], check=True)
    out = small_disk / "out"
    command = _command(source, corpus, out)
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    assert "No space left on device" in done.stderr and "Traceback" not in done.stderr
    assert "what was finished is kept, run the same command again to go on" in done.stderr
    assert not [path for path in out.rglob(".*") if path.is_file()] and not (out / "corpus.json").exists()
    assert not (place / "model" / STALE_FILE).exists()
    subprocess.run(["mount", "-o", "remount,size=20m", str(small_disk)], check=True)
    _finished(command, out, undisturbed, source)


def test_a_read_only_target(small_disk: Path, place: Path, corpus: Path, source: str) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    command = _command(source, corpus, small_disk / "out")
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert f"{small_disk / 'out'}: cannot be written (Read-only file system)" in done.stderr
    assert not (place / "model" / STALE_FILE).exists()


def test_an_old_version_that_goes_away_in_between_is_said(
    place: Path, corpus: Path, source: str, undisturbed: Path
) -> None:
    shutil.copytree(corpus, "copy")
    rewritten = sorted(take_down([source], corpus).affected)
    command = _command(source, Path("copy"), place / "out")
    assert _disturbed(command, "SIGKILL", rewritten[-1], 1).returncode == -9
    damaged = place / "copy" / rewritten[-1]
    content = damaged.read_bytes()
    damaged.write_bytes(content[:-512] + b"x" * 512)
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert f"{rewritten[-1]}: damaged; 'ssiforge verify' says more" in done.stderr
    damaged.write_bytes(content)
    _finished(command, place / "out", undisturbed, source)
