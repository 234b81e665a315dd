"""What the training loop costs beside its network: samples/s against a bare loop, taking turns in one process.

    python benchmarks/train_step.py [--stage teacher] [--seconds 20] [--device cpu] [--preset tiny]

Ours is `training.loop.fit` as it trains: batches out of FLAC shards, averaging, checks, metrics, checkpoints and
tracking to files, at the intervals of the shipped experiment. Bare is forward, backward, clipping and the same
optimiser on one batch that stays on the device. Both train the same stage of the same seed on batches of the same
size: 4 x 1 s of `tiny` on a CPU core (some 0.3 s a step, as in the demo), 16 x 3 s of `small` on CUDA. They take
turns every few steps, so that a machine whose speed drifts drifts for both; what was being read ahead when the turn
ends counts as ours. Validation is left out: how often it runs is the user's choice.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from datagen.environment import pin_threads

pin_threads()

import torch  # noqa: E402
from torch import Tensor  # noqa: E402

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "training"))
from training_corpus import write_corpus  # noqa: E402

from manifests.corpus import Corpus, open_corpus  # noqa: E402
from manifests.experiment import Experiment, StageName, StageSettings, load_experiment  # noqa: E402
from manifests.flat import flat  # noqa: E402
from training.bundle import Bundle, BundleInfo  # noqa: E402
from training.checkpoint import Checkpoints, Identity  # noqa: E402
from training.loop import Fit, Task, fit  # noqa: E402
from training.objective import LOSS  # noqa: E402
from training.precision import Precision  # noqa: E402
from training.recorded import Recorder  # noqa: E402
from training.shards import Reader  # noqa: E402
from training.stages import build_task  # noqa: E402
from training.stream import Batch, SampleStream  # noqa: E402
from training.tracker import FileTracker, Metric, Several, StageStart, Tracker  # noqa: E402
from training.window import Window  # noqa: E402

PRESETS = {"cpu": "tiny", "cuda": "small"}
TURN_STEPS = {"cpu": 3, "cuda": 25}
"""Short, since speed drifts; longer on CUDA, where each turn begins with an idle device."""
WARM_TURNS = 2


class BareLoop:
    """A network, a batch and an optimiser; on CUDA its step is recorded where ours is."""

    def __init__(
        self, task: Task, batch: Batch, experiment: Experiment, settings: StageSettings, device: torch.device
    ):
        self._task, self._settings = task, settings
        self._clip_norm = experiment.optimisation.clip_norm
        self._precision = Precision(experiment.optimisation, device)
        self._waves = batch.degraded.to(device), batch.target.to(device)
        self._weights = [weight for weight in task.trained.parameters() if weight.requires_grad]
        self._optimiser = torch.optim.Adam(self._weights, lr=settings.learning_rate, fused=True)
        recorded = device.type == "cuda" and experiment.optimisation.recorded_on_cuda
        self._recorder = Recorder(self._weights) if recorded else None
        task.prepare()

    def step(self) -> None:
        self._optimiser.zero_grad()  # before the forward pass, as ours: 4 % faster on a CPU than after it
        if self._recorder is None:
            self._gradients(*self._waves)
        else:
            self._recorder(self._gradients, *self._waves, "the same each time")
        torch.nn.utils.clip_grad_norm_(self._weights, self._clip_norm)
        self._optimiser.step()

    def _gradients(self, degraded: Tensor, target: Tensor) -> dict[str, Tensor]:
        with self._precision.autocast():
            losses = self._task.losses(degraded, target, 0)
        losses[LOSS].backward()  # type: ignore[no-untyped-call]
        return {LOSS: losses[LOSS].detach()}


@dataclass
class Turns:
    """Lets a bare loop do some steps before each few of ours, and keeps the time of both."""

    bare: BareLoop
    device: torch.device
    turn_steps: int
    turns: int = 0
    bare_steps: int = 0
    bare_s: float = 0.0
    bare_cpu_s: float = 0.0
    began_s: float = 0.0
    began_cpu_s: float = 0.0

    def bare_turn(self, stream: "PausedStream") -> None:
        stream.finish_reading()
        began, began_cpu = self._now(), time.process_time()
        for _ in range(self.turn_steps):
            self.bare.step()
        ended, ended_cpu = self._now(), time.process_time()
        self.turns += 1
        if self.turns == WARM_TURNS:
            self.began_s, self.began_cpu_s = ended, ended_cpu
        elif self.turns > WARM_TURNS:
            self.bare_s += ended - began
            self.bare_cpu_s += ended_cpu - began_cpu
            self.bare_steps += self.turn_steps

    def ours(self) -> tuple[float, float]:
        """Seconds, and seconds of processors, since the warm-up that were not the bare loop's."""
        seconds = self._now() - self.began_s - self.bare_s
        return seconds, time.process_time() - self.began_cpu_s - self.bare_cpu_s

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()


