"""Precision: networks compute in 16 bits, spectra, norms and losses do not, and float16's scale finds its way."""

from collections import defaultdict
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from micro_experiment import MICRO
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from untrained import untrained_parents

from manifests.corpus import open_corpus
from manifests.errors import JobError
from manifests.experiment import STAGES, load_experiment
from training import progress
from training.adversary import build_adversary
from training.loop import Fit
from training.models.chain import Chain
from training.models.layers import CumulativeNorm
from training.models.level import RunningLevel
from training.models.presets import Preset, build_denoiser, build_repair
from training.objective import LOSS, spectral_objective
from training.precision import Precision
from training.shards import Reader
from training.stages import PARENT, JointTask, TeacherTask, build_task
from training.stream import SampleStream
from training.window import Window

CPU = torch.device("cpu")
LOW = {"bfloat16": torch.bfloat16, "float16": torch.float16}

NEVER_LOW = {
    *("_fft_r2c", "_fft_c2r", "complex", "cumsum", "pow", "rsqrt", "sqrt", "log", "log10", "exp", "div"),
    *("sum", "var_mean", "tanh", "abs", "_softmax"),
}
"""Operations of spectra, norms, masks and losses."""


class Dtypes(TorchDispatchMode):
    """Notes which types of tensors each operation is given."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[str, set[torch.dtype]] = defaultdict(set)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        self.seen[func.overloadpacket.__name__] |= {tensor.dtype for tensor in tensors}
        return func(*args, **(kwargs or {}))


@pytest.fixture
def waves() -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    return 0.05 * torch.randn(1, 4800), 0.05 * torch.randn(1, 4800)


@pytest.mark.parametrize("precision", LOW)
def test_networks_compute_in_16_bits_and_spectra_norms_and_losses_do_not(
    precision: str, waves: tuple[Tensor, Tensor], one_thread: None
) -> None:
    experiment = load_experiment("tiny")
    task = JointTask(Chain(build_repair("tiny", causal=True), build_denoiser("tiny")), experiment.loss)
    task.prepare()
    with Dtypes() as dtypes, torch.autocast("cpu", dtype=LOW[precision]):
        losses = task.losses(*waves, 0)
    assert dtypes.seen["convolution"] == {LOW[precision]}
    lowered = {name for name, types in dtypes.seen.items() if LOW[precision] in types}
    assert not lowered & NEVER_LOW
    assert dtypes.seen.keys() >= {"_fft_r2c", "_fft_c2r", "cumsum", "rsqrt", "pow", "log10"}
    assert {value.dtype for value in losses.values()} == {torch.float32}
    assert {buffer.dtype for buffer in task.network.buffers()} <= {torch.float32, torch.int64}


@pytest.mark.parametrize("precision", LOW)
def test_norms_round_to_16_bits_once_at_their_end(precision: str) -> None:
    torch.manual_seed(0)
    # A mean far above the deviation: sums in 16 bits would be off by more than the result.
    x = (3.0 + 0.1 * torch.randn(2, 4, 8, 300)).to(LOW[precision])
    for layer in (CumulativeNorm(4), RunningLevel(causal=True)):
        with torch.autocast("cpu", dtype=LOW[precision]):
            ours = layer(x)
        exact = layer(x.double() if isinstance(layer, CumulativeNorm) else x.float())
        assert ours.dtype == LOW[precision]
        torch.testing.assert_close(ours.double(), exact.double(), rtol=2**-7, atol=2**-7)


@pytest.mark.parametrize("preset", get_args(Preset))
def test_gradients_of_all_losses_of_all_stages_are_finite_in_16_bits_and_at_silence(
    preset: Preset, tmp_path: Path, one_thread: None
) -> None:
    judged = "adversarial={stages: [teacher, student, denoiser, joint], channels: 4, start_share: 0, lead_steps: 0}"
    experiment = load_experiment(preset, [judged, "optimisation.precision=bfloat16"])
    bundles = untrained_parents(experiment, tmp_path, CPU)
    torch.manual_seed(0)
    target = 0.05 * torch.randn(2, 2400)
    target[0, 1200:] = 0.0
    degraded = 0.3 * target
    degraded[1] = 0.0
    for stage in STAGES:
        parent = PARENT[stage]
        task = build_task(stage, experiment, bundles[parent] if parent else None, CPU)
        task.adversary = build_adversary(stage, experiment, CPU)
        assert task.adversary is not None
        task.prepare()
        with Precision(experiment.optimisation, CPU).autocast():
            losses = task.losses(degraded, target, 0)
        assert {"discriminator", "adversarial", "feature_matching"} <= losses.keys()
        assert all(value.isfinite() for value in losses.values()), stage
        losses[LOSS].backward()  # type: ignore[no-untyped-call]
        for module in (task.trained, task.adversary.networks):
            for name, weight in module.named_parameters():
                assert weight.grad is not None and weight.grad.isfinite().all(), f"{stage}: {name}"


def test_losses_are_the_same_under_autocast(waves: tuple[Tensor, Tensor]) -> None:
    weights = load_experiment("tiny").loss
    outside = spectral_objective(*waves, weights)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = spectral_objective(*waves, weights)
    assert outside == inside


def spoilt(losses: dict[str, Tensor], task: TeacherTask) -> dict[str, Tensor]:
    """Give the loss an infinite gradient."""
    weight = next(task.trained.parameters())
    return losses | {"loss": losses["loss"] + (weight * 0.0).abs().sqrt().sum()}


class Teacher(TeacherTask):
    change: Callable[..., dict[str, Tensor]] = staticmethod(lambda losses, task: losses)

    def losses(self, degraded: Tensor, target: Tensor, step: int) -> dict[str, Tensor]:
        return self.change(super().losses(degraded, target, step), self)


def half(corpus_dir: Path, *settings: str) -> Fit:
    experiment = load_experiment("tiny", [*MICRO, "optimisation.precision=float16", *settings])
    torch.manual_seed(0)
    task = Teacher(build_repair("tiny", causal=False), experiment.loss)
    task.prepare()
    stream = SampleStream(Reader(open_corpus(corpus_dir), "train"), 0, 2, 0.1)
    return Fit(task, stream, experiment, experiment.stages.teacher, CPU)


def weights(run: Fit) -> list[Tensor]:
    return [weight.detach().clone() for weight in run.weights]


def test_a_scale_that_is_too_high_comes_down_without_a_step_counting_as_not_finite(
    corpus_dir: Path, one_thread: None
) -> None:
    run = half(corpus_dir, "optimisation.max_nan_steps=2")
    run.precision.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**30)
    before = weights(run)
    while all(map(torch.equal, before, weights(run))):
        overflowed = run.progress.overflowed_steps
        run.step(Window())
    assert overflowed > 2, "the scale was not too high"
    assert run.precision.scaler.get_scale() == 2.0 ** (30 - overflowed)
    assert (run.progress.skipped_steps, run.progress.overflowed_in_row) == (0, 0)


def test_gradients_that_stay_infinite_at_any_scale_stop_the_run(
    corpus_dir: Path, one_thread: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "MAX_OVERFLOWS_IN_ROW", 3)
    run = half(corpus_dir, "optimisation.max_nan_steps=2")
    run.task.change = spoilt  # type: ignore[attr-defined]
    before = weights(run)
    for _ in range(4):
        run.step(Window())
    with pytest.raises(
        JobError, match="2 steps in a row had no finite loss and gradient, the last of them step 5"
    ):
        run.step(Window())
    assert all(map(torch.equal, before, weights(run)))
    assert (run.progress.overflowed_steps, run.progress.skipped_steps) == (3, 2)


def test_the_scale_is_in_the_checkpoint(corpus_dir: Path, one_thread: None) -> None:
    run = half(corpus_dir)
    run.precision.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**12, growth_interval=3)
    for _ in range(4):
        run.step(Window())
    resumed = half(corpus_dir)
    resumed.resume(deepcopy(run.capture()))
    assert resumed.precision.scaler.get_scale() == 2.0**13
    run.step(Window())
    resumed.step(Window())
    assert all(map(torch.equal, weights(run), weights(resumed)))
