"""The loop: forward, loss, backward, clip, step; with validation, averaging, checkpoints and metrics.

It knows neither networks nor losses: a `Task` (`training.stages`) brings both. It takes its whole state
from a checkpoint and puts it there, so that a run which is killed between two steps and resumed ends with
the same weights (on CPU bit for bit).

A step never asks the device how it went. Whether loss and gradient were finite is decided there, and so is
what moves; the numbers are read some steps later, so that a GPU always has work waiting (`Fit.read`).

Discriminators are a part of a task, its `Adversary`: it leaves gradients in them while the task computes its
losses, and they move in the same step as the task's weights, or neither does.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from typing import Protocol

import torch
from torch import Tensor, nn

from manifests.experiment import Experiment, StageSettings
from training.adversary import Adversary
from training.average import Average
from training.best import Best
from training.bundle import Network, output_wave
from training.checkpoint import Checkpoints, State
from training.clock import StepClock
from training.losses.spectral import si_snr
from training.objective import LOSS, spectral_objective
from training.precision import Precision
from training.progress import GRADIENT_NORM, Progress
from training.ranks import ALONE, Ranks
from training.recorded import Recorder
from training.schedule import Schedule
from training.statistics import Statistics
from training.stream import Batch, SampleStream, StreamState
from training.tracker import Metric, Tracker, ValidationSample
from training.window import Outcome, Window

READ_EVERY_STEPS = {"cuda": 16}
"""How many steps a device may be behind; elsewhere each step is read at once."""


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

    def repeats(self, step: int) -> Hashable:
        """Return what tells this step's losses from another's, apart from the waves; None if it is like no other."""


class Fit:
    """One stage's training in progress: everything that a checkpoint holds.

    Args:
        task: what is trained, on its device already.
        stream: batches without end.
        experiment: its `optimisation`, `validation` and `records` are used.
        settings: of the stage.
        device: where the task's networks are.
        ranks: this process among those that train together.
    """

    def __init__(
        self,
        task: Task,
        stream: SampleStream,
        experiment: Experiment,
        settings: StageSettings,
        device: torch.device,
        ranks: Ranks = ALONE,
    ) -> None:
        self.task, self.stream, self.experiment, self.settings = task, stream, experiment, settings
        self.device = device
        self.ranks, self.share = ranks, ranks.share(settings.batch_size)
        self.progress = Progress()
        self.weights = [weight for weight in task.trained.parameters() if weight.requires_grad]
        # Fused: one operation for all weights, which can be told on the device to move none of them.
        self.optimiser = torch.optim.Adam(self.weights, lr=settings.learning_rate, fused=True)
        self.precision = Precision(experiment.optimisation, device)
        self.schedule = Schedule(settings)
        self.average = Average(task.trained, experiment.optimisation.ema_decay)
        self.statistics = Statistics(task.trained)
        self.best = Best(experiment.validation.best_by)
        self.recorder = (
            Recorder(self.weights)
            if device.type == "cuda" and experiment.optimisation.recorded_on_cuda
            else None
        )
        self.clock = StepClock(device)
        self.asked_to_stop: Callable[[], bool] = lambda: False
        """Whether this rank was asked to end the stage before its last step."""
        self.stops = False
        """Whether any rank was, as all of them know since they last read."""
        self._damaged = 0
        """Samples of this rank that were replaced since then."""
        self._unread: list[Outcome] = []
        self.read_every = READ_EVERY_STEPS.get(device.type, 1)

    @property
    def learning_rate(self) -> float:
        """The learning rate of the next step."""
        return self.schedule.rate(self.progress.step)

    @property
    def stopped_after(self) -> int | None:
        """The step after which too many validations in a row had had no better result; None before there is one.

        While discriminators wait for their turn, a stage is not stopped.
        """
        stale, step = self.best.stale_validations, self.progress.step
        early = 0 < self.settings.stop_after <= stale and self._adversary_begins <= step < self.settings.steps
        return step if early else None

    @property
    def early_end(self) -> str:
        """Why the stage did not do all its steps, in a sentence; empty where it did."""
        if self.stopped_after is None:
            return ""
        return (
            f"stopped early after step {self.stopped_after} of {self.settings.steps}: "
            f"{self.best.stale_validations} validations in a row had no better {self.best.by}"
        )

    @property
    def done(self) -> bool:
        """Whether there is no further step to do."""
        return self.progress.step >= self.settings.steps or self.stopped_after is not None

    @property
    def _adversary_begins(self) -> int:
        """The first step in which discriminators have a say; 0 where none ever has."""
        adversary = self.task.adversary
        return (
            adversary.first_word
            if adversary is not None and adversary.first_word < self.settings.steps
            else 0
        )

    def turn_to_adversary(self) -> None:
        """Where discriminators have a say from the next step on, compare validations with later ones alone.

        What is best by spectral losses is so just before: kept for good, it would make the discriminators' work vain.
        """
        if 0 < self._adversary_begins == self.progress.step:
            self.best.forget()
            self.schedule.forget()

    def capture(self) -> State:
        """Return the whole state, between two steps that have been read."""
        assert not self._unread
        state: State = {
            "progress": asdict(self.progress),
            "model": self.task.trained.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "scaler": self.precision.scaler.state_dict(),
            "schedule": self.schedule.state_dict(),
            "average": self.average.state_dict(),
            "best": self.best.state_dict(),
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
        self.precision.scaler.load_state_dict(state["scaler"])
        self.schedule.load_state_dict(state["schedule"])
        self.average.load_state_dict(state["average"])
        self.best.load_state_dict(state["best"])
        if self.task.adversary is not None:
            self.task.adversary.load_state_dict(state["adversary"])
        torch.set_rng_state(state["random"]["cpu"])
        if self.device.type == "cuda" and "cuda" in state["random"]:
            torch.cuda.set_rng_state(state["random"]["cuda"], self.device)

    def step(self, window: Window) -> None:
        """Do one step: gradients of the next batches, and a move of the weights if loss and gradient are finite.

        Raises:
            JobError: when too many steps in a row had to be skipped.
        """
        self.clock.mark("tracking")  # whatever was done since the step before
        # Batch norms take statistics even from a batch that turns out to be unusable.
        self.statistics.keep()
        self.optimiser.zero_grad()
        parts = self.experiment.optimisation.accumulate
        losses: dict[str, Tensor] = {}
        keys: tuple[str, ...] = ()
        for _ in range(parts):
            batch = next(self.stream)
            degraded, target = self._on_device(batch.degraded), self._on_device(batch.target)
            self.clock.mark("data")
            for name, value in self._gradients(degraded, target).items():
                losses[name] = losses[name] + value if name in losses else value
            keys += batch.keys
            self._damaged += len(batch.damaged)
        # From here on all ranks hold the same numbers, so that they decide alike whether the step is usable.
        self.ranks.average_gradients(self.weights, self.share)
        self.ranks.average_changes(self.statistics.changes(), self.share)
        losses = self.ranks.mean(losses, self.share)

        norm = self._move(losses)
        self.progress.step += 1
        names, values = (*losses, GRADIENT_NORM), torch.stack((*losses.values(), norm))
        self._unread.append(Outcome(self.progress.step, names, values, keys))
        self.clock.mark("step")
        if len(self._unread) >= self.read_every:
            self.read(window)

    def _on_device(self, wave: Tensor) -> Tensor:
        # From pinned memory: otherwise the copy would wait for all that the device still has to do.
        return wave.to(self.device, non_blocking=True)

    def _gradients(self, degraded: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Add this batch's share to the gradients and return the same share of its losses."""
        if self.recorder is None:
            return self._computed(degraded, target, self.clock.mark)
        losses = self.recorder(
            lambda *waves: self._computed(waves[0], waves[1], lambda part: None),
            degraded,
            target,
            self.task.repeats(self.progress.step),
        )
        self.clock.mark("gradients")
        return losses

    def _computed(self, degraded: Tensor, target: Tensor, mark: Callable[[str], None]) -> dict[str, Tensor]:
        parts = self.experiment.optimisation.accumulate
        with self.precision.autocast():
            losses = self.task.losses(degraded, target, self.progress.step)
        mark("forward")
        self.precision.scaler.scale(losses[LOSS] / parts).backward()  # type: ignore[no-untyped-call]
        mark("backward")
        return {name: value.detach().float() / parts for name, value in losses.items()}

    def _move(self, losses: dict[str, Tensor]) -> Tensor:
        """Clip the gradients and move the weights, if all is finite; return the norm before clipping.

        Where discriminators are not finite, the total loss becomes so: then it is not its scale that was too high.
        """
        self.precision.scaler.unscale_(self.optimiser)
        norm = nn.utils.clip_grad_norm_(self.weights, self.experiment.optimisation.clip_norm)
        adversary = self.task.adversary
        if adversary is not None:
            losses[LOSS] = torch.where(adversary.ready(), losses[LOSS], torch.nan)
        finite = torch.isfinite(losses[LOSS]) & torch.isfinite(norm)
        for group in self.optimiser.param_groups:
            group["lr"] = self.learning_rate
        # As torch's own scaler tells a fused optimiser what it found, on the device.
        self.optimiser.found_inf = (~finite).float()  # type: ignore[attr-defined]
        self.optimiser.step()
        if adversary is not None:
            adversary.step(finite)
        self.precision.scaler.update()
        self.statistics.put_back_unless(finite)
        self.average.update(finite)
        return norm

    def read(self, window: Window) -> None:
        """Learn what the steps since the last reading came to; the device has to finish them first.

        Raises:
            JobError: when too many steps in a row had to be skipped.
        """
        scaled, most = self.precision.scaler.is_enabled(), self.experiment.optimisation.max_nan_steps
        for outcome in self._unread:
            window.add(self.progress.count(outcome, scaled, most))
        self._unread.clear()
        damaged, asked = self.ranks.totals(self._damaged, int(self.asked_to_stop()))
        self.progress.damaged_samples += damaged
        self.stops = self.stops or asked > 0
        self._damaged = 0
        window.spend(self.clock.take())

    def validate(self, held_out: Sequence[Batch]) -> tuple[dict[str, float], list[ValidationSample]]:
        """Judge the averaged weights on held-out batches; return mean metrics and the first samples as audio.

        `loss` is the weighted spectral loss of the final output whatever the stage, so stages can be
        compared. Every rank judges all of them: so the result does not depend on the number of ranks.
        """
        sums: dict[str, Tensor] = {}
        shown: list[ValidationSample] = []
        wanted = self.experiment.validation.shown
        self.task.network.eval()
        # Compiling for the shapes and the mode of a validation would take longer than it.
        compiled = self.experiment.optimisation.compile
        eager = torch.compiler.set_stance("force_eager") if compiled else nullcontext()
        with self.average.applied(), torch.inference_mode(), eager:
            for batch in held_out:
                target = batch.target.to(self.device)
                with self.precision.autocast():
                    estimate = output_wave(self.task.network, batch.degraded.to(self.device))
                judged = spectral_objective(estimate, target, self.experiment.loss)
                judged["si_snr_db"] = si_snr(estimate, target).mean()
                for name, value in judged.items():
                    sums[name] = sums.get(name, torch.zeros((), device=self.device)) + value * len(target)
                if len(shown) < wanted:
                    shown += _as_audio(batch, estimate)
        self.task.prepare()
        count = sum(len(batch.keys) for batch in held_out)
        means = {name: float(value) / count for name, value in sums.items()}
        return self.ranks.from_first(means), shown[:wanted]

    def take_note(self, judged: Mapping[str, float]) -> bool:
        """Note a validation's metrics, which may lower the learning rate or end the stage; say if it is the best."""
        better = self.best.take(judged)
        self.schedule.take_note(better)
        return better


