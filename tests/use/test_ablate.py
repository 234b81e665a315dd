"""An ablation: arms differ in one thing alone, finished runs are kept, and the table says what the runs say."""

import json
import math
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from manifests.corpus import Corpus
from manifests.errors import UserError
from manifests.experiment import load_experiment
from pipelines.ablation.ablate import ablate
from pipelines.ablation.arms import KD_ARMS, arm_experiment, asa_study, kd_study
from pipelines.ablation.scores import MEASURES, HeldOut, RunResult
from pipelines.ablation.statistics import NO_DIFFERENCE, ONE_SEED, Interval, t_interval, table, verdict
from pipelines.quality.dnsmos import Dnsmos
from training.bundle import load_bundle, read_info
from training.run import model_dir
from training.stages import build_task

MICRO = (
    *(
        f"stages.{stage}={{steps: 2, batch_size: 2, segment_s: 0.2, validate_every: 2}}"
        for stage in ("teacher", "student", "denoiser", "joint")
    ),
    "validation={samples: 1, segment_s: 0.3, shown: 0}",
    "loader={threads: 0}",
    "records={checkpoint_every: 1, metrics_every: 1}",
)
SEEDS = (0, 1)
T_975_AT_1 = 12.706204736
"""Student's 97.5 % quantile at one degree of freedom, from a printed table: two seeds have it."""


@pytest.fixture(scope="module", autouse=True)
def cheap_listener() -> Iterator[None]:
    """In place of DNSMOS, whose networks cost more than the runs here: scores that differ as the clips' levels do."""

    def listen(audio: np.ndarray) -> Dnsmos:
        level = float(np.tanh(np.abs(audio).mean()))
        return Dnsmos(sig=1.0 + level, bak=2.0 + level, ovrl=3.0 + level, p808=4.0 + level)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipelines.ablation.scores.dnsmos", listen)
        yield


@dataclass(frozen=True)
class Done:
    """A finished ablation of distillation: two arms, two seeds, two samples."""

    out: Path
    teacher: str
    result: dict[str, Any]
    said: list[str]


@pytest.fixture(scope="module")
def done(
    cheap_listener: None,
    corpus: Corpus,
    tmp_path_factory: pytest.TempPathFactory,
    empty_database: Path,
    make_bundle: Callable[..., Any],
) -> Done:
    root = tmp_path_factory.mktemp("ablation")
    make_bundle(root / "teacher" / "model", "teacher", corpus_id=corpus.manifest.id)
    shutil.copy(empty_database, root / "mlflow.db")
    said: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.chdir(root)
        result = kd(corpus, str(root / "teacher"), root / "out", said)
    return Done(root / "out", str(root / "teacher"), result, said)


@pytest.fixture
def copied(done: Done, tmp_path: Path) -> Path:
    """The folder of a finished ablation, to go on with."""
    return Path(shutil.copytree(done.out, tmp_path / "out"))


def kd(corpus: Corpus, teacher: str, out: Path, said: list[str], **options: Any) -> dict[str, Any]:
    chosen = {"arms": ("none", "output"), "seeds": 2, "samples": 2, **options}
    settings = (*MICRO, *chosen.pop("more", ()))
    place = corpus.store.root
    return ablate(
        "kd", "tiny", place, teacher, out=out, device="cpu", overrides=settings, say=said.append, **chosen
    )


def checkpoints(out: Path, stage: str) -> dict[str, dict[str, Any]]:
    """The last checkpoint of every run, by arm and seed."""
    return {
        f"{path.parts[-5]}/{path.parts[-4]}": torch.load(path, weights_only=True)
        for path in sorted(out.glob(f"runs/*/*/{stage}/checkpoints/step-*2.pt"))
    }


