"""When a step is recorded, replayed and forgotten, with a stand-in for CUDA's graphs."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor
from untrained import untrained_parents

from manifests.experiment import STAGES, load_experiment
from training.adversary import build_adversary
from training.recorded import EAGER_STEPS, Recorder
from training.stages import PARENT, build_task

WAVES = torch.tensor([[1.0, 2.0]]), torch.tensor([[0.5, 0.5]])


class Graph:
    """Does what was recorded again, in the places where it was recorded."""

    recording: "Graph | None" = None

    def __init__(self) -> None:
        self.again: Callable[[], None] = lambda: None
        self.replays = 0

    def replay(self) -> None:
        self.replays += 1
        self.again()


class Step:
    """One weight, whose gradient and loss depend on the waves."""

    def __init__(self) -> None:
        self.weight = torch.zeros(1, requires_grad=True)
        self.calls = 0
        self.refuses = False

    def __call__(self, degraded: Tensor, target: Tensor) -> dict[str, Tensor]:
        self.calls += 1
        if Graph.recording is not None:
            if self.refuses:
                raise RuntimeError("operation not permitted when stream is capturing")
            gradient, loss = torch.zeros(1), torch.zeros(())
            self.weight.grad = gradient

            def again() -> None:
                gradient.fill_(float(degraded.sum()))
                loss.fill_(float(target.sum()))

            Graph.recording.again = again
            return {"loss": loss}
        self.weight.grad = degraded.sum().reshape(1)
        return {"loss": target.sum()}


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> list[Graph]:
    made: list[Graph] = []

    def make() -> Graph:
        made.append(Graph())
        return made[-1]

    @contextmanager
    def record(graph: Graph, stream: object, capture_error_mode: str) -> Iterator[None]:
        assert stream in streams and capture_error_mode == "thread_local"
        Graph.recording = graph
        current.append(stream)
        try:
            yield
        except (
            RuntimeError
        ):  # torch ends the recording, which fails in its own words, and never leaves the stream
            raise RuntimeError("previous error during capture")  # noqa: B904
        finally:
            Graph.recording = None
        current.pop()

    default = SimpleNamespace(wait_stream=lambda other: None)
    streams: list[object] = []
    current: list[object] = [default]

    def new_stream() -> object:
        # Memory is kept for each stream, so that a recorder may have no more than one.
        assert not streams
        streams.append(SimpleNamespace(wait_stream=lambda other: None))
        return streams[-1]

    for name, value in {
        "CUDAGraph": make,
        "graph": record,
        "Stream": new_stream,
        "current_stream": lambda: current[-1],
        "stream": lambda chosen: nullcontext(),
        "set_stream": current.append,
    }.items():
        monkeypatch.setattr(torch.cuda, name, value)
    return made


def done(recorder: Recorder, step: Step, scale: float, key: object) -> tuple[float, float]:
    """One step on waves of this size; its loss and its gradient."""
    step.weight.grad = None
    degraded, target = (scale * wave for wave in WAVES)
    loss = recorder(step, degraded, target, key)["loss"]
    assert step.weight.grad is not None
    return float(loss), float(step.weight.grad)


def test_steps_that_repeat_are_recorded_once_and_given_the_waves_of_each(graphs: list[Graph]) -> None:
    step = Step()
    recorder = Recorder([step.weight])
    for number in range(1, 8):
        assert done(recorder, step, float(number), "all") == (number * 1.0, number * 3.0)
    assert step.calls == EAGER_STEPS + 1
    assert [graph.replays for graph in graphs] == [7 - EAGER_STEPS]


def test_the_loss_of_a_step_stays_when_the_next_is_replayed(graphs: list[Graph]) -> None:
    step = Step()
    recorder = Recorder([step.weight])
    losses = []
    for number in range(1, 8):
        step.weight.grad = None
        losses.append(recorder(step, WAVES[0], number * WAVES[1], "all")["loss"])
    assert [float(loss) for loss in losses] == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]


def test_other_weights_of_the_losses_or_another_length_are_recorded_anew(graphs: list[Graph]) -> None:
    step = Step()
    recorder = Recorder([step.weight])
    for key in ("all", "none", "none"):
        for _ in range(5):
            done(recorder, step, 1.0, key)
    assert [graph.replays for graph in graphs] == [5 - EAGER_STEPS, 10 - EAGER_STEPS]
    recorder(step, WAVES[0][:, :1], WAVES[1][:, :1], "none")
    assert [graph.replays for graph in graphs] == [5 - EAGER_STEPS, 10 - EAGER_STEPS]


def test_a_step_that_is_like_no_other_is_not_recorded(graphs: list[Graph]) -> None:
    step = Step()
    recorder = Recorder([step.weight])
    for key in (*[None] * 9, *range(9)):
        done(recorder, step, 1.0, key)
    assert not graphs


def test_steps_of_a_stage_repeat_until_the_teacher_fades_or_discriminators_train(tmp_path: Path) -> None:
    cpu = torch.device("cpu")
    judged = "adversarial={stages: [joint], channels: 4, start_share: 0.5, lead_steps: 0}"
    ten = [f"stages.{stage}.steps=10" for stage in STAGES]
    experiment = load_experiment("tiny", [judged, *ten, "distillation.fade_share=0.2"])
    bundles = untrained_parents(experiment, tmp_path, cpu)
    repeats = {}
    for stage in STAGES:
        parent = PARENT[stage]
        task = build_task(stage, experiment, bundles[parent] if parent else None, cpu)
        task.adversary = build_adversary(stage, experiment, cpu)
        repeats[stage] = [task.repeats(step) for step in range(10)]
    for stage in ("teacher", "denoiser"):
        assert len(set(repeats[stage])) == 1 and None not in repeats[stage]
    assert len(set(repeats["student"][:8])) == 1 and None not in repeats["student"]
    assert repeats["student"][9] != repeats["student"][7]
    assert len(set(repeats["joint"][:5])) == 1 and repeats["joint"][0] is not None
    assert repeats["joint"][5:] == [None] * 5


def test_what_cannot_be_recorded_is_done_step_by_step_and_said(
    graphs: list[Graph], caplog: pytest.LogCaptureFixture
) -> None:
    step = Step()
    step.refuses = True
    before = torch.cuda.current_stream()
    recorder = Recorder([step.weight])
    for number in range(1, 8):
        assert done(recorder, step, float(number), "all") == (number * 1.0, number * 3.0)
    assert len(graphs) == 1 and graphs[0].replays == 0
    assert torch.cuda.current_stream() is before
    assert caplog.messages == [
        "a step cannot be recorded, steps are done one by one (operation not permitted when stream is capturing)"
    ]
