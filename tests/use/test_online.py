"""`train --online`: fresh samples are those of `generate`, in an order that nothing but their number decides."""

import json
import os
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import mlflow.data
import numpy as np
import pytest
import torch

from manifests.canonical import digest
from manifests.catalogue import Catalogue, read_catalogue, write_catalogue
from manifests.corpus import open_corpus
from manifests.errors import JobError, UserError
from manifests.experiment import load_experiment
from manifests.online import OnlineRecord, read_online
from pipelines.executors import InProcess
from pipelines.generation.generate import generate
from pipelines.generation.local_processes import LocalProcesses
from pipelines.lineage.answer import lineage
from pipelines.online.online import Online, OnlineRequest, prepare
from pipelines.online.worker import REPLACEMENT_STEP
from pipelines.trainer.mlflow_tracker import read_link
from pipelines.trainer.train import train
from training.bundle import read_info
from training.data import Data
from training.fresh import BLOCK_SLOTS, FRESH_SHARD, FreshOrder, MixedOrder
from training.loop import Fit
from training.order import Order, Pick
from training.run import train as train_stages
from training.shards import Reader
from training.source import Stretch
from training.stream import Batch, SampleStream, fixed_batches

SEED = 3
FRAMES = 48_000
MICRO = [
    *(
        f"stages.{stage}={{steps: 3, batch_size: 2, segment_s: 0.1, validate_every: 3}}"
        for stage in ("teacher", "student", "denoiser", "joint")
    ),
    "validation={samples: 2, segment_s: 0.2, shown: 1}",
    "loader={threads: 1, prefetch_batches: 2, window_shards: 2}",
    "records={checkpoint_every: 1, metrics_every: 1}",
]


def say(line: str) -> None:
    """Nobody listens."""


@contextmanager
def rendering(request: OnlineRequest, run_dir: Path, corpus: Path | None = None) -> Iterator[Online]:
    manifest = open_corpus(corpus).manifest if corpus else None
    with prepare(request, manifest, True, say).rendering(run_dir, request.workers) as online:
        yield online


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory, small_recipe: Path, catalogue_path: Path) -> Path:
    """Twelve training samples of the small recipe, as `generate` writes them."""
    out = tmp_path_factory.mktemp("generated") / "corpus"
    generate(str(small_recipe), catalogue_path, out, InProcess(), samples=20, seed=SEED)
    return out


@pytest.fixture
def request_of_small(small_recipe: Path, catalogue_path: Path) -> OnlineRequest:
    return OnlineRequest(str(small_recipe), catalogue_path, SEED, workers=1)


def whole(index: int) -> Stretch:
    return Stretch(Pick(FRESH_SHARD, index), 0, FRAMES)


def taken(stream: SampleStream, count: int) -> list[Batch]:
    with stream:
        return [next(stream) for _ in range(count)]


def equal(ours: Sequence[Batch], theirs: Sequence[Batch]) -> bool:
    return all(
        a.keys == b.keys and torch.equal(a.degraded, b.degraded) and torch.equal(a.target, b.target)
        for a, b in zip(ours, theirs, strict=True)
    )


# --- the samples -----------------------------------------------------------------------------------


def test_fresh_samples_are_those_that_generate_writes_in_both_splits(
    generated: Path, request_of_small: OnlineRequest, tmp_path: Path
) -> None:
    corpus = open_corpus(generated)
    with rendering(request_of_small, tmp_path) as online:
        for split in ("train", "val"):
            reader, fresh = Reader(corpus, split), online.source(split)
            picks = [Pick(s, n) for s, size in enumerate(reader.sizes) for n in range(size)]
            fresh.expect([whole(index) for index in range(len(picks))])
            for index, pick in enumerate(picks):
                written, rendered = reader.read(pick, 0, FRAMES), fresh.sample(whole(index))
                assert rendered.key == reader.key(pick)
                np.testing.assert_array_equal(rendered.degraded, written[0])
                np.testing.assert_array_equal(rendered.target, written[1])
    assert len(picks) == 4  # and 12 of the training split before


def test_a_stretch_is_a_part_of_the_whole_sample(request_of_small: OnlineRequest, tmp_path: Path) -> None:
    with rendering(request_of_small, tmp_path) as online:
        source = online.source("train")
        part = source.sample(Stretch(Pick(FRESH_SHARD, 5), 10_000, 4_800))
        sample = source.sample(whole(5))
    np.testing.assert_array_equal(part.degraded, sample.degraded[10_000:14_800])
    np.testing.assert_array_equal(part.target, sample.target[10_000:14_800])


