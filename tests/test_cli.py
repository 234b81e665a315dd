"""The command line answers every mistake with one sentence and the right exit code, and imports late."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile


def answer(ssiforge, *arguments: object) -> tuple[int, str]:
    """Run a command; return its exit code and all that it wrote."""
    code, out, err = ssiforge(*arguments)
    return code, out + err


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text("name: mine\nseconds: 1\nstages:\n  - {stage: noise, snr_db: [0, 10]}\n")
    return path


def test_an_empty_and_a_missing_folder(tmp_path: Path, ssiforge) -> None:
    (tmp_path / "empty").mkdir()
    for folder in ("empty", "missing"):
        where = tmp_path / folder
        code, said = answer(ssiforge, "scan", "--speech", where, "--out", tmp_path / "s.parquet")
        assert code == 2
        assert str(where) in said
        assert not (tmp_path / "s.parquet").exists()


def test_bad_files_are_refused_with_their_reasons_and_the_good_one_is_kept(
    tmp_path, material_folder, ssiforge
):
    from manifests.catalogue import read_catalogue

    speech = tmp_path / "sp eech ü" / "talker"
    speech.mkdir(parents=True)
    good = (material_folder / "speech" / "anna" / "0.flac").read_bytes()
    (speech / "good.flac").write_bytes(good)
    (speech / "truncated.flac").write_bytes(good[: len(good) // 2])
    (speech / "empty.wav").write_bytes(b"")
    (speech / "text.wav").write_text("this is not audio")
    soundfile.write(speech / "silent.wav", [0.0] * 48_000, 48_000)
    soundfile.write(speech / "short.wav", [0.1, -0.1] * 100, 48_000)
    code, _ = answer(ssiforge, "scan", "--speech", tmp_path, "--out", tmp_path / "s.parquet")
    assert code == 0
    rows = {source.name: source.refused for source in read_catalogue(tmp_path / "s.parquet")}
    assert rows.pop("good.flac") is None
    assert all(rows.values())
    assert len(rows) == 5


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("seconds", "secnds"), "field 'secnds': no such field"),
        (("[0, 10]", "[10, 0]"), "line 4, field 'stages.0.snr_db'"),
        (("noise", "nois"), "did you mean 'noise'"),
    ],
)
def test_a_wrong_recipe(recipe, catalogue_path, tmp_path, ssiforge, change, said) -> None:
    recipe.write_text(recipe.read_text().replace(*change))
    out = tmp_path / "c"
    code, text = answer(
        ssiforge, "generate", recipe, "--sources", catalogue_path, "--out", out, "--samples", 4
    )
    assert code == 2
    assert said in text
    assert str(recipe) in text
    assert not out.exists()


def test_a_missing_catalogue_and_sources_that_are_gone(recipe, catalogue_path, tmp_path, ssiforge) -> None:
    from dataclasses import replace

    from manifests.catalogue import Catalogue, read_catalogue, write_catalogue

    arguments = ("generate", recipe, "--out", tmp_path / "c", "--samples", 4, "--sources")
    code, said = answer(ssiforge, *arguments, tmp_path / "nowhere.parquet")
    assert (code, "nowhere.parquet: no such catalogue" in said) == (2, True)
    moved = [replace(source, path="/gone" + source.path) for source in read_catalogue(catalogue_path)]
    write_catalogue(Catalogue(moved), tmp_path / "moved.parquet")
    code, said = answer(ssiforge, *arguments, tmp_path / "moved.parquet")
    assert (code, "is gone" in said) == (2, True)


def test_a_file_in_the_place_of_the_corpus_folder(recipe, catalogue_path, tmp_path, ssiforge) -> None:
    (tmp_path / "c").write_text("in the way")
    code, said = answer(
        ssiforge,
        "generate",
        recipe,
        "--sources",
        catalogue_path,
        "--out",
        tmp_path / "c",
        "--samples",
        4,
    )
    assert (code, "cannot be written" in said) == (2, True)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write into read-only folders")
def test_a_read_only_folder(recipe, catalogue_path, tmp_path, ssiforge) -> None:
    (tmp_path / "locked").mkdir(mode=0o555)
    out = tmp_path / "locked" / "c"
    code, said = answer(
        ssiforge, "generate", recipe, "--sources", catalogue_path, "--out", out, "--samples", 4
    )
    assert (code, "cannot be written" in said) == (2, True)


def test_a_ray_cluster_that_is_not_there(recipe, catalogue_path, tmp_path, ssiforge) -> None:
    arguments = ("generate", recipe, "--sources", catalogue_path, "--out", tmp_path / "c", "--samples", 4)
    for address in ("127.0.0.1:1", "127.0.0.1:port", "ray://127.0.0.1:1"):
        code, said = answer(ssiforge, *arguments, "--ray", address)
        assert (code, f"--ray {address}: cannot reach Ray" in said) == (2, True)


def test_neither_or_both_lengths(recipe, catalogue_path, tmp_path, ssiforge) -> None:
    arguments = ("generate", recipe, "--sources", catalogue_path, "--out", tmp_path / "c")
    for more in ((), ("--samples", 4, "--hours", 1), ("--hours", -1), ("--hours", "nan"), ("--samples", 0)):
        code, said = answer(ssiforge, *arguments, *more)
        assert code == 2
        assert "--hours" in said or "--samples" in said


def test_a_folder_that_is_no_corpus(tmp_path, ssiforge) -> None:
    for command in (("verify", tmp_path), ("train", "tiny", "--corpus", tmp_path)):
        code, said = answer(ssiforge, *command)
        assert (code, "not a finished corpus" in said) == (2, True)


@pytest.mark.parametrize("command", [("lineage",), ("report",), ("ui",), ("promote", "--as", "x")])
def test_text_that_is_too_long_to_name_a_file(tmp_path, monkeypatch, ssiforge, command) -> None:
    monkeypatch.chdir(tmp_path)
    code, said = answer(ssiforge, *command, "no such thing " * 30)
    assert (code, len(said.splitlines())) == (2, 1)
    assert "too long" in said
    assert "unexpected" not in said


def test_the_debug_option_shows_where_it_failed(tmp_path) -> None:
    command = [sys.executable, "-m", "pipelines.cli", "verify", str(tmp_path), "--debug"]
    failed = subprocess.run(command, capture_output=True, text=True, check=False)
    assert failed.returncode == 2
    assert "Traceback" in failed.stderr


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['ssiforge', '--help']\n"
        "from pipelines.cli import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "heavy = {'torch', 'ray', 'mlflow', 'numpy', 'scipy', 'pyarrow', 'av', 'matplotlib', 'pandas'}\n"
        "sys.exit(','.join(sorted(heavy & set(sys.modules))) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_command_has_help(ssiforge) -> None:
    for command in ("scan", "generate", "verify", "train", "evaluate", "enhance", "lineage", "demo"):
        code, said = answer(ssiforge, command, "--help")
        assert (code, "Usage" in said) == (0, True)
