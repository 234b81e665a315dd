"""The loop: forward, loss, backward, clip, step; with validation, averaging, checkpoints and metrics.

It knows neither networks nor losses: a `Task` (`training.stages`) brings both. It takes its whole state
from a checkpoint and puts it there, so that a run which is killed between two steps and resumed ends with
the same weights (on CPU bit for bit).

Discriminators are a part of a task, its `Adversary`: it leaves gradients in them while the task computes its
losses, and they move in the same step as the task's weights, or neither does.
"""

import logging
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from manifests.errors import JobError
from manifests.experiment import Experiment, StageSettings
from training.adversary import Adversary
from training.average import Average
from training.bundle import Network, output_wave
from training.checkpoint import Checkpoints, State
from training.losses.spectral import si_snr
from training.objective import LOSS, spectral_objective
from training.stream import Batch, SampleStream, StreamState
from training.tracker import Metric, Tracker, ValidationSample

log = logging.getLogger(__name__)


class Task(Protocol):
    """What a stage trains, and against what."""

    adversary: Adversary | None
    """The discriminators that judge its output, if it has some."""

    @property
    def network(self) -> Network:
        """What enhances audio, frozen parts included."""

    @property
    def trained(self) -> nn.Module:
        """The part of it whose weights move."""

    def prepare(self) -> None:
        """Put every module in the mode in which it is trained (frozen parts in evaluation mode)."""

    def losses(self, degraded: Tensor, target: Tensor, step: int) -> dict[str, Tensor]:
        """Return scalar losses for waves (B, N) after `step` steps; `loss` is the total to be minimised."""


@dataclass
class Progress:
    """How far a stage has come."""

    step: int = 0
    skipped_steps: int = 0
    """Steps without a finite loss and gradient, which moved no weight."""
    skipped_in_row: int = 0
    damaged_samples: int = 0
    """Samples that could not be read and were replaced."""
    best_loss: float = math.inf
    stale_validations: int = 0
    """Since the loss was last better, or the learning rate last halved."""


@dataclass
class Window:
    """Means of what happened since metrics were last sent; stays on the device until then."""

    sums: dict[str, Tensor] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    """Steps that had each value: adversarial terms may begin within a window."""
    seconds: dict[str, float] = field(default_factory=dict)
    steps: int = 0

    def add(self, values: dict[str, Tensor] | None, seconds: dict[str, float]) -> None:
        """Take in one step; `values` is None for one that was skipped."""
        self.steps += 1
        for name, taken in seconds.items():
            self.seconds[name] = self.seconds.get(name, 0.0) + taken
        if values is not None:
            for name, value in values.items():
                self.sums[name] = self.sums[name] + value.detach() if name in self.sums else value.detach()
                self.counts[name] = self.counts.get(name, 0) + 1

    def metrics(self, step: int) -> list[Metric]:
        """Return the means as metrics of `step`."""
        names = list(self.sums)
        values = torch.stack([self.sums[name].float() for name in names]).tolist() if names else []
        trained = [
            Metric(f"train/{name}", value / self.counts[name], step)
            for name, value in zip(names, values, strict=True)
        ]
        timed = [Metric(f"time/{name}_s", value / self.steps, step) for name, value in self.seconds.items()]
        return [*trained, *timed]