def test_samples_that_are_not_aligned_are_replaced_by_ones_that_no_slot_reaches(
    catalogue_path: Path, tmp_path: Path
) -> None:
    recipe = tmp_path / "drift.yaml"
    recipe.write_text(
        "name: drift\nseconds: 1\nsplits: {train: 0.6, val: 0.2, test: 0.2}\n"
        "stages:\n  - {stage: clock_drift, p: 0.5}\n  - {stage: final_level}\n"
    )
    generate(str(recipe), catalogue_path, tmp_path / "corpus", InProcess(), samples=20, seed=SEED)
    aligned = {
        entry.index: entry.aligned
        for shard in open_corpus(tmp_path / "corpus").of("train")
        for entry in shard.samples
    }
    assert len(set(aligned.values())) == 2
    with rendering(OnlineRequest(str(recipe), catalogue_path, SEED), tmp_path / "run") as online:
        source = online.source("train")
        source.expect([whole(index) for index in aligned])
        used = {index: int(source.sample(whole(index)).key.removeprefix("train-")) for index in aligned}
    for index, number in used.items():
        assert number % REPLACEMENT_STEP == index
        assert (number == index) == aligned[index]


# --- the order -------------------------------------------------------------------------------------


def test_the_next_batch_after_resuming_is_the_same_with_any_number_of_workers_and_ranks(
    request_of_small: OnlineRequest, tmp_path: Path
) -> None:
    def stream(online: Online, **more: int) -> SampleStream:
        settings = {"batch_size": 2, "threads": 2} | more
        return SampleStream(online.source("train"), 7, segment_s=0.3, **settings)  # type: ignore[arg-type]

    with rendering(replace(request_of_small, workers=2), tmp_path / "a") as online:
        undisturbed = taken(stream(online), 4)
        first = stream(online)
        taken(first, 2)
        state = first.state
    assert (state.epoch, state.position) == (0, 4)
    with rendering(request_of_small, tmp_path / "b") as online:
        again = stream(online, threads=0)
        again.restore(state)
        assert equal(taken(again, 2), undisturbed[2:])
        with stream(online, rank=0, ranks=2) as even, stream(online, rank=1, ranks=2) as odd:
            for rank in (even, odd):
                rank.restore(state)
            striped = [key for _ in range(2) for rank in (even, odd) for key in next(rank).keys]
        assert striped == [key for batch in undisturbed[2:] for key in batch.keys]
        late = replace(state, epoch=1, position=9_998)
        again = stream(online)
        again.restore(late)
        assert [batch.keys for batch in taken(again, 2)] == [
            ("train-00019998", "train-00019999"),
            ("train-00020000", "train-00020001"),
        ]


def test_no_fresh_sample_comes_twice() -> None:
    order = FreshOrder(seed=1)
    picks = [order.pick(order.slot(number)) for number in (*range(300), *range(9_900, 10_100))]
    assert len(set(picks)) == 500


@pytest.mark.parametrize("weight", [0.5, 0.3, 0.01, 0.125, 0.99])
def test_every_block_holds_its_share_of_fresh_samples_and_the_others_go_on_in_their_own_order(
    weight: float,
) -> None:
    shards = Order((4, 4, 3), seed=5, window_shards=2)
    mixed = MixedOrder(FreshOrder(5), shards, Fraction(str(weight)), seed=5)
    blocks = 120  # beyond the first epoch
    picks = [mixed.pick(mixed.slot(number)) for number in range(blocks * BLOCK_SLOTS)]
    fresh = [pick.sample for pick in picks if pick.shard == FRESH_SHARD]
    assert sorted(fresh) == list(range(int(Fraction(str(weight)) * blocks * BLOCK_SLOTS)))
    for block in range(blocks):
        here = picks[block * BLOCK_SLOTS : (block + 1) * BLOCK_SLOTS]
        count = sum(pick.shard == FRESH_SHARD for pick in here)
        assert abs(count - weight * BLOCK_SLOTS) < 1.0
        if weight in (0.5, 0.3, 0.01, 0.99):
            assert count == round(weight * BLOCK_SLOTS)
    others = [pick for pick in picks if pick.shard != FRESH_SHARD]
    counts = {pick: others.count(pick) for pick in set(others[:110])}
    assert max(counts.values()) - min(counts.values()) <= 1
    places = {number % BLOCK_SLOTS for number, pick in enumerate(picks) if pick.shard == FRESH_SHARD}
    assert len(places) > BLOCK_SLOTS // 2  # not always the same slots


