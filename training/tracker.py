"""What a run tells the outside: the `Tracker` interface, and the plain one that writes files.

Calls come in this order, from one thread of one process: `stage_started`, any number of `metrics` and
`validation_samples`, `model_finished` if the stage got that far, `stage_ended` always (unless the process is
killed). A stage that is resumed starts again with `resumed_at_step` above 0, and repeats what it had reported
after that step: a tracker that goes on with an earlier run should drop or overwrite those. `stage_dir` is the
place for what a tracker must remember for that (for example a run id).
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import soundfile
from numpy.typing import NDArray

from manifests.canonical import rounded
from manifests.corpus import CorpusManifest
from manifests.experiment import StageName
from manifests.files import write_atomically
from manifests.flat import settings_digest
from manifests.online import OnlineRecord
from manifests.packages import code_version, locked_packages
from manifests.run_record import StageRun, write_run
from manifests.selection import SelectionRecord
from training.bundle import BundleInfo

SAMPLE_RATE_HZ = 48_000

Audio = NDArray[np.float32]
Status = Literal["finished", "failed", "stopped"]
"""`failed`: by an error; `stopped`: by the user (Ctrl-C)."""


@dataclass(frozen=True)
class Parent:
    """A model that a stage starts from or learns from."""

    role: StageName
    """What it is to the stage: its `teacher`, its `student`, its `denoiser`."""
    id: str
    """Id of its bundle."""
    bundle_dir: Path


@dataclass(frozen=True)
class StageStart:
    """What is known when a stage starts."""

    experiment: str
    """Name of the experiment."""
    stage: StageName
    stage_dir: Path
    """`RUN_DIR/STAGE`, which exists."""
    params: Mapping[str, str | int | float | bool]
    """The experiment, flat: `stages.teacher.steps`."""
    stage_digest: str
    corpus_place: str
    """Absolute path or URI; empty where there is none."""
    corpus: CorpusManifest | None
    """None where all samples are fresh."""
    parents: tuple[Parent, ...]
    device: str
    parameters: int
    """Number of trained weights."""
    steps: int
    """Of the whole stage."""
    resumed_at_step: int = 0
    selection: SelectionRecord | None = None
    """Which of the corpus's samples are used; None for all."""
    ranks: int = 1
    """Processes that train together."""
    online: OnlineRecord | None = None
    """What decides the fresh samples; None where there are none."""
    online_place: str = ""
    """Folder that holds their recipe and catalogue, absolute."""

    @property
    def experiment_digest(self) -> str:
        """Digest of all settings of the experiment."""
        return settings_digest(self.params)

    @property
    def data_id(self) -> str:
        """Id of what is heard: of the fresh samples, or of the corpus."""
        return self.online.data_id if self.online else self.corpus.id if self.corpus else ""


@dataclass(frozen=True)
class Metric:
    """One number at one step; `train/loss`, `val/loss`, `time/data_s` and so on."""

    name: str
    value: float
    step: int


@dataclass(frozen=True)
class ValidationSample:
    """A fixed held-out sample as audio, mono at 48 kHz; the same key in each validation."""

    key: str
    degraded: Audio
    target: Audio
    estimate: Audio


class Tracker(Protocol):
    """Receives what a run reports."""

    def stage_started(self, start: StageStart) -> None:
        """A stage begins, or goes on where it was interrupted."""

    def metrics(self, batch: Sequence[Metric]) -> None:
        """Metrics of several steps, in order of steps."""

    def validation_samples(self, step: int, samples: Sequence[ValidationSample]) -> None:
        """Audio of the fixed validation samples, after `step` steps."""

    def model_finished(self, bundle_dir: Path, info: BundleInfo) -> None:
        """The stage's model lies in `bundle_dir`."""

    def stage_ended(self, status: Status, message: str = "") -> None:
        """The stage is over; `message` says why where it did not do all its steps."""


class Several:
    """Passes every report on to several trackers, in order."""

    def __init__(self, trackers: Sequence[Tracker]) -> None:
        self._trackers = tuple(trackers)

    def stage_started(self, start: StageStart) -> None:
        """Pass on."""
        for tracker in self._trackers:
            tracker.stage_started(start)

    def metrics(self, batch: Sequence[Metric]) -> None:
        """Pass on."""
        for tracker in self._trackers:
            tracker.metrics(batch)

    def validation_samples(self, step: int, samples: Sequence[ValidationSample]) -> None:
        """Pass on."""
        for tracker in self._trackers:
            tracker.validation_samples(step, samples)

    def model_finished(self, bundle_dir: Path, info: BundleInfo) -> None:
        """Pass on."""
        for tracker in self._trackers:
            tracker.model_finished(bundle_dir, info)

    def stage_ended(self, status: Status, message: str = "") -> None:
        """Pass on."""
        for tracker in self._trackers:
            tracker.stage_ended(status, message)