class PausedStream(SampleStream):
    """A stream whose reading ahead can be waited for."""

    def finish_reading(self) -> None:
        for future in self._ahead:
            future.result()


class TakingTurns(Fit):
    """Our loop, which lets the bare one go first every few steps."""

    turns: Turns

    def step(self, window: Window) -> None:
        if self.progress.step % self.turns.turn_steps == 0:
            assert isinstance(self.stream, PausedStream)
            self.turns.bare_turn(self.stream)
        super().step(window)


class TimeByPart(FileTracker):
    """Writes files, and adds up what the loop says that its parts took after a number of steps to warm up."""

    def __init__(self, warm_steps: int) -> None:
        super().__init__()
        self.seconds: dict[str, float] = {}
        self.steps = 0
        self._warm_steps = warm_steps
        self._step = 0

    def metrics(self, batch: Sequence[Metric]) -> None:
        super().metrics(batch)
        step = batch[0].step
        began, self._step = self._step, step
        if began < self._warm_steps:
            return
        self.steps += step - began
        for metric in batch:
            part = metric.name.removeprefix("time/").removesuffix("_s")
            if metric.name.startswith("time/") and part != "tracking":
                self.seconds[part] = self.seconds.get(part, 0.0) + metric.value * (step - began)


def steps_for(bare: BareLoop, seconds: float, device: torch.device, least: int) -> int:
    """How many steps the bare loop does in so many seconds, or the least that tell anything."""
    for timed in (False, True):
        began = time.perf_counter()
        for _ in range(2):
            bare.step()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        if timed:
            return max(least, round(2 * seconds / (time.perf_counter() - began)))
    raise AssertionError


def measure(
    corpus: Corpus,
    folder: Path,
    preset: str,
    stage: StageName,
    device: torch.device,
    seconds: float,
    settings_given: Sequence[str],
) -> None:
    experiment = load_experiment(preset, ["validation.samples=0", *settings_given])
    settings = experiment.stages.of(stage)
    loader = experiment.loader
    reader = Reader(corpus, "train")
    with PausedStream(
        reader,
        0,
        settings.batch_size,
        settings.segment_s,
        loader.threads,
        loader.prefetch_batches,
        pinned=device.type == "cuda",
    ) as stream:
        bare = BareLoop(task_of(stage, experiment, device), stream.batch_at(0), experiment, settings, device)
        turn_steps = TURN_STEPS[device.type]
        steps = steps_for(bare, seconds, device, least=2 * experiment.records.metrics_every)
        settings = settings.model_copy(update={"steps": steps + turn_steps * WARM_TURNS})
        run = TakingTurns(task_of(stage, experiment, device), stream, experiment, settings, device)
        run.turns = Turns(bare, device, turn_steps)
        tracker = TimeByPart(turn_steps * (WARM_TURNS - 1))
        start(Several((tracker,)), experiment, stage, corpus, folder, run)
        fit(run, [], Checkpoints(folder / "checkpoints", Identity(stage, "", "", {}), 2), tracker)
        ours_s, ours_cpu_s = run.turns.ours()
    report(run, tracker, ours_s, ours_cpu_s, experiment, stage)