def test_a_mixture_gives_samples_of_both_and_a_damaged_one_is_replaced_by_its_own_kind(
    generated: Path, request_of_small: OnlineRequest, tmp_path: Path
) -> None:
    corpus = open_corpus(generated)
    request = replace(request_of_small, weight=0.5, seed=SEED + 1)
    with rendering(request, tmp_path, generated) as online:
        data = Data(corpus, fresh=online)
        source = data.training()
        order = source.order(0, 2)
        with SampleStream(source, 0, 4, 0.2, threads=2, window_shards=2) as stream:
            keys = [key for batch in (next(stream) for _ in range(3)) for key in batch.keys]
        reader, fresh = Reader(corpus, "train"), online.source("train")
        for number, key in enumerate(keys):
            pick = order.pick(order.slot(number))
            assert key == (fresh.sample(whole(pick.sample)).key if pick.shard < 0 else reader.key(pick))
            assert (order.replacement(order.slot(number), 1).shard < 0) == (pick.shard < 0)
        assert data.validation().split == "val"
        held_out = fixed_batches(data.validation(), 2, 0.2, 2)
        assert equal(held_out, fixed_batches(Reader(corpus, "val"), 2, 0.2, 2))


# --- failures --------------------------------------------------------------------------------------

STAGE = """
    import ctypes
    from typing import ClassVar

    import numpy as np

    from datagen.degradations.base import Applied, CannotApply, Degradation, Drawn


    class Treacherous(Degradation):
        \"\"\"Reads at address 0 on a sixth of its draws, refuses another sixth.\"\"\"

        name: ClassVar[str] = "treacherous"

        def draw(self, rng, scene):
            return Drawn({"gain": float(rng.uniform(0.3, 0.9))})

        @staticmethod
        def apply(audio, values, inputs):
            if values["gain"] < 0.4:
                ctypes.string_at(0)
            if values["gain"] > 0.8:
                raise CannotApply("too loud")
            return Applied(audio * np.float32(values["gain"]))
"""


def installed(site: Path, name: str, code: str) -> None:
    """Lay a package with a stage out in a folder, as pip would."""
    info = site / f"{name}-0.1.dist-info"
    info.mkdir(parents=True)
    (site / f"{name}.py").write_text(textwrap.dedent(code))
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.1\n")
    (info / "entry_points.txt").write_text(f"[ssiforge.degradations]\n{name} = {name}:Treacherous\n")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of packages, known here and in child processes."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")]))
    return folder


@pytest.mark.faults
def test_a_crash_of_a_renderer_costs_one_draw_and_gives_what_generate_gives(
    site: Path, catalogue_path: Path, tmp_path: Path
) -> None:
    installed(site, "treacherous", STAGE)
    recipe = tmp_path / "treacherous.yaml"
    recipe.write_text(
        "name: treacherous\nseconds: 1\nsplits: {train: 0.6, val: 0.2, test: 0.2}\n"
        "limits: {max_failed_share: 0.9}\noutput: {samples_per_shard: 6}\nstages:\n  - {stage: treacherous}\n"
    )
    generate(str(recipe), catalogue_path, tmp_path / "corpus", LocalProcesses(2), samples=10, seed=4)
    corpus = open_corpus(tmp_path / "corpus")
    failed = {
        f"{failure.stage}: {failure.reason}" for shard in corpus.of("train") for failure in shard.failures
    }
    assert failed == {"worker: the process died while rendering this draw", "treacherous: too loud"}
    reader = Reader(corpus, "train")
    with rendering(OnlineRequest(str(recipe), catalogue_path, 4, workers=1), tmp_path / "run") as online:
        source = online.source("train")
        source.expect([whole(index) for index in range(6)])
        for index in range(6):
            written = reader.read(Pick(0, index), 0, FRAMES)
            np.testing.assert_array_equal(source.sample(whole(index)).degraded, written[0])
    lines = (tmp_path / "run" / "online" / "quarantine.jsonl").read_text().splitlines()
    noted = {(line["key"], line["attempt"]) for line in map(json.loads, lines)}
    assert noted == {(f.key, f.attempt) for shard in corpus.of("train") for f in shard.failures}


