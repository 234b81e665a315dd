"""The four stages: what each one moves, what it leaves alone, what it records, and what it refuses."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from micro_experiment import MICRO
from torch import Tensor
from training_corpus import write_corpus

from manifests.corpus import open_corpus
from manifests.errors import UserError
from manifests.experiment import STAGES, Experiment, load_experiment
from training.bundle import Bundle, load_bundle
from training.device import chosen_device
from training.distiller import Distiller
from training.losses.distillation import feature_match
from training.models.chain import Chain
from training.models.presets import build_repair
from training.models.repair import RepairNet
from training.run import model_dir, train
from training.shards import Reader
from training.stages import StudentTask, build_task, frozen
from training.stream import fixed_batches

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def run_dir(corpus_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All four stages of the tiny networks, five steps each."""
    torch.set_num_threads(1)
    run_dir = tmp_path_factory.mktemp("run") / "four"
    train(load_experiment("tiny", MICRO), corpus_dir, run_dir, device="cpu")
    return run_dir


@pytest.fixture(scope="module")
def bundles(run_dir: Path) -> dict[str, Bundle]:
    return {stage: load_bundle(model_dir(run_dir, stage)) for stage in STAGES}


def same(ours: torch.nn.Module, theirs: torch.nn.Module) -> bool:
    return all(torch.equal(value, theirs.state_dict()[name]) for name, value in ours.state_dict().items())


@pytest.fixture
def batch(corpus_dir: Path) -> tuple[Tensor, Tensor]:
    batch = fixed_batches(Reader(open_corpus(corpus_dir), "train"), 2, 0.2, 2)[0]
    return batch.degraded, batch.target


def test_each_model_records_its_parent_and_corpus(bundles: dict[str, Bundle], corpus_dir: Path) -> None:
    ids = {stage: bundle.info.id for stage, bundle in bundles.items()}
    assert {stage: bundle.info.parents for stage, bundle in bundles.items()} == {
        "teacher": {},
        "student": {"teacher": ids["teacher"]},
        "denoiser": {"student": ids["student"]},
        "joint": {"denoiser": ids["denoiser"]},
    }
    corpus = open_corpus(corpus_dir).manifest.id
    assert {bundle.info.corpus_id for bundle in bundles.values()} == {corpus}
    assert len(set(ids.values())) == 4


def test_the_teacher_sees_the_future_and_the_others_do_not(bundles: dict[str, Bundle]) -> None:
    assert {stage: bundle.info.causal for stage, bundle in bundles.items()} == {
        "teacher": False,
        "student": True,
        "denoiser": True,
        "joint": True,
    }


def test_the_denoiser_stage_leaves_the_student_as_it_was(bundles: dict[str, Bundle]) -> None:
    chain, student = bundles["denoiser"].model, bundles["student"].model
    assert isinstance(chain, Chain)
    assert same(chain.repair, student)


def test_the_joint_stage_moves_both_nets_but_no_batch_norm_statistic(bundles: dict[str, Bundle]) -> None:
    joint, before = bundles["joint"].model, bundles["denoiser"].model
    assert isinstance(joint, Chain)
    assert isinstance(before, Chain)
    assert not same(joint.repair, before.repair)
    assert not same(joint.denoiser, before.denoiser)
    statistics = {name: value for name, value in joint.state_dict().items() if "running" in name}
    assert statistics
    # The average of equal numbers is equal up to rounding.
    for name, value in statistics.items():
        torch.testing.assert_close(value, before.state_dict()[name], rtol=1e-6, atol=1e-9)


def test_training_the_student_leaves_the_teacher_as_it_was(
    run_dir: Path, micro: Experiment, batch: tuple[Tensor, Tensor]
) -> None:
    teacher = load_bundle(model_dir(run_dir, "teacher"))
    task = build_task("student", micro, teacher, CPU)
    assert isinstance(task, StudentTask)
    task.prepare()
    task.losses(*batch, 0)["loss"].backward()
    assert all(
        weight.grad is None and not weight.requires_grad for weight in task.distiller.teacher.parameters()
    )
    assert any(weight.grad is not None for weight in task.trained.parameters())
    assert not task.distiller.teacher.training
    assert same(task.distiller.teacher, load_bundle(model_dir(run_dir, "teacher")).model)


