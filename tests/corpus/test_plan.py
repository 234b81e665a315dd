"""Planning is a pure function, its draws keep the recipe's probabilities, and its keys are independent."""

from collections import Counter
from math import sqrt
from pathlib import Path

import numpy as np
import pytest

from datagen.degradations import bind
from datagen.plan import material, plan, played_bandwidth_hz, samples_of_splits
from manifests.catalogue import Catalogue, read_catalogue
from manifests.documents import check, load_document, parse_document
from manifests.errors import UserError
from manifests.keyed import generator
from manifests.recipe import Recipe
from manifests.sample import SampleSpec
from manifests.source import Source

DRAWS = 1500
SIGMAS = 4.5


@pytest.fixture(scope="module")
def catalogue(catalogue_path: Path) -> Catalogue:
    return read_catalogue(catalogue_path)


def recipe_of(text: str) -> Recipe:
    document = parse_document(text, "test.yaml")
    return check(Recipe, document.content, document)


def test_realised_frequencies_match_the_recipe(catalogue: Catalogue) -> None:
    document = load_document("ssi48k", "recipes")
    content = {**document.content, "rooms": None, "speech": {"min_bandwidth_hz": 0}}
    content["stages"] = [entry for entry in content["stages"] if entry.get("stage") != "room"]
    bound = bind(check(Recipe, content, document), document)
    pool = material(catalogue, bound.recipe, "train")
    fired = dict.fromkeys(bound.shares(), 0)
    for index in range(DRAWS):
        for stage in plan(pool, bound, 3, index).stages:
            fired[stage.label] += 1
    for label, share in bound.shares().items():
        sigma = sqrt(share * (1.0 - share) / DRAWS)
        assert abs(fired[label] / DRAWS - share) <= SIGMAS * sigma + 1e-12, label


def test_undistorted_samples_have_only_what_every_sample_has(catalogue: Catalogue) -> None:
    stages = "[{stage: noise, p: 0.9}, {one_of: [{stage: level}, {stage: clipping}], p: 0.9}, {stage: final_level}]"
    texts = (f"name: a\nstages: {stages}", f"name: a\nundistorted: 0.3\nstages: {stages}")
    plain, spared = (bind(recipe_of(text)) for text in texts)
    pool = material(catalogue, plain.recipe, "train")
    bare = 0
    for index in range(300):
        full, sample = (plan(pool, bound, 3, index) for bound in (plain, spared))
        assert sample.speech == full.speech
        if sample.stages != full.stages:  # every other sample is as it was
            bare += 1
            assert [stage.label for stage in sample.stages] == ["final_level"]
            assert sample.stages[0] in full.stages
    share = 0.3 * (1.0 - 0.1 * 0.1)  # of those drawn, a hundredth had nothing else anyway
    assert abs(bare / 300 - share) <= SIGMAS * sqrt(share * (1.0 - share) / 300)
    assert spared.shares()["noise"] == pytest.approx(0.7 * 0.9)
    assert spared.shares()["final_level"] == 1.0
    assert (
        plain.digest == bind(recipe_of(f"name: a\nundistorted: 0\nstages: {stages}")).digest != spared.digest
    )


def test_adding_a_stage_leaves_the_other_draws_as_they_were(catalogue: Catalogue) -> None:
    short = "name: a\nstages:\n  - {stage: noise, p: 0.7}\n  - {stage: final_level}\n"
    long = short.replace("stages:\n", "stages:\n  - {stage: level, p: 0.5}\n")
    plans = []
    for text in (short, long):
        bound = bind(recipe_of(text))
        plans.append([plan(material(catalogue, bound.recipe, "train"), bound, 1, i) for i in range(20)])
    for first, second in zip(*plans, strict=True):
        assert first.speech == second.speech
        assert list(first.stages) == [stage for stage in second.stages if stage.stage != "level"]


@pytest.mark.parametrize(
    "cut",
    [
        "{stage: lowpass, families: [brickwall], cutoff_hz: 4000}",
        "{stage: bandpass, families: [brickwall], high_hz: 4000}",
        "{stage: bandwidth_loss, rates_hz: [8000]}",
        "{stage: codec, codecs: {g711: {}}}",
        "{stage: codec, codecs: {opus: {bandwidths_hz: [4000]}}}",
        "{stage: tandem, first: {g711: {}}, second: {mp3: {}}}",
        "{stage: opus_packet_loss, bandwidths_hz: [4000]}",
    ],
)
def test_stages_are_drawn_within_what_earlier_ones_have_left(catalogue: Catalogue, cut: str) -> None:
    later = "{stage: microphone_eq}, {stage: air_absorption}, {stage: bandwidth_loss}, {stage: lowpass}"
    text = f"name: a\nspeech: {{min_bandwidth_hz: 0}}\nstages: [{{stage: microphone_eq}}, {cut}, {later}]"
    bound = bind(recipe_of(text))
    pool = material(catalogue, bound.recipe, "train")
    for index in range(40):
        before, _, eq, air, loss, low = (stage.values for stage in plan(pool, bound, 1, index).stages)
        assert before["heard_to_hz"] > 0.9 * 4_100
        assert eq["heard_to_hz"] <= 0.9 * 4_100
        assert air["reference_hz"] <= 0.8 * 4_100
        assert loss["method"] != "soxr" or loss["rate_hz"] < 2 * 4_100
        assert low["cutoff_hz"] <= 0.9 * 4_100