def task_of(stage: StageName, experiment: Experiment, device: torch.device) -> Task:
    """The stage's task on untrained networks."""
    parent = None
    for earlier in ("teacher", "student", "denoiser"):
        if earlier == stage:
            break
        network = build_task(earlier, experiment, parent, device).network
        info = BundleInfo.model_construct(stage=earlier)
        parent = Bundle(network.eval(), info, Path(earlier))
    return build_task(stage, experiment, parent, device)


def start(
    tracker: Tracker, experiment: Experiment, stage: StageName, corpus: Corpus, folder: Path, run: Fit
) -> None:
    tracker.stage_started(
        StageStart(
            experiment=experiment.name,
            stage=stage,
            stage_dir=folder,
            params=flat(experiment.written()),
            stage_digest=experiment.stage_digest(stage),
            corpus_place=str(corpus.url),
            corpus=corpus.manifest,
            parents=(),
            device=str(run.device),
            parameters=sum(weight.numel() for weight in run.weights),
            steps=run.settings.steps,
        )
    )


def report(
    run: TakingTurns,
    parts: TimeByPart,
    ours_s: float,
    ours_cpu_s: float,
    experiment: Experiment,
    stage: StageName,
) -> None:
    turns, settings = run.turns, run.settings
    steps = settings.steps - turns.turn_steps * (WARM_TURNS - 1)
    step_s, bare_step_s = ours_s / steps, turns.bare_s / turns.bare_steps
    each_s = {part: seconds / parts.steps for part, seconds in parts.seconds.items()}
    shares = ", ".join(f"{part} {1000 * seconds:.1f}" for part, seconds in each_s.items())
    device = run.device.type
    print(
        f"{experiment.preset} {stage}, {settings.batch_size} x {settings.segment_s:g} s a step, "
        f"{experiment.optimisation.precision}, {device}: {settings.batch_size / step_s:.2f} samples/s in "
        f"{steps} steps, {settings.batch_size / bare_step_s:.2f} bare in {turns.bare_steps}"
    )
    print(f"ms a step: {shares}; bare {1000 * bare_step_s:.1f}")
    if device == "cpu":  # waiting for a GPU is processor time too
        cpu_share = ours_cpu_s / steps / (turns.bare_cpu_s / turns.bare_steps)
        print(f"processor time a step, reading in other threads included: {cpu_share:.3f} of the bare loop's")
    print(
        f"train_step: overhead {step_s / bare_step_s - 1.0:.1%}, data wait {each_s['data'] / step_s:.1%} "
        f"({device})".replace("%", " %")
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--corpus", type=Path, help="a finished corpus; else one of tones is written first")
    parser.add_argument("--stage", default="teacher", choices=("teacher", "student", "denoiser", "joint"))
    parser.add_argument("--preset", help="else tiny on a CPU, small on CUDA")
    parser.add_argument(
        "--set", action="append", default=[], metavar="A.B=C", help="a setting of the experiment"
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), help="else the CPU, and CUDA where there is one")
    parser.add_argument(
        "--seconds", type=float, default=20.0, help="of the bare loop; ours takes as long again"
    )
    arguments = parser.parse_args()
    devices = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    with tempfile.TemporaryDirectory() as folder:
        root = arguments.corpus or write_corpus(
            Path(folder) / "corpus", train=32, val=0, per_shard=8, seconds=4.0
        )
        for device in [arguments.device] if arguments.device else devices:
            place = Path(folder) / device
            place.mkdir()
            preset = arguments.preset or PRESETS[device]
            measure(
                open_corpus(root),
                place,
                preset,
                arguments.stage,
                torch.device(device),
                arguments.seconds,
                arguments.set,
            )


if __name__ == "__main__":
    main()
