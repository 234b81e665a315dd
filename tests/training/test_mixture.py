"""Which sample of several corpora comes next: as often as weighted, evenly, and from any place."""

from collections import Counter
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from training_corpus import write_corpus, write_merged

from manifests.corpus import open_corpus
from manifests.errors import UserError
from manifests.experiment import Experiment
from manifests.parts import exact, product
from training.mixture import Mixture
from training.order import Order, Pick, Slot
from training.run import train
from training.shards import Reader
from training.stream import Batch, SampleStream, fixed_batches

A, B, C = (7, 7, 6), (9,), (4, 0, 8, 8, 12)
SHARDS_OF = (range(3), range(3, 4), range(4, 9))


def mixture(*weights: str, seed: int = 3) -> Mixture:
    return Mixture((A, B, C), tuple(Fraction(weight) for weight in weights), seed, window_shards=2)


def epoch(order: Order | Mixture, number: int) -> list[Pick]:
    return [order.pick(Slot(number, position)) for position in range(order.samples)]


def counts(order: Mixture, epochs: range, part: int) -> list[int]:
    """How often each sample of a part is seen in some epochs."""
    seen = Counter(pick for number in epochs for pick in epoch(order, number))
    sizes = order.sizes[part]
    return [
        seen[Pick(shard, n)] for shard, size in zip(SHARDS_OF[part], sizes, strict=True) for n in range(size)
    ]


def test_whole_weights_bring_every_sample_so_often_in_each_epoch() -> None:
    order = mixture("1", "3", "2")
    assert order.samples == 20 + 3 * 9 + 2 * 32
    for number in (0, 1, 40):
        for part, weight in enumerate((1, 3, 2)):
            assert set(counts(order, range(number, number + 1), part)) == {weight}


def test_a_quarter_of_a_part_comes_in_each_epoch_and_all_of_it_in_four() -> None:
    order = mixture("0.25", "1", "0.25")
    for first in (0, 8):
        for number in range(first, first + 4):
            assert sum(counts(order, range(number, number + 1), 0)) == 5
            assert sum(counts(order, range(number, number + 1), 2)) == 8
        assert set(counts(order, range(first, first + 4), 0)) == {1}
        assert set(counts(order, range(first, first + 4), 2)) == {1}


def test_one_and_a_half_times_is_three_times_in_two_epochs() -> None:
    order = mixture("1.5", "1", "1.5")
    assert set(counts(order, range(2), 0)) == set(counts(order, range(2), 2)) == {3}
    assert set(counts(order, range(1), 0)) == {1, 2}


@settings(max_examples=60, deadline=None)
@given(
    weights=st.tuples(*[st.integers(1, 3000).map(lambda n: Fraction(n, 1000))] * 3),
    epochs=st.integers(1, 6),
    seed=st.integers(0, 2**31),
)
def test_whatever_the_weights_epochs_are_equally_long_and_samples_evenly_seen(
    weights: tuple[Fraction, ...], epochs: int, seed: int
) -> None:
    order = Mixture((A, B, C), weights, seed, window_shards=2)
    for part, weight in enumerate(weights):
        seen = counts(order, range(epochs), part)
        assert max(seen) - min(seen) <= 1
        wanted = weight * len(seen)
        assert wanted <= Fraction(sum(seen), epochs) < wanted + 1


def test_any_stretch_holds_the_parts_as_weighted() -> None:
    sizes = ((50,) * 100, (50,) * 20, (50,))
    order = Mixture(sizes, (Fraction(1, 2), Fraction(3), Fraction(2)), seed=1)
    share = {0: 2500 / order.samples, 1: 3000 / order.samples, 2: 100 / order.samples}
    for first in range(0, order.samples - 512, 300):
        picks = [order.pick(Slot(7, position)) for position in range(first, first + 512)]
        parts = Counter(0 if pick.shard < 100 else 1 if pick.shard < 120 else 2 for pick in picks)
        for part in share:
            # Two blocks at most stand at the ends of a stretch and are cut; each holds at most 256 slots.
            assert parts[part] == pytest.approx(512 * share[part], abs=50)


def test_epochs_seeds_and_parts_differ_in_order() -> None:
    order = mixture("1", "1", "1")
    orders = [epoch(order, 0), epoch(order, 1), epoch(mixture("1", "1", "1", seed=4), 0)]
    assert all(a != b for i, a in enumerate(orders) for b in orders[:i])
    halves = epoch(Mixture(((40,), (40,)), (Fraction(1, 2), Fraction(1, 2)), seed=0), 0)
    first, second = ({pick.sample for pick in halves if pick.shard == shard} for shard in (0, 1))
    assert first != second


def test_a_position_is_found_without_those_before_it() -> None:
    picks = epoch(mixture("1.5", "0.3", "2"), 5)
    for position in (0, 1, 17, len(picks) - 1):
        assert mixture("1.5", "0.3", "2").pick(Slot(5, position)) == picks[position]
    with pytest.raises(IndexError):
        mixture("1", "1", "1").pick(Slot(0, 61))


def test_millions_of_samples_are_mixed_without_walking_through_them() -> None:
    order = Mixture(((32,) * 100_000, (32,) * 3), (Fraction(1, 3), Fraction(1000)), seed=1)
    assert len({order.pick(Slot(5, position)) for position in range(900_000, 900_512)}) > 400


def test_no_samples_and_no_weight_cannot_be_mixed() -> None:
    with pytest.raises(ValueError, match="sizes"):
        Mixture(((0,), ()), (Fraction(1), Fraction(1)), seed=0)
    with pytest.raises(ValueError, match="weights"):
        Mixture(((3,), (2,)), (Fraction(1), Fraction(0)), seed=0)


