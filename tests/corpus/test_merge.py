"""Corpora become one: by reference or copied, traced to their parts, and never with a talker in two splits."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

import pipelines.corpus.copying
from datagen.environment import environment
from manifests.canonical import digest
from manifests.catalogue import Catalogue, read_catalogue, write_catalogue
from manifests.corpus import CorpusManifest, open_corpus, read_manifest
from manifests.errors import JobError, UserError
from manifests.parts import part_names
from pipelines.corpus.lock import locked
from pipelines.evaluation.samples import HeldOut
from pipelines.executors import InProcess
from pipelines.generation.generate import fingerprint, generate
from pipelines.lineage.answer import lineage
from pipelines.merging.merge import merge
from pipelines.scoring.runners import on_processes
from pipelines.scoring.score import score
from pipelines.selection.selecting import select
from pipelines.verify import verify
from training.shards import Reader

Make = Callable[..., Path]


@pytest.fixture(scope="module")
def two(
    tmp_path_factory: pytest.TempPathFactory, small_recipe: Path, catalogue_path: Path
) -> tuple[Path, Path]:
    """12 samples of 1 s, and 8 of 1.5 s that lack a stage."""
    root = tmp_path_factory.mktemp("corpora")
    generate(str(small_recipe), catalogue_path, root / "a", InProcess(), samples=12, seed=1)
    other = ("name=longer", "seconds=1.5", "stages.0.p=0")
    generate(str(small_recipe), catalogue_path, root / "b", InProcess(), samples=8, seed=2, overrides=other)
    return root / "a", root / "b"


@pytest.fixture
def pair(two: tuple[Path, Path], tmp_path: Path) -> tuple[Path, Path]:
    """The same, to be altered."""
    a, b = (Path(shutil.copytree(each, tmp_path / each.name)) for each in two)
    return a, b


def fixed(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()
    }


def timeless(root: Path) -> dict[str, Any]:
    """All but the events of the jobs, which have times, and what is said of them."""
    held: dict[str, Any] = fixed(root)
    held["companions.json"] = json.loads(held["companions.json"])["files"]
    for files in (held, held["companions.json"]):
        del files["lineage.ndjson"]
    return held


# --- what comes out -------------------------------------------------------------------------------


def test_a_merged_corpus_counts_its_parts_together(two: tuple[Path, Path], tmp_path: Path) -> None:
    a, b = two
    before = fixed(a), fixed(b)
    merged = merge([a, b], tmp_path / "c", weights=[f"{b}=0.5"]).manifest
    ours, theirs = read_manifest(a), read_manifest(b)
    assert {part.corpus: part.weight for part in merged.parts} == {ours.id: 1.0, theirs.id: 0.5}
    assert merged.samples == {split: ours.samples[split] + theirs.samples[split] for split in ours.samples}
    assert merged.hours == pytest.approx(ours.hours + theirs.hours, abs=1e-6)
    for licence, count in merged.licences.items():
        assert count == ours.licences.get(licence, 0) + theirs.licences.get(licence, 0)
    assert merged.stages["noise"]["asked"] == pytest.approx(0.8 * 12 / 20)
    assert (merged.shards, merged.intact) == ({}, True)
    assert (fixed(a), fixed(b)) == before
    assert verify(tmp_path / "c").problems == ()


def test_its_tables_tell_samples_of_the_parts_apart(two: tuple[Path, Path], tmp_path: Path) -> None:
    a, b = two
    merged = merge([a, b], tmp_path / "c").manifest
    rows = pq.read_table(tmp_path / "c" / "samples.parquet").to_pylist()
    held = {each.id: pq.read_table(place / "samples.parquet").to_pylist() for each, place in _by_id(two)}
    assert len(rows) == len({row["key"] for row in rows}) == 20
    for part in merged.parts:
        ours = [row for row in rows if row["corpus"] == part.corpus]
        assert [row["key"] for row in ours] == [f"{part.name}-{row['key']}" for row in held[part.corpus]]
        for row, original in zip(ours, held[part.corpus], strict=True):
            assert {name: row[name] for name in original if name != "key"} == {
                name: value for name, value in original.items() if name != "key"
            }
            assert all(row[name] is None for name in row.keys() - original.keys() - {"corpus"})
    sources = {source.sha256 for source in read_catalogue(tmp_path / "c" / "sources.parquet")}
    assert {sha256 for row in rows for sha256 in row["source_sha256"]} <= sources


def _by_id(places: tuple[Path, Path]) -> list[tuple[CorpusManifest, Path]]:
    return [(read_manifest(place), place) for place in places]


def test_evaluation_reads_the_samples_of_all_parts_whole_by_their_full_names(
    two: tuple[Path, Path], tmp_path: Path
) -> None:
    merged = merge(two, tmp_path / "c").manifest
    read = list(HeldOut(open_corpus(tmp_path / "c"), "test", None, None, print))
    rows = pq.read_table(tmp_path / "c" / "samples.parquet").to_pylist()
    wanted = {row["key"]: row["seconds"] for row in rows if row["split"] == "test"}
    assert {sample.key: len(sample.degraded) / 48_000 for sample in read} == wanted
    assert len(read) == merged.samples["test"] and all(sample.conditions for sample in read)


def test_neither_order_nor_place_but_weights_change_the_identity(
    two: tuple[Path, Path], pair: tuple[Path, Path], tmp_path: Path
) -> None:
    merged = merge(two, tmp_path / "1").manifest
    one = merged.id
    assert merged.environment == environment()
    assert merge(pair[::-1], tmp_path / "2").manifest.id == one
    assert merge(two, tmp_path / "3", copy=True).manifest.id == one
    assert merge(two, tmp_path / "4", weights=[f"{two[0]}=2"]).manifest.id != one


def test_a_merged_corpus_is_merged_by_its_parts_and_weights_multiply(
    two: tuple[Path, Path], tmp_path: Path, small_recipe: Path, catalogue_path: Path
) -> None:
    a, b = two
    generate(str(small_recipe), catalogue_path, tmp_path / "third", InProcess(), samples=6, seed=3)
    merge([a, b], tmp_path / "c", weights=[f"{a}=0.1", f"{b}=2"])
    last = merge(
        [tmp_path / "c", tmp_path / "third"], tmp_path / "d", weights=[f"{tmp_path / 'c'}=3"]
    ).manifest
    wanted = {read_manifest(a).id: 0.3, read_manifest(b).id: 6.0, read_manifest(tmp_path / "third").id: 1.0}
    assert {part.corpus: part.weight for part in last.parts} == wanted
    assert all(not read_manifest(part.place).parts for part in last.parts)


def test_doing_it_again_changes_nothing(two: tuple[Path, Path], tmp_path: Path) -> None:
    for copy in (False, True):
        out = tmp_path / str(copy)
        merge(two, out, copy=copy)
        before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
        again = merge(two[::-1], out, copy=copy)
        assert (again.changed, again.copied_files) == (False, 0)
        assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before


# --- copies ---------------------------------------------------------------------------------------


def test_a_copy_is_whole_byte_for_byte_and_opens_wherever_it_is_moved(
    pair: tuple[Path, Path], tmp_path: Path
) -> None:
    (pair[0] / "rooms").mkdir()
    (pair[0] / "rooms" / "room-0.wav").write_bytes(b"of no manifest, and yet part of the corpus")
    merged = merge(pair, tmp_path / "c", copy=True).manifest
    for manifest, place in _by_id(pair):
        original = {name: content for name, content in fixed(place).items() if name != "progress.json"}
        assert fixed(tmp_path / "c" / "parts" / manifest.id) == original
    for place in pair:
        shutil.rmtree(place)
    moved = shutil.move(tmp_path / "c", tmp_path / "elsewhere")
    opened = open_corpus(moved)
    assert opened.manifest == merged
    assert sum(len(shard.samples) for part in opened.parts for shard in part.corpus.shards) == 20
    assert verify(moved).problems == ()


@pytest.mark.parametrize("last", [0, 5, 11])
def test_interrupted_copying_goes_on_where_it_was(
    two: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last: int
) -> None:
    out, copied, whole = tmp_path / "c", [], pipelines.corpus.copying._copy_file

    def copy_some(source: object, copy: object, name: str, expected: str) -> None:
        if len(copied) == last:
            raise OSError(28, "No space left on device", name)
        whole(source, copy, name, expected)  # type: ignore[arg-type]
        copied.append(name)

    monkeypatch.setattr(pipelines.corpus.copying, "_copy_file", copy_some)
    with pytest.raises(JobError, match="No space left on device; what was finished is kept"):
        merge(two, out, copy=True)
    monkeypatch.undo()
    with pytest.raises(UserError, match="not a finished corpus"):
        open_corpus(out)
    done = merge(two, out, copy=True)
    files = sum(len(fixed(place).keys() - {"progress.json"}) for place in two)
    assert done.copied_files == files - last
    merge(two, tmp_path / "undisturbed", copy=True)
    assert timeless(out) == timeless(tmp_path / "undisturbed")


def test_a_damaged_file_is_not_copied(pair: tuple[Path, Path], tmp_path: Path) -> None:
    tar = pair[1] / open_corpus(pair[1]).shards[0].tar_name
    content = bytearray(tar.read_bytes())
    content[len(content) // 2] ^= 1
    tar.write_bytes(content)
    with pytest.raises(UserError, match=r"shard-000000\.tar: its content is not what its corpus names"):
        merge(pair, tmp_path / "c", copy=True)
    (ours, _), (theirs, _) = _by_id(pair)
    assert not (tmp_path / "c" / "parts" / theirs.id / "corpus.json").exists()


def test_corpora_are_copied_into_a_bucket_and_out_of_one(two: tuple[Path, Path], tmp_path: Path) -> None:
    bucket = f"memory://{tmp_path.name}/c"
    merged = merge(two, bucket, copy=True).manifest
    assert verify(bucket).problems == ()
    places = [part.corpus.url for part in open_corpus(bucket).parts]
    assert all(place.startswith(f"{bucket}/parts/") for place in places)
    back = merge(places, tmp_path / "back", copy=True).manifest
    assert back.id == merged.id
    for manifest, place in _by_id(two):
        assert fingerprint(tmp_path / "back" / "parts" / manifest.id) == fingerprint(place)


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "weights, reason",
    [
        (["elsewhere=2"], "--weight elsewhere=2: must be CORPUS=WEIGHT"),
        (["{a}"], "must be CORPUS=WEIGHT"),
        (["{a}=0"], "a weight is a number from 0.001 to 1000"),
        (["{a}=much"], "a weight is a number"),
        (["{a}=nan"], "a weight is a number"),
    ],
)
def test_a_weight_that_is_none_is_refused(
    two: tuple[Path, Path], tmp_path: Path, weights: list[str], reason: str
) -> None:
    given = [weight.format(a=two[0]) for weight in weights]
    with pytest.raises(UserError, match=reason):
        merge(two, tmp_path / "c", given)
    assert not (tmp_path / "c").exists()


def test_the_same_samples_twice_are_refused(
    two: tuple[Path, Path], tmp_path: Path, small_recipe: Path, catalogue_path: Path
) -> None:
    a, b = two
    with pytest.raises(UserError, match="is given twice"):
        merge([a, a], tmp_path / "c")
    with pytest.raises(UserError, match="is the same corpus as"):
        merge([a, b, shutil.copytree(a, tmp_path / "copy")], tmp_path / "c")
    merge([a, b], tmp_path / "both")
    with pytest.raises(UserError, match="is the same corpus as"):
        merge([tmp_path / "both", a], tmp_path / "c")
    larger = shutil.copytree(a, tmp_path / "larger")
    generate(str(small_recipe), catalogue_path, larger, InProcess(), samples=30, seed=1)
    with pytest.raises(UserError, match="holds samples that .* holds too .*making it larger"):
        merge([a, larger], tmp_path / "c")
    with pytest.raises(UserError, match="two corpora or more"):
        merge([a], tmp_path / "c")


def _resplit(root: Path, sha256: str, **changes: object) -> None:
    """Rewrite a corpus's catalogue with one row altered, as though it had been made from such a catalogue."""
    path = root / "sources.parquet"
    from dataclasses import replace

    rows = [replace(s, **changes) if s.sha256 == sha256 else s for s in read_catalogue(path)]  # type: ignore[arg-type]
    write_catalogue(Catalogue(rows), path)
    _seal(root, path)