@pytest.mark.parametrize("from_teacher", [True, False])
def test_a_student_starts_from_the_teacher_when_asked(run_dir: Path, from_teacher: bool) -> None:
    setting = f"distillation.initialise_from_teacher={str(from_teacher).lower()}"
    teacher = load_bundle(model_dir(run_dir, "teacher"))
    task = build_task("student", load_experiment("tiny", [*MICRO, setting]), teacher, CPU)
    assert same(task.network, teacher.model) == from_teacher


def test_fresh_weights_come_from_the_experiments_seed_alone(micro: Experiment) -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = build_task("teacher", micro, None, CPU).network
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert same(first, build_task("teacher", micro, None, CPU).network)
    other = micro.model_copy(update={"seed": 1})
    assert not same(first, build_task("teacher", other, None, CPU).network)


def student_task(micro: Experiment, student: RepairNet, teacher: RepairNet) -> StudentTask:
    return StudentTask(student, micro.loss, Distiller(frozen(teacher), micro.distillation, steps=100))


def test_a_student_that_does_as_the_teacher_has_nothing_to_learn_from_it(
    micro: Experiment, batch: tuple[Tensor, Tensor]
) -> None:
    student, teacher = build_repair("tiny", causal=False), build_repair("tiny", causal=False)
    teacher.load_state_dict(student.state_dict())
    task = student_task(micro, student, teacher)
    task.network.eval()  # as the teacher is: batch norms by running statistics
    losses = task.losses(*batch, 0)
    assert losses["teacher_features"] == 0.0
    assert losses["teacher_output"] == 0.0


def test_the_teachers_share_of_the_loss_is_as_set_and_fades_out(
    micro: Experiment, batch: tuple[Tensor, Tensor]
) -> None:
    task = student_task(micro, build_repair("tiny", causal=True), build_repair("tiny", causal=False))
    own = task.losses(*batch, 100)
    assert not any(name.startswith("teacher") for name in own)
    for step, weight in ((0, 0.5), (79, 0.5), (90, 0.25)):
        losses = task.losses(*batch, step)
        extra = weight * (losses["teacher_features"] + losses["teacher_output"])
        assert losses["loss"].item() == pytest.approx((own["loss"] + extra).item(), rel=1e-5)
    ours = task.network(batch[0], with_features=True).features
    theirs = task.distiller.teacher(batch[0], with_features=True).features
    assert losses["teacher_features"].item() == pytest.approx(feature_match(ours, theirs).item(), rel=1e-5)


def test_a_teacher_learns_to_lower_its_loss_on_held_out_samples(corpus_dir: Path, tmp_path: Path) -> None:
    settings = [*MICRO, "stages.teacher={steps: 30, batch_size: 4, segment_s: 0.2, validate_every: 15}"]
    settings += ["stages.teacher.learning_rate=3.0e-3", "optimisation.ema_decay=0.8", "validation.shown=0"]
    train(load_experiment("tiny", settings), corpus_dir, tmp_path / "run", ["teacher"], device="cpu")
    lines = (tmp_path / "run" / "teacher" / "metrics.jsonl").read_text().splitlines()
    losses = [m["value"] for m in map(json.loads, lines) if m["name"] == "train/loss"]
    assert losses[-1] < 0.75 * losses[0]


@pytest.mark.faults
@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_every_stage_trains_in_16_bits_with_finite_losses(
    corpus_dir: Path, tmp_path: Path, precision: str
) -> None:
    halved = load_experiment("tiny", [*MICRO, f"optimisation.precision={precision}"])
    train(halved, corpus_dir, tmp_path / "run", device="cpu")
    for stage in STAGES:
        lines = (tmp_path / "run" / stage / "metrics.jsonl").read_text().splitlines()
        metrics = list(map(json.loads, lines))
        assert all(m["value"] is not None for m in metrics)
        assert {m["value"] for m in metrics if m["name"] == "train/skipped_steps"} == {0.0}


