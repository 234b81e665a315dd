"""What is kept of a catalogue between processes: made once, not trusted when damaged, bounded, never in the way."""

import fcntl
import os
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import pytest

from manifests import catalogue_cache
from manifests.catalogue import Catalogue, read_catalogue, write_catalogue
from manifests.errors import UserError
from manifests.source import KINDS, Source


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SSIFORGE_CACHE", str(tmp_path / "cache"))
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    monkeypatch.setattr("tempfile.tempdir", None)
    return tmp_path / "cache"


def rows(count: int = 30, speaker: str = "ann") -> list[Source]:
    return [
        Source(f"/{kind}/{n}.wav", kind, f"{n:064x}", speaker=speaker, split="train")
        for kind in sorted(KINDS)
        for n in range(count)
    ]


def written(path: Path, sources: list[Source]) -> Path:
    write_catalogue(sources, path)
    return path


def arrays(cache: Path) -> list[Path]:
    return sorted(cache.rglob("*.arrays"))


def loaded_modules(path: Path, code: str = "") -> str:
    script = (
        "import sys; from pathlib import Path; from manifests.catalogue import read_catalogue; "
        f"c = read_catalogue(Path({str(path)!r})); len(list(c)); {code} print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return done.stdout


def test_only_the_first_who_reads_a_catalogue_reads_its_parquet_file(tmp_path):
    path = written(tmp_path / "s.parquet", rows())
    assert " pyarrow " in loaded_modules(path)
    assert "pyarrow" not in loaded_modules(path)


def test_a_catalogue_that_changes_by_a_letter_is_another(tmp_path, cache):
    path = written(tmp_path / "s.parquet", rows())
    assert list(read_catalogue(path)) == rows()
    changed = [replace(rows()[0], speaker="bob"), *rows()[1:]]
    written(path, changed)
    assert list(read_catalogue(path)) == changed
    written(path, rows())
    assert list(read_catalogue(path)) == rows()
    assert len(arrays(cache)) == 2


def test_a_large_catalogue_is_told_apart_by_its_end_its_size_and_its_time(tmp_path, cache, monkeypatch):
    monkeypatch.setattr(catalogue_cache, "HASHED_BYTES", 1_000)
    path = written(tmp_path / "s.parquet", rows())
    read_catalogue(path)
    read_catalogue(path)
    assert len(arrays(cache)) == 1
    os.utime(path, ns=(1, 1))
    assert list(read_catalogue(path)) == rows()
    assert len(arrays(cache)) == 2


def _truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _strange_end(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-8] + b"anything")


def _strange_index(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-40] = 0xFF
    path.write_bytes(content)


def _another_format(path: Path) -> None:
    content = path.read_bytes()
    assert content.count(b'"format": 1,') == 1
    path.write_bytes(content.replace(b'"format": 1,', b'"format": 0,'))


def _places_beyond_the_end(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b'"at": 6', b'"at":96'))


@pytest.mark.parametrize(
    "damage", [_truncate, _empty, _strange_end, _strange_index, _another_format, _places_beyond_the_end]
)
def test_a_damaged_file_is_made_again(damage, tmp_path, cache):
    path = written(tmp_path / "s.parquet", rows())
    read_catalogue(path)
    (file,) = arrays(cache)
    whole = file.read_bytes()
    damage(file)
    assert file.read_bytes() != whole
    assert list(read_catalogue(path)) == rows()
    assert file.read_bytes() == whole
    assert arrays(cache) == [file]


def test_a_mapped_catalogue_outlives_its_files(tmp_path, cache):
    path = written(tmp_path / "s.parquet", rows())
    catalogue = read_catalogue(path)
    path.unlink()
    arrays(cache)[0].unlink()
    assert list(catalogue) == rows()
    assert catalogue.by_sha256[f"{3:064x}"].path == "/speech/3.wav"


_read: list[Catalogue] = []