def _seal(root: Path, path: Path) -> None:
    from manifests.canonical import file_sha256

    manifest = read_manifest(root)
    files = manifest.files | {path.name: file_sha256(path)}
    (root / "corpus.json").write_bytes(manifest.model_copy(update={"files": files}).sealed().written())


@pytest.mark.parametrize("kind, word", [("speech", "speaker"), ("noise", "noise recording")])
def test_a_group_in_two_splits_is_named(
    two: tuple[Path, Path], pair: tuple[Path, Path], tmp_path: Path, kind: str, word: str
) -> None:
    a, b = pair
    # Both were drawn from one catalogue. In b, a recording of the test split now counts as one of a's training groups.
    held = {split: _sources(a, split, kind) for split in ("train", "test")}
    group = min(held["train"].values())
    of_b = _sources(b, "test", kind) or _sources(b, "train", kind)
    other = next((sha for sha, name in sorted(of_b.items()) if name != group), None)
    if kind == "noise":  # b draws no noise: it is a's own test noise that gets the name of a training noise
        b, other = a, min(held["test"])
    assert other is not None
    field = "speaker" if kind == "speech" else "recording"
    _resplit(b, other, **{field: group})
    sentence = f"{word} '.*' is in the split .* together they would test on"
    with pytest.raises(UserError, match=sentence):
        merge(pair, tmp_path / "c")
    assert not (tmp_path / "c").exists()
    # Had they been merged before, `verify` would notice.
    merge([shutil.copytree(each, tmp_path / f"intact-{each.name}") for each in two], tmp_path / "d")
    for each in pair:
        shutil.copytree(each, tmp_path / f"intact-{each.name}", dirs_exist_ok=True)
    (problem,) = verify(tmp_path / "d").problems
    assert re.fullmatch(f"{sentence}.*", problem)


