"""`ssiforge train`: an experiment and a corpus become models, each an MLflow run with what it was made from."""

import os
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from manifests.corpus import open_corpus, read_manifest
from manifests.errors import UserError
from manifests.experiment import STAGES, Experiment, StageName, chosen_stages, load_experiment
from manifests.flat import flat
from manifests.selection import SELECTION_FILE, Selection, read_selection
from manifests.store import Place
from pipelines.models.reference import resolve_model
from pipelines.models.stale_mark import warn_if_stale
from pipelines.online.online import OnlineRequest, prepare, refuse_other_samples
from pipelines.progress import JobProgress
from pipelines.selection.selecting import how_many, select
from pipelines.tracking.store import open_store
from pipelines.trainer.mlflow_tracker import MlflowTracker
from pipelines.trainer.openlineage import TrainingLineage
from training.bundle import BundleInfo, is_bundle, read_info
from training.named_parents import named_parents
from training.run import (
    CHECKPOINT_FOLDER,
    EXPERIMENT_FILE,
    model_dir,
    needed_splits,
)
from training.run import train as train_here
from training.tracker import LineTracker, Metric, StageStart, Status, Tracker, ValidationSample

RUNS_FOLDER = "runs"
MAX_DIFFERENCES_SHOWN = 6


def train(
    experiment_reference: str,
    corpus: Place | None,
    stage: str = "all",
    resume: bool = False,
    out: Path | None = None,
    device: str = "auto",
    overrides: Iterable[str] = (),
    say: Callable[[str], None] = print,
    keep: str | None = None,
    online: OnlineRequest | None = None,
    parents: Sequence[str] = (),
    elsewhere: Callable[..., dict[StageName, BundleInfo]] | None = None,
) -> dict[StageName, BundleInfo]:
    """Train the stages of an experiment on a corpus, on fresh samples, or on both.

    Args:
        experiment_reference: a shipped name or a YAML file.
        corpus: folder or URI of a finished corpus; None to train on fresh samples alone.
        stage: one stage, or `all`.
        resume: skip finished stages and go on with an interrupted one.
        out: folder of the run; `./runs/NAME` if not given.
        device: `auto`, `cpu`, `cuda`, `cuda:N`.
        overrides: `a.b=c` settings of the experiment.
        say: told how it goes, in plain lines.
        keep: an expression of `pipelines.selection.grammar`; samples for which it does not hold are left out.
        online: what fresh samples are asked for.
        parents: `ROLE=REF` models that stages build on, REF being any of `pipelines.models.reference`.
        elsewhere: what stands in for `training.run.train`, to train not in this process
            (`pipelines.trainer.ray_train`); it takes no fresh samples.

    Returns:
        The models, by stage.

    Raises:
        UserError: when something that was asked for does not exist, or the run folder holds another run.
        JobError: when training cannot go on.
    """
    if os.environ.get("WORLD_SIZE", "1") != "1":
        raise UserError(
            "torchrun starts several trackers of one run: use 'python -m training' with it, or --ray"
        )
    if online is not None and elsewhere is not None:
        raise UserError("--online renders in processes of this machine: give it without --ray")
    experiment = load_experiment(experiment_reference, overrides)
    stages = chosen_stages(stage)
    manifest = read_manifest(corpus) if corpus is not None else None
    run_dir = run_folder(experiment, out)
    prepared = prepare(online, manifest, experiment.validation.samples > 0, say) if online else None
    if any(_has_work(run_dir, name) for name in STAGES):
        refuse_other_samples(run_dir, prepared)
    data_id = prepared.record.data_id if prepared else manifest.id if manifest else ""
    refuse_another_run(run_dir, experiment, data_id, stages)

    def parent_dir(place: str) -> Path:
        found = resolve_model(place)
        warn_if_stale(found.stale, place, say)
        return found.bundle_dir

    named = named_parents(parents, experiment, stages, parent_dir)
    selection = _selection(experiment, corpus, keep, say)
    _refuse_another_selection(run_dir, selection, stages)
    tracker = MlflowTracker(open_store())
    if resume:
        tracker.report_finished_models(model_dir(run_dir, name) for name in STAGES)
    shown: Tracker = BarTracker() if sys.stderr.isatty() else LineTracker(say)
    lineage = TrainingLineage(run_dir, experiment.name)
    trackers = (tracker, lineage, shown)
    if elsewhere is not None:
        with lineage:
            return elsewhere(
                experiment, corpus, run_dir, stages, resume, device, trackers, selection, dict(named)
            )
    rendering = prepared.rendering(run_dir, online.workers) if prepared and online else nullcontext()
    with lineage, rendering as fresh:
        return train_here(
            experiment, corpus, run_dir, stages, resume, device, trackers, selection, named, fresh
        )


def _selection(
    experiment: Experiment, corpus: Place | None, keep: str | None, say: Callable[[str], None]
) -> Selection | None:
    if keep is None:
        return None
    if corpus is None:
        raise UserError("--keep selects samples of a corpus: give --corpus")
    opened = open_corpus(corpus)
    splits = needed_splits(experiment)
    selection = select(opened, keep, splits)
    selection.check(opened, splits)
    say(how_many(opened, selection, splits))
    return selection