def moved(catalogue_path: Path, folder: Path) -> Path:
    """A catalogue of its own, of copies of the sources."""
    rows = []
    for source in read_catalogue(catalogue_path):
        copy = folder / f"{source.sha256}{Path(source.path).suffix}"
        folder.mkdir(exist_ok=True)
        copy.write_bytes(Path(source.path).read_bytes())
        os.utime(copy, ns=(source.mtime_ns, source.mtime_ns))
        rows.append(replace(source, path=str(copy)))
    write_catalogue(Catalogue(rows), folder / "sources.parquet")
    return folder / "sources.parquet"


def test_a_source_that_vanishes_ends_the_run_in_one_sentence(
    small_recipe: Path, catalogue_path: Path, tmp_path: Path
) -> None:
    sources = moved(catalogue_path, tmp_path / "copies")
    with rendering(OnlineRequest(str(small_recipe), sources, SEED, workers=1), tmp_path / "run") as online:
        for path in (tmp_path / "copies").glob("*.flac"):
            path.unlink()
        with pytest.raises(UserError, match=r"copies/.*\.flac: is gone since it was scanned.*--resume"):
            online.source("train").sample(whole(0))
        with pytest.raises(UserError, match="is gone"):  # and whoever asks later is not kept waiting
            online.source("train").sample(whole(1))
    sources = moved(catalogue_path, tmp_path / "copies")
    with rendering(OnlineRequest(str(small_recipe), sources, SEED, workers=1), tmp_path / "again") as online:
        for path in (tmp_path / "copies").glob("*.flac"):
            path.write_bytes(path.read_bytes()[:-9])
        with pytest.raises(UserError, match=r"copies/.*\.flac: has changed since it was scanned.*--resume"):
            online.source("train").sample(whole(0))
    with pytest.raises(UserError, match=r"\.flac has changed .* scan again"):
        prepare(OnlineRequest(str(small_recipe), sources, SEED), None, True, say)


def test_more_failed_draws_than_the_recipe_allows_end_the_run(
    site: Path, catalogue_path: Path, tmp_path: Path
) -> None:
    often = (
        STAGE.replace('"treacherous"', '"refuses_often"').replace("< 0.4", "< 0.0").replace("> 0.8", "> 0.4")
    )
    installed(site, "refuses_often", often)
    recipe = tmp_path / "strict.yaml"
    recipe.write_text(
        "name: strict\nseconds: 1\nlimits: {max_failed_share: 0.01, max_attempts: 100}\n"
        "stages:\n  - {stage: refuses_often}\n"
    )
    with rendering(OnlineRequest(str(recipe), catalogue_path, 4, workers=1), tmp_path / "run") as online:
        source = online.source("train")
        source.expect([whole(index) for index in range(40)])
        with pytest.raises(
            JobError, match=r"limits.max_failed_share=0.01; most often: refuses_often: too loud"
        ):
            for index in range(40):
                source.sample(whole(index))


# --- runs ------------------------------------------------------------------------------------------


def test_a_run_names_recipe_catalogue_and_seed_and_lineage_finds_them_when_the_originals_are_gone(
    store: Any, small_recipe: Path, catalogue_path: Path, tmp_path: Path
) -> None:
    recipe, sources = tmp_path / "mine.yaml", moved(catalogue_path, tmp_path / "copies")
    recipe.write_text(small_recipe.read_text())
    request = OnlineRequest(str(recipe), sources, SEED)
    models = train("tiny", None, "teacher", overrides=MICRO, device="cpu", say=say, online=request)
    recipe.unlink()
    sources.unlink()

    info = models["teacher"]
    record = read_online(Path("runs/tiny/online"))
    assert record is not None and info.online == record and info.corpus_id == record.data_id
    assert (record.recipe, record.seed, record.weight, record.corpus_id) == ("small", SEED, 1.0, "")
    assert record.catalogue_digest == read_catalogue(catalogue_path).digest
    assert read_info(Path("runs/tiny/teacher/model")).online == record

    run = store.get_run(read_link(Path("runs/tiny/teacher"))["run_id"])
    (used,) = run.inputs.dataset_inputs
    assert (used.dataset.name, used.dataset.digest) == ("small", record.data_id)
    assert json.loads(used.dataset.profile)["recipe_digest"] == record.recipe_digest
    assert run.data.tags["ssiforge.online.seed"] == str(SEED)
    assert mlflow.data.get_source(used).load() == record

    answer = lineage("ssiforge-tiny-teacher/1")
    kinds = {node.kind: node for node in answer.graph.nodes.values()}
    assert {"model", "run", "online", "recipe", "sources", "version"} == set(kinds)
    assert kinds["recipe"].id == record.recipe_digest
    assert kinds["sources"].facts["digest"] == record.catalogue_digest
    talkers = {row["sha256"] for row in kinds["sources"].facts["sources"] if row["kind"] == "speech"}
    heard = read_catalogue(catalogue_path).of("speech", "train")
    assert talkers == {source.sha256 for source in heard}
    forward = lineage(next(iter(heard)).sha256)
    assert info.id in {node.id for node in forward.graph.nodes.values() if node.kind == "model"}