def test_a_file_in_two_splits_under_two_names_is_found_by_its_content(
    pair: tuple[Path, Path], tmp_path: Path
) -> None:
    a, b = pair
    trained, tested = min(_sources(a, "train", "speech")), min(_sources(b, "test", "speech"))
    table = pq.read_table(b / "samples.parquet")
    rows = [
        [trained if sha == tested else sha for sha in hashes] for hashes in table["source_sha256"].to_pylist()
    ]
    table = table.set_column(
        table.column_names.index("source_sha256"), table.schema.field("source_sha256"), [rows]
    )
    pq.write_table(table, b / "samples.parquet")
    _seal(b, b / "samples.parquet")
    _resplit(b, trained, speaker="another name")
    with pytest.raises(UserError, match=f"file of content '{trained}' is in the split (train|test) "):
        merge(pair, tmp_path / "c")


def _sources(root: Path, split: str, kind: str) -> dict[str, str]:
    """Groups of the sources that a split's samples hold, by content hash."""
    rows = {source.sha256: source for source in read_catalogue(root / "sources.parquet")}
    held = pq.read_table(root / "samples.parquet").to_pylist()
    used = {sha for row in held if row["split"] == split for sha in row["source_sha256"]}
    return {sha: rows[sha].group for sha in used if rows[sha].kind == kind}


