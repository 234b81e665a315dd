"""Run folders with all that a run leaves, written by the tracker that real runs have, in no time."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from manifests.corpus import Corpus
from training.tracker import (
    FileTracker,
    Metric,
    Parent,
    Several,
    StageStart,
    Status,
    Tracker,
    ValidationSample,
)

STEPS = 40
KEYS = ("val-000001", "val-000007")
BEST_STEP = 30


def wave(seed: int, seconds: float = 0.5) -> np.ndarray:
    """Noise that fades, of 16 bits: it comes back from files as it was."""
    frames = round(48_000 * seconds)
    fading = np.random.default_rng(seed).uniform(-0.5, 0.5, frames) * np.linspace(1.0, 0.0, frames)
    return (np.round(fading * 2**15) / 2**15).astype(np.float32)


def write_run(
    run_dir: Path,
    corpus: Corpus,
    make_bundle: Callable[..., Any],
    stages: Sequence[str] = ("teacher", "student"),
    name: str = "tiny",
    ended: Status = "finished",
    message: str = "",
    keys: Sequence[str] = KEYS,
    trackers: Sequence[Tracker] = (),
) -> dict[str, Any]:
    """Report stages as a run does; of the last, which ends as told, there is a model only if it finished."""
    bundles: dict[str, Any] = {}
    for stage in stages:
        stage_dir = run_dir / stage
        stage_dir.mkdir(parents=True)
        params = {
            "name": name,
            "description": f"about {name}",
            "preset": "tiny",
            f"stages.{stage}.steps": STEPS,
        }
        (stage_dir / "experiment.json").write_text(
            json.dumps({**params, "stages": {stage: {"steps": STEPS}}})
        )
        tracker = Several((FileTracker(), *trackers))
        parents = tuple(Parent(role, info.id, run_dir / role / "model") for role, info in bundles.items())
        tracker.stage_started(
            StageStart(
                experiment=name,
                stage=stage,  # type: ignore[arg-type]
                stage_dir=stage_dir,
                params=params,
                stage_digest="d" * 32,
                corpus_place=str(corpus.store.root),
                corpus=corpus.manifest,
                parents=parents[-1:],
                device="cpu",
                parameters=105_367,
                steps=STEPS,
            )
        )
        for step in range(5, STEPS + 1, 5):
            tracker.metrics([Metric("train/loss", 2.0 / step, step), Metric("time/data_s", 0.25, step)])
            if step % 10 == 0:
                loss = 0.1 + abs(step - BEST_STEP) / 100
                tracker.metrics([Metric("val/loss", loss, step), Metric("val/si_snr_db", -loss, step)])
                heard = [
                    ValidationSample(key, wave(place), wave(place + 10), wave(step + place))
                    for place, key in enumerate(keys)
                ]
                tracker.validation_samples(step, heard)
        status = ended if stage == stages[-1] else "finished"
        if status == "finished":
            bundles[stage] = make_bundle(
                stage_dir / "model",
                stage,
                corpus.manifest.id,
                {parent.role: parent.id for parent in parents[-1:]},
                steps=BEST_STEP,
            )
            tracker.model_finished(stage_dir / "model", bundles[stage])
        tracker.stage_ended(status, message if status == ended else "")
    return bundles