def test_the_table_says_what_the_runs_say(done: Done) -> None:
    out, said, result = done.out, done.said, done.result
    assert json.loads((out / "ablation.json").read_text()) == result
    runs = {
        (arm, seed): json.loads((out / "runs" / arm / f"seed-{seed}" / "result.json").read_text())
        for arm in ("none", "output")
        for seed in SEEDS
    }
    page = (out / "ablation.md").read_text()
    for measure in MEASURES:
        scores = {run: result["scores"][measure.name] for run, result in runs.items()}
        usable = [place for place in range(2) if all(values[place] is not None for values in scores.values())]
        if not usable:
            assert measure.name not in result["table"]["none"]
            continue
        means = {run: sum(values[place] for place in usable) / len(usable) for run, values in scores.items()}
        first, second = (means["output", seed] for seed in SEEDS)
        entry = result["table"]["output"][measure.name]
        assert entry["mean"] == pytest.approx((first + second) / 2)
        # Of two values, s / sqrt(2) is half of their distance.
        assert entry["high"] - entry["mean"] == pytest.approx(T_975_AT_1 * abs(first - second) / 2)
        one, other = (means["output", seed] - means["none", seed] for seed in SEEDS)
        difference = entry["difference"]
        assert difference["mean"] == pytest.approx((one + other) / 2)
        assert difference["high"] - difference["mean"] == pytest.approx(T_975_AT_1 * abs(one - other) / 2)
        crosses = difference["low"] <= 0.0 <= difference["high"]
        assert (entry["verdict"] == NO_DIFFERENCE) == crosses
        assert f"{difference['mean']:+.{measure.digits}f}" in page
        assert f"{entry['mean']:.{measure.digits}f} ± " in page
    assert set(result["references"]) == {"degraded", "teacher"}
    assert (out / "ablation.png").read_bytes().startswith(b"\x89PNG")
    assert any(line.startswith("[4/4] kd, arm output, seed 1: scoring") for line in said)


def test_arms_of_a_seed_see_the_same_batches_in_equally_many_steps(done: Done) -> None:
    found = checkpoints(done.out, "student")
    assert found.keys() == {f"{arm}/seed-{seed}" for arm in ("none", "output") for seed in SEEDS}
    streams = {run: state["stream"] for run, state in found.items()}
    assert streams["none/seed-0"] == streams["output/seed-0"]
    assert streams["none/seed-1"] == streams["output/seed-1"]
    assert streams["none/seed-0"] != streams["none/seed-1"]
    assert {state["progress"]["step"] for state in found.values()} == {2}
    weights = {run: state["model"]["skip_gain"] for run, state in found.items()}
    assert not torch.equal(weights["none/seed-0"], weights["output/seed-0"])


def test_arms_of_a_seed_start_from_the_same_weights(done: Done) -> None:
    experiment = load_experiment("tiny", [*MICRO, "distillation.initialise_from_teacher=false"])
    study, parent = kd_study(experiment, tuple(KD_ARMS)), load_bundle(Path(done.teacher) / "model")
    starts = {
        (arm, seed): build_task(
            "student", arm_experiment(experiment, study, arm, seed, None), parent, torch.device("cpu")
        ).network.state_dict()
        for arm in study.arms
        for seed in SEEDS
    }
    for arm in study.arms:
        for seed in SEEDS:
            ours, baseline = starts[arm, seed], starts["none", seed]
            assert all(torch.equal(value, baseline[name]) for name, value in ours.items())
    assert not torch.equal(starts["none", 0]["head.weight"], starts["none", 1]["head.weight"])


