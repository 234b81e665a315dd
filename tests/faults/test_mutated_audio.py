"""A scan of files that are damaged in every way ends by itself, says what is wrong with each, and stays small.

The whole takes about a minute; a slice of it runs with the scan's own tests.
"""

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hostile_files import hostile_files, special_files
from mutated_audio import EVIL_NAMES, mutated_files, write_mutants
from seed_recordings import seed_recordings

from datagen.audio import read_stretch
from manifests.catalogue import Catalogue, read_catalogue
from manifests.corpus import open_corpus
from manifests.source import Source
from pipelines.verify import verify

FILES = 1_000
HANGS_AFTER_S = 540
LARGEST_PROCESS_MB = 600
UNFORESEEN = "cannot be examined"
SAMPLES = 300
RECIPE = """
name: salvage
seconds: 1.0
splits: {train: 0.8, val: 0.1, test: 0.1}
limits: {max_failed_share: 0.9, max_attempts: 50}
output: {samples_per_shard: 10}
stages:
  - {stage: room, p: 0.7}
  - {stage: noise, p: 0.9, snr_db: [-5, 10], sources: [1, 2]}
  - {stage: final_level, active_level_dbfs: [-36, -20]}
"""

pytestmark = [pytest.mark.faults, pytest.mark.timeout(2 * HANGS_AFTER_S + 60)]


@dataclass
class Ran:
    """How a command ended, and the largest resident set of any process in its tree."""

    code: int
    output: str
    seconds: float
    largest_mb: float


@dataclass
class Salvage:
    """A folder of damaged and hostile files among good ones, and what the commands made of it."""

    root: Path
    bad: list[Path]
    calls: list[str] = field(default_factory=list)
    """Connections that somebody made to the server which scripts name."""

    @property
    def catalogue(self) -> Catalogue:
        return read_catalogue(self.root / "out" / "sources.parquet")

    def rows_of_bad(self) -> dict[str, list[Source]]:
        rows: dict[str, list[Source]] = {printable(path): [] for path in self.bad}
        for source in self.catalogue:
            if source.path in rows:
                rows[source.path].append(source)
        return rows


def printable(path: Path) -> str:
    return str(path).encode("utf-8", "backslashreplace").decode()


@pytest.fixture(scope="module")
def salvage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Salvage]:
    root = tmp_path_factory.mktemp("salvage")
    for folder in ("out", "scratch", "cwd"):
        (root / folder).mkdir()
    write_good_files(root / "bad")
    (root / "recipe.yaml").write_text(RECIPE)
    found = Salvage(root, [])
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=count_calls, args=(server, found.calls), daemon=True).start()
        victim = root / "bad" / "speech" / "good0" / "0.flac"
        for name, head, size in hostile_files(server.getsockname()[1], victim):
            path = root / "bad" / ("noise", "rir", "speech")[len(found.bad) % 3] / name
            path.write_bytes(head)
            os.truncate(path, size)
            found.bad.append(path)
        special_files(root / "bad" / "noise", victim)
        left = FILES - len(found.bad)
        found.bad += write_mutants(root / "bad", mutated_files(seed_recordings(root / "scratch"), left))
        yield found


def write_good_files(root: Path) -> None:
    """Enough to make a corpus of, whatever the rest is worth."""
    rng = np.random.default_rng(9)
    for kind, groups, seconds in (("speech", 4, 2.0), ("noise", 4, 2.0), ("rir", 4, 0.3)):
        for group in range(groups):
            folder = root / kind / f"good{group}"
            folder.mkdir(parents=True)
            audio = 0.1 * rng.standard_normal(int(seconds * 16_000))
            if kind == "rir":
                audio *= np.exp(-np.arange(len(audio)) / 1_600)
                audio[10] = 1.0
            soundfile.write(folder / "0.flac", audio, 16_000)


def count_calls(server: socket.socket, calls: list[str]) -> None:
    while True:
        try:
            connection, address = server.accept()
        except OSError:
            return
        calls.append(str(address))
        connection.close()