def fit(run: Fit, held_out: Sequence[Batch], checkpoints: Checkpoints, tracker: Tracker) -> State:
    """Train until the stage's last step, starting from wherever `run` stands.

    Returns:
        The kept state: `step`, `weights` of the trained part and validation `metrics`. It is the best
        validated average, or the last where nothing is held out.

    Raises:
        JobError: when too many steps in a row are not finite, or too many samples are damaged.
        KeyboardInterrupt: when a rank was asked to stop; the last step that was done has its checkpoint.
    """
    records, settings, progress = run.experiment.records, run.settings, run.progress
    window = Window()
    run.task.prepare()
    while not run.done:
        run.step(window)
        step = progress.step
        if held_out and (step == settings.steps or step % settings.validate_every == 0):
            judged, shown = run.validate(held_out)
            tracker.metrics([Metric(f"val/{name}", value, step) for name, value in judged.items()])
            tracker.validation_samples(step, shown)
            if run.take_note(judged):
                checkpoints.save_best(step, {"weights": run.average.weights, "metrics": judged})
        run.turn_to_adversary()
        saving = run.done or run.stops or step % records.checkpoint_every == 0
        if saving or step % records.metrics_every == 0:
            run.read(window)
            tracker.metrics([*window.metrics(step), *_counters(run)])
            window = Window()
        if saving:
            checkpoints.save(step, run.capture())
        if saving and run.stops and not run.done:
            raise KeyboardInterrupt
    if run.best.value is None:
        checkpoints.save_best(progress.step, {"weights": run.average.weights, "metrics": {}})
    run.ranks.wait()  # for the one that writes
    return checkpoints.best()


def _counters(run: Fit) -> list[Metric]:
    values = {
        "learning_rate": run.learning_rate,
        "skipped_steps": run.progress.skipped_steps,
        "damaged_samples": run.progress.damaged_samples,
        "epoch": run.stream.state.epoch,
    }
    if run.precision.scaler.is_enabled():
        values |= {
            "overflowed_steps": run.progress.overflowed_steps,
            "loss_scale": run.precision.scaler.get_scale(),
        }
    return [Metric(f"train/{name}", float(value), run.progress.step) for name, value in values.items()]


def _as_audio(batch: Batch, estimate: Tensor) -> list[ValidationSample]:
    waves = zip(batch.keys, batch.degraded.numpy(), batch.target.numpy(), estimate.cpu().numpy(), strict=True)
    return [ValidationSample(*wave) for wave in waves]
