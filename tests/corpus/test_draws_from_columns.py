"""What is drawn by columns and binary search is what a loop over all sources would draw."""

from dataclasses import replace

import numpy as np
import pytest

from datagen.cumulative import BLOCK, CumulativeSums
from datagen.degradations import bind
from datagen.degradations.additive.noise_rooms import draw_place
from datagen.degradations.base import Scene
from datagen.degradations.room.room import Room
from datagen.plan import material, plan
from datagen.rooms import NAME_PREFIX
from manifests.catalogue import Catalogue, read_catalogue, write_catalogue
from manifests.documents import check, parse_document
from manifests.keyed import generator
from manifests.recipe import Recipe
from manifests.source import Source

RECIPE = """name: drawn
seconds: 12
speech: {min_bandwidth_hz: 9000, max_clipped_share: 0.01}
stages:
  - {stage: room, p: 0.7, rt60_s: [0.3, 1.2], simulated_share: 0.5}
  - {stage: noise, min_bandwidth_hz: 8000, room_share: 0.7, sources: [1, 4]}
  - {stage: interfering_talker, p: 0.6, talkers: [1, 3], room_share: 0.7}
  - {stage: babble, p: 0.5}
  - {stage: short_events, p: 0.5}
"""


def bound():
    document = parse_document(RECIPE, "drawn.yaml")
    return bind(check(Recipe, document.content, document), document)


def _sources(count: int) -> list[Source]:
    """Speech of many talkers and of nobody, with values missing, refused rows and the same content twice."""
    rng = np.random.default_rng(3)
    rows = []
    for number in range(count):
        kind = ("speech", "speech", "speech", "noise", "rir")[number % 5]
        frames = int(rng.integers(8_000, 400_000))
        talker = int(rng.integers(0, 40))
        room = f"{'simulated-' if talker % 2 else 'hall '}{talker}" if talker else None
        rows.append(
            Source(
                f"/{kind}/{number}.wav",
                kind,
                f"{(number if number % 50 else 50) * 0x9E3779B97F4A7C15 % (1 << 256):064x}",
                rate_hz=(16_000, 44_100, 48_000)[number % 3],
                channels=1 + number % 2,
                frames=frames,
                seconds=frames / 44_100,
                bandwidth_hz=None if number % 31 == 0 else float(rng.integers(7_000, 24_000)),
                clipped_share=None if number % 29 == 0 else float(rng.choice([0.0, 0.0, 0.02])),
                speaker=(f"täl {talker}" if talker else None) if kind == "speech" else None,
                recording=f"r{number}" if kind == "noise" else None,
                room=room if kind == "rir" else None,
                rt60_s=None if number % 7 == 0 else float(rng.integers(1, 20)) / 10,
                split="train" if number % 4 else "val",
                refused="truncated" if number % 23 == 0 else None,
            )
        )
    return rows


@pytest.mark.parametrize("count", [1, 2, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 5])
def test_sums_of_blocks_are_the_running_sums_of_all_to_the_bit(count):
    rng = np.random.default_rng(count)
    numbers = rng.exponential(3.0, count) * rng.choice([1.0, 1.0, 1e-9, 0.0], count)
    expected = np.cumsum(numbers)
    sums = CumulativeSums(count, lambda first, last: numbers[first:last])
    assert sums.total == expected[-1]
    asked = [*rng.uniform(0.0, expected[-1], 300), *rng.choice(expected, 100), 0.0, expected[-1]]
    for at in [*asked, *np.nextafter(expected[:50], np.inf), 2.0 * expected[-1] + 1.0]:
        assert sums.first_reaching(at) == min(int(np.searchsorted(expected, at)), count - 1)


def test_the_admitted_speech_and_its_talkers_are_those_of_a_loop():
    rows = _sources(3_000)
    pool = material(Catalogue(rows), bound().recipe, "train")
    catalogue = sorted(rows, key=lambda s: (s.kind, s.sha256, s.path))
    good = [
        s
        for s in catalogue
        if s.kind == "speech"
        and s.split == "train"
        and s.refused is None
        and (s.bandwidth_hz or 0.0) >= 9_000
        and (s.clipped_share or 0.0) <= 0.01
    ]
    assert 200 < len(good) < 1_000
    assert list(pool.speech) == good
    sums = np.cumsum([s.seconds for s in good])
    for index in range(200):
        at = generator(index).uniform(0.0, sums[-1])
        assert pool.an_utterance(generator(index)) == good[int(np.searchsorted(sums, at))]
    for speaker in {s.speaker for s in good}:
        assert pool.of_speaker(speaker) == [s for s in good if s.speaker == speaker]


