"""The loop: steps that cannot be used move nothing, however late they are read; validation is of the average."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from micro_experiment import MICRO
from torch import Tensor, nn

from manifests.corpus import open_corpus
from manifests.errors import JobError
from manifests.experiment import Experiment, load_experiment
from training.average import Average
from training.loop import Fit, Window
from training.models.chain import Chain
from training.models.presets import build_denoiser, build_repair
from training.schedule import Schedule
from training.shards import Reader
from training.stages import DenoiserTask, TeacherTask, frozen
from training.stream import SampleStream, fixed_batches

CPU = torch.device("cpu")
Spoil = Callable[[Tensor, nn.Module], Tensor]


def nan_loss(loss: Tensor, trained: nn.Module) -> Tensor:
    return loss * float("nan")


def infinite_gradient(loss: Tensor, trained: nn.Module) -> Tensor:
    return loss + (next(trained.parameters()) * 0.0).abs().sqrt().sum()


class Spoilt(DenoiserTask):
    """A denoiser whose loss or gradient is not finite at chosen steps."""

    spoil: Spoil = staticmethod(nan_loss)
    at: tuple[int, ...] = ()

    def losses(self, degraded: Tensor, target: Tensor, step: int) -> dict[str, Tensor]:
        losses = super().losses(degraded, target, step)
        if step in self.at:
            losses["loss"] = self.spoil(losses["loss"], self.trained)
        return losses


@pytest.fixture
def stream(corpus_dir: Path) -> SampleStream:
    return SampleStream(Reader(open_corpus(corpus_dir), "train"), 0, 2, 0.1)


@pytest.fixture
def spoilt(micro: Experiment, stream: SampleStream, one_thread: None) -> Fit:
    torch.manual_seed(0)
    chain = Chain(frozen(build_repair("tiny", causal=True)), build_denoiser("tiny"))
    run = Fit(Spoilt(chain, micro.loss), stream, micro, micro.stages.denoiser, CPU)
    run.task.prepare()
    return run


def everything(run: Fit) -> list[Tensor]:
    optimiser = [value for state in run.optimiser.state.values() for value in state.values()]
    return [
        x.clone()
        for x in (*run.task.trained.state_dict().values(), *run.average.weights.values(), *optimiser)
    ]


@pytest.mark.parametrize("spoil", [nan_loss, infinite_gradient])
def test_a_step_that_is_not_finite_moves_no_weight_statistic_or_average(spoilt: Fit, spoil: Spoil) -> None:
    assert isinstance(spoilt.task, Spoilt)
    spoilt.task.spoil, spoilt.task.at = spoil, (1,)
    window = Window()
    spoilt.step(window)
    before = everything(spoilt)
    spoilt.step(window)
    assert all(map(torch.equal, before, everything(spoilt)))
    assert (spoilt.progress.step, spoilt.progress.skipped_steps, spoilt.progress.skipped_in_row) == (2, 1, 1)
    spoilt.step(window)
    assert not all(map(torch.equal, before, everything(spoilt)))
    assert spoilt.progress.skipped_in_row == 0
    means = {metric.name: metric.value for metric in window.metrics(3)}
    assert means["train/loss"] == means["train/loss"], "a skipped step's loss is in the mean"


def test_too_many_such_steps_in_a_row_stop_the_run(spoilt: Fit) -> None:
    assert isinstance(spoilt.task, Spoilt)
    spoilt.experiment = spoilt.experiment.model_copy(
        update={"optimisation": spoilt.experiment.optimisation.model_copy(update={"max_nan_steps": 3})}
    )
    spoilt.task.at = (0, 1, 3, 4, 5)
    for _ in range(5):
        spoilt.step(Window())
    with pytest.raises(JobError, match="3 steps in a row had no finite loss.*step 6 with samples train-"):
        spoilt.step(Window())
    assert spoilt.progress.skipped_steps == 5


def test_a_gradient_is_clipped_to_its_norm(micro: Experiment, stream: SampleStream) -> None:
    micro = micro.model_copy(
        update={"optimisation": micro.optimisation.model_copy(update={"clip_norm": 1e-3})}
    )
    run = Fit(TeacherTask(build_repair("tiny", False), micro.loss), stream, micro, micro.stages.teacher, CPU)
    window = Window()
    run.step(window)
    norm = torch.stack([weight.grad.norm() for weight in run.weights if weight.grad is not None]).norm()
    assert norm == pytest.approx(1e-3, rel=1e-3)
    assert {m.name: m.value for m in window.metrics(1)}["train/gradient_norm"] > 1e-2


def test_a_step_moves_weights_as_fast_as_the_schedule_says(spoilt: Fit) -> None:
    settings = spoilt.settings.model_copy(update={"learning_rate": 0.01, "warmup_steps": 4})
    spoilt.schedule = Schedule(settings)
    before = torch.cat([weight.detach().flatten() for weight in spoilt.weights])
    spoilt.step(Window())
    after = torch.cat([weight.detach().flatten() for weight in spoilt.weights])
    # Adam's first step is as long as the rate for every weight whose gradient is far above its epsilon.
    assert (after - before).abs().max().item() == pytest.approx(0.01 / 4, rel=1e-2)
    assert spoilt.learning_rate == 0.01 * 2 / 4


def test_validation_judges_the_average_and_leaves_the_weights_alone(
    corpus_dir: Path, micro: Experiment, spoilt: Fit
) -> None:
    held_out = fixed_batches(Reader(open_corpus(corpus_dir), "val"), 3, 0.2, 2)
    for _ in range(3):
        spoilt.step(Window())
    before = everything(spoilt)
    first, shown = spoilt.validate(held_out)
    assert all(map(torch.equal, before, everything(spoilt)))
    assert spoilt.task.trained.training
    assert not spoilt.task.network.repair.training  # type: ignore[union-attr]
    assert [sample.key for sample in shown] == ["val-0000000"]
    with torch.no_grad():
        for weight in spoilt.weights:
            weight.zero_()
    again, _ = spoilt.validate(held_out)
    assert again == first


def test_the_average_follows_the_textbook_recursion() -> None:
    layer = nn.Linear(1, 1, bias=False)
    average = Average(layer, decay=0.5)
    expected = layer.weight.item()
    for update, value in enumerate((1.0, 2.0, 4.0, 8.0)):
        with torch.no_grad():
            layer.weight.fill_(value)
        average.update()
        decay = min(0.5, (1 + update) / (10 + update))
        expected = decay * expected + (1 - decay) * value
        assert float(average.weights["weight"]) == pytest.approx(expected, rel=1e-6)
    with average.applied():
        assert layer.weight.item() == pytest.approx(expected, rel=1e-6)
    assert layer.weight.item() == 8.0


def test_steps_that_are_read_late_end_with_the_same_weights_and_counts(
    corpus_dir: Path, micro: Experiment, one_thread: None
) -> None:
    runs, windows = [], []
    for read_every in (1, 4):
        torch.manual_seed(0)
        chain = Chain(frozen(build_repair("tiny", causal=True)), build_denoiser("tiny"))
        task = Spoilt(chain, micro.loss)
        task.at = (1, 2)
        task.prepare()
        stream = SampleStream(Reader(open_corpus(corpus_dir), "train"), 0, 2, 0.1)
        run = Fit(task, stream, micro, micro.stages.denoiser, CPU)
        run.read_every = read_every
        window = Window()
        for _ in range(5):
            run.step(window)
        runs.append(run)
        windows.append(window)
    assert (runs[1].progress.step, windows[1].steps) == (5, 4)
    runs[1].read(windows[1])
    assert runs[0].progress == runs[1].progress
    assert runs[0].progress.skipped_steps == 2
    assert all(map(torch.equal, everything(runs[0]), everything(runs[1])))
    first, late = ([m for m in window.metrics(5) if m.name.startswith("train/")] for window in windows)
    assert first == late


def test_a_run_that_is_read_late_still_names_the_step_that_was_one_too_many(spoilt: Fit) -> None:
    assert isinstance(spoilt.task, Spoilt)
    spoilt.experiment = spoilt.experiment.model_copy(
        update={"optimisation": spoilt.experiment.optimisation.model_copy(update={"max_nan_steps": 2})}
    )
    spoilt.task.at = (1, 2, 3)
    spoilt.read_every = 4
    for _ in range(3):
        spoilt.step(Window())
    with pytest.raises(JobError, match="2 steps in a row had no finite loss.*step 3 with samples train-"):
        spoilt.step(Window())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize(
    ("recorded", "computing"), [(True, ("gradients",)), (False, ("forward", "backward"))]
)
def test_a_step_on_cuda_waits_for_nothing_until_it_is_read(
    corpus_dir: Path, recorded: bool, computing: tuple[str, ...]
) -> None:
    device = torch.device("cuda")
    micro = load_experiment("tiny", [*MICRO, f"optimisation.cuda_graphs={recorded}"])
    torch.manual_seed(0)
    task = Spoilt(
        Chain(frozen(build_repair("tiny", causal=True)), build_denoiser("tiny")).to(device), micro.loss
    )
    task.at = (2,)
    task.prepare()
    stream = SampleStream(Reader(open_corpus(corpus_dir), "train"), 0, 2, 0.1)
    run, window = Fit(task, stream, micro, micro.stages.denoiser, device), Window()
    run.step(window)  # the first one allocates and chooses kernels
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(3):
            run.step(window)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert window.steps == 0
    run.read(window)
    assert (window.steps, run.progress.skipped_steps) == (4, 1)
    assert all(window.seconds[part] >= 0.0 for part in ("data", *computing, "step", "tracking"))