def test_what_a_run_reports_lies_in_its_folder(run_dir: Path) -> None:
    events = [json.loads(line) for line in (run_dir / "student" / "events.jsonl").read_text().splitlines()]
    assert [event["event"] for event in events] == ["stage_started", "model_finished", "stage_ended"]
    assert events[0]["parents"][0]["role"] == "teacher"
    assert events[0]["params"]["stages.student.steps"] == 5
    names = {
        json.loads(line)["name"] for line in (run_dir / "student" / "metrics.jsonl").read_text().splitlines()
    }
    expected = {"train/loss", "train/teacher_features", "val/loss", "val/si_snr_db"}
    expected |= {f"time/{part}_s" for part in ("data", "forward", "backward", "step", "tracking")}
    assert expected <= names
    waves = {path.name for path in (run_dir / "student" / "samples").iterdir()}
    assert {"val-0000000.degraded.wav", "val-0000000.target.wav", "val-0000000.estimate-0000005.wav"} <= waves


@pytest.mark.parametrize("stage", ["student", "denoiser", "joint"])
def test_a_stage_refuses_to_start_without_the_one_before(
    corpus_dir: Path, tmp_path: Path, micro: Experiment, stage: str
) -> None:
    needed = STAGES[STAGES.index(stage) - 1]  # type: ignore[arg-type]
    with pytest.raises(UserError, match=f"stage {stage} needs a finished {needed}.*--stage {needed}"):
        train(micro, corpus_dir, tmp_path / "run", [stage], device="cpu")  # type: ignore[list-item]


def test_earlier_work_is_not_overwritten(corpus_dir: Path, run_dir: Path, micro: Experiment) -> None:
    with pytest.raises(UserError, match="holds work on stage teacher; give --resume"):
        train(micro, corpus_dir, run_dir, device="cpu")


def test_resuming_with_other_settings_or_another_corpus_is_refused(
    corpus_dir: Path, run_dir: Path, tmp_path: Path, micro: Experiment
) -> None:
    other = load_experiment("tiny", [*MICRO, "stages.teacher.learning_rate=0.5"])
    with pytest.raises(UserError, match="was trained with other settings"):
        train(other, corpus_dir, run_dir, resume=True, device="cpu")
    elsewhere = write_corpus(tmp_path / "other", seed=2)
    with pytest.raises(UserError, match="another corpus"):
        train(micro, elsewhere, run_dir, resume=True, device="cpu")
    shutil.copytree(run_dir, tmp_path / "copy")
    shutil.rmtree(tmp_path / "copy" / "joint")
    with pytest.raises(UserError, match="was trained on corpus"):
        train(micro, elsewhere, tmp_path / "copy", ["joint"], device="cpu")


def test_settings_of_a_later_stage_may_change_when_resuming(
    corpus_dir: Path, run_dir: Path, bundles: dict[str, Bundle]
) -> None:
    later = load_experiment("tiny", [*MICRO, "stages.joint.learning_rate=0.5", "loader.threads=0"])
    infos = train(later, corpus_dir, run_dir, STAGES[:3], resume=True, device="cpu")
    assert {stage: info.id for stage, info in infos.items()} == {s: bundles[s].info.id for s in STAGES[:3]}


def test_unknown_presets_and_devices_are_sentences(micro: Experiment) -> None:
    with pytest.raises(UserError, match="field 'preset': no huge; have tiny"):
        build_task("teacher", micro.model_copy(update={"preset": "huge"}), None, CPU)
    with pytest.raises(UserError, match="--device toaster"):
        chosen_device("toaster")


def test_a_corpus_with_a_flipped_bit_is_refused_before_training(corpus_dir: Path, tmp_path: Path) -> None:
    corpus = Path(shutil.copytree(corpus_dir, tmp_path / "corpus"))
    tar = corpus / open_corpus(corpus).shards[0].tar_name
    content = bytearray(tar.read_bytes())
    content[len(content) // 2] ^= 1
    tar.write_bytes(content)
    with pytest.raises(UserError, match=rf"{tar.name}: its content is not what corpus"):
        train(load_experiment("tiny", MICRO), corpus, tmp_path / "run", device="cpu")
    assert not (tmp_path / "run").exists()
