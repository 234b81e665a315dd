"""A set of rows in bits is what a sorted array of them is."""

import numpy as np
import pytest

from manifests.row_set import BLOCK_ROWS, RowSet


@pytest.mark.parametrize("rows", [0, 1, 7, 8, 4095, 4096, 4097, 20_000])
@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 1.0])
def test_members_are_found_as_in_an_array(rows, share):
    rng = np.random.default_rng(rows)
    chosen = rng.random(rows) < share
    members = np.flatnonzero(chosen)
    found = RowSet.where(rows, lambda part: chosen[part])
    assert len(found) == len(members)
    for start, stop in [(0, rows), (3, 5), (len(members) // 2, len(members)), (5, 3), (0, 2 * rows)]:
        assert found[start:stop].tolist() == members[start:stop].tolist()
    for place in rng.integers(0, max(1, len(members)), 20).tolist():
        assert found[place : place + 1].tolist() == members[place : place + 1].tolist()
    asked = np.arange(rows)
    assert found.holds(asked).tolist() == chosen.tolist()


def test_what_is_kept_of_a_set_and_what_is_taken_out_of_it():
    rows = 3 * BLOCK_ROWS + 17
    even = RowSet.all(rows).kept(lambda numbers: numbers % 2 == 0)
    sixth = even.kept(lambda numbers: numbers % 3 == 0)
    assert sixth[: len(sixth)].tolist() == list(range(0, rows, 6))
    assert even[: len(even)].tolist() == list(range(0, rows, 2))
    less = sixth.without(np.array([0, 1, 6, BLOCK_ROWS, 12_288, 12_288]))
    assert less[: len(less)].tolist() == [n for n in range(0, rows, 6) if n not in (0, 6, 12_288)]
    assert len(sixth) == len(range(0, rows, 6))


def test_a_row_costs_a_bit():
    everything = RowSet.all(1_000_000)
    assert everything._bits.nbytes + everything._ends.nbytes < 130_000
