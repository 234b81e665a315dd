"""`verify` finds what is wrong with a corpus, and names the file."""

import json
import shutil
from pathlib import Path

import pytest

from manifests.corpus import open_corpus
from manifests.errors import UserError
from pipelines.executors import InProcess
from pipelines.generation.generate import fingerprint, generate
from pipelines.verify import verify


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory, small_recipe: Path, catalogue_path: Path) -> Path:
    out = tmp_path_factory.mktemp("corpus") / "c"
    generate(str(small_recipe), catalogue_path, out, InProcess(), samples=12, seed=1)
    return out


@pytest.fixture
def corpus(sound: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sound, tmp_path / "c"))


def test_a_sound_corpus_renders_again_to_the_same_bytes(corpus: Path) -> None:
    found = verify(corpus, rerender=6)
    assert found.problems == ()
    assert (found.rerendered, found.identical) == (6, 6)


def test_sources_that_moved_are_found_through_a_new_catalogue(
    corpus: Path, tmp_path: Path, material_folder: Path
) -> None:
    from pipelines.scanning.scan import scan

    moved = shutil.copytree(material_folder, tmp_path / "elsewhere")
    sources = tmp_path / "moved.parquet"
    scan({"speech": [str(moved / "speech")], "noise": [str(moved / "noise")]}, sources, workers=1)
    assert verify(corpus, rerender=2, sources=sources).identical == 2


@pytest.mark.parametrize("unknown", [("replaces",), ("replaces", "parts")])
def test_a_corpus_made_before_there_were_fields_that_it_has_no_use_for_is_sound(
    corpus: Path, unknown: tuple[str, ...]
) -> None:
    path = corpus / "corpus.json"
    content = json.loads(path.read_bytes())
    before = {name: value for name, value in content.items() if name not in unknown}
    path.write_text(json.dumps(before, indent=2, ensure_ascii=False) + "\n")
    assert verify(corpus).problems == ()
    path.write_text(json.dumps({**before, "checksum": ""}, indent=2, ensure_ascii=False) + "\n")
    assert verify(corpus).problems == ("corpus.json: its content changed since it was written",)


@pytest.mark.parametrize("position", [0.1, 0.5, 0.9])
def test_a_flipped_bit_in_a_shard_is_named(corpus: Path, position: float) -> None:
    tar = corpus / open_corpus(corpus).shards[0].tar_name
    content = bytearray(tar.read_bytes())
    content[int(position * len(content))] ^= 1
    tar.write_bytes(content)
    assert verify(corpus).problems == ("train/shard-000000.tar: its content changed since it was written",)


def test_a_shard_that_is_gone_or_cut_off_is_named_beside_all_other_damage(corpus: Path) -> None:
    gone, cut, *_ = open_corpus(corpus).shards
    (corpus / gone.tar_name).unlink()
    tar = corpus / cut.tar_name
    tar.write_bytes(tar.read_bytes()[:-512])
    (corpus / "val" / "notes.txt").write_text("mine")
    problems = "\n".join(verify(corpus).problems)
    assert f"{gone.tar_name}: missing or truncated (0 of {gone.bytes} bytes)" in problems
    assert f"{cut.tar_name}: missing or truncated ({cut.bytes - 512} of" in problems
    assert "val/notes.txt: does not belong" in problems


@pytest.mark.parametrize("position", [0.02, 0.4, 0.98])
@pytest.mark.parametrize(
    "name",
    [
        "train/shard-000000.json",
        "corpus.json",
        "samples.parquet",
        "sources.parquet",
        "recipe.yaml",
        "plan.json",
        "quarantine.jsonl",
    ],
)
def test_a_flipped_bit_in_any_other_file_is_named(corpus: Path, name: str, position: float) -> None:
    path = corpus / name
    content = bytearray(path.read_bytes() or b" ")
    content[int(position * len(content))] ^= 1
    path.write_bytes(content)
    try:
        problems = verify(corpus, rerender=1).problems
    except UserError as error:  # corpus.json may not even be JSON any more
        problems = (str(error),)
    assert any(name in problem for problem in problems)


def test_a_record_of_another_shard_is_named(corpus: Path) -> None:
    shard = open_corpus(corpus).shards[0]
    record = corpus / shard.record_name
    record.write_text(record.read_text().replace(shard.sha256, "0" * 64))
    assert "train/shard-000000.json: does not belong to this corpus" in verify(corpus).problems


def test_what_verify_finds_missing_generate_puts_back(
    corpus: Path, sound: Path, small_recipe: Path, catalogue_path: Path
) -> None:
    shard = open_corpus(corpus).shards[0]
    for name in (shard.tar_name, "samples.parquet", "sources.parquet", "recipe.yaml"):
        (corpus / name).unlink()
    (corpus / "corpus.json").write_text("{")
    generate(str(small_recipe), catalogue_path, corpus, InProcess(), samples=12, seed=1)
    assert verify(corpus, rerender=2).problems == ()
    assert fingerprint(corpus) == fingerprint(sound)
    (corpus / "samples.parquet").unlink()
    generate(str(small_recipe), catalogue_path, corpus, InProcess(), samples=12, seed=1)
    assert verify(corpus).problems == ()


def test_a_stray_file_is_named(corpus: Path) -> None:
    (corpus / "train" / "shard-000099.tar").write_bytes(b"")
    assert verify(corpus).problems == ("train/shard-000099.tar: does not belong to the corpus",)


def test_a_manifest_that_was_edited_is_refused(corpus: Path) -> None:
    manifest = corpus / "corpus.json"
    manifest.write_text(manifest.read_text().replace('"seed": 1', '"seed": 2'))
    assert "corpus.json: its id does not match its content" in verify(corpus).problems
    with pytest.raises(UserError, match="id does not match"):
        open_corpus(corpus)


def test_a_speaker_in_two_splits_is_found(tmp_path: Path, small_recipe: Path, catalogue_path: Path) -> None:
    from dataclasses import replace

    from manifests.catalogue import Catalogue, read_catalogue, write_catalogue

    rows = [replace(s, speaker="same") if s.kind == "speech" else s for s in read_catalogue(catalogue_path)]
    write_catalogue(Catalogue(rows), tmp_path / "leaky.parquet")
    generate(str(small_recipe), tmp_path / "leaky.parquet", tmp_path / "c", InProcess(), samples=12)
    (tmp_path / "c" / "train" / "stray.txt").write_text("which must not hide the leak")
    assert "speech 'same' is in the splits train and val" in verify(tmp_path / "c").problems
