"""What a training run left in its folder: numbers by step, audio of validations, how each stage ended.

All of it is in plain files (`training.tracker.FileTracker`), so it is read without MLflow, also while a run goes on.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from manifests.errors import UserError
from manifests.experiment import STAGES, StageName
from manifests.flat import flat
from manifests.online import OnlineRecord
from manifests.run_record import StageRun, read_run
from training.bundle_info import MODEL_FOLDER, BundleInfo, is_bundle, read_info
from training.run import EXPERIMENT_FILE
from training.tracker import FileTracker

Points = tuple[tuple[int, float], ...]
"""A metric: step and value, steps rising."""
State = Literal["finished", "failed", "stopped", "not ended"]
"""`not ended`: the stage is being trained, or its process was killed."""

_WAVE = re.compile(r"(?P<key>.+)\.(?P<what>degraded|target|estimate-(?P<step>\d+))\.(?:wav|flac)")


@dataclass(frozen=True)
class Heard:
    """A validation sample that a stage kept as audio."""

    key: str
    degraded: Path
    target: Path
    estimate: Path
    """Of the weights that were kept; of the newest validation, where none are yet."""
    step: int
    """After so many training steps."""


@dataclass(frozen=True)
class StageRecords:
    """What one stage left."""

    stage: StageName
    experiment: str
    settings: Mapping[str, Any]
    """Flat, the whole experiment's: `stages.teacher.steps`."""
    corpus_id: str
    """Id of the corpus, or of the fresh samples."""
    trained_weights: int
    steps: int
    """That the stage is to do."""
    starts: int
    """How often it was started: once, and once for each time it was resumed."""
    device: str
    ranks: int
    state: State
    message: str
    """Why it ended before its last step."""
    curves: Mapping[str, Points]
    """By name of the metric."""
    heard: tuple[Heard, ...]
    model: BundleInfo | None
    """None where the stage is not finished."""
    run: StageRun | None
    """What decided it; None in runs of versions that did not write it down."""
    folder: Path


def is_run(folder: Path) -> bool:
    """Say whether a folder holds a training run, or one stage of it."""
    return bool(_stage_folders(folder))


def read_stages(folder: Path) -> tuple[StageRecords, ...]:
    """Read the stages that a run folder holds, in their order; of a stage's folder, that stage alone.

    Raises:
        UserError: when there is none, or a file is not what a run writes.
    """
    folders = _stage_folders(folder)
    if not folders:
        raise UserError(f"{folder}: holds no training run: there is no STAGE/{FileTracker.EVENTS_FILE} in it")
    return tuple(_read_stage(name, place) for name, place in folders.items())


def _stage_folders(folder: Path) -> dict[StageName, Path]:
    # Resolved for its name alone: `.` and `..` have none.
    own = folder.resolve().name
    if (folder / FileTracker.EVENTS_FILE).is_file() and (stage := _stage(own)):
        return {stage: folder}
    return {name: folder / name for name in STAGES if (folder / name / FileTracker.EVENTS_FILE).is_file()}


def _stage(name: str) -> StageName | None:
    return next((stage for stage in STAGES if stage == name), None)


def _read_stage(stage: StageName, folder: Path) -> StageRecords:
    path = folder / FileTracker.EVENTS_FILE
    events = list(_lines(path))
    starts = [event for event in events if event.get("event") == "stage_started"]
    if not starts:
        raise UserError(f"{path}: says nothing of a stage that was started")
    start, last = starts[-1], events[-1]
    ended = last if last.get("event") == "stage_ended" else {}
    try:
        model = read_info(folder / MODEL_FOLDER) if is_bundle(folder / MODEL_FOLDER) else None
        return StageRecords(
            stage=stage,
            experiment=str(start["experiment"]),
            settings=_settings(folder, start),
            corpus_id=_data_id(start),
            trained_weights=int(start["parameters"]),
            steps=int(start["steps"]),
            starts=len(starts),
            device=str(start["device"]),
            ranks=int(start.get("ranks", 1)),
            state=_state(ended),
            message=str(ended.get("message", "")),
            curves=_curves(folder / FileTracker.METRICS_FILE),
            heard=_heard(folder / FileTracker.SAMPLES_FOLDER, model.steps if model else None),
            model=model,
            run=read_run(folder),
            folder=folder,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: not what a run writes ({type(error).__name__}: {error})") from error


def _settings(folder: Path, start: Mapping[str, Any]) -> dict[str, Any]:
    """Return the experiment, flat: of the stage's own file, or as the newest start reported it."""
    try:
        content = json.loads((folder / EXPERIMENT_FILE).read_bytes())
    except (OSError, ValueError):
        return dict(start["params"])
    return flat(content) if isinstance(content, dict) else dict(start["params"])


def _data_id(start: Mapping[str, Any]) -> str:
    online = start.get("online")
    return OnlineRecord.model_validate(online).data_id if online else str(start["corpus"])


def _state(ended: Mapping[str, Any]) -> State:
    status = ended.get("status")
    return next((known for known in ("finished", "failed", "stopped") if known == status), "not ended")


def _curves(path: Path) -> dict[str, Points]:
    found: dict[str, dict[int, float]] = {}
    for number, line in enumerate(_lines(path), 1) if path.is_file() else ():
        try:
            value = line["value"]
            # What was not finite is `null` in the file, and has no place in a curve.
            if value is not None and math.isfinite(value):
                found.setdefault(str(line["name"]), {})[int(line["step"])] = float(value)
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"{path}: line {number} is not a metric of a step") from error
    return {name: tuple(sorted(points.items())) for name, points in sorted(found.items())}


def _heard(folder: Path, kept_step: int | None) -> tuple[Heard, ...]:
    """Pair the waves of each sample; one that lacks some is passed over, for its validation is not over yet."""
    waves: dict[str, dict[str, Path]] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if (match := _WAVE.fullmatch(path.name)) and path.is_file() and not path.is_symlink():
            waves.setdefault(match["key"], {})[match["what"]] = path
    found = []
    for key, by_name in waves.items():
        estimates = [name for name in by_name if name.startswith("estimate-")]
        if estimates and {"degraded", "target"} <= by_name.keys():
            shown = next((name for name in estimates if _step(name) == kept_step), max(estimates, key=_step))
            found.append(Heard(key, by_name["degraded"], by_name["target"], by_name[shown], _step(shown)))
    return tuple(found)


def _step(estimate: str) -> int:
    return int(estimate.removeprefix("estimate-"))


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """Read a JSON value a line; a half-written last line is that of a process at work, or killed.

    Raises:
        UserError: when a line before it is not JSON.
    """
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from error
    for number, line in enumerate(lines, 1):
        try:
            content = json.loads(line)
        except ValueError as error:
            if number == len(lines):
                return
            raise UserError(f"{path}: line {number} is not JSON") from error
        if not isinstance(content, dict):
            raise UserError(f"{path}: line {number} is not a JSON object")
        yield content
