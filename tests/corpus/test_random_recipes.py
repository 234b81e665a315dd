"""What holds for recipes that nobody thought of: asked frequencies and ranges, and a target that nothing touches."""

from math import sqrt
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
from random_recipes import declared_ranges, random_recipe

from datagen.chain import SampleFailed
from datagen.degradations import BoundRecipe, bind
from datagen.plan import material, plan
from datagen.render import EDGE_FADE_SAMPLES, render
from manifests.catalogue import Catalogue, read_catalogue
from manifests.documents import Document, check
from manifests.recipe import Recipe
from manifests.sample import SampleSpec

SIGMAS = 4.5
"""One in 150,000 for each stage."""
RECIPES = 24


@pytest.fixture(scope="module")
def catalogue(catalogue_path: Path) -> Catalogue:
    return read_catalogue(catalogue_path)


def bound_recipe(number: int) -> BoundRecipe:
    content = random_recipe(number)
    return bind(check(Recipe, content, Document(content["name"], content, {})))


@pytest.mark.parametrize(
    ("number", "draws"),
    [
        *((number, 1_500) for number in range(1, 5)),
        *(pytest.param(number, 1_500, marks=pytest.mark.faults) for number in range(5, 13)),
        pytest.param(0, 10_000, marks=pytest.mark.faults),
    ],
)
def test_stages_fire_as_often_as_asked_and_draw_within_their_ranges(catalogue, number, draws):
    bound = bound_recipe(number)
    pool = material(catalogue, bound.recipe, "train")
    stages = {c.label: c.stage for step in bound.steps for c in step.choices if c.stage is not None}
    fired = dict.fromkeys(stages, 0)
    for index in range(draws):
        for drawn in plan(pool, bound, number, index).stages:
            fired[drawn.label] += 1
            for field in declared_ranges(drawn.stage):
                value = drawn.values.get(field)
                if isinstance(value, int | float):
                    low, high = getattr(stages[drawn.label], field)
                    assert low <= value <= high, (drawn.label, field)
    for label, share in bound.shares().items():
        sigma = sqrt(share * (1.0 - share) / draws)
        assert abs(fired[label] / draws - share) <= SIGMAS * sigma + 1e-12, label


def _dry_source(spec: SampleSpec, catalogue: Catalogue) -> np.ndarray:
    """The talker put together from the source files, without any code of the renderer."""
    dry = np.zeros(spec.frames)
    for clip in spec.speech:
        source = catalogue.by_sha256[clip.sha256]
        audio, rate_hz = soundfile.read(source.path, always_2d=True, dtype="float32")
        part = audio[clip.start : clip.start + clip.frames].mean(axis=1)
        if rate_hz != 48_000:
            part = soxr.resample(part, rate_hz, 48_000)
        part = part[: spec.frames - clip.at].astype(np.float64) * 10 ** (clip.gain_db / 20)
        fade = min(EDGE_FADE_SAMPLES, len(part) // 2)
        part[:fade] *= np.linspace(0, 1, fade)
        part[len(part) - fade :] *= np.linspace(1, 0, fade)
        dry[clip.at : clip.at + len(part)] += part
    return dry


def test_a_target_is_the_dry_source_up_to_one_gain(catalogue):
    compared = 0
    for number in range(20, 20 + RECIPES):
        bound = bound_recipe(number)
        pool = material(catalogue, bound.recipe, "train")
        for index in range(3):
            spec = plan(pool, bound, number, index)
            try:
                rendered = render(spec, catalogue.by_sha256)
            except SampleFailed:
                continue  # some combinations leave nothing to degrade; what is rendered must be right
            if any("time_map" in stage.measured for stage in rendered.record.stages):
                continue  # the target may follow there, which is a test of its own
            dry = _dry_source(spec, catalogue)
            gain = float(dry @ rendered.target) / float(dry @ dry)
            assert np.abs(gain * dry - rendered.target).max() <= 1.0 / 32_768
            assert bool(spec.stages) != np.array_equal(rendered.degraded, rendered.target)
            compared += 1
    assert compared > 2 * RECIPES
