"""A mistake in a YAML file gets one sentence with the file, the line, the field and what is allowed."""

from pathlib import Path

import pytest

from datagen.degradations import bind
from manifests.canonical import canonical_json, digest
from manifests.documents import check, load_document, parse_document, shipped_names, with_overrides
from manifests.errors import UserError
from manifests.recipe import Recipe

GOOD = """name: mine
seconds: 2
stages:
  - {stage: noise, p: 0.5, snr_db: [0, 10]}
  - stage: final_level
"""


def read(text: str) -> None:
    document = parse_document(text, "mine.yaml")
    bind(check(Recipe, document.content, document), document)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            ("seconds: 2", "secnds: 2"),
            r"mine\.yaml, line 2, field 'secnds': no such field.*did you mean 'seconds'",
        ),
        (("seconds: 2", "seconds: -1"), r"line 2, field 'seconds'"),
        (("[0, 10]", "[10, 0]"), r"line 4, field 'stages\.0\.snr_db'.*low end 10 is above its high end 0"),
        (("[0, 10]", "[0, 900]"), r"line 4, field 'stages\.0\.snr_db'.*leaves what is possible"),
        (("[0, 10]", "loud"), r"line 4, field 'stages\.0\.snr_db'.*one number, or a list"),
        (("p: 0.5", "p: 1.5"), r"line 4, field 'stages\.0\.p'"),
        (("snr_db", "snrdb"), r"line 4, field 'stages\.0\.snrdb': no such field.*did you mean 'snr_db'"),
        (("final_level", "final_levl"), r"line 5, field 'stages\.1\.stage'.*did you mean 'final_level'"),
        (("name: mine", "nam: mine"), r"field 'name': is required"),
        (("seconds: 2", "seconds: 2\nseconds: 3"), r"line 3: field 'seconds' is given twice"),
        (("seconds: 2", "seconds: [2"), r"not valid YAML"),
        (("seconds: 2", "target: {knd: dry}"), r"field 'target\.knd'.*allowed here: .*kind"),
        (("seconds: 2", "target: dry"), r"field 'target': must be a mapping of fields to values"),
        (("seconds: 2", "output: {stems: dry}"), r"field 'output.stems': must be a list, such as \[value\]$"),
        (("seconds: 2", "splits: {train: 0.9, val: 0.9, test: 0}"), r"must sum to 1"),
    ],
)
def test_mistakes_are_named(change: tuple[str, str], sentence: str) -> None:
    read(GOOD)
    with pytest.raises(UserError, match=sentence):
        read(GOOD.replace(*change))


def test_yaml_that_builds_objects_is_refused() -> None:
    with pytest.raises(UserError, match="not valid YAML"):
        parse_document("name: !!python/object/apply:os.system [echo]", "evil.yaml")


def test_unknown_recipes_are_answered_with_the_shipped_ones() -> None:
    with pytest.raises(UserError, match=r"ssi48: no such file.*did you mean 'ssi48k'"):
        load_document("ssi48", "recipes")


@pytest.mark.parametrize("name", shipped_names("recipes"))
def test_shipped_recipes_bind(name: str) -> None:
    document = load_document(name, "recipes")
    recipe = check(Recipe, document.content, document)
    assert recipe.name == name
    bound = bind(recipe, document)
    again = parse_document(canonical_json(bound.recipe.written()).decode(), "again")
    assert bind(check(Recipe, again.content, again), again).digest == bound.digest


def test_overrides_reach_into_lists_and_name_their_mistakes() -> None:
    document = parse_document(GOOD, "mine.yaml")
    changed = with_overrides(document, ["stages.0.p=0.25", "target.kind=early"])
    assert changed.content["stages"][0]["p"] == 0.25
    assert changed.content["target"] == {"kind": "early"}
    assert document.content["stages"][0]["p"] == 0.5
    for setting, sentence in [
        ("p", "write it as"),
        ("stages.7.p=1", "not the number"),
        ("stages.².p=1", "not the number"),
        ("name.x=1", "has no fields"),
    ]:
        with pytest.raises(UserError, match=sentence):
            with_overrides(document, [setting])


def test_digests_ignore_key_order_and_formatting() -> None:
    assert digest({"a": 1, "b": [1.0, 2]}) == digest({"b": [1.0, 2], "a": 1})
    assert digest({"a": 1}) != digest({"a": 2})
    with pytest.raises(ValueError, match="JSON"):
        digest(float("nan"))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere.yaml: no such file"):
        load_document(str(tmp_path / "nowhere.yaml"), "recipes")


@pytest.mark.parametrize(
    ("kinds", "sentence"),
    [
        ("hard", r"field 'stages\.0\.kinds': must be a list, such as \[value\]$"),
        ("[]", r"field 'stages\.0\.kinds': must not be empty$"),
        ("[hrad]", r"^mine.yaml, line 3, field 'stages\.0\.kinds\.0': input should be 'hard', [^;]*$"),
    ],
)
def test_a_list_of_choices_is_answered_in_one_sentence(kinds: str, sentence: str) -> None:
    document = parse_document(f"name: mine\nstages:\n  - {{stage: clipping, kinds: {kinds}}}\n", "mine.yaml")
    with pytest.raises(UserError, match=sentence):
        bind(check(Recipe, document.content, document), document)
