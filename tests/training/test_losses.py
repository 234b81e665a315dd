"""Spectral and distillation losses: zero at equality, sensitive to what matters, finite at silence."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from manifests.experiment import LossWeights
from training.losses.distillation import (
    attention_match,
    distillation_weight,
    feature_match,
    layer_weight,
    output_match,
    similarity_match,
)
from training.losses.spectral import EPS_POWER, level_error, si_snr, spectral_loss
from training.models.presets import build_repair
from training.objective import LOSS, spectral_objective

Distance = Callable[[dict[str, Tensor], dict[str, Tensor]], Tensor]
DISTANCES: list[Distance] = [feature_match, similarity_match, attention_match]


@pytest.fixture(autouse=True)
def _deterministic() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


def speechlike(batch: int = 2, samples: int = 9600) -> Tensor:
    return 0.1 * torch.randn(batch, samples) * torch.linspace(0, 1, samples)


# --- spectral


def test_spectral_loss_is_zero_at_equality() -> None:
    wave = speechlike()
    assert [float(term) for term in spectral_loss(wave, wave.clone())] == [0.0, 0.0, 0.0]


def test_spectral_loss_grows_with_an_error_of_level_in_either_direction() -> None:
    target = speechlike()
    losses = {
        db: float(spectral_loss(10 ** (db / 20) * target, target).total) for db in (-20, -6, -1, 1, 6, 20)
    }
    assert losses[-20] > losses[-6] > losses[-1] > 0
    assert losses[20] > losses[6] > losses[1] > 0


def test_what_is_missing_costs_more_than_what_is_left_over() -> None:
    target = speechlike()
    quiet, loud = spectral_loss(0.5 * target, target), spectral_loss(1.5 * target, target)
    assert float(quiet.asymmetric) == pytest.approx(float(quiet.magnitude))
    assert float(loud.asymmetric) == 0.0


def test_spectral_loss_sees_phase() -> None:
    target = speechlike()
    terms = spectral_loss(-target, target)
    assert float(terms.magnitude) == 0.0
    assert float(terms.complex) > 0.0


def test_spectral_loss_equals_its_formula_at_one_resolution() -> None:
    estimate, target = speechlike().double(), speechlike().double()

    def compressed(wave: Tensor) -> Tensor:
        spectrum = torch.stft(
            wave, 960, 480, window=torch.hann_window(960).double(), pad_mode="constant", return_complex=True
        )
        return torch.polar((spectrum.abs() ** 2 + EPS_POWER) ** 0.15, spectrum.angle())

    Y, S = compressed(estimate), compressed(target)
    terms = spectral_loss(estimate, target, resolutions=((960, 480),))
    magnitude = ((Y.abs() - S.abs()) ** 2).mean()
    asymmetric = (torch.relu(S.abs() - Y.abs()) ** 2).mean()
    torch.testing.assert_close(terms.magnitude, magnitude)
    torch.testing.assert_close(terms.asymmetric, asymmetric)
    # In the complex term the floor scales magnitudes near zero slightly differently.
    torch.testing.assert_close(terms.complex, ((Y - S).abs() ** 2).mean(), rtol=1e-3, atol=0)


@pytest.mark.parametrize("silent", ["estimate", "target", "both"])
def test_gradients_are_finite_at_digital_silence(silent: str) -> None:
    estimate, target = speechlike(), speechlike()
    if silent in ("estimate", "both"):
        estimate = torch.zeros_like(estimate)
    if silent in ("target", "both"):
        target = torch.zeros_like(target)
    estimate.requires_grad_()
    (spectral_loss(estimate, target).total - 0.02 * si_snr(estimate, target).mean()).backward()
    assert estimate.grad is not None
    assert estimate.grad.isfinite().all()


def test_spectral_loss_is_computed_in_float32_under_autocast() -> None:
    estimate, target = speechlike(), speechlike()
    plain = spectral_loss(estimate, target).total
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = spectral_loss(estimate, target).total
    assert torch.equal(plain, mixed)


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match="shape"):
        spectral_loss(torch.zeros(1, 4800), torch.zeros(1, 4801))


def test_si_snr_is_the_ratio_of_orthogonal_parts_and_blind_to_level() -> None:
    t = torch.arange(4800) / 4800
    target = torch.sin(2 * torch.pi * 10 * t).unsqueeze(0)
    noise = 0.1 * torch.cos(2 * torch.pi * 10 * t).unsqueeze(0)  # orthogonal, 20 dB below
    torch.testing.assert_close(si_snr(target + noise, target), torch.tensor([20.0]), rtol=0, atol=1e-3)
    torch.testing.assert_close(
        si_snr(7 * (target + noise) + 3, target), torch.tensor([20.0]), rtol=0, atol=1e-3
    )


# --- distillation


def activations(seed: int, frames: int = 100) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(seed)
    fields = {name: torch.randn(2, 6, bins, frames, generator=g) for name, bins in (("fd1", 12), ("fu2", 12))}
    return {**fields, "gtcm1": torch.randn(2, 10, frames, generator=g)}


@pytest.mark.parametrize("distance", DISTANCES)
def test_distillation_is_exactly_zero_where_student_equals_teacher(distance: Distance) -> None:
    assert float(distance(activations(1), activations(1))) == 0.0
    assert float(distance(activations(1), activations(2))) > 0.0


@pytest.mark.parametrize("distance", DISTANCES)
def test_distillation_teaches_the_student_only_and_survives_silence(distance: Distance) -> None:
    student, teacher = activations(1), activations(2)
    student["fd1"] = torch.zeros_like(student["fd1"])
    for part in (*student.values(), *teacher.values()):
        part.requires_grad_()
    distance(student, teacher).backward()
    assert all(part.grad is None for part in teacher.values())
    assert all(part.grad is not None and part.grad.isfinite().all() for part in student.values())


def test_feature_match_equals_its_formula_and_layer_weights() -> None:
    student, teacher = activations(1), activations(2)
    shares = {
        name: float((student[name] - teacher[name]).abs().mean() / (teacher[name].abs().mean() + 1e-5))
        for name in student
    }
    expected = (0.25 * shares["fd1"] + shares["fu2"] + shares["gtcm1"]) / 2.25
    assert float(feature_match(student, teacher)) == pytest.approx(expected, rel=1e-5)
    assert [layer_weight(x) for x in ("fd1", "fd2", "fd3", "gtcm4", "fu3", "fu2")] == [0.25, 0.25, 1, 1, 1, 1]


def test_similarity_match_ignores_a_rotation_of_channels() -> None:
    student = activations(1)
    rotation = torch.linalg.qr(torch.randn(6, 6)).Q
    turned = {"fd1": torch.einsum("cd,bdft->bcft", rotation, student["fd1"])}
    assert float(similarity_match({"fd1": student["fd1"]}, turned)) < 1e-10
    assert float(feature_match({"fd1": student["fd1"]}, turned)) > 0.1


@pytest.mark.parametrize("distance", DISTANCES)
def test_layers_that_do_not_correspond_are_refused(distance: Distance) -> None:
    student = activations(1)
    with pytest.raises(ValueError, match="layers"):
        distance(student, {"fd1": student["fd1"]})
    with pytest.raises(ValueError, match="layers"):
        distance({}, {})
    with pytest.raises(ValueError, match="fd1"):
        distance(student, {**student, "fd1": student["fd1"][..., :50]})


def test_distillation_weight_is_constant_then_decays_to_zero_in_the_last_fifth() -> None:
    weights = [distillation_weight(step, 1000) for step in (0, 799, 800, 900, 1000, 1200)]
    assert weights == pytest.approx([0.5, 0.5, 0.5, 0.25, 0.0, 0.0])
    assert distillation_weight(1000, 1000, decay_share=0.0) == 0.5


def test_a_student_with_the_teachers_output_and_features_has_nothing_left_to_learn() -> None:
    net = build_repair("tiny", causal=False)
    with torch.no_grad():
        out = net(speechlike(1), with_features=True)
    assert float(output_match(out.wave, out.wave)) == 0.0
    for distance in DISTANCES:
        assert float(distance(out.features, out.features)) == 0.0


def test_what_cannot_be_predicted_in_phase_is_not_silenced() -> None:
    """Without any coherence, the default losses are least for an estimate not far below the target's level."""
    target, unlike = 0.05 * torch.randn(2, 2, 24_000, generator=torch.Generator().manual_seed(0))
    loss_by_gain_db = {
        gain_db: spectral_objective(10 ** (gain_db / 20) * unlike, target, LossWeights())[LOSS].item()
        for gain_db in range(-24, 7, 2)
    }
    assert -6 <= min(loss_by_gain_db, key=loss_by_gain_db.__getitem__) <= 0


def test_the_level_error_is_in_db_and_ignores_what_is_inaudible() -> None:
    target = 0.05 * torch.randn(3, 24_000)
    for gain_db in (-12.0, 0.0, 7.0):
        error_db = level_error(10 ** (gain_db / 20) * target, target)
        torch.testing.assert_close(error_db, torch.full((3,), abs(gain_db)), rtol=0, atol=0.05)
    silence = torch.zeros(3, 24_000, requires_grad=True)
    loss = level_error(silence + 1e-5, torch.zeros(3, 24_000)).sum()
    loss.backward()
    assert loss.item() < 0.01
    assert silence.grad is not None
    assert silence.grad.isfinite().all()
