"""What was asked is what is delivered, or it is counted; what cannot be drawn is left out aloud or refused."""

import json
from pathlib import Path

import pytest

from datagen.degradations import bind
from datagen.degradations.base import Tolerance
from datagen.plan import material, plan
from manifests.catalogue import read_catalogue
from manifests.corpus import open_corpus
from manifests.documents import check, parse_document
from manifests.errors import UserError
from manifests.recipe import Recipe
from manifests.sample import SampleRecord
from pipelines.executors import InProcess
from pipelines.generation.generate import generate

pytestmark = pytest.mark.usefixtures("user_stages")


def read_records(place: Path) -> list[SampleRecord]:
    corpus = open_corpus(place)
    entries = [(shard, entry) for shard in corpus.shards for entry in shard.samples]
    return [SampleRecord.model_validate(corpus.sample_json(*each)) for each in entries]


def _recipe(folder: Path, stages: str) -> str:
    path = folder / "recipe.yaml"
    path.write_text(f"name: promises\nseconds: 1\noutput: {{samples_per_shard: 4}}\nstages:\n{stages}")
    return str(path)


def test_a_broken_promise_is_counted_in_the_corpus_and_named_in_the_record(tmp_path, catalogue_path):
    recipe = _recipe(tmp_path, "  - {stage: promises_too_much}\n  - {stage: noise, snr_db: [0, 10]}\n")
    manifest = generate(recipe, catalogue_path, tmp_path / "c", InProcess(), samples=12, seed=3).manifest
    counted = manifest.tolerances
    assert counted["noise.snr_db"] == {"checked": 12, "out": 0}
    records = read_records(tmp_path / "c")
    broken = [stage for record in records for stage in record.stages if stage.out_of_tolerance]
    assert counted["promises_too_much.gain"] == {"checked": 12, "out": len(broken)}
    assert 0 < len(broken) < 12
    for stage in broken:
        assert stage.out_of_tolerance == ("gain",)
        assert stage.measured["gain"] > 1.05 * stage.values["gain"]
    assert json.loads((tmp_path / "c" / "corpus.json").read_bytes())["tolerances"] == counted


@pytest.mark.parametrize(
    ("tolerance", "drawn", "measured", "kept"),
    [
        (Tolerance(absolute=0.1), 5.0, 5.1, True),
        (Tolerance(absolute=0.1), 5.0, 5.11, False),
        (Tolerance(relative=0.15), 0.4, 0.46, True),
        (Tolerance(relative=0.15), 0.4, 0.33, False),
        (Tolerance(relative=0.1), -20.0, -21.9, True),
        (Tolerance(), 3.0, 3.0, True),
    ],
)
def test_tolerances(tolerance, drawn, measured, kept):
    assert tolerance.holds(drawn, measured) is kept


@pytest.mark.parametrize(
    "step", ["{stage: room, p: 0.5, optional: true}", "{p: 0.5, optional: true, one_of: [{stage: room}]}"]
)
def test_an_optional_stage_without_material_is_left_out_aloud(tmp_path, catalogue_path, step):
    stages = f"  - {step}\n  - {{stage: level}}\n"
    said: list[str] = []
    recipe = _recipe(tmp_path, stages)
    done = generate(recipe, catalogue_path, tmp_path / "c", InProcess(), samples=8, say=said.append)
    assert any("stage room: nothing to draw from in split train, val, test" in line for line in said)
    assert done.manifest.stages["room"] == {"asked": 0.0, "drawn": 0.0}
    assert done.manifest.stages["level"] == {"asked": 1.0, "drawn": 1.0}


def test_a_stage_without_material_that_is_not_optional_is_refused(tmp_path, catalogue_path):
    recipe = _recipe(tmp_path, "  - {stage: room, p: 0.5}\n")
    with pytest.raises(UserError, match="split 'train', stage 'room': .*no room impulse response"):
        generate(recipe, catalogue_path, tmp_path / "c", InProcess(), samples=8)


def test_a_shard_says_which_samples_are_not_aligned_and_a_sample_has_its_lowest_snr(tmp_path, catalogue_path):
    stages = (
        "  - {stage: coloured_noise, snr_db: [25, 30]}\n"
        "  - {stage: coloured_noise, snr_db: [5, 10]}\n"
        "  - {stage: coloured_noise, snr_db: [15, 20]}\n"
        "  - {stage: clock_drift, p: 0.5}\n"
    )
    recipe = _recipe(tmp_path, stages)
    generate(recipe, catalogue_path, tmp_path / "c", InProcess(), samples=12, seed=3)
    shards = open_corpus(tmp_path / "c").shards
    records = read_records(tmp_path / "c")
    drifted = {record.key for record in records if any(s.stage == "clock_drift" for s in record.stages)}
    assert 0 < len(drifted) < 12
    assert {entry.key for shard in shards for entry in shard.samples if not entry.aligned} == drifted
    for record in records:
        assert record.measured["snr_db"] == pytest.approx(record.stages[1].values["snr_db"], abs=0.1)


SEVERAL = """name: several
seconds: 1
stages:
  - how_many: [0.25, 0.40, 0.20, 0.15]
    one_of:
      - {stage: level}
      - {stage: clipping}
      - {stage: bandwidth_loss}
      - {stage: codec, weight: 2}
"""


def test_several_alternatives_are_taken_as_often_as_asked_and_each_once(catalogue_path):
    document = parse_document(SEVERAL, "several.yaml")
    bound = bind(check(Recipe, document.content, document), document)
    pool = material(read_catalogue(catalogue_path), bound.recipe, "train")
    draws = 4_000
    counts, labels = [0, 0, 0, 0, 0], dict.fromkeys(bound.shares(), 0)
    order = list(bound.shares())
    for index in range(draws):
        taken = [stage.label for stage in plan(pool, bound, 1, index).stages]
        assert taken == sorted(set(taken), key=order.index)
        counts[len(taken)] += 1
        for label in taken:
            labels[label] += 1
    for count, asked in zip(counts, (0.25, 0.4, 0.2, 0.15, 0.0), strict=True):
        assert abs(count / draws - asked) < 4.5 * (asked * (1 - asked) / draws) ** 0.5 + 1e-12
    # Of one, two or three taken, so many are expected to be the codec with 2 of 5 weights (by hand: 0.4; 0.4 + 3/5 *
    # 1/5 * 2/4 * 5 = 0.7; 0.9).
    assert bound.shares()["codec"] == pytest.approx(0.4 * 0.4 + 0.2 * 0.7 + 0.15 * 0.9)
    for label, share in bound.shares().items():
        assert abs(labels[label] / draws - share) < 4.5 * (share * (1 - share) / draws) ** 0.5
    # A written recipe binds to the same.
    again = check(Recipe, bound.recipe.written(), document)
    assert bind(again).digest == bound.digest


@pytest.mark.parametrize(
    ("step", "said"),
    [
        ("{stage: level, how_many: [0, 1]}", "'how_many' belongs beside 'one_of'"),
        ("{how_many: [0.5, 0.2], one_of: [{stage: level}]}", "must sum to 1"),
        ("{how_many: [0, 0, 1], one_of: [{stage: level}]}", "more entries than 0 to 1 alternatives"),
        ("{how_many: [0, 1], p: 0.5, one_of: [{stage: level}]}", "without 'p'"),
        ("{stage: noise, sources: [1.5, 2.5]}", "whole numbers"),
    ],
)
def test_impossible_steps_are_refused(step, said):
    document = parse_document(f"name: wrong\nstages:\n  - {step}\n", "wrong.yaml")
    with pytest.raises(UserError, match=said):
        bind(check(Recipe, document.content, document), document)
