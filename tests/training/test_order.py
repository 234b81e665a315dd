"""Which sample comes next: every one once an epoch, the same for any number of ranks, from any place."""

import pytest

from training.order import Order, Pick, Slot, step_slots

SIZES = (7, 7, 7, 3, 7, 1, 7)


def epoch(order: Order, number: int) -> list[Pick]:
    return [order.pick(Slot(number, position)) for position in range(order.samples)]


def every_pick(sizes: tuple[int, ...]) -> list[Pick]:
    return [Pick(shard, sample) for shard, size in enumerate(sizes) for sample in range(size)]


@pytest.mark.parametrize("window_shards", [1, 2, 3, 100])
def test_an_epoch_holds_every_sample_once(window_shards: int) -> None:
    order = Order(SIZES, seed=3, window_shards=window_shards)
    for number in (0, 1, 57):
        assert sorted(epoch(order, number)) == every_pick(SIZES)


def test_epochs_and_seeds_differ_in_order() -> None:
    order = Order(SIZES, seed=3)
    orders = [epoch(order, 0), epoch(order, 1), epoch(Order(SIZES, seed=4), 0)]
    assert all(a != b for i, a in enumerate(orders) for b in orders[:i])
    assert epoch(Order(SIZES, seed=3), 1) == orders[1]


def test_samples_are_mixed_across_the_shards_of_a_window_and_no_further() -> None:
    order = Order((50,) * 12, seed=0, window_shards=4)
    picks = epoch(order, 0)
    for first in range(0, 600, 200):
        window = [pick.shard for pick in picks[first : first + 200]]
        assert len(set(window)) == 4
        assert len(set(window[:20])) == 4, "a window's shards follow each other instead of being mixed"


def test_a_position_is_found_without_those_before_it() -> None:
    picks = epoch(Order(SIZES, seed=3), 2)
    assert Order(SIZES, seed=3).pick(Slot(2, 31)) == picks[31]


def test_the_endless_sequence_goes_from_epoch_to_epoch() -> None:
    order = Order(SIZES, seed=3)
    assert order.slot(order.samples - 1) == Slot(0, order.samples - 1)
    assert order.slot(2 * order.samples + 5) == Slot(2, 5)


@pytest.mark.parametrize("ranks", [1, 2, 3, 4, 6])
def test_a_step_takes_the_same_slots_with_any_number_of_ranks(ranks: int) -> None:
    for first in (0, 6, 54):
        stripes = [step_slots(first, 6, rank, ranks) for rank in range(ranks)]
        assert sorted(slot for stripe in stripes for slot in stripe) == list(range(first, first + 6))
        assert {len(stripe) for stripe in stripes} <= {6 // ranks, 6 // ranks + 1}


def test_a_rank_is_one_of_the_ranks() -> None:
    with pytest.raises(ValueError, match="rank 2 is not one of 2"):
        step_slots(0, 4, rank=2, ranks=2)


def test_cuts_lie_within_the_sample_and_depend_on_the_slot_alone() -> None:
    order = Order(SIZES, seed=3)
    starts = [order.crop_start(Slot(1, position), 48_000, 24_000) for position in range(39)]
    assert all(0 <= start <= 24_000 for start in starts)
    assert len(set(starts)) > 30
    assert starts == [Order(SIZES, seed=3).crop_start(Slot(1, p), 48_000, 24_000) for p in range(39)]
    assert starts != [order.crop_start(Slot(2, p), 48_000, 24_000) for p in range(39)]
    assert order.crop_start(Slot(0, 0), 1000, 2000) == 0


def test_a_hundred_thousand_shards_are_ordered_without_reading_anything() -> None:
    order = Order((32,) * 100_000, seed=1)
    assert len({order.pick(Slot(5, position)) for position in range(1_600_000, 1_600_512)}) == 512


def test_no_samples_cannot_be_ordered() -> None:
    with pytest.raises(ValueError, match="sizes"):
        Order((0, 0), seed=0)
    with pytest.raises(IndexError):
        Order((2,), seed=0).pick(Slot(0, 2))