def test_a_place_that_holds_something_else_is_left_alone(
    two: tuple[Path, Path], pair: tuple[Path, Path]
) -> None:
    a, b = two
    with pytest.raises(UserError, match="holds a corpus made by 'ssiforge generate'"):
        merge(two, pair[0])
    with pytest.raises(UserError, match="is .*, which is to be merged, or lies in it"):
        merge(two, a / "within")
    out = pair[0].parent / "c"
    merge(two, out, weights=[f"{a}=2"])
    with pytest.raises(UserError, match="has the weight 2 there, now 1"):
        merge(two, out)
    with pytest.raises(UserError, match="its parts are referred to, not copied"):
        merge(two, out, weights=[f"{a}=2"], copy=True)
    strange = pair[0].parent / "strange"
    strange.mkdir()
    (strange / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match=r"is not empty and holds no corpus \(found 'notes.txt'\)"):
        merge(two, strange)


def test_nothing_is_generated_into_a_merged_corpus(
    two: tuple[Path, Path], tmp_path: Path, small_recipe: Path, catalogue_path: Path
) -> None:
    merge(two, tmp_path / "c")
    with pytest.raises(UserError, match="merged from others, into which nothing can be generated"):
        generate(str(small_recipe), catalogue_path, tmp_path / "c", InProcess(), samples=12, seed=1)