def test_only_sources_of_allowed_licences_are_drawn_as_by_generate_and_the_list_is_recorded(
    store: Any, small_recipe: Path, catalogue_path: Path, tmp_path: Path
) -> None:
    """Every other source of a split is of a licence that is not on the list."""
    rows = [
        replace(row, licence=("MIT", "All mine")[number % 2])
        for split in ("train", "val", "test")
        for kind in ("speech", "noise")
        for number, row in enumerate(read_catalogue(catalogue_path).of(kind, split))
    ]
    write_catalogue(Catalogue(rows), tmp_path / "sources.parquet")
    allowed, said = ("MIT", "CC-BY-*"), list[str]()
    corpus = generate(
        str(small_recipe),
        tmp_path / "sources.parquet",
        tmp_path / "c",
        InProcess(),
        4,
        allow_licences=allowed,
    ).manifest
    request = OnlineRequest(str(small_recipe), tmp_path / "sources.parquet", SEED, allow_licences=allowed)
    info = train("tiny", None, "teacher", overrides=MICRO, device="cpu", say=said.append, online=request)[
        "teacher"
    ]

    assert sum("not drawn" in line for line in said) == 1 and any("All mine" in line for line in said)
    record = read_online(Path("runs/tiny/online"))
    assert record is not None and info.online == record
    assert record.allow_licences == ("CC-BY-*", "MIT")
    assert record.catalogue_digest == corpus.catalogue_digest
    assert {row.licence for row in read_catalogue(Path("runs/tiny/online/sources.parquet"))} == {"MIT"}
    run = store.get_run(read_link(Path("runs/tiny/teacher"))["run_id"])
    assert run.data.tags["ssiforge.online.allow_licences"] == "CC-BY-*, MIT"
    (node,) = (n for n in lineage("ssiforge-tiny-teacher/1").graph.nodes.values() if n.kind == "online")
    assert node.facts["allow_licences"] == ["CC-BY-*", "MIT"]


def test_a_record_without_a_list_is_written_as_before_there_were_any() -> None:
    """Ids of models are digests of it."""
    before = {"recipe": "r", "recipe_digest": "1", "catalogue_digest": "2", "seed": 3, "weight": 0.5}
    before |= {"corpus_id": "c", "code_version": "0"}
    record = OnlineRecord.model_validate(before)
    assert record.model_dump(mode="json") == before
    assert record.data_id == digest(before)
    listed = record.model_copy(update={"allow_licences": ("MIT",)})
    assert listed.data_id == record.data_id
    assert OnlineRecord.model_validate_json(listed.model_dump_json()) == listed


def test_a_mixed_run_names_its_corpus_too(
    store: Any, generated: Path, request_of_small: OnlineRequest
) -> None:
    request = replace(request_of_small, seed=SEED + 1)
    info = train("tiny", generated, "teacher", overrides=MICRO, device="cpu", say=say, online=request)[
        "teacher"
    ]
    corpus_id = open_corpus(generated).manifest.id
    assert info.online is not None and (info.online.weight, info.online.corpus_id) == (0.5, corpus_id)
    run = store.get_run(read_link(Path("runs/tiny/teacher"))["run_id"])
    assert {used.dataset.digest for used in run.inputs.dataset_inputs} == {corpus_id, info.corpus_id}
    nodes = {(node.kind, node.id) for node in lineage("ssiforge-tiny-teacher/1").graph.nodes.values()}
    assert {("corpus", corpus_id), ("online", info.corpus_id)} <= nodes


