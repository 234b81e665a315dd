"""Accumulated gradients: a step of several batches is the step of one large batch."""

from pathlib import Path

import pytest
import torch
from micro_experiment import MICRO

from manifests.corpus import open_corpus
from manifests.experiment import load_experiment
from training.loop import Fit
from training.models.chain import Chain
from training.models.presets import build_denoiser, build_repair
from training.shards import Reader
from training.stages import JointTask
from training.stream import Batch, SampleStream
from training.window import Window


class Noted(SampleStream):
    """A stream that remembers which samples it handed out."""

    keys: tuple[str, ...] = ()

    def __next__(self) -> Batch:
        batch = super().__next__()
        self.keys += batch.keys
        return batch


def joint(corpus_dir: Path, batch_size: int, accumulate: int, rank: int = 0, ranks: int = 1) -> Fit:
    """The joint stage, whose batch norms are frozen, with gradients as they are."""
    settings = [f"optimisation.accumulate={accumulate}", "optimisation.clip_norm=1.0e+9"]
    experiment = load_experiment("tiny", [*MICRO, *settings])
    torch.manual_seed(0)
    task = JointTask(Chain(build_repair("tiny", causal=True), build_denoiser("tiny")), experiment.loss)
    task.prepare()
    reader = Reader(open_corpus(corpus_dir), "train")
    stream = Noted(reader, 0, batch_size, 0.1, rank=rank, ranks=ranks)
    return Fit(task, stream, experiment, experiment.stages.joint, torch.device("cpu"))


def test_two_batches_move_the_weights_as_one_twice_as_large(corpus_dir: Path, one_thread: None) -> None:
    runs = [joint(corpus_dir, 4, accumulate=1), joint(corpus_dir, 2, accumulate=2)]
    windows = [Window(), Window()]
    for run, window in zip(runs, windows, strict=True):
        run.step(window)
    for whole, parts in zip(*(run.weights for run in runs), strict=True):
        assert whole.grad is not None
        torch.testing.assert_close(parts.grad, whole.grad, rtol=1e-3, atol=1e-6)
    losses = [{m.name: m.value for m in w.metrics(1) if m.name.startswith("train/")} for w in windows]
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    assert [run.progress.step for run in runs] == [1, 1]


def test_batch_norm_statistics_take_in_every_part(corpus_dir: Path, one_thread: None) -> None:
    run = joint(corpus_dir, 2, accumulate=3)
    run.task.network.train()
    run.step(Window())
    counts = {int(b) for name, b in run.task.network.named_buffers() if name.endswith("num_batches_tracked")}
    assert counts == {3}


@pytest.mark.parametrize("ranks", [1, 2])
def test_samples_come_in_the_order_of_the_larger_batch(
    corpus_dir: Path, ranks: int, one_thread: None
) -> None:
    steps = []
    for batch_size, accumulate in ((4, 1), (2, 2)):
        reader = Reader(open_corpus(corpus_dir), "train")
        streams = [Noted(reader, 0, batch_size, 0.1, rank=rank, ranks=ranks) for rank in range(ranks)]
        for stream in streams:
            for _ in range(accumulate):
                next(stream)
        steps.append(
            sorted(key for stream in streams for key in stream.keys) if ranks > 1 else streams[0].keys
        )
        assert len({stream.state for stream in streams}) == 1
    assert steps[0] == steps[1]
    assert len(steps[0]) == 4


def test_a_step_uses_all_its_parts(corpus_dir: Path, one_thread: None) -> None:
    run = joint(corpus_dir, 2, accumulate=3)
    run.step(Window())
    run.step(Window())
    assert isinstance(run.stream, Noted)
    # 12 samples: two steps of 3 x 2 are an epoch.
    assert len(set(run.stream.keys)) == 12
    assert (run.stream.state.epoch, run.stream.state.position) == (1, 0)


def test_one_bad_part_spoils_the_step_and_nothing_else(corpus_dir: Path, one_thread: None) -> None:
    run = joint(corpus_dir, 2, accumulate=2)
    calls = []
    losses = run.task.losses

    def second_is_not_finite(*batch: torch.Tensor, **_: int) -> dict[str, torch.Tensor]:
        calls.append(losses(*batch))  # type: ignore[call-arg, arg-type]
        return calls[-1] | {"loss": calls[-1]["loss"] * (float("nan") if len(calls) == 2 else 1.0)}

    run.task.losses = second_is_not_finite  # type: ignore[method-assign, assignment]
    before = [value.clone() for value in run.task.trained.state_dict().values()]
    run.step(Window())
    assert all(map(torch.equal, before, run.task.trained.state_dict().values()))
    assert run.progress.skipped_steps == 1
    run.step(Window())
    assert not all(map(torch.equal, before, run.task.trained.state_dict().values()))
