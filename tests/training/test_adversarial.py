"""Discriminators hear the level, learn, and start when told; both sides of a step stay out of each other's way."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from micro_experiment import MICRO
from torch import Tensor, nn

from manifests.corpus import open_corpus
from manifests.errors import UserError
from manifests.experiment import STAGES, Adversarial, Experiment, load_experiment
from training.adversary import Adversary, build_adversary
from training.bundle import read_info
from training.checkpoint import read_checkpoint
from training.loop import Fit
from training.losses.adversarial import Judgement, discriminator_loss, feature_matching, generator_loss
from training.models.chain import Chain
from training.models.discriminators import FLOOR_RMS, Discriminators, common_gain
from training.models.presets import build_denoiser, build_repair
from training.objective import LOSS, spectral_objective
from training.ranks import Ranks
from training.run import train
from training.shards import Reader
from training.stages import TeacherTask, build_task, frozen
from training.stream import SampleStream, fixed_batches
from training.window import Window

CPU = torch.device("cpu")
STEPS = 5
SMALL = Adversarial(
    stages=("teacher",), resolution_windows=(512,), band_windows=(512,), channels=4, lead_steps=0
)
ON = [
    *MICRO,
    "adversarial={stages: [teacher, student, denoiser, joint], resolution_windows: [512], band_windows: [512], "
    "channels: 2, start_share: 0.4, lead_steps: 1}",
]


@pytest.fixture
def waves(corpus_dir: Path, one_thread: None) -> tuple[Tensor, Tensor]:
    """Degraded and target, (2, 9600)."""
    batch = fixed_batches(Reader(open_corpus(corpus_dir), "train"), 2, 0.2, 2)[0]
    return batch.degraded, batch.target


def judgement(scores: list[float], features: tuple[list[float], ...] = ()) -> Judgement:
    return Judgement(torch.tensor(scores), tuple(torch.tensor(layer) for layer in features))


def test_least_squares_losses_by_hand() -> None:
    clean = [judgement([1.0, 0.5]), judgement([0.0])]
    enhanced = [judgement([0.0, 2.0]), judgement([-1.0])]
    # (0 + .25) / 2 + (0 + 4) / 2 = 2.125 and 1 + 1 = 2
    assert discriminator_loss(clean, enhanced).item() == pytest.approx((2.125 + 2.0) / 2)
    # (1 + 1) / 2 = 1 and (-2)^2 = 4
    assert generator_loss(enhanced).item() == pytest.approx(2.5)


def test_feature_matching_by_hand_is_relative_to_the_clean_layer() -> None:
    clean = [judgement([0.0], ([2.0, -2.0], [0.1]))]
    enhanced = [judgement([0.0], ([1.0, -2.0], [0.3]))]
    # 0.5 / 2 = 0.25 and 0.2 / 0.1 = 2
    assert feature_matching(clean, enhanced, eps=0.0).item() == pytest.approx((0.25 + 2.0) / 2)
    assert feature_matching(clean, clean).item() == 0.0


def test_feature_matching_gives_no_gradient_to_the_clean_side() -> None:
    clean, enhanced = torch.ones(3, requires_grad=True), torch.zeros(3, requires_grad=True)
    feature_matching([Judgement(clean, (clean,))], [Judgement(enhanced, (enhanced,))]).backward()
    assert clean.grad is None
    assert enhanced.grad is not None


@pytest.mark.parametrize("name", ["tiny", "small", "paper"])
def test_every_parameter_of_every_discriminator_and_generator_gets_a_finite_gradient(
    name: str, waves: tuple[Tensor, Tensor]
) -> None:
    degraded, target = waves[0][:1, :4800], waves[1][:1, :4800]
    settings = load_experiment(name).adversarial.model_copy(update={"start_share": 0.0, "lead_steps": 0})
    adversary = Adversary(settings, 10, CPU)
    student = build_repair(name, causal=True)
    chain = Chain(frozen(build_repair(name, causal=True)), build_denoiser(name))
    for trained, estimate in (
        (student, student(degraded).wave),
        (chain.denoiser, chain(degraded).denoised),
    ):
        losses = spectral_objective(estimate, target, load_experiment(name).loss)
        adversary.add(losses, estimate, target, 0)
        (losses["adversarial"] + losses["feature_matching"]).backward()
        for label, weight in trained.named_parameters():
            assert weight.grad is not None and torch.isfinite(weight.grad).all(), label
    for label, weight in adversary.networks.named_parameters():
        assert weight.grad is not None and torch.isfinite(weight.grad).all(), label
        assert weight.grad.abs().sum() > 0, label


def scores(networks: Discriminators, wave: Tensor, target: Tensor) -> list[Tensor]:
    with torch.no_grad():
        return [judged.scores for judged in networks(wave, common_gain(target))]


def test_every_discriminator_hears_a_gain_of_the_estimate_but_not_one_of_both(
    waves: tuple[Tensor, Tensor],
) -> None:
    _, target = waves
    torch.manual_seed(0)
    networks = Discriminators((2048, 512), (1024,), 4)
    plain = scores(networks, target, target)
    for before, alone, both in zip(
        plain,
        scores(networks, 0.5 * target, target),
        scores(networks, 0.5 * target, 0.5 * target),
        strict=True,
    ):
        assert (before - alone).abs().max() > 1e-3 * before.abs().max()
        assert torch.allclose(before, both, atol=1e-5)


def test_silent_targets_get_a_bounded_gain() -> None:
    assert common_gain(torch.zeros(1, 100)).item() == pytest.approx(0.1 / FLOOR_RMS)


def test_spectra_and_losses_are_float32_under_autocast(waves: tuple[Tensor, Tensor]) -> None:
    networks = Discriminators((512,), (512,), 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        judged = networks(waves[1], common_gain(waves[1]))
        losses = discriminator_loss(judged, judged), generator_loss(judged), feature_matching(judged, judged)
    assert judged[0].scores.dtype == torch.bfloat16
    assert {loss.dtype for loss in losses} == {torch.float32}


def test_discriminators_learn_to_tell_degraded_from_clean(waves: tuple[Tensor, Tensor]) -> None:
    torch.manual_seed(0)
    degraded, target = waves
    settings = SMALL.model_copy(update={"start_share": 0.0, "lead_steps": 10**6, "learning_rate": 1e-2})
    adversary = Adversary(settings, 100, CPU)
    for step in range(40):
        adversary.add({}, degraded, target, step)
        adversary.step(adversary.ready())
    of_clean = scores(adversary.networks, target, target)
    of_degraded = scores(adversary.networks, degraded, target)
    for clean, other in zip(of_clean, of_degraded, strict=True):
        assert clean.mean() > other.mean() + 0.3


def test_discriminators_see_the_estimate_detached_and_are_not_moved_by_the_generators_loss(
    waves: tuple[Tensor, Tensor],
) -> None:
    degraded, target = waves
    torch.manual_seed(0)
    adversary = Adversary(SMALL, 10, CPU)
    gain = torch.ones(1, requires_grad=True)
    estimate = gain * degraded
    losses = spectral_objective(estimate, target, load_experiment("tiny").loss)
    adversary.add(losses, estimate, target, 5)
    assert gain.grad is None
    left = [weight.grad.clone() for weight in adversary.parameters if weight.grad is not None]
    assert len(left) == len(adversary.parameters)
    losses[LOSS].backward()  # type: ignore[no-untyped-call]
    assert gain.grad is not None
    assert all(
        torch.equal(before, weight.grad) for before, weight in zip(left, adversary.parameters, strict=True)
    )


def test_the_spectral_gradient_is_as_many_times_larger_as_declared_and_the_weight_stays(
    waves: tuple[Tensor, Tensor],
) -> None:
    degraded, target = waves
    torch.manual_seed(0)
    adversary = Adversary(SMALL, 10, CPU)
    estimate = degraded.clone().requires_grad_()
    losses = spectral_objective(estimate, target, load_experiment("tiny").loss)
    spectral = losses[LOSS]
    adversary.add(losses, estimate, target, 5)
    norms = [
        torch.autograd.grad(loss, estimate, retain_graph=True)[0].norm()
        for loss in (spectral, losses[LOSS] - spectral)
    ]
    assert (norms[0] / norms[1]).item() == pytest.approx(SMALL.spectral_dominance, rel=1e-3)
    assert adversary.weight is None
    adversary.step(torch.tensor(True))
    measured = adversary.weight
    assert measured is not None and measured > 0
    adversary.add(spectral_objective(estimate, target, load_experiment("tiny").loss), estimate, target, 6)
    adversary.step(torch.tensor(True))
    assert adversary.weight == measured


@pytest.fixture
def experiment() -> Experiment:
    return load_experiment("tiny", ON)


def new_fit(experiment: Experiment, corpus_dir: Path) -> Fit:
    stream = SampleStream(Reader(open_corpus(corpus_dir), "train"), 0, 2, 0.1)
    task = build_task("teacher", experiment, None, CPU)
    task.adversary = build_adversary("teacher", experiment, CPU)
    fit = Fit(task, stream, experiment, experiment.stages.teacher, CPU)
    task.prepare()
    return fit


def weights(module: torch.nn.Module) -> list[Tensor]:
    return [value.clone() for value in module.state_dict().values()]


def test_discriminators_rest_in_the_warm_up_then_lead_then_speak(
    experiment: Experiment, corpus_dir: Path, one_thread: None
) -> None:
    fit = new_fit(experiment, corpus_dir)
    adversary = fit.task.adversary
    assert adversary is not None and adversary.first_step == 2
    heard, moved = [], []
    for _ in range(5):
        before, window = weights(adversary.networks), Window()
        fit.step(window)
        heard.append({"discriminator", "adversarial"} & window.sums.keys())
        moved.append(not all(map(torch.equal, before, weights(adversary.networks))))
    assert moved == [False, False, True, True, True]
    assert heard == [set(), set(), {"discriminator"}, *[{"discriminator", "adversarial"}] * 2]


class Averaging(Ranks):
    """One rank that does something where several would average gradients."""

    def __init__(self, average: Callable[[Sequence[nn.Parameter]], object]) -> None:
        super().__init__()
        object.__setattr__(self, "_does", average)

    def average_gradients(self, weights: Sequence[nn.Parameter], share: float) -> None:
        self._does(weights)  # type: ignore[attr-defined]


@pytest.mark.parametrize("precision", ["float32", "float16"])
@pytest.mark.parametrize("spoilt", ["discriminators", "generator"])
def test_a_step_that_is_not_finite_on_one_side_moves_neither(
    corpus_dir: Path, one_thread: None, spoilt: str, precision: str
) -> None:
    fit = new_fit(load_experiment("tiny", [*ON, f"optimisation.precision={precision}"]), corpus_dir)
    adversary = fit.task.adversary
    assert adversary is not None
    for _ in range(3):
        fit.step(Window())
    if spoilt == "discriminators":
        adversary.join(Averaging(lambda parameters: parameters[0].grad.fill_(math.nan)), 1.0)
    else:
        whole = TeacherTask.losses

        def nan(self: TeacherTask, degraded: Tensor, target: Tensor, step: int) -> dict[str, Tensor]:
            losses = whole(self, degraded, target, step)
            return losses | {LOSS: losses[LOSS] * math.nan}

        fit.task.losses = nan.__get__(fit.task)  # type: ignore[method-assign]
    before = [*weights(fit.task.trained), *weights(adversary.networks)]
    fit.step(Window())
    assert all(map(torch.equal, before, [*weights(fit.task.trained), *weights(adversary.networks)]))
    assert fit.progress.skipped_steps == 1
    assert adversary.weight is None
    assert all(weight.grad is None for weight in adversary.parameters)


def test_gradients_of_all_discriminators_can_be_averaged_before_they_move(
    experiment: Experiment, corpus_dir: Path, one_thread: None
) -> None:
    fit = new_fit(experiment, corpus_dir)
    adversary = fit.task.adversary
    assert adversary is not None
    seen: list[int] = []
    adversary.join(
        Averaging(lambda parameters: seen.append(sum(p.grad is not None for p in parameters))), 1.0
    )
    for _ in range(4):
        fit.step(Window())
    assert seen == [len(adversary.parameters)] * 2


@pytest.mark.parametrize("stopped_at", [1, 2, 3, 4])
def test_resumed_before_at_and_after_the_switch_on_it_ends_bit_for_bit_the_same(
    experiment: Experiment, corpus_dir: Path, one_thread: None, stopped_at: int
) -> None:
    undisturbed, stopped, resumed = (new_fit(experiment, corpus_dir) for _ in range(3))
    for _ in range(STEPS):
        undisturbed.step(Window())
    for _ in range(stopped_at):
        stopped.step(Window())
    resumed.resume(stopped.capture())
    for _ in range(STEPS - stopped_at):
        resumed.step(Window())
    assert all(map(torch.equal, weights(resumed.task.trained), weights(undisturbed.task.trained)))
    ours, theirs = resumed.task.adversary, undisturbed.task.adversary
    assert ours is not None and theirs is not None
    assert all(map(torch.equal, weights(ours.networks), weights(theirs.networks)))
    assert ours.weight == theirs.weight is not None


def test_all_four_stages_train_with_an_adversary_whose_state_is_in_their_checkpoints(
    corpus_dir: Path, tmp_path: Path, one_thread: None
) -> None:
    train(load_experiment("tiny", [*ON, "validation.samples=0"]), corpus_dir, tmp_path, device="cpu")
    for stage in STAGES:
        state = read_checkpoint(max((tmp_path / stage / "checkpoints").glob("step-*.pt")))
        assert state["adversary"]["weight"] > 0, stage
        assert state["adversary"]["optimiser"]["state"], stage


def test_what_is_kept_was_trained_with_all_that_has_a_say(
    corpus_dir: Path, tmp_path: Path, one_thread: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Each validation is worse than the one before, as spectral losses are once discriminators are heard: after step 3.
    def worse(fit: Fit, held_out: object) -> tuple[dict[str, float], list[Any]]:
        return {"loss": float(fit.progress.step)}, []

    monkeypatch.setattr(Fit, "validate", worse)
    settings = "{steps: 9, batch_size: 2, segment_s: 0.1, validate_every: 1, stop_after: 2}"
    heard = "adversarial.start_share=0.23"  # of 9 steps: they train after 2, and are heard after 3
    experiment = load_experiment("tiny", [*ON, heard, f"stages.teacher={settings}"])
    train(experiment, corpus_dir, tmp_path, ["teacher"], device="cpu")
    info = read_info(tmp_path / "teacher" / "model")
    assert (info.steps, info.stopped_after_step) == (4, 6)


def test_too_few_steps_for_discriminators_are_said(
    corpus_dir: Path, tmp_path: Path, one_thread: None, caplog: pytest.LogCaptureFixture
) -> None:
    experiment = load_experiment("tiny", [*ON, "adversarial.lead_steps=3"])
    train(experiment, corpus_dir, tmp_path, ["teacher"], device="cpu")
    assert "stage teacher: its discriminators would be heard after 5 steps, and it has 5" in caplog.text


def test_settings_of_the_adversary_belong_to_the_stages_that_have_one(experiment: Experiment) -> None:
    plain = load_experiment("tiny", MICRO)
    some = load_experiment("tiny", [*ON, "adversarial.stages=[joint]"])
    other = load_experiment("tiny", [*ON, "adversarial.stages=[joint]", "adversarial.channels=3"])
    assert some.stage_digest("teacher") == plain.stage_digest("teacher") == other.stage_digest("teacher")
    assert len({e.stage_digest("joint") for e in (plain, some, other)}) == 3


def test_an_adversary_without_discriminators_is_refused() -> None:
    with pytest.raises(UserError, match="both lists of windows are empty"):
        load_experiment("tiny", [*ON, "adversarial.resolution_windows=[]", "adversarial.band_windows=[]"])
