"""A map of time says where everything went: pieces land where it says, joins do not click, and a target can follow."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stage_signals import RATE_HZ, lag_samples, speech_like

from datagen.degradations import BoundRecipe, bind
from datagen.plan import is_excluded, material, plan
from datagen.render import Rendered, render, spec_of
from datagen.time_map import Piece, TimeMap
from manifests.catalogue import Catalogue, read_catalogue
from manifests.documents import check, parse_document
from manifests.recipe import Recipe
from manifests.sample import SampleRecord

SPEECH = speech_like(4.0)


def tone(hz: float, t: np.ndarray) -> np.ndarray:
    return np.sin(2 * np.pi * hz * t / RATE_HZ)


# --- pieces ---------------------------------------------------------------------------------------


def test_one_piece_at_its_place_changes_nothing():
    same = TimeMap((Piece(0, 0),), 240).applied(SPEECH)
    assert np.array_equal(same, SPEECH)
    assert not np.shares_memory(same, SPEECH)


def test_pieces_are_taken_from_where_the_map_says():
    moved = TimeMap((Piece(0, 0), Piece(20_000, 15_000), Piece(60_000, 70_000)), 240).applied(SPEECH)
    assert len(moved) == len(SPEECH)
    assert np.array_equal(moved[:20_000], SPEECH[:20_000])
    assert np.array_equal(moved[20_240:60_000], SPEECH[15_240:55_000])
    assert np.array_equal(moved[60_240:182_000], SPEECH[70_240:192_000])
    assert not moved[182_000:].any()


def test_what_lies_before_the_source_is_silence():
    late = TimeMap((Piece(0, -480),)).applied(SPEECH)
    assert not late[:480].any()
    assert np.array_equal(late[480:], SPEECH[:-480])


def test_a_join_fades_from_one_piece_into_the_other():
    ones = np.concatenate((np.ones(1_000), np.full(1_000, 3.0))).astype(np.float32)
    joined = TimeMap((Piece(0, 0), Piece(500, 1_200)), 99).applied(ones)
    assert np.allclose(joined[500:599], 1.0 + 2.0 * np.arange(1, 100) / 100)
    assert (joined[:500] == 1.0).all()
    assert (joined[599:1_300] == 3.0).all()


def test_pieces_shorter_than_the_fade_leave_no_hole_and_no_click():
    sound = tone(300.0, np.arange(RATE_HZ)).astype(np.float32)
    # Every piece is in phase with the one before: a period is 160 samples.
    pieces = tuple(Piece(at, at - 160 * (number % 3)) for number, at in enumerate(range(0, 40_000, 70)))
    joined = TimeMap(pieces, 240).applied(sound)
    assert np.allclose(joined[600:40_000], sound[600:40_000], atol=1e-4)


def test_pieces_at_and_beyond_the_end_are_cut_off():
    pieces = (Piece(0, 0), Piece(47_950, 10_000), Piece(48_000, 0), Piece(90_000, 0))
    cut = TimeMap(pieces, 240).applied(SPEECH[:RATE_HZ])
    assert len(cut) == RATE_HZ
    assert np.array_equal(cut[:47_950], SPEECH[:47_950])
    assert np.isfinite(cut).all()


@settings(max_examples=60, deadline=None)
@given(
    starts=st.lists(st.integers(1, 5_999), unique=True, max_size=12),
    sources=st.lists(st.integers(-2_000, 8_000), min_size=13, max_size=13),
    fade=st.integers(0, 700),
)
def test_any_map_stays_within_what_it_was_made_of(starts, sources, fade):
    pieces = tuple(Piece(at, source) for at, source in zip([0, *sorted(starts)], sources, strict=False))
    time_map = TimeMap(pieces, fade)
    audio = SPEECH[30_000:36_000]
    moved = time_map.applied(audio)
    assert moved.shape == audio.shape
    assert np.abs(moved).max() <= np.abs(audio).max() + 1e-6
    assert time_map == TimeMap(tuple(Piece(*piece) for piece in time_map.plain()), fade)
    for piece, end in zip(pieces, [*(piece.at for piece in pieces[1:]), 6_000], strict=True):
        whole = np.arange(piece.at + (fade if piece.at else 0), end)
        source = whole - piece.at + piece.source
        inside = (source >= 0) & (source < 6_000)
        assert np.array_equal(moved[whole[inside]], audio[source[inside]])
        assert not moved[whole[~inside]].any()


@pytest.mark.parametrize(
    ("pieces", "fade"),
    [
        ((), 0),
        ((Piece(1, 0),), 0),
        ((Piece(0, 0), Piece(9, 0), Piece(9, 5)), 0),
        ((Piece(0, 0), Piece(9, 0), Piece(5, 5)), 0),
        ((Piece(0, 0, 0.0),), 0),
        ((Piece(0, 0, float("inf")),), 0),
        ((Piece(0, 0, float("nan")),), 0),
        ((Piece(0, 0),), -1),
    ],
)
def test_what_is_no_map_is_refused(pieces, fade):
    with pytest.raises(ValueError, match="time map|fade_samples"):
        TimeMap(pieces, fade)


# --- rates ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("ppm", [1.0, 10.0, -100.0, 300.0, -1_000.0, 50_000.0])
def test_a_rate_plays_a_tone_exactly_where_it_belongs(ppm):
    rate = 1.0 + ppm * 1e-6
    n = np.arange(2 * RATE_HZ)
    played = TimeMap((Piece(0, 0, rate),)).applied(tone(1_000.0, n).astype(np.float32))
    inside = slice(1_000, round((2 * RATE_HZ - 1_000) / max(rate, 1.0)))
    assert np.abs(played - tone(1_000.0, rate * n))[inside].max() < 1e-4


@pytest.mark.parametrize("ppm", [0.0, 10.0, -20.6, 300.0, 50_000.0])
def test_a_piece_with_a_rate_rings_neither_at_its_beginning_nor_at_its_end(ppm):
    rate = 1.0 + ppm * 1e-6
    n = np.arange(2 * RATE_HZ)
    sound = tone(1_000.0, n).astype(np.float32)
    middle = TimeMap((Piece(0, 0), Piece(30_000, 24_000, rate), Piece(50_000, 48_000)), 0).applied(sound)
    expected = tone(1_000.0, 24_000 + rate * np.arange(20_000))
    # A hundredth of a sample is 0.0013 of this tone.
    assert np.abs(middle[30_000:50_000] - expected).max() < 2e-3


def test_the_result_lags_as_the_map_says():
    drift = TimeMap((Piece(0, 0, 1.0002), Piece(96_000, 95_000)), 240)
    moved = drift.applied(SPEECH)
    for at, expected in ((30_000, -6.96), (80_000, -16.96), (150_000, 1_000.0)):
        lag = lag_samples(SPEECH[at : at + 9_600], moved[at : at + 9_600])
        assert lag == pytest.approx(expected, abs=1.5)


def test_two_signals_under_one_map_stay_as_far_apart_as_they_were():
    other = np.concatenate((np.zeros(7, np.float32), 0.5 * SPEECH[:-7]))
    time_map = TimeMap((Piece(0, 0), Piece(60_000, 57_000, 1.0003), Piece(120_000, 121_500)), 240)
    one, two = time_map.applied(SPEECH), time_map.applied(other)
    for at in (10_000, 70_000, 130_000):
        lag = lag_samples(one[at : at + 40_000], two[at : at + 40_000])
        assert lag == pytest.approx(7.0, abs=0.05)


# --- through the engine ---------------------------------------------------------------------------

STAGES = {
    "clock_drift": "{stage: clock_drift, magnitude_ppm: 300}",
    "jitter": "{stage: jitter, events_per_minute: 120, kinds: [stretch, skip]}",
}


def bound(stage: str, time_warps: str) -> BoundRecipe:
    text = (
        f"name: warped\nseconds: 3\ntarget: {{time_warps: {time_warps}}}\noutput: {{stems: [dry]}}\n"
        f"stages:\n  - {STAGES[stage]}\n  - {{stage: level, gain_db: -6}}\n"
    )
    document = parse_document(text, "warped.yaml")
    return bind(check(Recipe, document.content, document), document)


@pytest.fixture
def catalogue(catalogue_path: Path) -> Catalogue:
    return read_catalogue(catalogue_path)


def rendered(recipe: BoundRecipe, catalogue: Catalogue) -> Rendered:
    return render(plan(material(catalogue, recipe.recipe, "train"), recipe, 4, 0), catalogue.by_sha256)


@pytest.mark.parametrize("stage", list(STAGES))
def test_a_marked_sample_keeps_its_target_and_says_that_it_is_not_aligned(stage, catalogue):
    sample = rendered(bound(stage, "mark"), catalogue)
    assert not sample.record.aligned
    assert np.abs(sample.target - sample.stems["dry"]).max() <= 1.0 / 32_768
    assert {record.stage for record in sample.record.stages} == {stage, "level"}


@pytest.mark.parametrize("stage", list(STAGES))
def test_an_excluded_stage_never_fires(stage, catalogue):
    recipe = bound(stage, "exclude")
    sample = rendered(recipe, catalogue)
    assert sample.record.aligned
    assert [record.stage for record in sample.record.stages] == ["level"]
    assert is_excluded(recipe.steps[0].choices[0].stage, recipe.recipe)


def _lags(sample: Rendered, places: list[int]) -> list[float]:
    return [lag_samples(sample.target[at : at + 24_000], sample.degraded[at : at + 24_000]) for at in places]


@pytest.mark.parametrize("stage", list(STAGES))
def test_a_target_that_follows_is_aligned_all_along(stage, catalogue):
    sample = rendered(bound(stage, "follow"), catalogue)
    assert sample.record.aligned
    assert sample.record.measured["residual_lag_samples"] == pytest.approx(0.0, abs=0.5)
    marked = rendered(bound(stage, "mark"), catalogue)
    assert np.array_equal(marked.degraded, sample.degraded)
    loud = [
        at
        for at in range(0, len(sample.target) - 24_000, 12_000)
        if sample.target[at : at + 24_000].std() > 0.01
    ]
    assert len(loud) >= 3
    assert np.abs(_lags(sample, loud)).max() < 0.01
    apart = _lags(marked, loud)
    assert np.abs(apart).max() > 10.0


@pytest.mark.parametrize("stage", list(STAGES))
def test_the_map_stands_in_the_record_and_makes_the_target(stage, catalogue):
    sample = rendered(bound(stage, "follow"), catalogue)
    record = SampleRecord.model_validate_json(sample.record.model_dump_json())
    measured = record.stages[0].measured
    pieces = tuple(Piece(*piece) for piece in measured["time_map"])
    time_map = TimeMap(pieces, measured["time_map_fade_samples"])
    followed = time_map.applied(sample.stems["dry"])
    norm = np.sqrt(np.dot(followed, followed) * np.dot(sample.target, sample.target))
    likeness = np.dot(followed, sample.target) / norm
    assert likeness > 0.9999
    again = render(spec_of(record), catalogue.by_sha256)
    assert np.array_equal(again.target, sample.target)
    assert np.array_equal(again.degraded, sample.degraded)
