"""Whatever the loop is set to, a run that was interrupted between two checkpoints ends with the same model."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from micro_experiment import MICRO

from manifests.experiment import StageName, load_experiment
from training.checkpoint import read_checkpoint
from training.run import train
from training.tracker import LineTracker, Metric

STEPS = "steps: 6, batch_size: 2, segment_s: 0.1, validate_every: 1"
FEATURES = {
    "accumulated_float16_warm_then_cosine": [
        "optimisation.accumulate=2",
        "optimisation.precision=float16",
        "stages.teacher.warmup_steps=5",
        "stages.teacher.schedule=cosine",
    ],
    "bfloat16_judged_without_average_halved_at_every_stale_validation": [
        "optimisation.precision=bfloat16",
        "optimisation.ema_decay=0.0",
        "stages.teacher.halve_after=1",
        "stages.teacher.learning_rate=1.0",
        "validation.best_by=si_snr_db",
        # Interrupted a step after the discriminators' first, at which their weight was measured.
        "adversarial={stages: [teacher], resolution_windows: [512], band_windows: [512], channels: 2, "
        "start_share: 0.5, lead_steps: 0}",
    ],
}


class Interrupts(LineTracker):
    """Interrupts a run at its fifth step, a step after a checkpoint and a validation."""

    def __init__(self) -> None:
        super().__init__(lambda line: None)

    def metrics(self, batch: Sequence[Metric]) -> None:
        if batch[0].step == 5:
            raise KeyboardInterrupt


@pytest.mark.parametrize("feature", FEATURES)
def test_an_interrupted_run_ends_with_the_same_model_and_state(
    corpus_dir: Path, tmp_path: Path, one_thread: None, feature: str
) -> None:
    settings = [*MICRO, f"stages.teacher={{{STEPS}}}", "validation.segment_s=0.1", *FEATURES[feature]]
    experiment = load_experiment("tiny", settings)
    stages: tuple[StageName] = ("teacher",)
    whole = train(experiment, corpus_dir, tmp_path / "whole", stages, device="cpu")
    with pytest.raises(KeyboardInterrupt):
        train(experiment, corpus_dir, tmp_path / "cut", stages, device="cpu", trackers=[Interrupts()])
    folder = tmp_path / "cut" / "teacher" / "checkpoints"
    newest = read_checkpoint(max(folder.glob("step-*.pt")))
    assert newest["step"] == 4
    if "halved" in feature:
        assert newest["schedule"]["halvings"] > 0
    resumed = train(experiment, corpus_dir, tmp_path / "cut", stages, resume=True, device="cpu")
    assert resumed == whole
    ours, theirs = (
        read_checkpoint(max((tmp_path / run / "teacher" / "checkpoints").glob("step-*.pt")))
        for run in ("cut", "whole")
    )
    for part in ("progress", "schedule", "best", "scaler", "stream"):
        assert ours[part] == theirs[part], part
    if "float16_warm" in feature:
        assert ours["scaler"]["scale"] > 0.0
    if "judged" in feature:
        assert ours["adversary"]["weight"] == theirs["adversary"]["weight"] > 0.0
        networks = (state["adversary"]["networks"] for state in (ours, theirs))
        assert all(map(torch.equal, *(weights.values() for weights in networks)))
