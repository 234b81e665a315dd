"""On a GPU: what holds on a CPU holds there too. Skipped where there is none."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from micro_experiment import MICRO
from untrained import untrained_parents

from manifests.experiment import STAGES, StageName, load_experiment
from training.adversary import build_adversary
from training.bundle import Network, load_bundle, output_wave
from training.checkpoint import read_checkpoint
from training.enhance import enhance_array
from training.models.presets import REPAIRERS, Preset
from training.models.repair import RepairNet
from training.objective import LOSS
from training.precision import Precision
from training.ranks import Ranks
from training.recorded import EAGER_STEPS, Recorder
from training.run import model_dir, train
from training.shipped_models import shipped_bundle
from training.stages import PARENT, build_task
from training.tracker import LineTracker, Metric

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
CPU = torch.device("cpu")
CUDA = torch.device("cuda")
PRECISIONS = ("float32", "bfloat16", "float16")


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("preset", get_args(Preset))
def test_losses_and_gradients_of_all_stages_are_finite(
    preset: Preset, precision: str, tmp_path: Path
) -> None:
    judged = "adversarial={stages: [teacher, student, denoiser, joint], channels: 4, start_share: 0, lead_steps: 0}"
    experiment = load_experiment(preset, [judged, f"optimisation.precision={precision}"])
    bundles = untrained_parents(experiment, tmp_path, CUDA)
    torch.manual_seed(0)
    target = 0.05 * torch.randn(2, 24_000, device=CUDA)
    target[0, 12_000:] = 0.0
    degraded = 0.3 * target
    degraded[1] = 0.0
    for stage in STAGES:
        parent = PARENT[stage]
        task = build_task(stage, experiment, bundles[parent] if parent else None, CUDA)
        task.adversary = build_adversary(stage, experiment, CUDA)
        task.prepare()
        with Precision(experiment.optimisation, CUDA).autocast():
            losses = task.losses(degraded, target, 0)
        assert all(value.isfinite() for value in losses.values()), stage
        losses[LOSS].backward()  # type: ignore[no-untyped-call]
        for name, weight in task.trained.named_parameters():
            assert weight.grad is not None and weight.grad.isfinite().all(), f"{stage}: {name}"


@pytest.mark.parametrize("causal", [True, False])
def test_a_gpu_computes_what_a_cpu_does(causal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    # A GPU's short form of float32 keeps 10 bits of each factor: a thousandth, and not what is compared here.
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    torch.manual_seed(0)
    network: Network = load_bundle(shipped_bundle()).model.eval()
    if not causal:
        network = RepairNet(replace(REPAIRERS["small"], dry_share=0.3, by_noise=True), causal=False).eval()
    speech = 0.1 * torch.randn(2, 48_000) * (torch.arange(48_000) // 12_000 % 2)
    with torch.inference_mode():
        here = output_wave(network, speech)
        there = output_wave(network.to(CUDA), speech.to(CUDA)).cpu()
    assert float((here - there).norm() / here.norm()) < 1e-3


def test_a_recording_is_enhanced_as_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first 10 s are listened to ahead, and what is remembered goes from stretch to stretch."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    rng = np.random.default_rng(0)
    voice = rng.standard_normal(12 * 48_000) * (np.arange(12 * 48_000) // 12_000 % 2)
    voice[3 * 48_000 : 5 * 48_000] = 0.0
    noisy = (0.1 * voice + 0.02 * rng.standard_normal(len(voice))).astype(np.float32)
    here, there = (enhance_array(load_bundle(shipped_bundle(), device), noisy) for device in (CPU, CUDA))
    assert np.linalg.norm(here - there) / np.linalg.norm(here) < 1e-3


@pytest.mark.parametrize("precision", PRECISIONS)
def test_all_stages_train_and_leave_models_that_a_cpu_runs(
    corpus_dir: Path, tmp_path: Path, precision: str
) -> None:
    experiment = load_experiment("tiny", [*MICRO, f"optimisation.precision={precision}"])
    lines: list[str] = []
    trained = train(experiment, corpus_dir, tmp_path, device="cuda", trackers=[LineTracker(lines.append)])
    assert tuple(trained) == STAGES
    model = load_bundle(model_dir(tmp_path, "joint")).model
    with torch.inference_mode():
        assert output_wave(model, 0.1 * torch.randn(1, 4800)).isfinite().all()


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_recorded_step_has_the_losses_and_gradients_of_one_that_is_not(
    precision: str, tmp_path: Path
) -> None:
    # The weights stay as they are: what an addition in another order changes would grow from step to step.
    experiment = load_experiment("tiny", [f"optimisation.precision={precision}"])
    bundles = untrained_parents(experiment, tmp_path, CUDA)
    torch.manual_seed(0)
    for stage in STAGES:
        parent = PARENT[stage]
        task = build_task(stage, experiment, bundles[parent] if parent else None, CUDA)
        task.prepare()
        weights = list(task.trained.parameters())
        computing = Precision(experiment.optimisation, CUDA)

        def compute(degraded: torch.Tensor, target: torch.Tensor) -> dict[str, torch.Tensor]:
            with computing.autocast():  # noqa: B023
                losses = task.losses(degraded, target, 0)  # noqa: B023
            losses[LOSS].backward()  # type: ignore[no-untyped-call]
            return {name: value.detach() for name, value in losses.items()}

        recorder = Recorder(weights)
        for number in range(EAGER_STEPS + 3):
            target = 0.05 * torch.randn(2, 24_000, device=CUDA)
            degraded = target + 0.02 * torch.randn(2, 24_000, device=CUDA)
            results = []
            for recorded in (False, True):
                for weight in weights:
                    weight.grad = None
                key = task.repeats(0)
                losses = recorder(compute, degraded, target, key) if recorded else compute(degraded, target)
                gradient = torch.cat([weight.grad.flatten() for weight in weights if weight.grad is not None])
                results.append((losses, gradient.clone()))
            (plain, expected), (ours, gradient) = results
            case = f"{stage}, step {number}"
            for name, value in plain.items():
                torch.testing.assert_close(ours[name], value, rtol=1e-2, atol=1e-5, msg=f"{case}: {name}")
            assert (gradient - expected).norm() < 0.05 * expected.norm(), case
        assert recorder.replays, stage


class Interrupts(LineTracker):
    """Interrupts a run at its sixth step, after a checkpoint at the fourth."""

    def __init__(self) -> None:
        super().__init__(lambda line: None)

    def metrics(self, batch: Sequence[Metric]) -> None:
        if batch[0].step == 6:
            raise KeyboardInterrupt


def test_an_interrupted_run_goes_on_with_the_same_samples_and_random_numbers(
    corpus_dir: Path, tmp_path: Path
) -> None:
    settings = ["stages.teacher={steps: 8, batch_size: 2, segment_s: 0.1, validate_every: 8}"]
    experiment = load_experiment(
        "tiny", [*MICRO, *settings, "records={checkpoint_every: 4, metrics_every: 2}"]
    )
    stages: tuple[StageName] = ("teacher",)
    train(experiment, corpus_dir, tmp_path / "whole", stages, device="cuda")
    with pytest.raises(KeyboardInterrupt):
        train(experiment, corpus_dir, tmp_path / "cut", stages, device="cuda", trackers=[Interrupts()])
    train(experiment, corpus_dir, tmp_path / "cut", stages, resume=True, device="cuda")
    ours, theirs = (
        read_checkpoint(max((tmp_path / run / "teacher" / "checkpoints").glob("step-*.pt")))
        for run in ("cut", "whole")
    )
    for part in ("progress", "schedule", "stream"):
        assert ours[part] == theirs[part], part
    assert torch.equal(ours["random"]["cuda"], theirs["random"]["cuda"])
    # A GPU adds in no fixed order, and Adam's first steps are as long for a gradient near zero as for any other.
    whole, cut = (
        torch.cat([weight.double().flatten() for weight in weights["model"].values()])
        for weights in (theirs, ours)
    )
    assert float((cut - whole).norm() / whole.norm()) < 1e-2


def test_ranks_sum_over_nccl(tmp_path: Path) -> None:
    # One GPU holds one rank of NCCL: the sums are those of one, and what is asked of it is what two ask for.
    torch.distributed.init_process_group("nccl", f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        ranks = Ranks(rank=0, count=2, device=CUDA)
        weight = torch.ones(3, device=CUDA, requires_grad=True)
        (2.0 * weight).sum().backward()  # type: ignore[no-untyped-call]
        ranks.average_gradients([weight], 0.5)
        assert weight.grad is not None and weight.grad.tolist() == [1.0, 1.0, 1.0]
        before = torch.zeros(2, device=CUDA)
        buffer = torch.full((2,), 4.0, device=CUDA)
        ranks.average_changes([(buffer, before)], 0.25)
        assert buffer.tolist() == [1.0, 1.0]
        assert float(ranks.mean({"loss": torch.tensor(3.0, device=CUDA)}, 0.5)["loss"]) == 1.5
        assert ranks.totals(3, 4) == [3, 4]
        assert ranks.from_first({"loss": 0.25}) == {"loss": 0.25}
        ranks.check_same(torch.nn.Linear(2, 2).to(CUDA), 7)
    finally:
        torch.distributed.destroy_process_group()