def test_each_stage_has_a_stream_of_its_own(catalogue: Catalogue) -> None:
    twice = "{stage: level, p: 0.5, gain_db: [-10, 10]}"
    bound = bind(recipe_of(f"name: a\nstages: [{twice}, {twice}]"))
    pool = material(catalogue, bound.recipe, "train")
    plans = [plan(pool, bound, 1, index).stages for index in range(200)]
    both = [stages for stages in plans if len(stages) == 2]
    assert 20 < len(both) < 90  # a shared stream would let both fire or none
    gains_db = np.array([[stage.values["gain_db"] for stage in stages] for stages in both])
    assert abs(np.corrcoef(gains_db.T)[0, 1]) < 0.5


def test_a_plan_depends_on_seed_split_index_and_attempt_only(catalogue: Catalogue) -> None:
    bound = bind(recipe_of("name: a\nstages: [{stage: final_level}]"))
    pool = material(catalogue, bound.recipe, "train")
    spec = plan(pool, bound, 1, 5)
    for index in range(5):
        plan(pool, bound, 1, index)
    assert plan(pool, bound, 1, 5) == spec
    val = material(catalogue, bound.recipe, "val")
    others = [
        plan(pool, bound, 2, 5),
        plan(pool, bound, 1, 6),
        plan(pool, bound, 1, 5, 1),
        plan(val, bound, 1, 5),
    ]
    assert len({spec.digest, *(other.digest for other in others)}) == 5


def test_keyed_generators_are_pinned() -> None:
    # Golden values: another key derivation or bit generator would silently change every corpus.
    assert generator(7, "train", 12, "noise").integers(0, 2**32, 3).tolist() == [
        1049937128,
        3875226134,
        844797363,
    ]


def test_a_sample_is_one_talker_filled_with_their_utterances(catalogue: Catalogue) -> None:
    bound = bind(recipe_of("name: a\nseconds: 6\nstages: [{stage: final_level}]"))
    pool = material(catalogue, bound.recipe, "train")
    for index in range(30):
        spec = plan(pool, bound, 1, index)
        sources = [catalogue.by_sha256[clip.sha256] for clip in spec.speech]
        assert len({source.speaker for source in sources}) == 1
        ends = [
            clip.at + clip.frames * 48_000 / s.rate_hz for clip, s in zip(spec.speech, sources, strict=True)
        ]
        assert all(end <= later.at + 1 for end, later in zip(ends, spec.speech[1:], strict=False))
        assert spec.frames - ends[-1] < 0.9 * 48_000


@pytest.mark.parametrize("draw_by", ["length", "speaker"])
def test_talkers_are_drawn_by_how_much_they_say_or_all_alike(draw_by: str) -> None:
    seconds = {"a": (5.0, 15.0), "b": (2.0,), None: (10.0, 4.0, 4.0)}
    said = [(speaker, length) for speaker, lengths in seconds.items() for length in lengths]
    rows = [
        Source(f"{n}.wav", "speech", f"{n:064x}", seconds=length, speaker=speaker, split="train")
        for n, (speaker, length) in enumerate(said)
    ]
    recipe = recipe_of(
        f"name: a\nseconds: 1\nspeech: {{draw_by: {draw_by}}}\nstages: [{{stage: final_level}}]"
    )
    assert ("draw_by" in recipe.written()["speech"]) == (draw_by == "speaker")
    pool = material(Catalogue(rows), recipe, "train")
    drawn = Counter(pool.an_utterance(generator(index)).path for index in range(DRAWS))
    for row in rows:
        of_talker = sum(seconds[row.speaker])
        share = row.seconds / 40.0 if draw_by == "length" else row.seconds / of_talker / len(seconds)
        assert abs(drawn[row.path] - DRAWS * share) < SIGMAS * sqrt(DRAWS * share * (1 - share)) + 1e-9


def test_speech_below_the_wanted_bandwidth_is_not_drawn(catalogue: Catalogue) -> None:
    recipe = recipe_of("name: a\nspeech: {min_bandwidth_hz: 20000}\nstages: [{stage: final_level}]")
    with pytest.raises(UserError, match="no usable speech in split 'train' with at least 20000 Hz"):
        material(catalogue, recipe, "train")