def ssiforge(root: Path, *arguments: object) -> Ran:
    """Run a command in a process of its own; one that does not end by itself fails the test."""
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "pipelines.cli", *map(str, arguments)],
        cwd=root / "cwd",
        env=os.environ | {"TMPDIR": str(root / "scratch"), "HOME": str(root / "scratch")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    peaks: dict[int, float] = {}
    watcher = threading.Thread(target=watch_memory, args=(process, peaks), daemon=True)
    watcher.start()
    try:
        output, _ = process.communicate(timeout=HANGS_AFTER_S)
    finally:
        process.kill()
        watcher.join()
    return Ran(process.returncode, output, time.monotonic() - began, max(peaks.values()))


def watch_memory(process: "subprocess.Popen[str]", peaks: dict[int, float]) -> None:
    """Note the high-water mark of every process in the tree until its root ends, fifty times a second."""
    while process.poll() is None:
        for pid in process_tree(process.pid):
            try:
                status = Path(f"/proc/{pid}/status").read_text()
            except OSError:  # it ended meanwhile
                continue
            marks = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")]
            peaks[pid] = max(peaks.get(pid, 0.0), *(int(mark) / 1024 for mark in marks), 0.0)
        time.sleep(0.02)


def process_tree(root: int) -> list[int]:
    found = [root]
    for pid in found:
        try:
            threads = list(Path(f"/proc/{pid}/task").iterdir())
            found += [int(child) for thread in threads for child in (thread / "children").read_text().split()]
        except OSError:
            continue
    return found


@pytest.fixture(scope="module")
def scanned(salvage: Salvage) -> Ran:
    bad = salvage.root / "bad"
    return ssiforge(
        salvage.root, "scan", "--speech", bad / "speech", "--noise", bad / "noise", "--rir", bad / "rir",
        "--speaker-from", "file", "--out", salvage.root / "out" / "sources.parquet", "--workers", 2,
    )  # fmt: skip


@pytest.fixture(scope="module")
def generated(salvage: Salvage, scanned: Ran) -> Ran:
    return ssiforge(
        salvage.root, "generate", salvage.root / "recipe.yaml", "--sources", salvage.root / "out" / "sources.parquet",
        "--out", salvage.root / "out" / "corpus", "--samples", SAMPLES, "--seed", 3, "--workers", 2,
    )  # fmt: skip


def test_the_scan_ends_by_itself_in_bounded_memory_and_calls_nobody(salvage: Salvage, scanned: Ran) -> None:
    print(f"\nscan: {scanned.seconds:.0f} s, largest process {scanned.largest_mb:.0f} MB")
    assert scanned.code == 0, scanned.output
    assert "Traceback" not in scanned.output
    assert scanned.largest_mb < LARGEST_PROCESS_MB
    assert salvage.calls == []


def test_every_file_is_in_the_catalogue_once_and_refused_ones_say_why(salvage: Salvage, scanned: Ran) -> None:
    rows = salvage.rows_of_bad()
    assert len(rows) == FILES
    assert [path for path, found in rows.items() if len(found) != 1] == []
    reasons = [found[0].refused for found in rows.values() if found[0].refused is not None]
    print(f"\n{FILES - len(reasons)} usable, {len(reasons)} refused")
    assert 100 < len(reasons) < FILES - 100
    for reason in reasons:
        assert reason.strip()
        assert "\n" not in reason
        assert UNFORESEEN not in reason
        assert not any(word in reason for word in ("Error", "Exception", "Traceback", "object", "NoneType"))
    assert sum("UTF-8" in reason for reason in reasons) == sum("invalid" in path.name for path in salvage.bad)
    assert all(any(name[:8] in path.name for path in salvage.bad) for name in EVIL_NAMES)
    assert not any("special" in source.path for source in salvage.catalogue)


def test_what_was_accepted_can_be_read_to_its_end(salvage: Salvage, scanned: Ran) -> None:
    for source in salvage.catalogue.usable:
        frames = min(source.frames, source.rate_hz)
        for start in (0, (source.frames - frames) // 2, source.frames - frames):
            audio, rate_hz = read_stretch(source.path, start, frames)
            assert (len(audio), rate_hz) == (frames, source.rate_hz), source.path


def test_a_corpus_of_what_is_left_is_rendered_in_bounded_memory_and_verifies(
    salvage: Salvage, generated: Ran
) -> None:
    assert generated.code == 0, generated.output
    assert "Traceback" not in generated.output
    assert generated.largest_mb < LARGEST_PROCESS_MB
    corpus = salvage.root / "out" / "corpus"
    manifest = open_corpus(corpus).manifest
    print(
        f"\ngenerate: {generated.seconds:.0f} s, largest process {generated.largest_mb:.0f} MB, "
        f"failures {manifest.failures}"
    )
    assert sum(manifest.samples.values()) == SAMPLES
    assert not any(word in kind for kind in manifest.failures for word in ("Error", "died", "decoder"))
    assert verify(corpus, rerender=10).problems == ()


def test_nothing_was_written_beside_the_output(salvage: Salvage, generated: Ran) -> None:
    assert list((salvage.root / "cwd").iterdir()) == []
    scratch = salvage.root / "scratch"
    written = [path.relative_to(scratch) for path in scratch.rglob("*") if path.is_file()]
    assert [path for path in written if path.parts[:3] != (".cache", "ssiforge", "catalogues")] == []
    made = {"sources.parquet", "sources.lineage.ndjson", "corpus"}
    assert {path.name for path in (salvage.root / "out").iterdir()} == made
    good = 3 * 4
    files = [path for path in (salvage.root / "bad").rglob("*") if path.is_file() and not path.is_symlink()]
    assert len(files) == FILES + good