def test_one_job_at_a_time_writes_a_place(two: tuple[Path, Path], tmp_path: Path) -> None:
    from manifests.store import open_store

    with locked(open_store(tmp_path / "c")), pytest.raises(UserError, match="another job is writing"):
        merge(two, tmp_path / "c")


# --- parts that change ----------------------------------------------------------------------------


def test_a_part_that_moved_is_named_and_merging_again_finds_it(
    pair: tuple[Path, Path], tmp_path: Path
) -> None:
    a, b = pair
    merged = merge(pair, tmp_path / "c").manifest
    moved = a.rename(tmp_path / "moved")
    sentence = rf"its part .* cannot be found: {a}: holds no corpus.json"
    with pytest.raises(UserError, match=sentence):
        open_corpus(tmp_path / "c")
    (problem,) = verify(tmp_path / "c").problems
    assert f"cannot be found: {a}" in problem
    assert "merge' again with where it is now" in problem
    assert merge([moved, b], tmp_path / "c").manifest.id == merged.id
    assert verify(tmp_path / "c").problems == ()


def test_a_part_that_was_made_larger_or_replaced_is_named(
    pair: tuple[Path, Path], tmp_path: Path, small_recipe: Path, catalogue_path: Path
) -> None:
    a, b = pair
    merge(pair, tmp_path / "c")
    generate(str(small_recipe), catalogue_path, a, InProcess(), samples=30, seed=1)
    with pytest.raises(UserError, match=f"at {a} was made larger since .*run 'ssiforge merge' again"):
        open_corpus(tmp_path / "c")
    shutil.rmtree(a)
    shutil.copytree(b, a)
    with pytest.raises(UserError, match=f"at {a} is another corpus now"):
        open_corpus(tmp_path / "c")
    assert len(verify(tmp_path / "c").problems) == 1


def test_damage_in_a_part_or_in_the_tables_is_named(pair: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "c"
    merge(pair, out)
    record = pair[1] / open_corpus(pair[1]).shards[0].record_name
    record.write_text(record.read_text().replace("}", "} ", 1))
    (out / "samples.parquet").write_bytes(b"")
    problems = verify(out).problems
    assert [problem for problem in problems if str(pair[1]) in problem and record.name in problem]
    assert "samples.parquet: its content changed since it was written" in problems
    tar = pair[0] / open_corpus(pair[0]).shards[0].tar_name
    tar.write_bytes(tar.read_bytes()[:-512])
    with pytest.raises(UserError, match=rf"its part .* is damaged: {tar}: missing or truncated"):
        open_corpus(out)


def test_a_weight_that_was_edited_is_noticed(two: tuple[Path, Path], tmp_path: Path) -> None:
    merge(two, tmp_path / "c")
    path = tmp_path / "c" / "corpus.json"
    content = json.loads(path.read_text())
    content["parts"][0]["weight"] = 5.0
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match="its id does not match its content"):
        open_corpus(tmp_path / "c")


def test_strays_among_copied_parts_are_named(two: tuple[Path, Path], tmp_path: Path) -> None:
    merge(two, tmp_path / "c", copy=True)
    (tmp_path / "c" / "parts" / "mine").mkdir()
    (tmp_path / "c" / "parts" / "mine" / "notes.txt").write_text("mine")
    assert verify(tmp_path / "c").problems == ("parts/mine: does not belong to the corpus",)


def test_samples_to_render_again_are_spread_over_the_parts(two: tuple[Path, Path], tmp_path: Path) -> None:
    merge(two, tmp_path / "c")
    found = verify(tmp_path / "c", rerender=5)
    assert (found.problems, found.rerendered, found.identical, found.samples) == ((), 5, 5, 20)


# --- lineage --------------------------------------------------------------------------------------


