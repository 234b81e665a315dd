"""Failures are drawn again, recorded, and bounded."""

import json
from pathlib import Path

import pytest

from manifests.corpus import open_corpus
from manifests.errors import JobError
from pipelines.executors import InProcess, LocalProcesses
from pipelines.generate import fingerprint, generate

pytestmark = pytest.mark.usefixtures("user_stages")


def write_recipe(path: Path, stage: str, more: str = "") -> str:
    path.write_text(
        f"name: faulty\nseconds: 1\nsplits: {{train: 0.5, val: 0.25, test: 0.25}}\n{more}\n"
        f"output: {{samples_per_shard: 4}}\nstages:\n  - {{stage: {stage}}}\n"
    )
    return str(path)


def test_a_draw_that_kills_its_worker_is_drawn_again_and_quarantined(
    tmp_path: Path, catalogue_path: Path
) -> None:
    recipe = write_recipe(tmp_path / "r.yaml", "kills_its_process", "limits: {max_failed_share: 0.9}")
    generate(recipe, catalogue_path, tmp_path / "a", LocalProcesses(2), samples=6)
    manifest = open_corpus(tmp_path / "a").manifest
    assert sum(manifest.samples.values()) == 6
    assert set(manifest.failures) == {"worker: the process died while rendering this draw"}
    lines = [json.loads(line) for line in (tmp_path / "a" / "quarantine.jsonl").read_text().splitlines()]
    assert len(lines) == sum(manifest.failures.values())
    assert all(line["sources"] for line in lines)
    generate(recipe, catalogue_path, tmp_path / "b", LocalProcesses(1), samples=6)
    assert fingerprint(tmp_path / "a") == fingerprint(tmp_path / "b")


def test_a_sample_that_never_renders_stops_the_job_with_its_reason(
    tmp_path: Path, catalogue_path: Path
) -> None:
    recipe = write_recipe(tmp_path / "r.yaml", "does_nothing", "limits: {max_attempts: 3}")
    with pytest.raises(JobError, match="could not be rendered in 3 attempts.*changed nothing"):
        generate(recipe, catalogue_path, tmp_path / "a", LocalProcesses(1), samples=8)
    assert not list((tmp_path / "a").rglob("*.tar"))
    assert not list((tmp_path / "a").rglob("*.tmp"))


def test_losing_more_than_the_limit_stops_the_job(tmp_path: Path, catalogue_path: Path) -> None:
    recipe = write_recipe(tmp_path / "r.yaml", "gain_step, ramp_ms: 5, step_db: [0, 0.0001]")
    with pytest.raises(JobError, match=r"changed nothing|more than limits\.max_failed_share"):
        generate(recipe, catalogue_path, tmp_path / "a", InProcess(), samples=80)
