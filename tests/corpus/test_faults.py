"""Failures are drawn again, recorded, and bounded."""

import json
import shutil
from pathlib import Path

import pytest
from faulty_recipe import write_recipe

from datagen.chain import SampleFailed
from datagen.plan import material, plan
from datagen.render import render
from manifests.catalogue import read_catalogue
from manifests.corpus import open_corpus
from manifests.errors import JobError, UserError
from pipelines.executors import InProcess
from pipelines.generation.generate import generate
from pipelines.generation.local_processes import LocalProcesses
from pipelines.generation.worker import RenderJob
from pipelines.scanning.scan import scan
from pipelines.verify import verify

pytestmark = pytest.mark.usefixtures("user_stages")


@pytest.mark.faults
def test_a_draw_that_kills_its_worker_is_drawn_again_and_quarantined(
    tmp_path: Path, catalogue_path: Path
) -> None:
    recipe = write_recipe(tmp_path / "r.yaml", "kills_its_process", "limits: {max_failed_share: 0.9}")
    generate(recipe, catalogue_path, tmp_path / "a", LocalProcesses(2), samples=6, seed=2)
    manifest = open_corpus(tmp_path / "a").manifest
    assert sum(manifest.samples.values()) == 6
    assert set(manifest.failures) == {"worker: the process died while rendering this draw"}
    lines = [json.loads(line) for line in (tmp_path / "a" / "quarantine.jsonl").read_text().splitlines()]
    assert len(lines) == sum(manifest.failures.values())
    assert all(line["sources"] for line in lines)
    assert verify(tmp_path / "a").problems == ()


def test_failures_are_counted_by_kind_and_told_one_by_one(tmp_path: Path, catalogue_path: Path) -> None:
    recipe = write_recipe(tmp_path / "r.yaml", "refuses", "limits: {max_failed_share: 0.9, max_attempts: 50}")
    failures = generate(recipe, catalogue_path, tmp_path / "a", InProcess(), samples=8).manifest.failures
    assert set(failures) == {"refuses: # is below #"}
    lines = [json.loads(line) for line in (tmp_path / "a" / "quarantine.jsonl").read_text().splitlines()]
    assert len({line["reason"] for line in lines}) == failures["refuses: # is below #"] > 3


def test_a_sample_that_never_renders_stops_the_job_with_its_reason(
    tmp_path: Path, catalogue_path: Path
) -> None:
    recipe = write_recipe(tmp_path / "r.yaml", "does_nothing", "limits: {max_attempts: 3}")
    with pytest.raises(JobError, match="could not be rendered in 3 attempts.*changed nothing"):
        generate(recipe, catalogue_path, tmp_path / "a", LocalProcesses(1), samples=8)
    assert not list((tmp_path / "a").rglob("*.tar"))
    assert not list((tmp_path / "a").rglob("*.tmp"))


def test_a_source_that_changed_after_the_scan_is_noticed_and_never_rendered(
    tmp_path: Path, material_folder: Path
) -> None:
    folder = Path(shutil.copytree(material_folder, tmp_path / "m"))
    sources = tmp_path / "sources.parquet"
    scan({"speech": [str(folder / "speech")], "noise": [str(folder / "noise")]}, sources, workers=1)
    recipe = write_recipe(tmp_path / "r.yaml", "noise, snr_db: 3", "limits: {max_failed_share: 1}")
    generate(recipe, sources, tmp_path / "a", InProcess(), samples=12)
    victim = next(s for s in read_catalogue(sources) if s.kind == "noise" and s.split == "train")
    content = bytearray(Path(victim.path).read_bytes())
    content[5_000:6_000] = bytes(1_000)
    Path(victim.path).write_bytes(content)
    with pytest.raises(UserError, match=f"{victim.name} has changed since it was scanned"):
        generate(recipe, sources, tmp_path / "b", InProcess(), samples=12)
    found = verify(tmp_path / "a", rerender=12)
    assert found.problems
    assert all("has changed since it was scanned" in problem for problem in found.problems)
    catalogue = read_catalogue(sources)
    bound = RenderJob(str(tmp_path / "a"), 0).load().bound
    pool = material(catalogue, bound.recipe, "train")
    specs = (plan(pool, bound, 0, index) for index in range(99))
    spec = next(s for s in specs if victim.sha256 in {clip.sha256 for clip in s.clips})
    with pytest.raises(SampleFailed, match=r"noise: source \w+ has changed since it was scanned"):
        render(spec, catalogue.by_sha256)


def test_a_source_that_was_only_touched_is_used_as_it_is(tmp_path: Path, material_folder: Path) -> None:
    folder = Path(shutil.copytree(material_folder, tmp_path / "m"))
    sources = tmp_path / "sources.parquet"
    scan({"speech": [str(folder / "speech")]}, sources, workers=1)
    for path in folder.rglob("*.flac"):
        path.touch()
    recipe = write_recipe(tmp_path / "r.yaml", "halve")
    assert generate(recipe, sources, tmp_path / "a", InProcess(), samples=4).manifest.failures == {}


def test_losing_more_than_the_limit_stops_the_job(tmp_path: Path, catalogue_path: Path) -> None:
    recipe = write_recipe(tmp_path / "r.yaml", "gain_step, ramp_ms: 5, step_db: [0, 0.0001]")
    with pytest.raises(JobError, match=r"changed nothing|more than limits\.max_failed_share"):
        generate(recipe, catalogue_path, tmp_path / "a", InProcess(), samples=80)
