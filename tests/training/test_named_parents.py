"""`--from`: a stage builds on a model that lies elsewhere, which its own model names; misfits are refused."""

import shutil
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from micro_experiment import MICRO
from training_corpus import write_corpus

from manifests.errors import UserError
from manifests.experiment import STAGES, load_experiment
from training.__main__ import main
from training.bundle import MODEL_FILE, BundleInfo, load_bundle, read_info
from training.models.presets import DENOISERS
from training.named_parents import named_parents
from training.run import model_dir, train

SETTINGS = [part for setting in MICRO for part in ("--set", setting)]


@pytest.fixture(scope="module")
def teacher(corpus_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny teacher's bundle."""
    torch.set_num_threads(1)
    run_dir = tmp_path_factory.mktemp("elsewhere")
    train(load_experiment("tiny", MICRO), corpus_dir, run_dir, ["teacher"], device="cpu")
    return model_dir(run_dir, "teacher")


def describe(bundle_dir: Path, info: BundleInfo) -> None:
    """Let a bundle say of itself what `info` does, under the id that belongs to it."""
    (bundle_dir / MODEL_FILE).write_text(info.sealed().model_dump_json())


def begin(corpus: Path, out: Path, *options: str) -> int:
    return main(
        ["tiny", "--corpus", str(corpus), "--out", str(out), "--stage", "student", "--device", "cpu"]
        + [*SETTINGS, *options]
    )


def test_a_student_of_another_corpus_builds_on_a_named_teacher_and_resumes_with_it_alone(
    teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus, out = write_corpus(tmp_path / "corpus", seed=2), tmp_path / "run"
    assert begin(corpus, out, "--from", f"teacher={teacher}") == 0
    student = read_info(model_dir(out, "student"))
    assert student.parents == {"teacher": read_info(teacher).id}
    assert student.corpus_id != read_info(teacher).corpus_id

    assert begin(corpus, out, "--from", f"teacher={teacher}", "--resume") == 0
    assert read_info(model_dir(out, "student")) == student

    capsys.readouterr()
    assert begin(corpus, out, "--resume") == 2
    assert "or name one with --from teacher=PLACE" in capsys.readouterr().err


def test_a_finished_student_is_not_that_of_another_teacher(
    teacher: Path, corpus_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert begin(corpus_dir, out, "--from", f"teacher={teacher}") == 0
    other = load_experiment("tiny", [*MICRO, "seed=1"])
    train(other, corpus_dir, tmp_path / "other", ["teacher"], device="cpu")
    foreign = model_dir(tmp_path / "other", "teacher")
    assert begin(corpus_dir, out, "--from", f"teacher={foreign}", "--resume") == 2
    assert "another parent model" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "stages", "message"),
    [
        ("teacher", ["student"], "must be ROLE=PLACE"),
        ("tutor={}", ["student"], "no such role tutor; there are teacher, student, denoiser, joint"),
        ("joint={}", ["student"], "stage student does not build on a joint"),
        ("student={}", ["student"], "is a teacher, and a student is needed"),
        ("teacher={}", ["teacher", "student"], "this run trains its own teacher"),
        ("student={}", ["student", "joint"], "this run trains its own student"),
        ("teacher={}", ["denoiser"], "stage denoiser does not build on a teacher"),
        ("student={}", ["denoiser"], "is a teacher, and a student is needed"),
        ("teacher={}/nowhere", ["student"], "not a finished model"),
    ],
)
def test_misfits_are_refused(teacher: Path, option: str, stages: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        named_parents([option.format(teacher)], load_experiment("tiny"), stages)  # type: ignore[arg-type]


def test_a_role_is_given_once(teacher: Path) -> None:
    with pytest.raises(UserError, match="teacher is given twice"):
        named_parents([f"teacher={teacher}"] * 2, load_experiment("tiny"), ["student"])


def test_a_parent_of_another_preset_is_refused(teacher: Path) -> None:
    with pytest.raises(UserError, match="is of preset tiny, and experiment small is of small"):
        named_parents([f"teacher={teacher}"], load_experiment("small"), ["student"])


def test_a_parent_of_sizes_that_its_preset_no_longer_has_is_refused(teacher: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(teacher, tmp_path / "old")
    info = read_info(copy)
    describe(
        copy, info.model_copy(update={"repair": {**info.repair, "channels": info.repair["channels"] + 1}})
    )
    with pytest.raises(UserError, match=r"repair network has other sizes .*\(channels\)"):
        named_parents([f"teacher={copy}"], load_experiment("tiny"), ["student"])


def test_a_stage_by_itself_begins_with_the_weights_of_a_model_of_its_own(
    teacher: Path, corpus_dir: Path, tmp_path: Path
) -> None:
    """With a learning rate of nothing they stay what they were, so all of each stage's weights are taken over."""
    still = [*MICRO, *(f"stages.{stage}.learning_rate=1e-30" for stage in STAGES)]
    run_dir = shutil.copytree(teacher.parents[1], tmp_path / "run")
    experiment = load_experiment("tiny", MICRO)
    train(experiment, corpus_dir, run_dir, STAGES, resume=True, device="cpu")
    unmoved = load_experiment("tiny", still)
    for stage in ("student", "joint"):  # of those that build on one network and on both
        begun = model_dir(run_dir, stage)
        out = tmp_path / f"more-{stage}"
        options = [f"{stage}={begun}"] + [f"teacher={teacher}"] * (stage == "student")
        parents = named_parents(options, unmoved, [stage])
        more = train(unmoved, corpus_dir, out, [stage], device="cpu", parents=parents)[stage]
        assert more.parents[stage] == read_info(begun).id
        assert set(more.parents) == {stage} | ({"teacher"} if stage == "student" else set())
        before, after = (
            load_bundle(begun).model.state_dict(),
            load_bundle(model_dir(out, stage)).model.state_dict(),
        )
        learned = [name for name in before if "running" not in name and "num_batches" not in name]
        assert all(torch.equal(before[name], after[name]) for name in learned)


def test_a_calibrated_model_is_trained_further_without_the_share_of_its_input(
    teacher: Path, corpus_dir: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(teacher, tmp_path / "calibrated")
    info = read_info(copy)
    describe(copy, info.model_copy(update={"repair": {**info.repair, "dry_share": 0.5}}))
    experiment = load_experiment("tiny", MICRO)
    parents = named_parents([f"teacher={copy}"], experiment, ["teacher"])
    train(experiment, corpus_dir, tmp_path / "more", ["teacher"], device="cpu", parents=parents)
    assert read_info(model_dir(tmp_path / "more", "teacher")).repair["dry_share"] == 0.0


def test_what_builds_on_a_calibrated_model_does_not_inherit_its_share(
    teacher: Path, corpus_dir: Path, tmp_path: Path
) -> None:
    experiment = load_experiment("tiny", MICRO)
    run_dir = shutil.copytree(teacher.parents[1], tmp_path / "run")
    train(experiment, corpus_dir, run_dir, ["student"], device="cpu")
    student = model_dir(run_dir, "student")
    info = read_info(student)
    describe(student, info.model_copy(update={"repair": {**info.repair, "dry_share": 0.5}}))
    train(experiment, corpus_dir, run_dir, ["denoiser"], device="cpu")
    assert read_info(model_dir(run_dir, "denoiser")).repair["dry_share"] == 0.0


@pytest.mark.parametrize(
    ("has_asa", "wants_asa"), [(True, True), (False, False), (True, False), (False, True)]
)
def test_a_denoiser_is_one_with_attention_where_the_experiment_asks_for_it(
    teacher: Path, tmp_path: Path, has_asa: bool, wants_asa: bool
) -> None:
    copy = shutil.copytree(teacher, tmp_path / "denoiser")
    sizes = asdict(replace(DENOISERS["tiny"], use_asa=has_asa))
    describe(copy, read_info(copy).model_copy(update={"stage": "denoiser", "denoiser": sizes}))
    experiment = load_experiment("tiny", [f"denoiser.use_asa={wants_asa}"])
    if has_asa == wants_asa:
        assert named_parents([f"denoiser={copy}"], experiment, ["joint"]) == {"denoiser": copy}
        return
    with pytest.raises(UserError, match=r"denoiser network has other sizes .*\(use_asa\)"):
        named_parents([f"denoiser={copy}"], experiment, ["joint"])