class Fit:
    """One stage's training in progress: everything that a checkpoint holds.

    Args:
        task: what is trained, on its device already.
        stream: batches without end.
        experiment: its `optimisation`, `validation` and `records` are used.
        settings: of the stage.
        device: where the task's networks are.
    """

    def __init__(
        self,
        task: Task,
        stream: SampleStream,
        experiment: Experiment,
        settings: StageSettings,
        device: torch.device,
    ) -> None:
        self.task, self.stream, self.experiment, self.settings = task, stream, experiment, settings
        self.device = device
        self.progress = Progress()
        self.weights = [weight for weight in task.trained.parameters() if weight.requires_grad]
        self.optimiser = torch.optim.Adam(self.weights, lr=settings.learning_rate)
        self.average = Average(task.trained, experiment.optimisation.ema_decay)

    @property
    def learning_rate(self) -> float:
        """The learning rate of the next step."""
        return float(self.optimiser.param_groups[0]["lr"])

    def capture(self) -> State:
        """Return the whole state, between two steps."""
        state: State = {
            "progress": asdict(self.progress),
            "model": self.task.trained.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "average": self.average.state_dict(),
            "stream": asdict(self.stream.state),
            "random": {"cpu": torch.get_rng_state()},
        }
        if self.device.type == "cuda":
            state["random"]["cuda"] = torch.cuda.get_rng_state(self.device)
        if self.task.adversary is not None:
            state["adversary"] = self.task.adversary.state_dict()
        return state

    def resume(self, state: State) -> None:
        """Go on from a captured state."""
        self.stream.restore(StreamState(**state["stream"]))
        self.progress = Progress(**state["progress"])
        self.task.trained.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.average.load_state_dict(state["average"])
        if self.task.adversary is not None:
            self.task.adversary.load_state_dict(state["adversary"])
        torch.set_rng_state(state["random"]["cpu"])
        if self.device.type == "cuda" and "cuda" in state["random"]:
            torch.cuda.set_rng_state(state["random"]["cuda"], self.device)

    def step(self, window: Window) -> None:
        """Do one step: the next batch, its losses and gradients, and a move of the weights if all is finite.

        Raises:
            JobError: when too many steps in a row had to be skipped.
        """
        began = time.perf_counter()
        batch = next(self.stream)
        degraded = batch.degraded.to(self.device, non_blocking=True)
        target = batch.target.to(self.device, non_blocking=True)
        loaded = time.perf_counter()
        # Batch norms take statistics even from a batch that turns out to be unusable.
        buffers = [(buffer, buffer.clone()) for buffer in self.task.trained.buffers()]
        with self._precision():
            losses = self.task.losses(degraded, target, self.progress.step)
        forwarded = time.perf_counter()
        self.optimiser.zero_grad()
        losses[LOSS].backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(self.weights, self.experiment.optimisation.clip_norm)
        adversary = self.task.adversary
        ready = adversary is None or adversary.ready()
        finite = ready and bool(torch.isfinite(losses[LOSS].detach() + norm))
        backwarded = time.perf_counter()
        if finite:
            self.optimiser.step()
            self.average.update()
            if adversary is not None:
                adversary.step()
        else:
            for buffer, before in buffers:
                buffer.copy_(before)
            if adversary is not None:
                adversary.discard()
        stepped = time.perf_counter()

        self.progress.step += 1
        self.progress.damaged_samples += len(batch.damaged)
        seconds = {
            "data": loaded - began,
            "forward": forwarded - loaded,
            "backward": backwarded - forwarded,
            "step": stepped - backwarded,
        }
        window.add({**losses, "gradient_norm": norm} if finite else None, seconds)
        self._count_skipped(finite, batch)

    def _count_skipped(self, finite: bool, batch: Batch) -> None:
        if finite:
            self.progress.skipped_in_row = 0
            return
        self.progress.skipped_steps += 1
        self.progress.skipped_in_row += 1
        log.warning("step %d: loss or gradient is not finite; no weight moved", self.progress.step)
        if self.progress.skipped_in_row >= self.experiment.optimisation.max_nan_steps:
            raise JobError(
                f"{self.progress.skipped_in_row} steps in a row had no finite loss and gradient, the last of them "
                f"step {self.progress.step} with samples {', '.join(batch.keys[:4])}; try a lower learning rate"
            )

    def validate(self, held_out: Sequence[Batch]) -> tuple[dict[str, float], list[ValidationSample]]:
        """Judge the averaged weights on held-out batches; return mean metrics and the first samples as audio.

        `loss` is the weighted spectral loss of the final output whatever the stage, so stages can be
        compared.
        """
        sums: dict[str, Tensor] = {}
        shown: list[ValidationSample] = []
        wanted = self.experiment.validation.shown
        self.task.network.eval()
        with self.average.applied(), torch.inference_mode():
            for batch in held_out:
                target = batch.target.to(self.device)
                with self._precision():
                    estimate = output_wave(self.task.network, batch.degraded.to(self.device))
                judged = spectral_objective(estimate, target, self.experiment.loss)
                judged["si_snr_db"] = si_snr(estimate, target).mean()
                for name, value in judged.items():
                    sums[name] = sums.get(name, torch.zeros((), device=self.device)) + value * len(target)
                if len(shown) < wanted:
                    shown += _as_audio(batch, estimate)
        self.task.prepare()
        count = sum(len(batch.keys) for batch in held_out)
        return {name: float(value) / count for name, value in sums.items()}, shown[:wanted]

    def take_note(self, loss: float) -> bool:
        """Note a validation's loss; after too many without a better one, halve the rate. Say if it is the best."""
        if loss < self.progress.best_loss:
            self.progress.best_loss, self.progress.stale_validations = loss, 0
            return True
        self.progress.stale_validations += 1
        if self.settings.halve_after and self.progress.stale_validations >= self.settings.halve_after:
            self.progress.stale_validations = 0
            for group in self.optimiser.param_groups:
                group["lr"] /= 2.0
        return False

    def _precision(self) -> Any:
        wanted = self.experiment.optimisation.precision == "bfloat16"
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=wanted)


def fit(run: Fit, held_out: Sequence[Batch], checkpoints: Checkpoints, tracker: Tracker) -> State:
    """Train until the stage's last step, starting from wherever `run` stands.

    Returns:
        The kept state: `step`, `weights` of the trained part and validation `metrics`. It is the best
        validated average, or the last where nothing is held out.

    Raises:
        JobError: when too many steps in a row are not finite, or too many samples are damaged.
    """
    records, settings, progress = run.experiment.records, run.settings, run.progress
    window = Window()
    run.task.prepare()
    while progress.step < settings.steps:
        run.step(window)
        step = progress.step
        last = step == settings.steps
        if held_out and (last or step % settings.validate_every == 0):
            judged, shown = run.validate(held_out)
            tracker.metrics([Metric(f"val/{name}", value, step) for name, value in judged.items()])
            tracker.validation_samples(step, shown)
            if run.take_note(judged[LOSS]):
                checkpoints.save_best(step, {"weights": run.average.weights, "metrics": judged})
        saving = last or step % records.checkpoint_every == 0
        if saving or step % records.metrics_every == 0:
            tracker.metrics([*window.metrics(step), *_counters(run)])
            window = Window()
        if saving:
            checkpoints.save(step, run.capture())
    if not math.isfinite(progress.best_loss):
        checkpoints.save_best(progress.step, {"weights": run.average.weights, "metrics": {}})
    return checkpoints.best()


def _counters(run: Fit) -> list[Metric]:
    values = {
        "learning_rate": run.learning_rate,
        "skipped_steps": run.progress.skipped_steps,
        "damaged_samples": run.progress.damaged_samples,
        "epoch": run.stream.state.epoch,
    }
    return [Metric(f"train/{name}", float(value), run.progress.step) for name, value in values.items()]


def _as_audio(batch: Batch, estimate: Tensor) -> list[ValidationSample]:
    waves = zip(batch.keys, batch.degraded.numpy(), batch.target.numpy(), estimate.cpu().numpy(), strict=True)
    return [ValidationSample(*wave) for wave in waves]
