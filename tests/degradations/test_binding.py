"""A recipe's stages are bound to their settings, and what is wrong is named with its line."""

import re

import pytest

from datagen.degradations import bind, provenance, stage_class, stage_names
from datagen.degradations.converter.clipping import Clipping
from manifests.documents import check, parse_document
from manifests.errors import UserError
from manifests.recipe import Recipe


def bound(stages: str):
    document = parse_document(f"name: tried\nstages:\n{stages}", "tried.yaml")
    return bind(check(Recipe, document.content, document), document)


def refusal(stages: str) -> str:
    with pytest.raises(UserError) as caught:
        bound(stages)
    return str(caught.value)


def test_every_shipped_stage_binds_with_its_defaults():
    for name in stage_names():
        settings = ", transform: TanhDistortion" if name == "audiomentations" else ""
        assert bound(f"  - {{stage: {name}{settings}}}").steps[0].choices[0].stage.name == name


def test_defaults_are_filled_in_so_that_writing_one_changes_nothing():
    short = bound("  - {stage: clipping, p: 0.5}")
    long = bound("  - {stage: clipping, p: 0.5, softness: [0.1, 1], kinds: [hard, soft, asymmetric]}")
    other = bound("  - {stage: clipping, p: 0.5, softness: [0.1, 2]}")
    assert short.recipe.stages[0].settings["softness"] == [0.1, 1.0]
    assert short.digest == long.digest
    assert short.digest != other.digest


def test_a_bound_recipe_can_be_written_and_bound_again():
    first = bound(
        "  - {stage: codec, codecs: {opus: {weight: 2}, g711: {}}}\n"
        "  - {stage: audiomentations, transform: TanhDistortion, settings: {min_distortion: 0.1}}\n"
        "  - one_of:\n    - {stage: none, weight: 2}\n    - {stage: clipping, weight: 3}\n"
    )
    again = bind(Recipe.model_validate(first.recipe.written()))
    assert again.digest == first.digest
    assert again.steps == first.steps


def test_a_stage_that_stands_twice_has_two_labels():
    steps = bound(
        "  - {stage: codec, p: 0.3}\n"
        "  - {p: 0.8, one_of: [{stage: none, weight: 1}, {stage: codec, weight: 3}]}\n"
        "  - {one_of: [{stage: level}, {stage: clipping}]}\n"
    )
    assert [step.label for step in steps.steps] == ["codec", "one_of", "one_of#2"]
    assert [choice.label for choice in steps.steps[1].choices] == ["none", "codec#2"]
    assert steps.steps[1].choices[0].stage is None
    assert steps.shares() == pytest.approx({"codec": 0.3, "codec#2": 0.6, "level": 0.5, "clipping": 0.5})


@pytest.mark.parametrize(
    ("stages", "said"),
    [
        (
            "  - {stage: clipping, shares: 0.1}",
            "line 3, field 'stages.0.shares': no such field; allowed here: ",
        ),
        ("  - {stage: clipping, shares: 0.1}", r"high_quantile, kinds, .*did you mean 'share'"),
        (
            "  - {stage: level}\n  - {stage: level, gain_db: [3, -3]}",
            "line 4, field 'stages.1.gain_db': is empty",
        ),
        ("  - {stage: clipping, share: [0, 2]}", "'stages.0.share': .* leaves what is possible"),
        ("  - {stage: cliping}", "'stages.0.stage': no stage is called 'cliping'.*did you mean 'clipping'"),
        ("  - {stage: none}", "'stages.0.stage': 'none' is an alternative"),
        ("  - {stage: level, weight: 3}", "'stages.0.weight': belongs in an alternative"),
        ("  - {stage: level, gain_db: 0}", "'stages.0.gain_db': is 0 dB, which changes nothing"),
        (
            "  - one_of:\n    - {stage: none}\n    - {stage: clipping, max_share: 0.1}",
            "line 5, field 'stages.0.one_of.1.max_share': no such field",
        ),
        ("  - {one_of: [{stage: level, p: 0.5}]}", "'stages.0.one_of.0.p': an alternative is chosen by"),
        ("  - {one_of: [{stage: none, gain_db: 3}]}", "'stages.0.one_of.0.gain_db': 'none' has no settings"),
        (
            "  - {one_of: [{one_of: [{stage: level}]}]}",
            "'stages.0.one_of.0.one_of': alternatives do not nest",
        ),
        (
            "  - {stage: codec, codecs: {ogg: {}}}",
            "'stages.0.codecs.ogg': no such field; allowed here: aac, adpcm, amr_nb",
        ),
        ("  - {stage: codec, codecs: {opus: {bitrate: 9}}}", r"opus.bitrate': no such field.*'bitrate_kbps'"),
        ("  - {stage: codec, codecs: {opus: {weight: 0}}}", "'stages.0.codecs': must name at least one"),
        ("  - {stage: codec, codecs: {amr_nb: {bitrates_kbps: [9]}}}", "9 is not a mode of AMR"),
        ("  - {stage: codec, codecs: {aac: {bitrate_kbps: [32, 128]}}}", "AAC carries at most 96"),
        ("  - {stage: bandpass, low_hz: [300, 3000]}", "low_hz must end below"),
        ("  - {stage: audiomentations}", "'stages.0.transform': is required"),
        ("  - {stage: audiomentations, transform: TanDistortion}", "no TanDistortion.*mean 'TanhDistortion'"),
        (
            "  - {stage: audiomentations, transform: TimeStretch}",
            "TimeStretch cannot be used: it moves the speech",
        ),
        ("  - {stage: audiomentations, transform: BitCrush, bits: 3}", "no keyword 'bits'.*min_bit_depth"),
        (
            "  - {stage: audiomentations, transform: RepeatPart, mode: insert}",
            "mode 'insert' moves the speech",
        ),
        (
            "  - {stage: audiomentations, transform: TanhDistortion, min_distortion: 4}",
            "transform TanhDistortion refuses min_distortion=4",
        ),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(stages, said):
    message = refusal(stages)
    assert re.search(said, message), message
    assert "\n" not in message


def test_an_unknown_stage_lists_the_known_ones():
    with pytest.raises(UserError, match="bandwidth_loss, .*clipping, .*codec"):
        stage_class("reverb")


def test_shipped_stages_say_where_they_come_from():
    package, code_digest = provenance(Clipping)
    assert re.fullmatch(r"ssiforge \d+\.\d+\.\d+.*", package)
    assert re.fullmatch(r"[0-9a-f]{32}", code_digest)
