"""What is taken down is gone, and nothing else is changed."""

import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from manifests.catalogue import read_catalogue
from manifests.corpus import Corpus, open_corpus
from manifests.errors import UserError
from pipelines.executors import InProcess
from pipelines.generation.generate import fingerprint, generate
from pipelines.governance.take_down import take_down
from pipelines.governance.withdraw import Withdrawn, withdraw
from pipelines.merging.merge import merge
from pipelines.verify import verify

Run = Callable[..., tuple[int, str, str]]
SAMPLES = 40


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory, small_recipe: Path, catalogue_path: Path) -> Path:
    out = tmp_path_factory.mktemp("withdraw") / "before"
    generate(str(small_recipe), catalogue_path, out, InProcess(), samples=SAMPLES, seed=5)
    return out


@pytest.fixture(scope="module")
def noise_hash(before: Path) -> str:
    """A noise of the training split that only some of its shards hold."""
    rows = read_catalogue(before / "sources.parquet").of("noise", "train")
    return max(rows, key=lambda row: len(holders(before, row.sha256))).sha256


@pytest.fixture(scope="module")
def after(before: Path, noise_hash: str) -> tuple[Path, Withdrawn]:
    out = before.parent / "after"
    return out, withdraw([noise_hash[:12]], before, out, InProcess(), "asked to")


def contents(corpus: Path) -> dict[str, tuple[str, bytes]]:
    """Every member of every tar, with its shard."""
    found = {}
    for path in sorted(corpus.glob("*/*.tar")):
        with tarfile.open(path) as tar:
            for member in tar:
                stream = tar.extractfile(member)
                assert stream is not None
                found[member.name] = (f"{path.parent.name}/{path.name}", stream.read())
    return found


def holders(corpus: Path, sha256: str) -> dict[str, str]:
    """Samples whose KEY.json names a source anywhere, with their shards; read from the tars."""
    return {
        name.removesuffix(".json"): shard
        for name, (shard, content) in contents(corpus).items()
        if name.endswith(".json") and sha256.encode() in content
    }


def test_no_sample_holds_it_and_every_sample_renders_to_the_bytes_that_are_there(
    before: Path, after: tuple[Path, Withdrawn], noise_hash: str
) -> None:
    out, done = after
    held = holders(before, noise_hash)
    assert held and {key for keys in done.samples.values() for key in keys} == held.keys()
    assert holders(out, noise_hash) == {}
    found = verify(out, rerender=SAMPLES)
    assert found.problems == () and found.identical == found.samples == SAMPLES


def test_all_other_samples_and_shards_keep_their_bytes(
    before: Path, after: tuple[Path, Withdrawn], noise_hash: str
) -> None:
    out, done = after
    held = holders(before, noise_hash)
    old, new = contents(before), contents(out)
    assert old.keys() == new.keys()
    for name in old:
        assert (old[name] == new[name]) == (name.partition(".")[0] not in held), name
    files, files_now = fingerprint(before), fingerprint(out)
    changed = {name for name in files if files[name] != files_now[name]}
    assert {name for name in changed if name.endswith(".tar")} == set(held.values()) == set(done.samples)
    assert {name for name in changed if name.endswith(".json")} == {
        name.replace(".tar", ".json") for name in done.samples
    }
    assert len(changed) < len(files)


def test_it_is_a_new_version_with_a_record_of_what_went(
    before: Path, after: tuple[Path, Withdrawn], noise_hash: str
) -> None:
    out, _ = after
    old, new = open_corpus(before).manifest, open_corpus(out).manifest
    assert new.id != old.id and new.replaces == old.id and old.replaces == ""
    (line,) = (json.loads(line) for line in (out / "withdrawals.ndjson").read_text().splitlines())
    assert (line["replaces"], line["corpus"]) == (old.id, new.id)
    assert (line["reason"], line["models"]) == ("asked to", [])
    assert [source["sha256"] for source in line["sources"]] == [noise_hash]
    assert noise_hash not in (out / "ATTRIBUTION.tsv").read_text()
    assert noise_hash in (before / "ATTRIBUTION.tsv").read_text()


