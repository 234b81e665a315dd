"""What `ssiforge generate` promises: same plan, same bytes, whoever renders it and however often it was killed."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest
from half_a_shard import BIG, BIG_SEED, LONG, generate_big, wait_for_half_a_shard

from manifests.corpus import open_corpus
from manifests.errors import UserError
from pipelines.executors import InProcess
from pipelines.generation.generate import fingerprint, generate
from pipelines.generation.local_processes import LocalProcesses

SAMPLES = 20
LINUX = Path("/proc/self/stat").exists()
SEED = 7


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory, small_recipe: Path, catalogue_path: Path) -> Path:
    """An undisturbed corpus, rendered by one process."""
    out = tmp_path_factory.mktemp("corpus") / "undisturbed"
    generate(str(small_recipe), catalogue_path, out, InProcess(), samples=SAMPLES, seed=SEED)
    return out


def test_two_workers_and_one_worker_make_the_same_bytes(
    corpus: Path, tmp_path: Path, small_recipe: Path, catalogue_path: Path
) -> None:
    for workers in (1, 2):
        out = tmp_path / str(workers)
        generate(str(small_recipe), catalogue_path, out, LocalProcesses(workers), samples=SAMPLES, seed=SEED)
        assert fingerprint(out) == fingerprint(corpus)
        assert open_corpus(out).manifest.id == open_corpus(corpus).manifest.id


def test_a_moved_source_folder_and_another_seed_change_what_they_should(
    corpus: Path, tmp_path: Path, small_recipe: Path, material_folder: Path
) -> None:
    from shutil import copytree

    from pipelines.scanning.scan import scan

    moved = copytree(material_folder, tmp_path / "moved")
    sources = tmp_path / "sources.parquet"
    scan({"speech": [str(moved / "speech")], "noise": [str(moved / "noise")]}, sources, workers=1)
    generate(str(small_recipe), sources, tmp_path / "a", InProcess(), samples=SAMPLES, seed=SEED)
    assert fingerprint(tmp_path / "a") == fingerprint(corpus)
    assert open_corpus(tmp_path / "a").manifest.id == open_corpus(corpus).manifest.id
    generate(str(small_recipe), sources, tmp_path / "b", InProcess(), samples=SAMPLES, seed=SEED + 1)
    assert not set(fingerprint(tmp_path / "b").values()) & set(fingerprint(corpus).values())


def _start(recipe: Path, sources: Path, out: Path, samples: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "pipelines.cli", "generate", str(recipe), "--sources", str(sources)]
    command += ["--out", str(out), "--samples", str(samples), "--seed", str(BIG_SEED), "--workers", "2"]
    command += [word for setting in LONG for word in ("--set", setting)]
    # A shell that runs tests in the background hands its children an ignored SIGINT.
    return subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def _children(pid: int) -> list[int]:
    listing = subprocess.run(
        ["ps", "-A", "-ww", "-o", "pid=,ppid=,args="], capture_output=True, text=True, check=True
    )
    rows = (line.split(None, 2) for line in listing.stdout.splitlines())
    return [int(row[0]) for row in rows if int(row[1]) == pid and "spawn_main" in row[2]]


@pytest.fixture(scope="module")
def big_corpus(tmp_path_factory: pytest.TempPathFactory, small_recipe: Path, catalogue_path: Path) -> Path:
    """What the disturbed jobs have to end with, rendered by one process."""
    out = tmp_path_factory.mktemp("corpus") / "big"
    generate_big(small_recipe, catalogue_path, out, InProcess())
    return out


@pytest.mark.faults
def test_a_worker_killed_in_mid_shard_changes_nothing(
    big_corpus: Path, tmp_path: Path, small_recipe: Path, catalogue_path: Path
) -> None:
    job = _start(small_recipe, catalogue_path, tmp_path / "c", BIG)
    wait_for_half_a_shard(tmp_path / "c")
    os.kill(_children(job.pid)[0], signal.SIGKILL)
    _, errors = job.communicate(timeout=120)
    assert job.returncode == 0, errors.decode()
    assert not list((tmp_path / "c").rglob(".*"))
    assert fingerprint(tmp_path / "c") == fingerprint(big_corpus)
    assert open_corpus(tmp_path / "c").manifest.failures == open_corpus(big_corpus).manifest.failures


def _kill_and_wait(pid: int) -> None:
    """End a process that is not a child; it may still finish a system call after the signal was sent."""
    with contextlib.suppress(ProcessLookupError, FileNotFoundError):
        while True:
            os.kill(pid, signal.SIGKILL)
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] if LINUX else ""
            if state == "Z":
                return
            time.sleep(0.01)


def test_a_driver_killed_in_mid_shard_is_finished_by_running_again(
    big_corpus: Path, tmp_path: Path, small_recipe: Path, catalogue_path: Path
) -> None:
    out = tmp_path / "c"
    job = _start(small_recipe, catalogue_path, out, BIG)
    wait_for_half_a_shard(out)
    workers = _children(job.pid)
    job.kill()
    job.communicate()
    for worker in workers:
        _kill_and_wait(worker)
    assert not (out / "corpus.json").exists()
    before = {
        path: path.stat().st_mtime_ns
        for path in out.rglob("shard-*.tar")
        if path.with_suffix(".json").exists()
    }
    done = generate_big(small_recipe, catalogue_path, out, InProcess())
    assert fingerprint(out) == fingerprint(big_corpus)
    assert done.kept_shards == len(before)
    assert all(path.stat().st_mtime_ns == then for path, then in before.items())
    assert not list(out.rglob("*.tmp"))


def test_control_c_ends_with_130_and_leaves_a_corpus_that_can_be_continued(
    big_corpus: Path, tmp_path: Path, small_recipe: Path, catalogue_path: Path
) -> None:
    out = tmp_path / "c"
    job = _start(small_recipe, catalogue_path, out, BIG)
    wait_for_half_a_shard(out)
    job.send_signal(signal.SIGINT)
    _, errors = job.communicate(timeout=60)
    assert job.returncode == 130
    assert b"Traceback" not in errors
    generate_big(small_recipe, catalogue_path, out, InProcess())
    assert fingerprint(out) == fingerprint(big_corpus)


def test_running_again_renders_nothing_and_changes_no_file(
    corpus: Path, small_recipe: Path, catalogue_path: Path
) -> None:
    before = {path: path.stat().st_mtime_ns for path in corpus.rglob("*") if path.is_file()}
    again = generate(str(small_recipe), catalogue_path, corpus, InProcess(), samples=SAMPLES, seed=SEED)
    assert again.rendered_shards == 0
    assert {path: path.stat().st_mtime_ns for path in corpus.rglob("*") if path.is_file()} == before


def test_another_corpus_in_the_folder_is_refused_with_what_differs(
    corpus: Path, tmp_path: Path, small_recipe: Path, catalogue_path: Path
) -> None:
    def attempt(out: Path, seed: int = SEED, overrides: tuple[str, ...] = ()) -> None:
        generate(str(small_recipe), catalogue_path, out, InProcess(), SAMPLES, None, seed, overrides)

    with pytest.raises(UserError, match=r"differs in seed \(there 7, now 8\)"):
        attempt(corpus, seed=8)
    with pytest.raises(UserError, match="differs in recipe"):
        attempt(corpus, overrides=("stages.0.p=0.5",))
    (tmp_path / "thesis.tex").write_text("not a corpus")
    with pytest.raises(UserError, match="is not empty and holds no corpus"):
        attempt(tmp_path)


def test_two_jobs_cannot_write_one_corpus(corpus: Path, small_recipe: Path, catalogue_path: Path) -> None:
    from pipelines.corpus.folder import corpus_folder

    with corpus_folder(corpus), pytest.raises(UserError, match="another job is writing"):
        generate(str(small_recipe), catalogue_path, corpus, InProcess(), samples=SAMPLES, seed=SEED)


def test_a_mistake_leaves_no_folder_behind(tmp_path: Path, small_recipe: Path, catalogue_path: Path) -> None:
    nested = tmp_path / "new" / "corpora" / "c"
    with pytest.raises(UserError, match="no room impulse response"):
        generate(
            str(small_recipe),
            catalogue_path,
            nested,
            InProcess(),
            samples=SAMPLES,
            overrides=("stages.0={stage: room}",),
        )
    assert list(tmp_path.iterdir()) == []
    generate(str(small_recipe), catalogue_path, nested, InProcess(), samples=3)
    assert open_corpus(nested).manifest.samples == {"train": 1, "val": 1, "test": 1}


def test_a_folder_that_cannot_be_used_is_refused_before_rooms_are_simulated(
    corpus: Path, tmp_path: Path, small_recipe: Path, catalogue_path: Path
) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.tex").write_text("not a corpus")
    rooms = ("stages.0={stage: room}", "rooms.count=3")
    for out in (corpus, tmp_path / "thesis"):
        with pytest.raises(UserError, match="holds"):
            generate(
                str(small_recipe),
                catalogue_path,
                out,
                InProcess(),
                SAMPLES,
                None,
                SEED,
                rooms,
                tmp_path / "cache",
            )
    assert not (tmp_path / "cache").exists()


def test_a_job_killed_while_it_wrote_its_plan_is_continued(
    corpus: Path, tmp_path: Path, small_recipe: Path, catalogue_path: Path
) -> None:
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "plan.json").write_bytes((corpus / "plan.json").read_bytes())
    (tmp_path / "c" / ".sources.parquet.0.tmp").write_bytes(b"half a catal")
    generate(str(small_recipe), catalogue_path, tmp_path / "c", InProcess(), samples=SAMPLES, seed=SEED)
    assert fingerprint(tmp_path / "c") == fingerprint(corpus)
    assert not list((tmp_path / "c").glob(".*"))


def test_stock_readers_read_every_sample_once(corpus: Path) -> None:
    import webdataset

    opened = open_corpus(corpus)
    for shard in opened.shards:
        tar = corpus / shard.tar_name
        listed = subprocess.run(["tar", "tf", tar], capture_output=True, text=True, check=True).stdout.split()
        assert len(listed) == 3 * len(shard.samples)
        samples = list(webdataset.WebDataset(str(tar), shardshuffle=False))
        assert [sample["__key__"] for sample in samples] == [entry.key for entry in shard.samples]
        assert {frozenset(k for k in sample if not k.startswith("__")) for sample in samples} == {
            frozenset({"degraded.flac", "target.flac", "json"})
        }


def test_tar_headers_carry_no_clock_and_no_owner(corpus: Path) -> None:
    for shard in open_corpus(corpus).shards:
        with tarfile.open(corpus / shard.tar_name) as tar:
            for member in tar:
                assert (member.mtime, member.uid, member.gid, member.uname) == (0, 0, 0, "")


def test_records_say_where_each_member_lies(corpus: Path) -> None:
    for shard in open_corpus(corpus).shards:
        with tarfile.open(corpus / shard.tar_name) as tar:
            for entry in shard.samples:
                for extension, member in entry.members.items():
                    info = tar.getmember(f"{entry.key}.{extension}")
                    assert (info.offset_data, info.size) == (member.offset, member.bytes)


def test_every_sample_has_a_row_with_drawn_and_delivered_values(corpus: Path) -> None:
    import pyarrow.parquet as pq

    rows = pq.read_table(corpus / "samples.parquet").to_pylist()
    assert len(rows) == SAMPLES
    noisy = [row for row in rows if "noise" in row["stages"]]
    assert 0 < len(noisy) < SAMPLES
    for row in noisy:
        assert row["noise.measured.snr_db"] == pytest.approx(row["noise.snr_db"], abs=0.2)
    for row in rows:
        assert row["measured.target_active_level_dbfs"] == pytest.approx(-26.0, abs=0.05)
        assert row["measured.degraded_active_level_dbfs"] == pytest.approx(
            row["final_level.active_level_dbfs"] + row["measured.guard_gain_db"], abs=0.3
        )


def test_the_quarantine_names_refused_files(
    tmp_path: Path, small_recipe: Path, material_folder: Path
) -> None:
    from shutil import copytree

    from pipelines.scanning.scan import scan

    copy = copytree(material_folder, tmp_path / "m")
    (copy / "speech" / "anna" / "empty.wav").write_bytes(b"")
    sources = tmp_path / "sources.parquet"
    scan({"speech": [str(copy / "speech")], "noise": [str(copy / "noise")]}, sources, workers=1)
    generate(str(small_recipe), sources, tmp_path / "c", InProcess(), samples=5)
    lines = [json.loads(line) for line in (tmp_path / "c" / "quarantine.jsonl").read_text().splitlines()]
    refused = [line for line in lines if line["what"] == "source"]
    assert [Path(line["path"]).name for line in refused] == ["empty.wav"]
    assert refused[0]["reason"]
