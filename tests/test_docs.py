"""The pages name what there is, and what they show works."""

import re
from pathlib import Path

import pytest

from datagen.degradations import bind, stage_class
from datagen.degradations.registry import BUILT_IN
from manifests.documents import check, parse_document, shipped_names
from manifests.recipe import Recipe, StageEntry

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "degradations.md"
REGENERATE = "run 'make docs' (or 'python -m pipelines.stages.catalogue_page')"


def test_the_page_of_degradations_is_what_the_code_says() -> None:
    from pipelines.stages.catalogue_page import page

    assert PAGE.read_text() == page(), f"{PAGE.name} is out of date; {REGENERATE}"


def test_every_degradation_and_setting_is_on_the_page() -> None:
    page = PAGE.read_text()
    for name in BUILT_IN:
        section = page.partition(f"\n### `{name}`\n")[2].partition("\n### ")[0]
        for field in stage_class(name).model_fields:
            assert f"| `{field}` |" in section, f"{name}.{field}: {REGENERATE}"


def test_every_degradation_has_a_small_picture_and_no_other_has() -> None:
    pictures = {path.stem: path.read_bytes() for path in (ROOT / "docs" / "degradations").iterdir()}
    assert pictures.keys() == BUILT_IN.keys(), REGENERATE
    for name, content in pictures.items():
        assert content.startswith(b"\x89PNG"), name
        assert len(content) <= 40_000, name
        assert b"tIME" not in content and b"tEXt" not in content, (
            f"{name}: its bytes would change with every run"
        )
    assert sum(map(len, pictures.values())) < 3_000_000


@pytest.mark.parametrize("name", sorted(BUILT_IN))
def test_every_setting_says_what_it_means(name: str) -> None:
    """By a docstring under it, or by a name that ends in a unit."""
    from pipelines.stages.settings import UNITS, settings_of

    for setting in settings_of(stage_class(name)):
        spelled = setting.name.rpartition(".")[2]
        unit = spelled.rpartition("_")[2] if "_" in spelled else ""
        assert unit in UNITS or len(setting.meaning.split()) > 3, (
            f"{name}.{setting.name}: {setting.meaning!r}"
        )


def test_the_cost_of_every_degradation_is_measured() -> None:
    from pipelines.stages.card import measured_costs

    machine, costs = measured_costs()
    assert machine
    assert costs.keys() == BUILT_IN.keys(), f"run 'python benchmarks/stages.py --write', then {REGENERATE}"


def test_every_field_of_a_recipe_is_documented() -> None:
    page = (ROOT / "docs" / "recipes.md").read_text()
    for field in Recipe.model_fields:
        assert f"`{field}" in page or field == "description", field


def test_the_recipe_in_the_readme_binds() -> None:
    readme = (ROOT / "README.md").read_text()
    text = next(block for block in re.findall(r"```yaml\n(.*?)```", readme, re.S) if "name: mine" in block)
    document = parse_document(text, "README.md")
    bind(check(Recipe, document.content, document), document)


def test_the_recipe_in_the_recipes_page_binds() -> None:
    page = (ROOT / "docs" / "recipes.md").read_text()
    for text in re.findall(r"```yaml\n(.*?)```", page, re.S):
        document = parse_document(text, "recipes.md")
        bind(check(Recipe, document.content, document), document)


def test_every_word_of_a_stage_entry_is_documented() -> None:
    page = (ROOT / "docs" / "recipes.md").read_text()
    for field in StageEntry.model_fields.keys() - {"settings"}:
        assert f"| `{field}` |" in page, field


def test_the_degradation_in_the_readme_runs(tmp_path: Path) -> None:
    import importlib.util

    import numpy as np

    from datagen.degradations.base import Inputs, Scene
    from manifests.keyed import generator

    readme = (ROOT / "README.md").read_text()
    text = next(
        block for block in re.findall(r"```python\n(.*?)```", readme, re.S) if "class Tremolo" in block
    )
    (tmp_path / "tremolo.py").write_text(text)
    spec = importlib.util.spec_from_file_location("tremolo", tmp_path / "tremolo.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    drawn = module.Tremolo(rate_hz=[3, 6]).draw(generator(1), Scene(48_000, 24_000.0, lambda kind: ()))
    audio = np.ones(48_000, np.float32)
    audio.setflags(write=False)
    applied = module.Tremolo.apply(audio, drawn.values, Inputs())
    assert applied.audio.dtype == np.float32
    assert 3 <= drawn.values["rate_hz"] <= 6
    assert applied.audio.min() < 1 - 0.9 * drawn.values["depth"]


def test_shipped_recipes_are_in_the_readme() -> None:
    readme = (ROOT / "README.md").read_text()
    assert all(f"| `{name}` |" in readme for name in shipped_names("recipes"))