def test_the_same_command_keeps_what_is_finished_and_adds_what_is_not(
    store: Any, corpus: Corpus, done: Done, copied: Path
) -> None:
    (copied / "runs" / "output" / "seed-0" / "result.json").unlink()
    said: list[str] = []
    more = kd(corpus, done.teacher, copied, said, seeds=1, arms=("none", "output", "features"))
    assert [line for line in said if line.endswith("kept")] == ["[1/3] kd, arm none, seed 0: kept"]
    for arm in ("none", "output"):
        assert more["arms"][arm]["models"]["0"] == done.result["arms"][arm]["models"]["0"]
        for measure, by_arm in more["seed_means"].items():
            assert by_arm[arm]["0"] == done.result["seed_means"][measure][arm]["0"]
    assert set(more["table"]) == {"none", "output", "features"}
    assert more["table"]["features"]["spectral_loss"]["verdict"] == ONE_SEED

    said.clear()
    assert kd(corpus, done.teacher, copied, said) == done.result
    assert len(said) == 4
    assert all(line.endswith("kept") for line in said)


def test_runs_with_other_settings_or_of_another_teacher_are_refused(
    store: Any, corpus: Corpus, done: Done, copied: Path, tmp_path: Path, make_bundle: Callable[..., Any]
) -> None:
    with pytest.raises(UserError, match=r"stage student with other settings .*steps was 2 and is 3"):
        kd(corpus, done.teacher, copied, [], steps=3)
    make_bundle(tmp_path / "other" / "model", "teacher", corpus_id=corpus.manifest.id, seed=9)
    with pytest.raises(UserError, match=r"was begun on teacher .*choose another --out"):
        kd(corpus, str(tmp_path / "other"), copied, [])


def test_an_ablation_is_one_mlflow_run_with_a_run_below_it_for_each_arm_and_seed(
    store: Any, corpus: Corpus, done: Done, copied: Path
) -> None:
    for _ in range(2):
        kd(corpus, done.teacher, copied, [])
    runs = store.search_runs([store.get_experiment_by_name("tiny").experiment_id])
    (parent,) = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    children = [run for run in runs if run is not parent]
    assert {run.data.tags["mlflow.parentRunId"] for run in children} == {parent.info.run_id}
    assert sorted((run.data.params["arm"], run.data.params["seed"]) for run in children) == [
        (arm, str(seed)) for arm in ("none", "output") for seed in SEEDS
    ]
    assert {run.info.status for run in runs} == {"FINISHED"}
    logged = {"test/spectral_loss", "train/loss", "val/loss"}
    assert all(logged <= run.data.metrics.keys() for run in children)
    mean = done.result["table"]["output"]["spectral_loss"]["mean"]
    assert parent.data.metrics["output/spectral_loss"] == pytest.approx(mean)
    files = {file.path for file in store.list_artifacts(parent.info.run_id)}
    assert files == {"ablation.json", "ablation.md", "ablation.png"}


@pytest.mark.faults
def test_denoisers_with_and_without_attention_share_all_else(
    store: Any, corpus: Corpus, tmp_path: Path
) -> None:
    out, said = tmp_path / "out", []
    result = ablate(
        "asa",
        "tiny",
        corpus.store.root,
        seeds=1,
        samples=1,
        out=out,
        device="cpu",
        overrides=MICRO,
        say=said.append,
    )
    assert "training what all arms build on: teacher, student" in said
    infos = {arm: read_info(model_dir(out / "runs" / arm / "seed-0", "denoiser")) for arm in result["arms"]}
    assert {arm: info.denoiser["use_asa"] for arm, info in infos.items() if info.denoiser} == {
        "without": False,
        "with": True,
    }
    assert infos["with"].parents == infos["without"].parents == {"student": result["parent"]["id"]}
    found = checkpoints(out, "denoiser")
    assert found["with/seed-0"]["stream"] == found["without/seed-0"]["stream"]

    student = load_bundle(model_dir(out / "parents", "student"))
    experiment, study = load_experiment("tiny", MICRO), asa_study()
    starts = {
        arm: build_task(
            "denoiser", arm_experiment(experiment, study, arm, 0, None), student, torch.device("cpu")
        ).network.state_dict()
        for arm in study.arms
    }
    assert starts["without"].keys() < starts["with"].keys()
    assert all(torch.equal(value, starts["with"][name]) for name, value in starts["without"].items())


