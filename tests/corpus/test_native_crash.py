"""A segmentation fault inside a degradation, as from a C library, costs one draw of one sample."""

import json
import os
import textwrap
from pathlib import Path

import pytest

from manifests.corpus import open_corpus
from pipelines.generation.generate import generate
from pipelines.generation.local_processes import LocalProcesses
from pipelines.verify import verify

SAMPLES = 8
STAGE = """
    import ctypes
    from typing import ClassVar

    import numpy as np

    from datagen.degradations.base import Applied, Degradation, Drawn


    class ReadsNowhere(Degradation):
        \"\"\"Reads at address 0 on a third of its draws.\"\"\"

        name: ClassVar[str] = "reads_nowhere"

        def draw(self, rng, scene):
            return Drawn({"gain": float(rng.uniform(0.3, 0.9))})

        @staticmethod
        def apply(audio, values, inputs):
            if values["gain"] < 0.5:
                ctypes.string_at(0)
            return Applied(audio * np.float32(values["gain"]))
"""


@pytest.fixture
def crashing_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package with the stage, laid out as pip would, known here and in child processes."""
    site = tmp_path / "site"
    info = site / "reads_nowhere-0.1.dist-info"
    info.mkdir(parents=True)
    (site / "reads_nowhere.py").write_text(textwrap.dedent(STAGE))
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: reads-nowhere\nVersion: 0.1\n")
    (info / "entry_points.txt").write_text(
        "[ssiforge.degradations]\nreads_nowhere = reads_nowhere:ReadsNowhere\n"
    )
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")]))


@pytest.mark.usefixtures("crashing_stage")
def test_a_segmentation_fault_is_quarantined_and_the_job_goes_on(
    tmp_path: Path, catalogue_path: Path
) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text(
        "name: crashing\nseconds: 1\nsplits: {train: 0.5, val: 0.25, test: 0.25}\n"
        "limits: {max_failed_share: 0.9}\noutput: {samples_per_shard: 4}\nstages:\n  - {stage: reads_nowhere}\n"
    )
    generate(str(recipe), catalogue_path, tmp_path / "corpus", LocalProcesses(2), samples=SAMPLES, seed=4)
    manifest = open_corpus(tmp_path / "corpus").manifest
    assert sum(manifest.samples.values()) == SAMPLES
    assert set(manifest.failures) == {"worker: the process died while rendering this draw"}
    lines = [json.loads(line) for line in (tmp_path / "corpus" / "quarantine.jsonl").read_text().splitlines()]
    assert len(lines) == sum(manifest.failures.values()) > 0
    assert verify(tmp_path / "corpus").problems == ()