@pytest.mark.faults
def test_a_run_that_is_interrupted_ends_with_the_weights_of_an_undisturbed_one(
    request_of_small: OnlineRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(name: str, workers: int, resume: bool = False) -> str:
        with rendering(replace(request_of_small, workers=workers), tmp_path / name) as online:
            experiment = load_experiment("tiny", MICRO)
            out = tmp_path / name
            return train_stages(experiment, None, out, ("teacher",), resume, "cpu", fresh=online)[
                "teacher"
            ].id

    undisturbed = run("one", workers=1)
    step = Fit.step

    def interrupted(self: Fit, window: Any) -> None:
        if self.progress.step == 2:
            raise KeyboardInterrupt
        step(self, window)

    with monkeypatch.context() as patch:
        patch.setattr(Fit, "step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run("two", workers=1)
    assert run("two", workers=2, resume=True) == undisturbed


def test_going_on_with_other_samples_is_refused_with_what_differs(
    store: Any,
    generated: Path,
    small_recipe: Path,
    catalogue_path: Path,
    request_of_small: OnlineRequest,
    tmp_path: Path,
) -> None:
    def go_on(request: OnlineRequest | None, corpus: Path | None = None) -> None:
        train("tiny", corpus, "teacher", True, overrides=MICRO, device="cpu", say=say, online=request)

    go_on(request_of_small)
    other = tmp_path / "other.yaml"
    other.write_text(small_recipe.read_text().replace("p: 0.8", "p: 0.7"))
    with pytest.raises(UserError, match=r"differs in recipe stages.0.p \(there 0.8, now 0.7\)"):
        go_on(replace(request_of_small, recipe=str(other)))
    rows = [
        source
        for source in read_catalogue(catalogue_path)
        if source.kind != "noise" or "c" not in source.name
    ]
    write_catalogue(Catalogue(rows), tmp_path / "fewer.parquet")
    with pytest.raises(UserError, match="differs in catalogue"):
        go_on(replace(request_of_small, sources=tmp_path / "fewer.parquet"))
    with pytest.raises(UserError, match=r"differs in seed \(there 3, now 9\)"):
        go_on(replace(request_of_small, seed=9))
    with pytest.raises(UserError, match=r"differs in --allow-licences \(there none, now MIT, unknown\)"):
        go_on(replace(request_of_small, allow_licences=("unknown,MIT",)))
    with pytest.raises(UserError, match="--online-weight .* corpus"):
        go_on(request_of_small, generated)
    with pytest.raises(UserError, match="was trained with --online small, and this run is without --online"):
        go_on(None, generated)
    go_on(request_of_small)  # and nothing of that changed the run


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ((), "give --corpus, or --online with --sources"),
        (("--online", "demo"), "give --sources"),
        (("--seed", "3"), "--seed belongs to fresh samples"),
        (("--allow-licences", "MIT"), "--allow-licences belongs to fresh samples"),
        (("--online", "demo", "--sources", "no.parquet"), "no.parquet: no such catalogue"),
        (
            ("--online", "demo", "--sources", "s", "--online-weight", "0.5"),
            "the other samples need a --corpus",
        ),
        (
            ("--online", "demo", "--sources", "s", "--online-workers", "0"),
            "--online-workers must be at least 1",
        ),
    ],
)
def test_mistakes_are_one_sentence(
    ssiforge: Callable[..., tuple[int, str, str]], store: Any, options: tuple[str, ...], sentence: str
) -> None:
    code, _, said = ssiforge("train", "tiny", *options)
    assert code == 2 and sentence in said


def test_validation_without_a_corpus_needs_voices_in_the_val_split(
    store: Any, small_recipe: Path, catalogue_path: Path, tmp_path: Path
) -> None:
    rows = [source for source in read_catalogue(catalogue_path) if source.split == "train"]
    write_catalogue(Catalogue(rows), tmp_path / "train.parquet")
    request = OnlineRequest(str(small_recipe), tmp_path / "train.parquet", SEED)
    with pytest.raises(UserError, match="no usable speech in split 'val'"):
        train("tiny", None, "teacher", overrides=MICRO, say=say, online=request)
    assert load_experiment("tiny", MICRO).validation.samples  # which is why
