"""A shard that cannot be rendered is tried a bounded number of times, given up with its reason, and the job goes on."""

import json
from pathlib import Path

import pytest

from datagen.shard import ShardTask
from manifests.corpus import open_corpus
from manifests.errors import JobError
from pipelines.executors import (
    DEATHS_OF_ONE_SHARD,
    KILLS_OF_ONE_DRAW,
    TRIES_OF_A_SHARD,
    Failure,
    InProcess,
    Lost,
    Tries,
)
from pipelines.generation.generate import fingerprint, generate
from pipelines.generation.local_processes import LocalProcesses
from pipelines.verify import verify

SAMPLES = 60


@pytest.mark.faults
@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize(
    "end", ["exception", pytest.param("death", marks=pytest.mark.xdist_group("cluster"))]
)
def test_the_job_goes_on_without_it_says_why_and_tries_it_again_when_it_is_run_again(
    tmp_path: Path, small_recipe: Path, catalogue_path: Path, end: str
) -> None:
    if end == "death":
        (tmp_path / "deadly").touch()
    said: list[str] = []
    out = tmp_path / "c"
    done = generate(
        str(small_recipe), catalogue_path, out, LocalProcesses(2), SAMPLES, seed=1, say=said.append
    )
    reason = {"exception": "a worker failed: RuntimeError: a bug", "death": "its worker died 3 times"}[end]
    assert list(done.manifest.lost_shards) == ["train/shard-000001.tar"]
    assert reason in done.manifest.lost_shards["train/shard-000001.tar"]
    assert sum(done.manifest.samples.values()) == SAMPLES - 4
    lines = [json.loads(line) for line in (out / "quarantine.jsonl").read_text().splitlines()]
    (line,) = [line for line in lines if line["what"] == "shard"]
    assert (line["shard"], line["samples"], line["tries"]) == ("train/shard-000001.tar", 4, 3)
    assert reason in line["reason"]
    assert any(f"train/shard-000001.tar: given up after {TRIES_OF_A_SHARD} tries" in words for words in said)
    assert json.loads((out / "progress.json").read_text())["lost_shards"]
    assert verify(out).problems == ()
    assert len(open_corpus(out).of("train")) == 8
    (tmp_path / "poison").unlink()
    done = generate(str(small_recipe), catalogue_path, out, LocalProcesses(2), SAMPLES, seed=1)
    assert (done.rendered_shards, done.manifest.lost_shards) == (1, {})
    generate(str(small_recipe), catalogue_path, tmp_path / "whole", InProcess(), SAMPLES, seed=1)
    assert fingerprint(out) == fingerprint(tmp_path / "whole")
    assert done.manifest.id == open_corpus(tmp_path / "whole").manifest.id


@pytest.mark.usefixtures("poisoned")
def test_losing_more_than_the_limit_stops_the_job_with_the_reason(
    tmp_path: Path, small_recipe: Path, catalogue_path: Path
) -> None:
    with pytest.raises(
        JobError, match=r"1 shards were given up, 4 of 20 samples, more than limits\.max_failed"
    ):
        generate(str(small_recipe), catalogue_path, tmp_path / "c", LocalProcesses(1), 20, seed=1)
    assert json.loads((tmp_path / "c" / "progress.json").read_text())["state"] == "failed"


TASK = ShardTask("train", 0, 0, 4, "plan")


def test_what_was_killed_from_outside_now_and_then_is_neither_poison_nor_lost() -> None:
    tries = Tries()
    for draw in [(0, 0), (1, 0), (2, 0), (3, 0)] * (KILLS_OF_ONE_DRAW - 1):
        assert tries.died(TASK, draw, "killed", "SIGKILL") is None
    assert tries.poisoned(TASK) == frozenset()
    tries.died(TASK, (2, 0), "killed", "SIGKILL")
    assert tries.poisoned(TASK) == {(2, 0)}
    tries.died(TASK, (1, 1), "crashed", "SIGSEGV")
    assert (1, 1) not in tries.poisoned(TASK)
    tries.died(TASK, (1, 1), "crashed", "SIGSEGV")
    assert (1, 1) in tries.poisoned(TASK)


def test_every_kind_of_end_is_bounded() -> None:
    tries = Tries()
    ends = [tries.died(TASK, None, "killed", "SIGKILL") for _ in range(DEATHS_OF_ONE_SHARD)]
    assert ends[:-1] == [None] * (DEATHS_OF_ONE_SHARD - 1)
    assert isinstance(ends[-1], Lost)
    other = Tries()
    assert [other.failed(TASK, Failure("other", "x")) for _ in range(TRIES_OF_A_SHARD - 1)] == [None] * (
        TRIES_OF_A_SHARD - 1
    )
    assert isinstance(other.failed(TASK, Failure("other", "x")), Lost)
    assert isinstance(Tries().failed(TASK, Failure("shard", "x")), Lost)
    with pytest.raises(JobError, match="train/shard-000000.tar: full; what was finished is kept"):
        Tries().failed(TASK, Failure("place", "full"))