def test_lineage_goes_from_a_source_through_its_corpus_to_what_that_was_merged_into_and_back(
    two: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    a, b = two
    merged = merge(two, tmp_path / "c", weights=[f"{b}=2"]).manifest
    ours, theirs = read_manifest(a), read_manifest(b)
    back = lineage(str(tmp_path / "c"))
    edges = {(edge.origin, edge.made, edge.relation) for edge in back.graph.edges}
    assert (f"corpus:{ours.id}", f"corpus:{merged.id}", "part of") in edges
    assert (f"corpus:{theirs.id}", f"corpus:{merged.id}", "part with weight 2 of") in edges
    assert {node.id for node in back.graph.nodes.values() if node.kind == "recipe"} == {
        ours.recipe_digest,
        theirs.recipe_digest,
    }
    sha256 = min(_sources(b, "train", "speech").keys() - _sources(a, "train", "speech").keys(), default=None)
    sha256 = sha256 or min(_sources(b, "train", "speech"))
    forward = lineage(sha256, [tmp_path / "c"])
    assert (f"corpus:{theirs.id}", f"corpus:{merged.id}", "part with weight 2 of") in {
        (edge.origin, edge.made, edge.relation) for edge in forward.graph.edges
    }
    key = pq.read_table(b / "samples.parquet")["key"][0].as_py()
    sample = lineage(f"{theirs.id[:8]}-{key}", [tmp_path / "c"])
    assert sample.start.id == f"{theirs.id}/{key}"
    with pytest.raises(UserError, match=f"give its full name: .*{ours.id[:8]}-{key}"):
        lineage(key, [tmp_path / "c"])


def test_mlflow_records_it_with_its_parts_and_opens_it_again(two: tuple[Path, Path], tmp_path: Path) -> None:
    import mlflow.data  # noqa: F401 - before our source, which mlflow imports while it is being imported

    from pipelines.tracking.corpus import corpus_dataset

    merged = merge(two, tmp_path / "c", weights=[f"{two[0]}=2"]).manifest
    dataset = corpus_dataset(open_corpus(tmp_path / "c"))
    assert dataset.digest == merged.id
    assert dataset.profile["parts"] == {part.corpus: part.weight for part in merged.parts}
    assert dataset.source.load().manifest == merged


def test_names_of_parts_are_as_short_as_tells_them_apart() -> None:
    ids = [digest(number) for number in range(3)]
    assert part_names(ids) == [i[:8] for i in ids]
    assert part_names(["0123456789" + "a" * 22, "0123456780" + "a" * 22]) == ["0123456789", "0123456780"]


def test_the_command_says_what_it_made(
    two: tuple[Path, Path], tmp_path: Path, ssiforge: Callable[..., tuple[int, str, str]]
) -> None:
    code, out, err = ssiforge("merge", *two, "--out", tmp_path / "c", "--weight", f"{two[1]}=0.25")
    assert code == 0
    assert f"longer, 0.00 h, weight 0.25, {two[1]}" in out
    assert "training cuts all of them to at most 1 s" in err
    code, out, _ = ssiforge("verify", tmp_path / "c")
    assert (code, "20 samples" in out) == (0, True)
    code, _, err = ssiforge("merge", two[0], two[0], "--out", tmp_path / "d")
    assert (code, "is given twice" in err) == (2, True)


def test_an_expression_selects_from_every_part_by_its_own_tables(
    two: tuple[Path, Path], tmp_path: Path
) -> None:
    merge(two, tmp_path / "c")
    corpus = open_corpus(tmp_path / "c")
    chosen = select(corpus, "measured.degraded_active_level_dbfs < -28", ("train",))
    rows = pq.read_table(tmp_path / "c" / "samples.parquet").to_pylist()
    wanted = {
        row["key"]
        for row in rows
        if row["split"] == "train" and row["measured.degraded_active_level_dbfs"] < -28
    }
    everything = {row["key"] for row in rows if row["split"] == "train"}
    assert 0 < len(wanted) < len(everything)
    assert chosen.record.samples == {"train": len(wanted)}
    reader = Reader(corpus, "train", chosen)
    order = reader.order(seed=1, window_shards=8)
    assert {reader.key(order.pick(order.slot(number))) for number in range(order.samples)} == wanted
    with pytest.raises(UserError, match="is a merged corpus; score its parts"):
        score(tmp_path / "c", on_processes(0))
