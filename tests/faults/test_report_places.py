"""A page for which there is no room, no permission or no time: a sentence is said, and an older page stays whole."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from processes import obey_permissions

from pipelines.executors import InProcess
from pipelines.generation.generate import generate
from pipelines.report.page import Section, page

pytestmark = pytest.mark.faults

OLD = page("Before", "", [Section("a", "A", "")])  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory, small_recipe: Path, catalogue_path: Path) -> Path:
    out = tmp_path_factory.mktemp("corpus") / "c"
    generate(str(small_recipe), catalogue_path, out, InProcess(), 4, seed=1)
    return out


def _report(corpus: Path, *options: object, **more: object) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "pipelines.cli", "report", str(corpus), *map(str, options)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more)  # type: ignore[call-overload,no-any-return]


def _says(job: "subprocess.Popen[str]", code: int, sentence: str) -> None:
    out, errors = job.communicate(timeout=120)
    assert (job.returncode, out) == (code, ""), errors
    assert errors == f"ssiforge: {sentence}\n"


def _held(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_a_full_disk(corpus: Path, small_disk: Path) -> None:
    (small_disk / "old").mkdir()
    (small_disk / "old" / "index.html").write_bytes(OLD)
    with (
        (small_disk / "ballast").open("wb", buffering=0) as stream,
        pytest.raises(OSError, match="No space left"),
    ):
        while True:
            stream.write(bytes(4096))
    before = _held(small_disk)
    for name in ("old", "new"):
        page = small_disk / name / "index.html"
        _says(
            _report(corpus, "--out", page.parent),
            1,
            f"{page}: cannot be written (No space left on device)",
        )
    assert _held(small_disk) == before
    assert (small_disk / "old" / "index.html").read_bytes() == OLD


def test_a_read_only_disk(corpus: Path, small_disk: Path) -> None:
    shutil.copytree(corpus, small_disk / "c")
    before = _held(small_disk)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    _says(
        _report(small_disk / "c"),
        2,
        f"{small_disk / 'c' / 'report'}: cannot be written (Read-only file system); choose another place with --out",
    )
    assert _held(small_disk) == before


def test_a_forbidden_place(corpus: Path, tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o555)
    job = _report(corpus, "--out", locked / "page", preexec_fn=obey_permissions)
    _says(job, 2, f"{locked / 'page'}: cannot be written (Permission denied)")
    (tmp_path / "file").write_text("")
    job = _report(corpus, "--out", tmp_path / "file")
    _says(job, 2, f"{tmp_path / 'file'}: cannot be written (Not a directory)")


def test_ctrl_c(corpus: Path, tmp_path: Path) -> None:
    """A shard is a pipe into which nobody writes: the command cannot be done before it is told to stop."""
    stopped = Path(shutil.copytree(corpus, tmp_path / "c"))
    for shard in stopped.rglob("*.tar"):
        shard.unlink()
        os.mkfifo(shard)
    (stopped / "report").mkdir()
    (stopped / "report" / "index.html").write_bytes(OLD)
    before = _held(stopped)
    job = _report(stopped)
    deadline = time.monotonic() + 60
    while "libparquet" not in Path(f"/proc/{job.pid}/maps").read_text():  # it has begun to read the corpus
        assert time.monotonic() < deadline and job.poll() is None
        time.sleep(0.01)
    job.send_signal(signal.SIGINT)
    _says(job, 130, "interrupted")
    assert _held(stopped) == before
    assert (stopped / "report" / "index.html").read_bytes() == OLD