def test_the_interval_is_students() -> None:
    """The textbook's: mean 5, s^2 = 32/7, n = 8, t(0.975, 7) = 2.364624."""
    interval = t_interval([2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0])
    half = 2.364624251 * math.sqrt(32 / 7) / math.sqrt(8)
    assert interval.mean == 5.0
    assert interval.low == pytest.approx(5.0 - half, rel=1e-8)
    assert interval.high == pytest.approx(5.0 + half, rel=1e-8)
    assert t_interval([3.0]) == Interval(3.0, None, None)


@pytest.mark.parametrize(
    ("bounds", "higher_is_better", "says"),
    [
        ((-0.1, 0.3), True, NO_DIFFERENCE),
        ((0.0, 0.0), False, NO_DIFFERENCE),
        ((0.1, 0.3), True, "better"),
        ((0.1, 0.3), False, "worse"),
        ((-0.3, -0.1), False, "better"),
        ((None, None), True, ONE_SEED),
    ],
)
def test_a_difference_is_called_one_only_where_the_interval_excludes_zero(
    bounds: tuple[float | None, float | None], higher_is_better: bool, says: str
) -> None:
    mean = sum(bound or 0.0 for bound in bounds) / 2
    assert verdict(Interval(mean, *bounds), higher_is_better) == says


def test_a_sample_without_a_score_in_one_run_counts_in_none() -> None:
    held_out = HeldOut(corpus_id="c", split="test", samples=3)

    def run(arm: str, seed: int, losses: list[float | None]) -> RunResult:
        scores = {measure.name: losses for measure in MEASURES}
        return RunResult(arm=arm, seed=seed, model_id="m", stage_digest="d", held_out=held_out, scores=scores)

    results = {
        "none": {0: run("none", 0, [1.0, 2.0, 30.0]), 1: run("none", 1, [1.0, 4.0, 30.0])},
        "output": {0: run("output", 0, [2.0, 3.0, None]), 1: run("output", 1, [2.0, 5.0, 7.0])},
    }
    entry = table(results, "none")["output"]["spectral_loss"]
    assert entry["mean"] == 3.0
    assert entry["difference"] == {"mean": 1.0, "low": 1.0, "high": 1.0}
    assert entry["verdict"] == "worse"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"arms": ("none", "magic")}, "no arm magic; there are none, output, features"),
        ({"arms": ("none",)}, "two or more different arms"),
        ({"arms": ("none", "output"), "more": ("distillation.output=0",)}, "distillation.output is above 0"),
        (
            {"arms": ("none", "features"), "more": ("distillation.features=0",)},
            "distillation.features above 0",
        ),
        ({"split": "dev"}, "--split dev: no such split"),
        (
            {"steps": 2, "more": ("stages.student.warmup_steps=3",)},
            "warmup_steps is 3, and the stage has 2 steps",
        ),
    ],
)
def test_mistakes_are_named(
    store: Any, corpus: Corpus, tmp_path: Path, options: dict[str, Any], says: str
) -> None:
    with pytest.raises(UserError, match=says):
        kd(corpus, "nothing", tmp_path / "out", [], **options)
    assert not (tmp_path / "out").exists()


def test_a_parent_of_another_stage_or_corpus_is_refused(
    store: Any, corpus: Corpus, tmp_path: Path, make_bundle: Callable[..., Any]
) -> None:
    make_bundle(tmp_path / "student", "student", corpus_id=corpus.manifest.id)
    with pytest.raises(UserError, match="is a student, and ablate kd needs a teacher"):
        kd(corpus, str(tmp_path / "student"), tmp_path / "out", [])
    make_bundle(tmp_path / "elsewhere", "teacher")
    with pytest.raises(UserError, match="was trained on corpus 0000"):
        kd(corpus, str(tmp_path / "elsewhere"), tmp_path / "out", [])
