"""What `test_ranks` lets two processes do together: `python two_ranks.py CORPUS OUT`, with torchrun's variables set.

The same functions serve the test itself where it does alone what the two have shared.
"""

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path

import torch
from micro_experiment import MICRO
from torch import Tensor

from manifests.corpus import open_corpus
from manifests.errors import JobError
from manifests.experiment import Adversarial, load_experiment
from training.adversary import Adversary
from training.loop import Fit
from training.models.chain import Chain
from training.models.presets import build_denoiser, build_repair
from training.ranks import Ranks, joined
from training.run import train
from training.shards import Reader
from training.stages import DenoiserTask, TeacherTask, frozen
from training.stream import Batch, SampleStream
from training.window import Window

CPU = torch.device("cpu")
STEPS = 6
BATCH = 4
SETTINGS = [
    *MICRO,
    f"stages.teacher.steps={STEPS}",
    f"stages.teacher.batch_size={BATCH}",
    "records.checkpoint_every=2",
]
"""Batches of 4 of 12 samples: an epoch is 3 steps, so step 4 is in the second."""


JUDGED = Adversarial(stages=("teacher",), resolution_windows=(512,), band_windows=(512,), channels=2)
"""Small discriminators."""


class Judges(Adversary):
    """Discriminators that train from the first step and remember their gradients of the last."""

    gradients: list[Tensor]

    def __init__(self, ranks: Ranks, share: float, lead_steps: int) -> None:
        torch.manual_seed(0)
        super().__init__(JUDGED.model_copy(update={"start_share": 0.0, "lead_steps": lead_steps}), STEPS, CPU)
        self.join(ranks, share)

    def step(self, usable: Tensor) -> None:
        self.gradients = [weight.grad.clone() for weight in self.parameters if weight.grad is not None]
        super().step(usable)


class Still(TeacherTask):
    """In evaluation mode, where no batch norm couples samples; in float64, where sums in another order agree."""

    def prepare(self) -> None:
        self.network.double().eval()

    def losses(self, degraded: Tensor, target: Tensor, step: int) -> dict[str, Tensor]:
        return super().losses(degraded.double(), target.double(), step)


@dataclass
class Spoilt(DenoiserTask):
    """A denoiser whose loss is not finite in the second step of some processes."""

    here: bool = False

    def losses(self, degraded: Tensor, target: Tensor, step: int) -> dict[str, Tensor]:
        losses = super().losses(degraded, target, step)
        if self.here and step == 1:
            losses["loss"] = losses["loss"] * float("nan")
        return losses


def fitted(
    corpus: Path, ranks: Ranks, batch_size: int, spoilt: bool | None = None, stripe: Ranks | None = None
) -> Fit:
    """A stage at its start: the teacher in evaluation mode, or where `spoilt` is given the denoiser in training mode.

    Discriminators judge both, but have a say in the loss of the denoiser alone: the weight of what they say is measured
    by each rank on samples of its own. `stripe` lets a process that is alone take the samples of one rank.
    """
    experiment = load_experiment("tiny", SETTINGS)
    settings = experiment.stages.teacher.model_copy(update={"batch_size": batch_size})
    torch.manual_seed(0)
    if spoilt is None:
        task: Still | Spoilt = Still(build_repair("tiny", causal=False), experiment.loss)
        task.adversary = Judges(ranks, ranks.share(batch_size), lead_steps=STEPS)
        task.adversary.networks.double()
    else:
        chain = Chain(frozen(build_repair("tiny", causal=True)), build_denoiser("tiny"))
        task = Spoilt(chain, experiment.loss, here=spoilt)
        task.adversary = Judges(ranks, ranks.share(batch_size), lead_steps=0)
    task.prepare()
    part = stripe or ranks
    reader = Reader(open_corpus(corpus), "train")
    stream = SampleStream(reader, 0, batch_size, 0.1, rank=part.rank, ranks=part.count)
    return Fit(task, stream, experiment, settings, CPU, ranks)


def gradients(corpus: Path, ranks: Ranks, batch_size: int) -> list[Tensor]:
    """Gradients of one step, discriminators' included, and all weights after two."""
    run = fitted(corpus, ranks, batch_size)
    judges = judges_of(run)
    run.step(Window())
    first = [weight.grad.clone() for weight in run.weights if weight.grad is not None]
    first += judges.gradients
    run.step(Window())
    return [*first, *(weight.detach().clone() for weight in (*run.weights, *judges.parameters))]