def _read_and_hold(path: Path) -> tuple[str, int]:
    """Return the digest of a catalogue and the inode of the file that is mapped for it."""
    _read.append(read_catalogue(path))
    (inode,) = {
        int(line.split()[4]) for line in Path("/proc/self/maps").read_text().splitlines() if ".arrays" in line
    }
    return _read[-1].digest, inode


def test_processes_that_race_all_get_it_and_one_makes_it(tmp_path, cache):
    path = written(tmp_path / "s.parquet", rows(2_000))
    with ProcessPoolExecutor(4, mp_context=get_context("spawn")) as pool:
        read = set(pool.map(_read_and_hold, [path] * 8))
    (file,) = arrays(cache)
    assert read == {(Catalogue(rows(2_000)).digest, file.stat().st_ino)}
    assert not list((tmp_path / "temporary").rglob("*.arrays"))
    assert not list(cache.rglob("*.tmp"))


def test_what_a_killed_process_left_is_swept(tmp_path, cache):
    folder = cache / "catalogues"
    folder.mkdir(parents=True)
    (folder / ".x.arrays.0.tmp").write_bytes(b"half")
    read_catalogue(written(tmp_path / "s.parquet", rows()))
    assert not list(cache.rglob("*.tmp"))


def test_those_not_opened_for_the_longest_time_are_removed_but_none_in_use(tmp_path, cache, monkeypatch):
    monkeypatch.setattr(catalogue_cache, "MOST_KEPT", 3)
    paths = [written(tmp_path / f"{n}.parquet", rows(n + 1)) for n in range(6)]
    files = {}
    held = None
    for number, path in enumerate(paths):
        before = set(arrays(cache))
        catalogue = read_catalogue(path)
        (files[number],) = set(arrays(cache)) - before
        os.utime(files[number], (number + 1, number + 1))
        held = catalogue if number == 1 else held
        del catalogue
    # The last three are kept, and the second, which somebody still looks at.
    assert set(arrays(cache)) == {files[1], files[3], files[4], files[5]}
    assert list(held) == sorted(rows(2), key=lambda s: (s.kind, s.sha256))
    with files[1].open("rb") as stream, pytest.raises(BlockingIOError):
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_what_takes_too_much_space_is_removed(tmp_path, cache, monkeypatch):
    monkeypatch.setattr(catalogue_cache, "MOST_KEPT_BYTES", 1)
    for number in range(3):
        assert (
            len(read_catalogue(written(tmp_path / f"{number}.parquet", rows(number + 1)))) == 3 * number + 3
        )
    assert len(arrays(cache)) == 1


def test_a_cache_that_cannot_be_written_is_replaced_by_a_temporary_folder(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SSIFORGE_CACHE", str(tmp_path / "file"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    path = written(tmp_path / "s.parquet", rows())
    assert list(read_catalogue(path)) == rows()
    (file,) = tmp_path.rglob("*.arrays")
    assert file.parents[1].name == f"ssiforge-{os.getuid()}"
    assert file.parents[1].stat().st_mode & 0o077 == 0
    inode = file.stat().st_ino
    assert list(read_catalogue(path)) == rows()
    assert file.stat().st_ino == inode


def test_where_nothing_can_be_written_one_sentence_says_what_to_set(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SSIFORGE_CACHE", str(tmp_path / "file"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "file"))
    path = written(tmp_path / "s.parquet", rows())
    with pytest.raises(
        UserError, match=r"cannot be written \(.*\); set SSIFORGE_CACHE to a folder with room"
    ):
        read_catalogue(path)


def test_somebody_else_s_folder_among_the_temporary_files_is_not_used(tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / f"ssiforge-{os.getuid()}").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SSIFORGE_CACHE", str(tmp_path / "file"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(UserError, match="set SSIFORGE_CACHE"):
        read_catalogue(written(tmp_path / "s.parquet", rows()))
    assert not list((tmp_path / "elsewhere").iterdir())