@pytest.mark.parametrize("file_is_gone", [False, True])
def test_it_does_not_come_back_by_generating_with_the_old_catalogue(
    after: tuple[Path, Withdrawn],
    noise_hash: str,
    small_recipe: Path,
    catalogue_path: Path,
    tmp_path: Path,
    file_is_gone: bool,
) -> None:
    out, done = after
    copy = Path(shutil.copytree(out, tmp_path / "copy"))
    for shard in done.samples:
        (copy / shard).unlink()
    (noise,) = (row for row in read_catalogue(catalogue_path).usable if row.sha256 == noise_hash)
    hidden = Path(noise.path).rename(tmp_path / "hidden") if file_is_gone else None
    try:
        generate(str(small_recipe), catalogue_path, copy, InProcess(), samples=SAMPLES, seed=5)
        assert fingerprint(copy) == fingerprint(out)
        assert open_corpus(copy).manifest.id == done.manifest.id
        grown = generate(str(small_recipe), catalogue_path, copy, InProcess(), samples=60, seed=5).manifest
    finally:
        if hidden is not None:
            hidden.rename(noise.path)
    assert sum(grown.samples.values()) == 60 and holders(copy, noise_hash) == {}
    assert verify(copy, rerender=5).problems == ()


def test_interrupted_it_goes_on(before: Path, after: tuple[Path, Withdrawn], noise_hash: str) -> None:
    out = before.parent / "interrupted"

    class StopsEarly(InProcess):
        def run(self, job, tasks):  # type: ignore[no-untyped-def]
            for outcome in super().run(job, tasks):
                yield outcome
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        withdraw([noise_hash], before, out, StopsEarly(), "asked to")
    assert not (out / "corpus.json").exists()
    done = withdraw([noise_hash], before, out, InProcess(), "asked to")
    assert fingerprint(out) == fingerprint(after[0]) and done.manifest.id == after[1].manifest.id
    with pytest.raises(UserError, match="holds another corpus"):
        withdraw(["speaker:" + speaker_of(before)], before, out, InProcess())


def test_a_hash_may_be_written_in_capitals(before: Path, noise_hash: str) -> None:
    for reference in (noise_hash.upper(), noise_hash[:12].upper(), noise_hash[:20].title()):
        (source,) = take_down([reference], before).sources
        assert source.sha256 == noise_hash


