"""The best validation by a chosen metric, and stages that end when there is no better one."""

import json
from pathlib import Path
from typing import get_args

import pytest
import torch
from micro_experiment import MICRO

from manifests.corpus import open_corpus
from manifests.errors import UserError
from manifests.experiment import BestBy, Experiment, load_experiment
from training.best import Best
from training.bundle import read_info
from training.checkpoint import read_checkpoint
from training.loop import Fit
from training.run import train
from training.shards import Reader
from training.stages import build_task
from training.stream import SampleStream, fixed_batches
from training.tracker import LineTracker, Metric

NAN = float("nan")


def test_a_lower_loss_is_better_and_a_higher_si_snr() -> None:
    loss, si_snr_db = Best("loss"), Best("si_snr_db")
    values = (NAN, 1.0, 1.5, 0.5, 0.5, NAN, 2.0)
    assert [loss.take({"loss": v}) for v in values] == [False, True, False, True, False, False, False]
    assert (loss.value, loss.stale_validations) == (0.5, 3)
    assert [si_snr_db.take({"si_snr_db": v}) for v in values] == [
        False,
        True,
        True,
        False,
        False,
        False,
        True,
    ]
    assert (si_snr_db.value, si_snr_db.stale_validations) == (2.0, 0)


def test_every_metric_of_a_validation_may_be_chosen(
    corpus_dir: Path, micro: Experiment, one_thread: None
) -> None:
    corpus = open_corpus(corpus_dir)
    task = build_task("teacher", micro, None, torch.device("cpu"))
    stream = SampleStream(Reader(corpus, "train"), 0, 2, 0.1)
    run = Fit(task, stream, micro, micro.stages.teacher, torch.device("cpu"))
    judged, _ = run.validate(fixed_batches(Reader(corpus, "val"), 1, 0.1, 1))
    assert judged.keys() == set(get_args(BestBy))


def test_an_unknown_metric_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(UserError, match="validation.best_by.*'loss'.*'level_error_db' or 'si_snr_db'"):
        load_experiment("tiny", ["validation.best_by=pesq"])


def test_stopping_early_without_validation_is_refused() -> None:
    with pytest.raises(
        UserError, match="stages.joint.stop_after needs validation, and validation.samples is 0"
    ):
        load_experiment("tiny", ["validation.samples=0", "stages.joint.stop_after=2"])


# So high a rate makes results worse from the second validation on; the average, which begins elsewhere, is off.
WORSE = [
    *MICRO,
    "stages.teacher={steps: 40, batch_size: 2, segment_s: 0.1, validate_every: 1, learning_rate: 1.0}",
    "stages.teacher.stop_after=3",
    "validation.best_by=si_snr_db",
    "optimisation.ema_decay=0.0",
    "records.checkpoint_every=2",
]


class Results(LineTracker):
    """Keeps the results of validations, and interrupts the run after a step."""

    def __init__(self, until: int) -> None:
        super().__init__(lambda line: None)
        self.until, self.si_snr_db = until, dict[int, float]()

    def metrics(self, batch: list[Metric]) -> None:  # type: ignore[override]
        for metric in batch:
            if metric.name == "val/si_snr_db":
                self.si_snr_db[metric.step] = metric.value
                if metric.step == self.until:
                    raise KeyboardInterrupt


def test_a_stage_ends_after_stale_validations_also_when_it_was_interrupted_among_them(
    corpus_dir: Path, tmp_path: Path, one_thread: None
) -> None:
    experiment = load_experiment("tiny", WORSE)

    def run(out: str, until: int = 0, resume: bool = False) -> Results:
        results = Results(until)
        train(experiment, corpus_dir, tmp_path / out, ["teacher"], resume, "cpu", [results])
        return results

    results = run("whole").si_snr_db
    info = read_info(tmp_path / "whole" / "teacher" / "model")
    best = max(results, key=lambda step: results[step])
    assert len(results) < 40
    assert (info.steps, info.stopped_after_step) == (best, len(results)) == (best, best + 3)
    assert info.metrics["si_snr_db"] == pytest.approx(results[best], abs=1e-5)
    newest = read_checkpoint(max((tmp_path / "whole" / "teacher" / "checkpoints").glob("step-*.pt")))
    assert newest["step"] == best + 3

    with pytest.raises(KeyboardInterrupt):
        run("cut", until=best + 2)
    run("cut", resume=True)
    assert read_info(tmp_path / "cut" / "teacher" / "model") == info
    for out in ("whole", "cut"):
        lines = (tmp_path / out / "teacher" / "events.jsonl").read_text().splitlines()
        ended = json.loads(lines[-1])
        assert ended["status"] == "finished"
        sentence = (
            f"stopped early after step {best + 3} of 40: 3 validations in a row had no better si_snr_db"
        )
        assert ended["message"] == sentence


def test_a_best_result_that_was_lost_is_said_on_resuming_and_the_best_after_it_is_kept(
    corpus_dir: Path, tmp_path: Path, one_thread: None, caplog: pytest.LogCaptureFixture
) -> None:
    experiment = load_experiment("tiny", [*WORSE, "stages.teacher.stop_after=0", "stages.teacher.steps=6"])
    with pytest.raises(KeyboardInterrupt):
        train(experiment, corpus_dir, tmp_path, ["teacher"], device="cpu", trackers=[Results(5)])
    best = tmp_path / "teacher" / "checkpoints" / "best.pt"
    assert read_checkpoint(best)["step"] <= 4  # the resumed run goes on from there and does not find it again
    best.write_bytes(best.read_bytes()[:1000])
    train(experiment, corpus_dir, tmp_path, ["teacher"], True, "cpu")
    assert f"{best}: damaged or truncated" in caplog.text
    assert read_info(tmp_path / "teacher" / "model").steps in (5, 6)


def test_a_stage_that_did_all_its_steps_says_nothing_of_stopping(
    corpus_dir: Path, tmp_path: Path, one_thread: None
) -> None:
    settings = [*MICRO, "stages.teacher.stop_after=3"]
    train(load_experiment("tiny", settings), corpus_dir, tmp_path, ["teacher"], device="cpu")
    assert read_info(tmp_path / "teacher" / "model").stopped_after_step is None
    ended = json.loads((tmp_path / "teacher" / "events.jsonl").read_text().splitlines()[-1])
    assert (ended["status"], ended["message"]) == ("finished", "")