def test_a_talker_is_one_at_any_speed_and_who_is_heard_does_not_depend_on_it(catalogue: Catalogue) -> None:
    text = "name: a\nspeech: {{gap_s: 0.2{}}}\nstages: [{{stage: final_level}}]"
    plain, played = (bind(recipe_of(text.format(more))) for more in ("", ", speed: [0.5, 2.0]"))
    pool = material(catalogue, plain.recipe, "train")
    speeds = []
    of_first: dict[str, list[float]] = {}
    for index in range(300):
        before, spec = (plan(pool, bound, 5, index) for bound in (plain, played))
        (speed,) = {clip.speed for clip in spec.speech}
        speeds.append(speed)
        of_first.setdefault(spec.speech[0].sha256, []).append(speed)
        assert {clip.speed for clip in before.speech} == {1.0}
        assert spec.speech[0].sha256 == before.speech[0].sha256
        assert spec.stages == before.stages  # nor do other draws
        sources = [catalogue.by_sha256[clip.sha256] for clip in spec.speech]
        lengths = [48_000 * c.frames / (s.rate_hz * speed) for c, s in zip(spec.speech, sources, strict=True)]
        ends = [clip.at + length for clip, length in zip(spec.speech, lengths, strict=True)]
        gaps = [later.at - end for end, later in zip(ends, spec.speech[1:], strict=False)]
        assert gaps == pytest.approx([0.2 * 48_000] * len(gaps), abs=1.0)
        assert 480_000 - 0.5 * 48_000 <= ends[-1] < 480_000 + 48_000 / (sources[-1].rate_hz * speed)
        assert all(c.start + c.frames <= s.frames for c, s in zip(spec.speech, sources, strict=True))
    assert all(
        max(one) > 2.0 * min(one) for one in of_first.values() if len(one) >= 10
    )  # nor speed on who it is
    assert any(len(one) >= 10 for one in of_first.values())
    assert min(speeds) >= 0.5
    assert max(speeds) <= 2.0
    # evenly on a logarithmic axis
    quarters = np.quantile(np.log(speeds), (0.25, 0.5, 0.75)) / np.log(2.0)
    assert quarters == pytest.approx([-0.5, 0.0, 0.5], abs=0.15)


def test_the_top_of_the_spectrum_goes_with_the_speed() -> None:
    rows = [
        Source(
            f"{n}.wav",
            "speech",
            f"{n:064x}",
            frames=960_000,
            rate_hz=48_000,
            seconds=20.0,
            speaker=str(n),
            split="train",
            bandwidth_hz=hz,
        )  # fmt: skip
        for n, hz in enumerate((16_500.0, 18_000.0, 22_000.0))
    ]
    stages = "[{{stage: lowpass, cutoff_hz: [4000, 22000]}}]"
    text = f"name: a\nspeech: {{{{min_bandwidth_hz: 16000, speed: {{}}}}}}\nstages: {stages}"
    for speed, admitted in ((0.9, 2), (1.0, 3), (1.2, 3), ([0.7, 1.2], 0), ([0.73, 1.0], 1)):
        recipe = recipe_of(text.format(speed))
        if not admitted:
            with pytest.raises(
                UserError, match=r"at least 16000 Hz of bandwidth when played 0\.7 times as fast"
            ):
                material(Catalogue(rows), recipe, "train")
            continue
        pool = material(Catalogue(rows), recipe, "train")
        assert len(pool.speech) == admitted
        assert played_bandwidth_hz(rows, recipe.speech.speed[0]) == 16_500.0 * recipe.speech.speed[0]
        assert played_bandwidth_hz(rows[2:], 1.2) == 24_000.0
        for index in range(100):
            spec = plan(pool, bind(recipe), 1, index)
            (source,) = (row for row in rows if row.sha256 == spec.speech[0].sha256)
            ends_hz = min(24_000.0, spec.speech[0].speed * (source.bandwidth_hz or 0.0))
            assert spec.stages[0].values["cutoff_hz"] < ends_hz


def test_a_recipe_that_leaves_the_speed_alone_is_the_one_before_there_was_any() -> None:
    plain, played = (
        recipe_of(f"name: a\nspeech: {{{speed}}}\nstages: [{{stage: final_level}}]")
        for speed in ("speed: 1", "speed: 0.9")
    )
    assert "speed" not in plain.written()["speech"]
    assert played.written()["speech"]["speed"] == [0.9, 0.9]
    rows = [Source("a.wav", "speech", "0" * 64, frames=48_000, rate_hz=48_000, seconds=1.0, split="train")]
    for recipe, written in ((plain, None), (played, 0.9)):
        spec = plan(material(Catalogue(rows), recipe, "train"), bind(recipe), 1, 0)
        clip = spec.model_dump(mode="json")["speech"][0]
        assert clip.get("speed") == written
        assert SampleSpec.model_validate_json(spec.model_dump_json()) == spec


@pytest.mark.parametrize("speed", ["0.4", "[0.9, 2.5]", "[1.1, 0.9]", "fast"])
def test_impossible_speeds_are_refused(speed: str) -> None:
    with pytest.raises(UserError, match=r"speech\.speed"):
        recipe_of(f"name: a\nspeech: {{speed: {speed}}}\nstages: [{{stage: final_level}}]")


def test_samples_are_shared_out_between_splits() -> None:
    recipe = recipe_of("name: a\nsplits: {train: 0.8, val: 0.1, test: 0.1}\nstages: [{stage: final_level}]")
    assert samples_of_splits(recipe, 100) == {"train": 80, "val": 10, "test": 10}
    assert samples_of_splits(recipe, 3) == {"train": 1, "val": 1, "test": 1}
    with pytest.raises(UserError, match="too few"):
        samples_of_splits(recipe, 2)
