"""No group is in two splits, and where it goes depends on nothing but its name."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datagen.split import assign_splits, without_duplicates
from manifests.source import Source


def speech(speaker: str, number: int = 0, sha256: str = "") -> Source:
    path = f"/data/{speaker}/{number}.wav"
    return Source(path=path, kind="speech", sha256=sha256 or path, speaker=speaker)


def split_of(sources: list[Source]) -> dict[str, str | None]:
    return {source.group: source.split for source in assign_splits(sources)}


@given(names=st.sets(st.text(min_size=1, max_size=8), min_size=1, max_size=40), seed=st.integers(0, 1000))
def test_groups_stay_whole_in_any_order_and_every_split_is_served(names: set[str], seed: int) -> None:
    sources = [speech(name, number) for name in names for number in range(3)]
    shuffled = random.Random(seed).sample(sources, len(sources))
    first, second = assign_splits(sources), assign_splits(shuffled)
    assert {s.path: s.split for s in first} == {s.path: s.split for s in second}
    assert all(len({s.split for s in first if s.speaker == name}) == 1 for name in names)
    served = {s.split for s in first}
    assert served == {"train", "val", "test"} if len(names) >= 3 else "train" in served


@given(count=st.integers(3, 60), more=st.integers(1, 5))
def test_new_groups_move_at_most_as_many_old_ones_as_splits_were_filled_by_hand(
    count: int, more: int
) -> None:
    names = [f"talker{number}" for number in range(count + more)]
    before, after = (split_of([speech(name) for name in names[:end]]) for end in (count, count + more))
    assert sum(before[name] != after[name] for name in names[:count]) <= 2


def test_many_groups_are_shared_out_as_asked() -> None:
    splits = list(split_of([speech(f"talker{number}") for number in range(4000)]).values())
    assert splits.count("train") / 4000 == pytest.approx(0.8, abs=0.02)
    assert splits.count("val") / 4000 == pytest.approx(0.1, abs=0.015)
    assert splits.count("test") / 4000 == pytest.approx(0.1, abs=0.015)


def test_kinds_are_split_apart_and_refused_files_have_no_split() -> None:
    sources = [
        speech("a"),
        Source(path="/n", kind="noise", recording="n"),
        Source(path="/x", kind="rir", refused="bad"),
    ]
    done = {source.path: source.split for source in assign_splits(sources)}
    assert done == {"/data/a/0.wav": "train", "/n": "train", "/x": None}


def test_the_same_bytes_under_two_names_are_used_once() -> None:
    sources = [speech("b", 0, "same"), speech("a", 1, "same"), speech("a", 0, "other")]
    rows = {source.path: source.refused for source in without_duplicates(sources)}
    assert rows["/data/a/1.wav"] is None
    assert rows["/data/b/0.wav"] == "duplicate of /data/a/1.wav"
    assert {s.path: s.refused for s in without_duplicates(reversed(sources))} == rows


def test_the_same_bytes_may_serve_as_two_kinds() -> None:
    sources = [
        speech("a", 0, "same"),
        Source(path="/data/a/0.wav", kind="noise", sha256="same", recording="a/0"),
    ]
    assert all(source.refused is None for source in without_duplicates(sources))
