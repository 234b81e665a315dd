"""A stage of a user's own package works like a shipped one, and lineage knows whose it is.

The packages are laid out as pip lays them out, by hand: installing them with pip would need a build backend.
"""

import hashlib
import importlib
import textwrap

import numpy as np
import pytest

from datagen.degradations import bind, provenance, stage_class, stage_names
from datagen.degradations.base import Inputs
from datagen.degradations.source_digest import _read, source_digest
from manifests.canonical import digest
from manifests.errors import UserError
from manifests.keyed import generator
from manifests.recipe import Recipe

TREMOLO = """
    from typing import Annotated, ClassVar

    import numpy as np

    from datagen.degradations.base import Applied, Degradation, Drawn
    from manifests.ranges import Span, uniform, Within
    from manifests.sample import Axis


    class Tremolo(Degradation):
        \"\"\"Amplitude modulation by a sine.\"\"\"

        name: ClassVar[str] = "tremolo"
        axis: ClassVar[Axis | None] = "discontinuity"
        rate_hz: Annotated[Span, Within(0.1, 20.0)] = (2.0, 8.0)
        depth: Annotated[Span, Within(0.01, 1.0)] = (0.2, 0.9)

        def draw(self, rng, scene):
            return Drawn({"rate_hz": uniform(rng, self.rate_hz), "depth": uniform(rng, self.depth)})

        @staticmethod
        def apply(audio, values, inputs):
            phase = 2 * np.pi * values["rate_hz"] * np.arange(len(audio)) / 48_000
            gain = 1 - values["depth"] * (0.5 + 0.5 * np.sin(phase))
            return Applied(audio * gain.astype(np.float32))
"""


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Lay out a package with one module and one entry point in a folder of sys.path."""

    def into_site(distribution, module, code, entry_point, version="1.2.3"):
        site = tmp_path / distribution
        info = site / f"{distribution.replace('-', '_')}-{version}.dist-info"
        info.mkdir(parents=True)
        (site / f"{module}.py").write_text(textwrap.dedent(code))
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
        (info / "entry_points.txt").write_text(f"[ssiforge.degradations]\n{entry_point}\n")
        monkeypatch.syspath_prepend(str(site))
        return site / f"{module}.py"

    return into_site


def test_it_binds_draws_and_is_recorded_with_its_version(install, speech, scene):
    source = install("acme-tremolo", "acme_tremolo", TREMOLO, "tremolo = acme_tremolo:Tremolo")
    assert "tremolo" in stage_names()
    recipe = Recipe.model_validate(
        {"name": "own", "stages": [{"stage": "tremolo", "p": 0.5, "depth": [0.5, 0.9]}]}
    )
    bound = bind(recipe)
    stage = bound.steps[0].choices[0].stage
    assert bound.recipe.stages[0].settings == {"rate_hz": [2.0, 8.0], "depth": [0.5, 0.9]}

    drawn = stage.draw(generator(1, "tremolo"), scene)
    applied = stage.apply(speech, drawn.values, Inputs())
    assert 0.5 <= drawn.values["depth"] <= 0.9
    assert not np.array_equal(applied.audio, speech)

    package, code_digest = provenance(type(stage))
    assert package == "acme-tremolo 1.2.3"
    assert code_digest == digest({"acme_tremolo": hashlib.sha256(source.read_bytes()).hexdigest()})


def test_the_digest_covers_what_the_stage_imports_from_its_package(tmp_path, monkeypatch):
    """A helper two imports away is part of a stage; other files of the package, and other packages, are not."""
    package = tmp_path / "acme_chain"
    (package / "maths").mkdir(parents=True)
    files = {
        "__init__.py": "",
        "stage.py": "from . import middle\nimport numpy\n\n\nclass Stage:\n    pass\n",
        "middle.py": "def late():\n    from acme_chain.maths.wave import sine\n    return sine\n",
        "maths/__init__.py": "",
        "maths/wave.py": "def sine():\n    return 1\n",
        "unrelated.py": "X = 1\n",
    }
    for name, text in files.items():
        (package / name).write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    stage = importlib.import_module("acme_chain.stage").Stage

    def now() -> str:
        _read.cache_clear()
        return source_digest(stage)

    first = now()
    (package / "unrelated.py").write_text("X = 2\n")
    assert now() == first
    (package / "maths" / "wave.py").write_text("def sine():\n    return 2\n")
    assert now() != first


def test_a_misspelt_setting_names_the_allowed_ones(install):
    install("acme-tremolo", "acme_tremolo_two", TREMOLO, "tremolo = acme_tremolo_two:Tremolo")
    recipe = Recipe.model_validate({"name": "own", "stages": [{"stage": "tremolo", "dept": 0.5}]})
    with pytest.raises(
        UserError, match=r"stages.0.dept': no such field; allowed here: depth, rate_hz.*'depth'"
    ):
        bind(recipe)


@pytest.mark.parametrize(
    ("entry_point", "code", "said"),
    [
        (
            "broken = acme_broken:Missing",
            "import nothing_of_this_name",
            "cannot be loaded .ModuleNotFoundError",
        ),
        ("broken = acme_broken:Missing", "", "cannot be loaded .AttributeError"),
        ("broken = acme_broken:Thing", "class Thing: pass", "is not a subclass of"),
        (
            "broken = acme_broken:Half",
            "from datagen.degradations.base import Degradation\nclass Half(Degradation):\n    name = 'broken'",
            "does not implement apply, draw",
        ),
        ("broken = acme_broken:Tremolo", TREMOLO, "must have the class attribute name = 'broken'"),
        (
            "tremolo = acme_broken:Tremolo",
            TREMOLO.replace("depth: Annotated", "weight: Annotated").replace("self.depth", "self.weight"),
            "has a setting 'weight'",
        ),
    ],
)
def test_a_broken_package_is_named(install, monkeypatch, entry_point, code, said):
    import sys

    monkeypatch.delitem(sys.modules, "acme_broken", raising=False)
    install("acme-broken", "acme_broken", code, entry_point, version="0.9")
    with pytest.raises(UserError, match=rf"package acme-broken 0\.9: its entry point .*{said}"):
        stage_class(entry_point.split(" ")[0])


def test_two_packages_cannot_claim_one_name(install):
    install("acme-one", "acme_one", TREMOLO, "tremolo = acme_one:Tremolo")
    install("acme-two", "acme_two", TREMOLO, "tremolo = acme_two:Tremolo")
    with pytest.raises(UserError, match="registered more than once.*acme-(one|two).*acme-(one|two)"):
        stage_class("tremolo")


def test_a_package_cannot_replace_a_shipped_stage(install):
    install("acme-codec", "acme_codec", TREMOLO, "codec = acme_codec:Tremolo")
    with pytest.raises(
        UserError, match="'codec' is registered more than once, by ssiforge and by acme-codec 1.2.3"
    ):
        stage_class("codec")
