"""torch.compile: the same losses, the same names, and a sentence where there is no compiler."""

import re
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from micro_experiment import MICRO
from torch import Tensor, nn
from torch._inductor.utils import fresh_cache

from manifests.corpus import open_corpus
from manifests.errors import JobError, UserError
from manifests.experiment import load_experiment
from training.checkpoint import Checkpoints, Identity
from training.compiling import compile_network, compiler, why_not_compiled
from training.loop import Fit, fit
from training.models.layers import CumulativeNorm
from training.models.repair import RepairConfig, RepairNet, RepairOutput
from training.run import train
from training.shards import Reader
from training.stages import TeacherTask
from training.stream import SampleStream
from training.tracker import Metric, Several
from training.window import Window

needs_compiler = pytest.mark.skipif(
    compiler() is None, reason="torch.compile needs a C++ compiler; none here"
)
CPU = torch.device("cpu")


class OneLayer(nn.Module):
    """A convolution of the wave under a cumulative norm's gain: a whole net takes minutes to compile."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(1, 2, 5, padding=2)
        self.norm = CumulativeNorm(2)

    def forward(self, wave: Tensor) -> RepairOutput:
        out = wave + 0.01 * self.norm(self.conv(wave.unsqueeze(1))).mean(1)
        return RepairOutput(out, out, {})


def run_of(network: nn.Module, corpus_dir: Path, compiled: bool) -> Fit:
    settings = ["stages.teacher.steps=3", "optimisation.clip_norm=1.0e+9", f"optimisation.compile={compiled}"]
    experiment = load_experiment("tiny", [*MICRO, *settings])
    task = TeacherTask(network, experiment.loss)  # type: ignore[arg-type]
    task.prepare()
    if compiled:
        compile_network(network)
    stream = SampleStream(Reader(open_corpus(corpus_dir), "train"), 0, 2, 0.1)
    return Fit(task, stream, experiment, experiment.stages.teacher, CPU)


def losses_of(run: Fit) -> list[float]:
    losses = []
    for step in range(1, 4):
        window = Window()
        run.step(window)
        losses += [m.value for m in window.metrics(step) if m.name in ("train/loss", "train/gradient_norm")]
    return losses


class Endings(Several):
    def __init__(self) -> None:
        super().__init__(())
        self.seen: list[tuple[str, str]] = []

    def stage_ended(self, status: str, reason: str = "") -> None:  # type: ignore[override]
        self.seen.append((status, reason))


class Silent(Several):
    def __init__(self) -> None:
        super().__init__(())

    def metrics(self, batch: list[Metric]) -> None:  # type: ignore[override]
        pass


@needs_compiler
def test_a_compiled_network_learns_as_an_eager_one_and_keeps_its_names(
    corpus_dir: Path, tmp_path: Path, one_thread: None
) -> None:
    torch.manual_seed(0)
    eager, compiled = OneLayer(), OneLayer()
    compiled.load_state_dict(eager.state_dict())
    names = list(eager.state_dict())
    runs = [run_of(eager, corpus_dir, compiled=False), run_of(compiled, corpus_dir, compiled=True)]
    assert compiled._compiled_call_impl is not None
    expected, ours = (losses_of(run) for run in runs)
    assert ours == pytest.approx(expected, rel=1e-3)
    checkpoints = Checkpoints(tmp_path, Identity("teacher", "settings", "corpus", {}))
    kept = fit(runs[1], [], checkpoints, Silent())
    newest = checkpoints.newest()
    assert (list(kept["weights"]), newest) == (names, None)
    checkpoints.save(3, runs[1].capture())
    newest = checkpoints.newest()
    assert newest is not None
    assert (list(newest["model"]), list(newest["average"]["mean"])) == (names, names)


@needs_compiler
@pytest.mark.faults
@pytest.mark.timeout(1800)
def test_a_compiled_repairing_net_learns_as_an_eager_one(corpus_dir: Path, one_thread: None) -> None:
    config = RepairConfig(channels=2, tfcm_layers=1, gtcm_hidden=2, gtcm_groups=1, head_channels=2)
    torch.manual_seed(0)
    eager, compiled = RepairNet(config, causal=False), RepairNet(config, causal=False)
    compiled.load_state_dict(eager.state_dict())
    runs = [run_of(eager, corpus_dir, compiled=False), run_of(compiled, corpus_dir, compiled=True)]
    expected, ours = (losses_of(run) for run in runs)
    assert ours == pytest.approx(expected, rel=1e-3)
    assert list(compiled.state_dict()) == list(eager.state_dict())


def what_a_failing_compiler_brings(corpus_dir: Path, folder: Path) -> BaseException:
    """Compile with a compiler that complains at length and gives up, as one does that Ctrl-C reached."""
    failing = folder / "c++"
    failing.write_text(
        f'#!/bin/sh\ncase "$*" in *--version*) exec {compiler()} "$@";; esac\nseq 1 3000\nexit 1\n'
    )
    failing.chmod(0o755)
    run = run_of(OneLayer(), corpus_dir, compiled=True)
    options: Any = torch._inductor.config
    with (
        options.patch({"cpp.cxx": (str(failing),)}),
        fresh_cache(dir=str(folder)),
        pytest.raises(Exception) as raised,
    ):
        run.step(Window())
    assert str(raised.value).count("\n") > 3000
    return raised.value


@needs_compiler
def test_a_compiler_that_fails_is_told_of_in_a_sentence(
    corpus_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_thread: None
) -> None:
    error = what_a_failing_compiler_brings(corpus_dir, tmp_path)
    asked = False

    def fails(*_: object) -> None:
        if asked:
            signal.raise_signal(signal.SIGINT)
        raise error

    monkeypatch.setattr("training.run.fit", fails)
    monkeypatch.setattr("training.run.compile_network", lambda network: None)
    experiment = load_experiment("tiny", [*MICRO, "optimisation.compile=true"])
    endings = Endings()
    with pytest.raises(JobError) as told:
        train(experiment, corpus_dir, tmp_path / "run", device="cpu", trackers=[endings])
    assert re.fullmatch(
        r"optimisation\.compile: torch could not compile the networks "
        r"\(InductorError: CppCompileError: C\+\+ compile error\); "
        "set optimisation.compile=false, or see all of it with --debug",
        str(told.value),
    )
    assert endings.seen == [("failed", str(told.value))]
    asked = True  # the compiler died of the same Ctrl-C
    with pytest.raises(KeyboardInterrupt):
        train(experiment, corpus_dir, tmp_path / "other", device="cpu", trackers=[endings])
    assert endings.seen[1:] == [("stopped", "interrupted while compiling")]


def test_errors_of_others_are_not_the_compiler_s() -> None:
    assert why_not_compiled(RuntimeError("out of memory")) is None


def test_compiling_without_a_compiler_is_refused_before_training(
    corpus_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(UserError, match="optimisation.compile: needs a C.. compiler.*CXX"):
        train(
            load_experiment("tiny", [*MICRO, "optimisation.compile=true"]), corpus_dir, tmp_path, device="cpu"
        )
    assert not list(tmp_path.iterdir())