def snapshot(folder: Path) -> dict[str, tuple[int, bytes]]:
    """All files below a folder, with their times."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


def test_a_dry_run_tells_what_would_change_and_changes_nothing(
    before: Path,
    after: tuple[Path, Withdrawn],
    noise_hash: str,
    ssiforge: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    there = snapshot(before.parent)
    code, said, _ = ssiforge("withdraw", noise_hash, "--corpus", before, "--out", "new", "--dry-run")
    assert (
        code == 0
        and said.splitlines()[0] == f"{before}: corpus {open_corpus(before).manifest.id}; nothing is changed"
    )
    samples = after[1].samples
    assert f"{sum(map(len, samples.values()))} samples in {len(samples)} of " in said
    for shard, keys in samples.items():
        assert f"{shard}: {', '.join(keys)}\n" in said
    assert noise_hash[:12] in said and "no known model" in said
    assert ssiforge("withdraw", noise_hash, "--corpus", before, "--dry-run")[1] == said
    assert list(tmp_path.iterdir()) == [] and snapshot(before.parent) == there
    code, _, errors = ssiforge("withdraw", noise_hash, "--corpus", before, "--out", before, "--dry-run")
    assert code == 2 and "is the corpus itself" in errors
    code, _, errors = ssiforge("withdraw", noise_hash, "--corpus", before)
    assert code == 2 and errors.startswith("ssiforge: --out is needed")


def test_other_corpora_that_hold_it_are_named(
    before: Path, noise_hash: str, ssiforge: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    other = tmp_path / "other"
    generate(before / "recipe.yaml", before / "sources.parquet", other, InProcess(), samples=12, seed=6)
    held = len(holders(other, noise_hash))
    assert held
    code, said, _ = ssiforge("withdraw", noise_hash, "--corpus", before, "--dry-run")
    assert code == 0
    assert f"{other} holds them too, in {held} samples: withdraw them there as well" in said
    code, said, log = ssiforge("withdraw", noise_hash, "--corpus", before, "--out", "new", "--workers", 0)
    assert (code, said.count("holds them too")) == (0, 1)
    assert "\nwithdraw: " in f"\n{log}" and "real time" not in log  # most samples are copied


def test_the_first_reason_is_kept(before: Path, after: tuple[Path, Withdrawn], noise_hash: str) -> None:
    out, _ = after
    said: list[str] = []
    files = snapshot(out)
    done = withdraw([noise_hash], before, out, InProcess(), "another", said.append)
    assert done.reason == "asked to" and said[-1].endswith("which is kept: asked to")
    assert snapshot(out) == files


def speaker_of(corpus: Path) -> str:
    """A talker of a split that has others."""
    rows = read_catalogue(corpus / "sources.parquet").of("speech", "train")
    return sorted(rows.names("speaker"))[0]


def test_a_speaker_goes_with_all_files_in_any_order_of_withdrawals(
    before: Path, after: tuple[Path, Withdrawn], noise_hash: str, tmp_path: Path
) -> None:
    name = f"speaker:{speaker_of(before)}"
    later = withdraw([name], after[0], tmp_path / "later", InProcess())
    first = withdraw([name], before, tmp_path / "first", InProcess())
    assert len(first.sources) > 1 and later.manifest.replaces == after[1].manifest.id
    both = withdraw([noise_hash], tmp_path / "first", tmp_path / "both", InProcess())
    once = withdraw([noise_hash, name], before, tmp_path / "once", InProcess())
    assert later.manifest.id == both.manifest.id == once.manifest.id
    assert fingerprint(tmp_path / "later") == fingerprint(tmp_path / "both") == fingerprint(tmp_path / "once")
    assert len((tmp_path / "later" / "withdrawals.ndjson").read_text().splitlines()) == 2
    for source in once.sources:
        assert holders(tmp_path / "once", source.sha256) == {}
    assert verify(tmp_path / "both", rerender=SAMPLES).identical == SAMPLES


@pytest.mark.parametrize(
    ("reference", "words"),
    [("nobody.wav", "no source of"), (".flac", "no source of"), ("speaker:nobody", "no source of")],
)
def test_what_it_does_not_hold_is_refused(before: Path, tmp_path: Path, reference: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        withdraw([reference], before, tmp_path / "out", InProcess())
    assert not (tmp_path / "out").exists()


def test_the_corpus_itself_is_never_written(before: Path, noise_hash: str) -> None:
    opened: Corpus = open_corpus(before)
    with pytest.raises(UserError, match="is the corpus itself"):
        withdraw([noise_hash], before, before, InProcess())
    with pytest.raises(UserError, match="no usable speech"):
        speakers = read_catalogue(before / "sources.parquet").of("speech", "val").names("speaker")
        withdraw([f"speaker:{name}" for name in speakers], before, before.parent / "none", InProcess())
    assert open_corpus(before).manifest == opened.manifest


def test_it_does_not_come_back_by_merging(
    after: tuple[Path, Withdrawn], noise_hash: str, small_recipe: Path, catalogue_path: Path, tmp_path: Path
) -> None:
    out = tmp_path / "other"
    generate(str(small_recipe), catalogue_path, out, InProcess(), samples=20, seed=6)
    assert holders(out, noise_hash)
    with pytest.raises(UserError, match="which was withdrawn from"):
        merge([after[0], out], tmp_path / "merged")
    withdraw([noise_hash], out, tmp_path / "clean", InProcess())
    merge([after[0], tmp_path / "clean"], tmp_path / "merged2")
    with pytest.raises(UserError, match="was merged from others"):
        withdraw([noise_hash], tmp_path / "merged2", tmp_path / "no", InProcess())
