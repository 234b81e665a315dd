"""The pages name what there is, and what they show works."""

import re
from pathlib import Path

import yaml

from datagen.degradations import bind, stage_class
from datagen.degradations.registry import BUILT_IN
from manifests.documents import check, parse_document, shipped_names
from manifests.recipe import Recipe

ROOT = Path(__file__).resolve().parents[1]


def test_every_stage_and_setting_is_documented() -> None:
    page = (ROOT / "docs" / "recipes.md").read_text()
    for name in BUILT_IN:
        section = page.split(f"### `{name}`")[1].split("###")[0]
        for field in stage_class(name).model_fields:
            assert f"| `{field}` |" in section, f"{name}.{field}"


def test_every_field_of_a_recipe_is_documented() -> None:
    page = (ROOT / "docs" / "recipes.md").read_text()
    for field in Recipe.model_fields:
        assert f"`{field}" in page or field == "description", field


def test_the_recipe_in_the_readme_binds() -> None:
    readme = (ROOT / "README.md").read_text()
    text = next(block for block in re.findall(r"```yaml\n(.*?)```", readme, re.S) if "name: mine" in block)
    document = parse_document(text, "README.md")
    bind(check(Recipe, document.content, document), document)


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


def test_the_cluster_file_passes_ray_s_own_validation() -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    validate_config(prepare_config(yaml.safe_load((ROOT / "ray_cluster.yaml").read_text())))