def judges_of(run: Fit) -> Judges:
    """The discriminators of a stage that has some."""
    assert isinstance(run.task.adversary, Judges)
    return run.task.adversary


def statistics(corpus: Path, ranks: Ranks, stripe: Ranks | None = None) -> tuple[list[Tensor], float | None]:
    """Buffers after one step in training mode, and the measured weight of the adversarial terms."""
    run = fitted(corpus, ranks, 4, spoilt=False, stripe=stripe)
    run.step(Window())
    return [buffer.clone() for buffer in run.task.trained.buffers()], judges_of(run).weight


def spoilt_steps(corpus: Path, ranks: Ranks) -> dict[str, object]:
    """Three steps in training mode, of which the second is not finite on the last rank alone."""
    run = fitted(corpus, ranks, 4, spoilt=ranks.rank == ranks.count - 1)
    states = []
    for _ in range(3):
        run.step(Window())
        held = (run.task.trained, judges_of(run).networks)
        states.append([value.clone() for module in held for value in module.state_dict().values()])
    return {"states": states, "skipped": run.progress.skipped_steps}


def refused(corpus: Path, ranks: Ranks) -> str:
    """What is said where the last rank starts from other weights."""
    network = fitted(corpus, ranks, 4, spoilt=False).task.trained
    ranks.check_same(network, step=3)
    with torch.no_grad():
        next(network.parameters()).add_(1e-6 if ranks.rank == ranks.count - 1 else 0.0)
    try:
        ranks.check_same(network, step=3)
    except JobError as error:
        return str(error)
    return "nothing"


def after_the_other_left(ranks: Ranks) -> str:
    """What a rank says whose peer is gone."""
    try:
        ranks.wait()
    except JobError as error:
        return f"{type(error).__name__}: {error}"
    return "nothing"


class Stopped(Exception):
    """The process was told to stop here."""


@dataclass
class Recorded:
    """Training whose batches are noted: by the slot at which each step began, the keys that this rank had."""

    corpus: Path
    batches: list[tuple[int, tuple[str, ...]]] = field(default_factory=list)

    def train(self, run_dir: Path, stop_after: int = STEPS, resume: bool = False) -> str:
        """Train the teacher; say which weights it ended with, or nothing where it was stopped before."""
        original = SampleStream.__next__

        def noted(stream: SampleStream) -> Batch:
            slot = stream.state.epoch * 12 + stream.state.position
            if slot == stop_after * BATCH:
                raise Stopped
            batch = original(stream)
            self.batches.append((slot, batch.keys))
            return batch

        SampleStream.__next__ = noted  # type: ignore[method-assign]
        try:
            info = train(
                load_experiment("tiny", SETTINGS), self.corpus, run_dir, ["teacher"], resume, device="cpu"
            )
            return info["teacher"].weights_sha256
        except Stopped:
            return ""
        finally:
            SampleStream.__next__ = original  # type: ignore[method-assign]


def together(corpus: Path, out: Path) -> None:
    """Do on each rank what the tests look at, and leave it in `out`."""
    torch.set_num_threads(1)
    with joined(CPU) as ranks:
        results = {
            "gradients": {size: gradients(corpus, ranks, size) for size in (4, 3)},
            "statistics": statistics(corpus, ranks),
            "spoilt": spoilt_steps(corpus, ranks),
            "refused": refused(corpus, ranks),
        }
        torch.save(results, out / f"rank-{ranks.rank}.pt")
        # Training finds the ranks joined already, and leaves them so.
        whole, broken, mixed = (Recorded(corpus) for _ in range(3))
        ended = [whole.train(out / "two")]
        broken.train(out / "two broken", stop_after=5)
        ended.append(broken.train(out / "two broken", resume=True))
        mixed.train(out / "mixed", stop_after=5, resume=True)
        batches = {"whole": whole.batches, "broken": broken.batches, "mixed": mixed.batches}
        (out / f"rank-{ranks.rank}.json").write_text(json.dumps({"ended": ended, **batches}))
        if ranks.first:
            (out / "lost.txt").write_text(after_the_other_left(ranks))


if __name__ == "__main__":
    together(Path(sys.argv[1]), Path(sys.argv[2]))