def test_places_of_noises_are_those_of_a_loop():
    pools = material(Catalogue(_sources(3_000)), bound().recipe, "train")
    pool = list(pools.rir)
    met = set()
    for index, own in enumerate([None, *pool]):
        rooms = [s for s in pool if own and own.room and s.room == own.room and s.sha256 != own.sha256]
        others = [s for s in pool if own is None or s.sha256 != own.sha256]
        if not rooms and own is not None and own.rt60_s is not None:
            away = [np.inf if s.rt60_s is None else abs(s.rt60_s - own.rt60_s) for s in others]
            others = [s for s, distance in zip(others, away, strict=True) if distance == min(away)]
        candidates = rooms or others
        place = draw_place(generator(index), Scene(48_000, 24_000.0, pools.sources, rir=own))
        assert place is not None
        assert place.source == candidates[int(generator(index).integers(len(candidates)))]
        met.add(place.relation)
    assert met == {"any", "same", "alike"}


def test_rooms_are_drawn_from_those_that_a_loop_would_find():
    pools = material(Catalogue(_sources(3_000)), bound().recipe, "train")
    fitting = [s for s in pools.rir if s.rt60_s is not None and 0.3 <= s.rt60_s <= 1.2]
    stage = Room(rt60_s=(0.3, 1.2), simulated_share=0.5)
    for index in range(200):
        rng = generator(index)
        wanted = rng.random() < 0.5
        chosen = [s for s in fitting if (s.room or "").startswith(NAME_PREFIX) == wanted]
        expected = chosen[int(rng.integers(len(chosen)))]
        assert stage.draw(generator(index), Scene(48_000, 24_000.0, pools.sources)).rir == expected


def test_plans_are_the_same_from_a_list_a_file_an_extended_catalogue_and_plain_tuples(tmp_path, monkeypatch):
    monkeypatch.setenv("SSIFORGE_CACHE", str(tmp_path / "cache"))
    rows, recipe = _sources(2_000), bound()
    write_catalogue(Catalogue(rows), tmp_path / "s.parquet")
    mapped = read_catalogue(tmp_path / "s.parquet")
    rooms = [
        replace(s, path=f"/more{s.path}", sha256=f"{n:064x}") for n, s in enumerate(mapped.of_kind("rir"))
    ]
    of_list, of_file = (material(c, recipe.recipe, "train") for c in (Catalogue(rows), mapped))
    more = [material(c, recipe.recipe, "train") for c in (mapped.extended(rooms), Catalogue([*rows, *rooms]))]
    stages = [choice.stage for step in recipe.steps for choice in step.choices if choice.stage]
    for index in range(40):
        assert plan(of_list, recipe, 1, index) == plan(of_file, recipe, 1, index)
        assert plan(more[0], recipe, 1, index) == plan(more[1], recipe, 1, index)
        for stage in stages:
            plain = Scene(48_000, 20_000.0, lambda kind: tuple(of_file.sources(kind)), speaker="täl 3")
            scene = replace(plain, sources=of_file.sources)
            assert stage.draw(generator(index), plain) == stage.draw(generator(index), scene)


def test_no_sources_are_made_of_those_that_are_not_drawn(tmp_path, monkeypatch):
    """A sample of a large catalogue costs what it draws."""
    monkeypatch.setenv("SSIFORGE_CACHE", str(tmp_path / "cache"))
    write_catalogue(Catalogue(_sources(20_000)), tmp_path / "s.parquet")
    made: list[int] = []
    init = Source.__init__
    catalogue = read_catalogue(tmp_path / "s.parquet")
    recipe = bound()

    def counted(self: Source, *arguments: object, **values: object) -> None:
        made.append(1)
        init(self, *arguments, **values)

    monkeypatch.setattr(Source, "__init__", counted)
    pool = material(catalogue, recipe.recipe, "train")
    for index in range(20):
        plan(pool, recipe, 1, index)
    assert len(made) < 20 * 100


def test_the_whole_is_the_sum_of_its_splits():
    catalogue = Catalogue(_sources(500))
    of_splits = [
        len(catalogue.of(kind, split)) for kind in ("speech", "noise", "rir") for split in ("train", "val")
    ]
    assert sum(of_splits) == len(catalogue.usable)