class LineTracker:
    """Says in plain lines how a run goes."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._stage, self._steps = "", 0

    def stage_started(self, start: StageStart) -> None:
        """Say what is trained."""
        self._stage, self._steps = start.stage, start.steps
        begin = f"from step {start.resumed_at_step}" if start.resumed_at_step else "from the start"
        place = start.device if start.ranks == 1 else f"{start.ranks} ranks, this one on {start.device}"
        self._say(f"{start.stage}: {start.parameters} weights, {start.steps} steps {begin}, on {place}")

    def metrics(self, batch: Sequence[Metric]) -> None:
        """Say the losses, and how much of the time went into waiting for data."""
        values = {metric.name: metric.value for metric in batch}
        if "val/loss" in values:
            self._say(f"{self._at(batch)} validation loss {values['val/loss']:.5f}")
        if "train/loss" in values:
            seconds = {name: value for name, value in values.items() if name.startswith("time/")}
            waiting = seconds["time/data_s"] / max(sum(seconds.values()), 1e-9)
            self._say(
                f"{self._at(batch)} loss {values['train/loss']:.5f}, {sum(seconds.values()):.3f} s a step, "
                f"{waiting:.1%} of it waiting for data"
            )

    def validation_samples(self, step: int, samples: Sequence[ValidationSample]) -> None:
        """Say nothing."""

    def model_finished(self, bundle_dir: Path, info: BundleInfo) -> None:
        """Say where the model lies."""
        self._say(f"{self._stage}: model {info.id} of step {info.steps} is in {bundle_dir}")

    def stage_ended(self, status: Status, message: str = "") -> None:
        """Say how it ended, unless it did all that it was to do."""
        if message:
            self._say(f"{self._stage}: {status}, {message}")

    def _at(self, batch: Sequence[Metric]) -> str:
        return f"{self._stage} {batch[0].step}/{self._steps}:"


class FileTracker:
    """Writes each stage's reports to its folder: `run.json`, `events.jsonl`, `metrics.jsonl` and `samples/*.wav`."""

    EVENTS_FILE = "events.jsonl"
    METRICS_FILE = "metrics.jsonl"
    SAMPLES_FOLDER = "samples"

    def __init__(self) -> None:
        self._stage_dir = Path()
        self._run: StageRun | None = None

    def stage_started(self, start: StageStart) -> None:
        """Open the stage's files; metrics beyond the step that is resumed from are dropped."""
        self._stage_dir = start.stage_dir
        self._record(
            StageRun(
                experiment=start.experiment,
                experiment_digest=start.experiment_digest,
                stage=start.stage,
                stage_digest=start.stage_digest,
                corpus_id=start.data_id,
                selection=start.selection,
                online=start.online,
                parents={parent.role: parent.id for parent in start.parents},
                steps=start.steps,
                code_version=code_version(),
                packages=locked_packages(),
            )
        )
        self._keep_metrics_up_to(start.resumed_at_step)
        content = asdict(start) | {
            "corpus": start.corpus.id if start.corpus else None,
            "online": start.online.model_dump(mode="json") if start.online else None,
        }
        self._event("stage_started", content)

    def metrics(self, batch: Sequence[Metric]) -> None:
        """Append one line per metric."""
        lines = [
            json.dumps({"step": m.step, "name": m.name, "value": rounded(m.value, 8)}) + "\n" for m in batch
        ]
        with (self._stage_dir / self.METRICS_FILE).open("a", encoding="utf-8") as stream:
            stream.writelines(lines)

    def validation_samples(self, step: int, samples: Sequence[ValidationSample]) -> None:
        """Write the waves; estimates of earlier validations stay beside the newest."""
        folder = self._stage_dir / self.SAMPLES_FOLDER
        folder.mkdir(exist_ok=True)
        for sample in samples:
            waves = {
                "degraded": sample.degraded,
                "target": sample.target,
                f"estimate-{step:07d}": sample.estimate,
            }
            for name, wave in waves.items():
                path = folder / f"{sample.key}.{name}.wav"
                soundfile.write(path, np.clip(wave, -1.0, 1.0), SAMPLE_RATE_HZ, subtype="PCM_16")

    def model_finished(self, bundle_dir: Path, info: BundleInfo) -> None:
        """Note the model's id."""
        if self._run is not None:
            self._record(self._run.model_copy(update={"model_id": info.id}))
        self._event("model_finished", {"id": info.id, "bundle_dir": bundle_dir, "metrics": info.metrics})

    def stage_ended(self, status: Status, message: str = "") -> None:
        """Note how it ended."""
        if self._run is not None:
            self._record(self._run.model_copy(update={"status": status, "ended_because": message}))
        self._event("stage_ended", {"status": status, "message": message})

    def _record(self, run: StageRun) -> None:
        self._run = run
        write_run(self._stage_dir, run)

    def _event(self, name: str, content: Mapping[str, Any]) -> None:
        line = json.dumps({"event": name, **content}, default=str)
        with (self._stage_dir / self.EVENTS_FILE).open("a", encoding="utf-8") as stream:
            stream.write(line + "\n")

    def _keep_metrics_up_to(self, step: int) -> None:
        path = self._stage_dir / self.METRICS_FILE
        if path.is_file():
            # A killed process may have left half a line at the end; such a line is past the checkpoint too.
            lines = [line for line in path.read_text("utf-8").splitlines() if line.endswith("}")]
            kept = [line + "\n" for line in lines if json.loads(line)["step"] <= step]
            write_atomically(path, "".join(kept).encode())