def run_folder(experiment: Experiment, out: Path | None) -> Path:
    """Return where a run lies: `out`, or `./runs/NAME`."""
    if out is not None:
        return out
    if not experiment.name.strip("."):
        raise UserError(f"experiment name '{experiment.name}' cannot be a folder; give --out")
    return Path(RUNS_FOLDER) / experiment.name


def refuse_another_run(
    run_dir: Path, experiment: Experiment, data_id: str, stages: Sequence[StageName]
) -> None:
    """Refuse a run folder whose work is on other data or with other settings, and say which.

    Raises:
        UserError: naming the settings that differ, with what they were and what they are.
    """
    begun = [name for name in stages if _has_work(run_dir, name)]
    for name in (name for name in begun if is_bundle(model_dir(run_dir, name))):
        trained_on = read_info(model_dir(run_dir, name)).corpus_id
        if trained_on != data_id:
            raise UserError(
                f"{run_dir}: its {name} was trained on corpus {trained_on}, and this corpus is {data_id}; "
                "train on that one, or choose another --out"
            )
    for name in begun:
        recorded = _recorded_experiment(run_dir / name)
        if recorded is None:
            continue
        before, now = _as_declared(recorded, name), _as_declared(experiment, name)
        differing = [
            f"{field} was {before.get(field)} and is {now.get(field)}"
            for field in sorted(before.keys() | now.keys())
            if before.get(field) != now.get(field)
        ]
        if differing:
            more = len(differing) - MAX_DIFFERENCES_SHOWN
            listed = "; ".join(differing[:MAX_DIFFERENCES_SHOWN]) + (f"; and {more} more" if more > 0 else "")
            raise UserError(
                f"{run_dir}: holds work on stage {name} with other settings ({listed}); choose another --out"
            )


def _refuse_another_selection(
    run_dir: Path, selection: Selection | None, stages: Sequence[StageName]
) -> None:
    """Refuse a run folder whose work heard other samples of the corpus.

    Raises:
        UserError: naming the expression that was used and the one that is.
    """
    now = selection.record if selection else None
    for name in (name for name in stages if _has_work(run_dir, name)):
        path = run_dir / name / SELECTION_FILE
        before = read_selection(path).record if path.is_file() else None
        if before == now:
            continue
        if before and now and before.expression == now.expression:
            raise UserError(
                f"{run_dir}: its {name} was trained with the same --keep on other values, for the scores "
                "changed since; choose another --out"
            )
        was, is_now = (
            f'with --keep "{one.expression}"' if one else "without --keep" for one in (before, now)
        )
        raise UserError(
            f"{run_dir}: its {name} was trained {was}, and this run is {is_now}; choose another --out"
        )


def _as_declared(experiment: Experiment, stage: StageName) -> dict[str, Any]:
    """Return what decides a stage, by the fields of the experiment that say it."""
    content = experiment.stage_written(stage)
    content["stages"] = {stage: content.pop("settings")}
    content["loader"] = {"window_shards": content.pop("window_shards")}
    return flat(content)


def _has_work(run_dir: Path, stage: StageName) -> bool:
    return is_bundle(model_dir(run_dir, stage)) or any((run_dir / stage / CHECKPOINT_FOLDER).glob("*.pt"))


def _recorded_experiment(stage_dir: Path) -> Experiment | None:
    try:
        return Experiment.model_validate_json((stage_dir / EXPERIMENT_FILE).read_bytes())
    except (OSError, ValueError):
        # None there, or of an older format: checkpoints and models know by themselves whose they are.
        return None


class BarTracker:
    """Shows each stage as a bar on a terminal."""

    def __init__(self) -> None:
        self._bar: JobProgress | None = None
        self._step = 0

    def stage_started(self, start: StageStart) -> None:
        """Open the bar where the stage stands."""
        self._bar = JobProgress(start.stage, start.steps, "steps")
        self._bar.__enter__()
        self._step = start.resumed_at_step
        self._bar.advance(self._step)

    def metrics(self, batch: Sequence[Metric]) -> None:
        """Advance to the newest step, with the newest losses beside the bar."""
        if self._bar is None or not batch:
            return
        losses = [f"{m.name} {m.value:.4f}" for m in batch if m.name in ("train/loss", "val/loss")]
        step = max(metric.step for metric in batch)
        self._bar.advance(step - self._step, ", ".join(losses))
        self._step = step

    def validation_samples(self, step: int, samples: Sequence[ValidationSample]) -> None:
        """Nothing to show."""

    def model_finished(self, bundle_dir: Path, info: BundleInfo) -> None:
        """Nothing to show: the caller names the models."""

    def stage_ended(self, status: Status, message: str = "") -> None:
        """Close the bar."""
        if self._bar is not None:
            self._bar.__exit__(None, None, None)
            self._bar = None