def test_weights_are_the_decimals_that_were_written() -> None:
    assert exact(0.1) == Fraction(1, 10)
    assert product(0.1, 3.0) == 0.3


# --- batches --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def merged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 samples of half a second with weight 0.5, and 8 of 0.3 s with weight 2: 22 slots an epoch."""
    root = tmp_path_factory.mktemp("merged")
    long = write_corpus(root / "a", train=12, val=3, seed=1)
    short = write_corpus(root / "b", train=8, val=2, seconds=0.3, seed=2)
    return write_merged(root / "c", {long: 0.5, short: 2.0})


def opened(root: Path, segment_s: float = 0.2, **options: int) -> SampleStream:
    settings = {"batch_size": 4, "window_shards": 2} | options
    return SampleStream(Reader(open_corpus(root), "train"), 5, segment_s=segment_s, **settings)  # type: ignore[arg-type]


def taken(stream: SampleStream, count: int) -> list[Batch]:
    with stream:
        return [next(stream) for _ in range(count)]


def equal(ours: Batch, theirs: Batch) -> bool:
    same = torch.equal(ours.degraded, theirs.degraded) and torch.equal(ours.target, theirs.target)
    return same and ours.keys == theirs.keys


def test_a_merged_corpus_is_read_as_weighted_with_full_names(merged: Path) -> None:
    long, short = sorted(open_corpus(merged).merged, key=lambda part: part.weight)
    seen = Counter(key for batch in taken(opened(merged, batch_size=1), 44) for key in batch.keys)
    names = {f"{long.named.name}-train-{n:07d}": 1 for n in range(12)}  # type: ignore[union-attr]
    names |= {f"{short.named.name}-train-{n:07d}": 4 for n in range(8)}  # type: ignore[union-attr]
    assert seen == names


@pytest.mark.parametrize("batches_before", [0, 3, 7, 13])
def test_a_restored_stream_goes_on_with_the_next_batch_in_any_epoch(
    merged: Path, batches_before: int
) -> None:
    undisturbed = taken(opened(merged, batch_size=5), batches_before + 3)
    first = opened(merged, batch_size=5, threads=2)
    taken(first, batches_before)
    second = opened(merged, batch_size=5, threads=2)
    second.restore(first.state)
    assert all(map(equal, taken(second, 3), undisturbed[batches_before:]))


def test_another_number_of_ranks_goes_on_in_the_same_global_order(merged: Path) -> None:
    alone = [key for batch in taken(opened(merged, batch_size=1), 22) for key in batch.keys]
    two = [opened(merged, batch_size=4, rank=rank, ranks=2) for rank in range(2)]
    seen = [key for pair in zip(*(next(stream).keys for stream in two), strict=True) for key in pair]
    three = [opened(merged, batch_size=6, rank=rank, ranks=3) for rank in range(3)]
    for stream in three:
        stream.restore(two[0].state)
    for _ in range(3):
        seen += [key for group in zip(*(next(stream).keys for stream in three), strict=True) for key in group]
    assert seen == alone


def test_another_weight_is_another_corpus_to_a_run(merged: Path, tmp_path: Path) -> None:
    parts = {Path(part.corpus.url): 1.0 for part in open_corpus(merged).merged}
    with pytest.raises(UserError, match="is corpus .* but the run to resume was reading corpus"):
        opened(write_merged(tmp_path / "equal", parts)).restore(opened(merged).state)


def test_held_out_samples_are_seen_once_whatever_the_weights(merged: Path) -> None:
    reader = Reader(open_corpus(merged), "val")
    keys = [key for batch in fixed_batches(reader, 100, 0.2, 4) for key in batch.keys]
    assert len(keys) == len(set(keys)) == 5
    order = reader.order(seed=0, window_shards=2)
    assert Counter(epoch(order, 0)) == Counter(epoch(order, 1))  # type: ignore[arg-type]
    assert order.samples == 5


def test_a_damaged_sample_is_named_by_the_part_that_holds_it(merged: Path, tmp_path: Path) -> None:
    part = write_corpus(tmp_path / "a", seed=7)
    other = write_corpus(tmp_path / "b", seed=8)
    root = write_merged(tmp_path / "c", {part: 1.0, other: 1.0})
    stream = opened(root, segment_s=0.5, batch_size=1)
    shard = open_corpus(part).of("train")[0]
    with (part / shard.tar_name).open("r+b") as tar:
        member = shard.samples[0].members["target.flac"]
        tar.seek(member.offset + member.bytes // 2)
        tar.write(b"\x00" * 64)
    (sentence,) = [line for batch in taken(stream, 24) for line in batch.damaged]
    assert str(part / shard.tar_name) in sentence


def test_training_refuses_a_part_that_is_not_what_was_merged(tmp_path: Path, micro: Experiment) -> None:
    part, other = write_corpus(tmp_path / "a", seed=7), write_corpus(tmp_path / "b", seed=8)
    root = write_merged(tmp_path / "c", {part: 1.0, other: 0.5})
    tar = part / open_corpus(part).of("train")[1].tar_name
    content = bytearray(tar.read_bytes())
    content[len(content) // 2] ^= 1
    tar.write_bytes(content)
    with pytest.raises(
        UserError, match=f"{tar}: its content is not what corpus {open_corpus(part).manifest.id}"
    ):
        train(micro, root, tmp_path / "run", ["teacher"], device="cpu")


def test_a_merged_corpus_trains_and_the_model_names_it(
    merged: Path, tmp_path: Path, micro: Experiment, one_thread: None
) -> None:
    info = train(micro, merged, tmp_path / "run", ["teacher"], device="cpu")["teacher"]
    assert info.corpus_id == open_corpus(merged).manifest.id
