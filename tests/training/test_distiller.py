"""Distillation as the student's task uses it: nothing to learn from oneself, the right terms, the right bins."""

from itertools import product

import pytest
import torch
from torch import Tensor

from manifests.experiment import DenoiserSettings, Distillation, Experiment, load_experiment
from training.distiller import TAUGHT, Distiller
from training.losses.distillation import layer_weight, output_match, output_match_where_teacher_is_better
from training.losses.spectral import spectral_loss
from training.models.presets import build_repair
from training.models.repair import RepairNet
from training.stages import StudentTask, fresh_denoiser, frozen

MATCHES = ("features", "similarity", "attention", "none")


@pytest.fixture(autouse=True)
def _deterministic() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


def waves(seed: int, samples: int = 9600) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 0.1 * torch.randn(2, samples, generator=generator) * torch.linspace(0, 1, samples)


def teacher_and_its_copy() -> tuple[RepairNet, RepairNet]:
    teacher, student = build_repair("tiny", causal=False), build_repair("tiny", causal=False)
    student.load_state_dict(teacher.state_dict())
    return frozen(teacher), student.eval()


@pytest.mark.parametrize(("match", "masked"), list(product(MATCHES, (False, True))))
def test_a_non_causal_student_with_the_teachers_weights_is_taught_exactly_nothing(
    match: str, masked: bool
) -> None:
    teacher, student = teacher_and_its_copy()
    settings = Distillation.model_validate({"match": match, "only_where_teacher_is_better": masked})
    distiller = Distiller(teacher, settings, steps=100)
    degraded, target = waves(1), waves(2)
    ours = student(degraded, with_features=distiller.compares_features(0))
    taught = distiller.losses(ours, degraded, target, 0)
    assert taught.keys() == {TAUGHT, "teacher_output"} | ({"teacher_features"} if match != "none" else set())
    assert [value.item() for value in taught.values()] == [0.0] * len(taught)
    taught[TAUGHT].backward()
    gradients = [weight.grad for weight in student.parameters() if weight.grad is not None]
    assert gradients
    assert all(gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize(("match", "masked"), list(product(MATCHES, (False, True))))
def test_a_causal_student_is_taught_something_and_with_finite_gradients(match: str, masked: bool) -> None:
    teacher, _ = teacher_and_its_copy()
    student = build_repair("tiny", causal=True)
    settings = Distillation.model_validate({"match": match, "only_where_teacher_is_better": masked})
    distiller = Distiller(teacher, settings, steps=100)
    degraded, target = waves(1), waves(2)
    ours = student(degraded, with_features=distiller.compares_features(0))
    taught = distiller.losses(ours, degraded, target, 0)
    assert all(value.item() > 0.0 for value in taught.values())
    taught[TAUGHT].backward()
    assert all(w.grad.isfinite().all() for w in student.parameters() if w.grad is not None)
    assert all(w.grad is None for w in teacher.parameters())


def test_a_student_that_is_the_teacher_has_the_plain_loss_in_its_task(micro: Experiment) -> None:
    teacher, student = teacher_and_its_copy()
    degraded, target = waves(1), waves(2)
    taught = StudentTask(student, micro.loss, Distiller(teacher, micro.distillation, 100))
    alone = StudentTask(student, micro.loss, Distiller(teacher, Distillation(match="none", output=0.0), 100))
    ours, plain = (task.losses(degraded, target, 0)["loss"].item() for task in (taught, alone))
    assert ours == plain


def test_the_layers_that_are_compared_are_all_but_the_last_upsampling() -> None:
    teacher, _ = teacher_and_its_copy()
    with torch.no_grad():
        features = teacher(waves(1), with_features=True).features
    groups = teacher.config.gtcm_groups
    expected = {"fd1": 0.25, "fd2": 0.25, "fd3": 1.0, "fu3": 1.0, "fu2": 1.0}
    expected |= {f"gtcm{number}": 1.0 for number in range(1, groups + 1)}
    assert {name: layer_weight(name) for name in features} == expected


def test_without_weights_the_teacher_is_not_even_asked() -> None:
    teacher, student = teacher_and_its_copy()
    settings = Distillation(match="none", features=0.5, output=0.0)
    distiller = Distiller(teacher, settings, steps=10)
    assert not distiller.compares_features(0)
    assert distiller.losses(student(waves(1)), waves(1), waves(2), 0) == {}
    faded = Distiller(teacher, Distillation(), steps=10)
    assert not faded.compares_features(10)
    assert faded.losses(student(waves(1)), waves(1), waves(2), 10) == {}


def test_a_teacher_that_is_perfect_counts_everywhere_and_one_that_is_worse_nowhere() -> None:
    target, student = waves(1), waves(2)
    everywhere = output_match_where_teacher_is_better(student, target, target)
    assert float(everywhere) == pytest.approx(float(output_match(student, target)), rel=1e-5)
    assert float(output_match_where_teacher_is_better(target.clone(), student, target)) == 0.0


def test_only_the_stretch_in_which_the_teacher_is_better_teaches() -> None:
    """The teacher is right in the second half of the clip, and the student in the first."""
    target, noise = waves(1, 48_000), waves(2, 48_000)
    first = torch.arange(48_000) < 24_000
    teacher = torch.where(first, noise, target)
    student = torch.where(first, target, noise).requires_grad_()
    matched = output_match_where_teacher_is_better(student, teacher, target)
    half = spectral_loss(student[:, 24_000:], target[:, 24_000:]).total / 2
    assert float(matched.detach()) == pytest.approx(float(half.detach()), rel=0.05)
    matched.backward()
    assert student.grad is not None
    assert student.grad.isfinite().all()
    # The longest window reaches 1024 samples over the border.
    assert student.grad[:, :22_000].abs().max() == 0.0
    assert student.grad[:, 26_000:].abs().max() > 0.0


def test_a_denoiser_without_attention_starts_like_one_with_it(micro: Experiment) -> None:
    torch.manual_seed(3)
    with_asa = fresh_denoiser(micro).state_dict()
    torch.manual_seed(3)
    bare = micro.model_copy(update={"denoiser": DenoiserSettings(use_asa=False)})
    without = fresh_denoiser(bare).state_dict()
    assert without.keys() < with_asa.keys()
    assert all(torch.equal(value, with_asa[name]) for name, value in without.items())
    assert {name.split(".")[0] for name in with_asa.keys() - without.keys()} == {"encode", "decode"}


def test_leaving_attention_out_changes_the_identity_of_the_stages_that_have_a_denoiser() -> None:
    plain, bare = load_experiment("tiny"), load_experiment("tiny", ["denoiser={use_asa: false}"])
    same = {stage: plain.stage_digest(stage) == bare.stage_digest(stage) for stage in ("teacher", "student")}
    assert same == {"teacher": True, "student": True}
    assert plain.stage_digest("denoiser") != bare.stage_digest("denoiser")
    assert plain.stage_digest("joint") != bare.stage_digest("joint")
