"""The worker's side of `ssiforge score`: one shard's bytes become its scores.

A shard is hashed before it is scored: scores are of the content that the corpus names. A sample that cannot be decoded
or measured has no score and a reason; a shard that cannot be read or is another one is a failure of the shard.
"""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from datagen.shard import OnDraw, Poisoned, ShardFailed
from manifests.canonical import file_sha256
from manifests.corpus import SampleEntry, ShardRecord, read_shard_record, record_name
from manifests.errors import UserError
from manifests.recipe import SAMPLE_RATE_HZ
from manifests.store import Store, open_store
from pipelines.quality.metrics import Audio
from pipelines.scoring.columns import Identity, ScoreMetric, available
from pipelines.scoring.shard_scores import MetricScores, ShardScores

DEGRADED = "degraded.flac"
TARGET = "target.flac"


@dataclass(frozen=True)
class ScoreTask:
    """A shard, and what is to be measured on it."""

    tar_name: str
    sha256: str
    metrics: tuple[str, ...]

    @property
    def record_name(self) -> str:
        """Name of its commit record within the corpus."""
        return record_name(self.tar_name)


@dataclass(frozen=True)
class ScoreJob:
    """A corpus to be scored; small enough to be sent with every task."""

    place: str
    """Absolute path or URI of the corpus."""
    identities: dict[str, Identity]
    """What the driver says that each metric is."""

    def load(self) -> "LoadedScoring":
        """Find the metrics.

        Raises:
            UserError: when this process would measure something else than the driver: another machine of the
            cluster with other packages, for example.
        """
        known = available()
        for name, identity in self.identities.items():
            if name not in known or known[name].identity != identity:
                raise UserError(f"metric {name}: this worker has other packages or networks than the driver")
        return LoadedScoring(open_store(self.place), known)


@dataclass(frozen=True)
class LoadedScoring:
    """A job in a worker's memory."""

    store: Store
    known: dict[str, ScoreMetric]

    def render(self, task: ScoreTask, poisoned: Poisoned, on_draw: OnDraw) -> ShardScores:
        """Score a shard.

        Args:
            task: which, and with what.
            poisoned: (number, 0) of samples that killed a process: they are left without scores.
            on_draw: called with (number, 0) before each sample.

        Raises:
            ShardFailed: when the shard is not the one that the corpus names.
            OSError: when it cannot be read.
        """
        metrics = [self.known[name] for name in task.metrics]
        record = read_shard_record(self.store, task.record_name)
        measured: list[list[tuple[tuple[float | None, ...], str]]] = []
        with self.store.local_copy(task.tar_name) as tar:
            if file_sha256(tar) != task.sha256 or record.sha256 != task.sha256:
                raise ShardFailed("its content is not what the corpus names; run 'ssiforge verify'")
            for number, entry in enumerate(record.samples):
                on_draw(number, 0)
                dead = (number, 0) in poisoned
                measured.append(_refused(metrics, _DIED) if dead else _measured(tar, record, entry, metrics))
        keys = [entry.key for entry in record.samples]
        scores = {
            metric.name: _gathered(metric, keys, [of_sample[place] for of_sample in measured])
            for place, metric in enumerate(metrics)
        }
        return ShardScores(shard=task.tar_name, sha256=task.sha256, metrics=scores)

    def recall(self, task: ScoreTask) -> None:
        """Workers leave nothing behind: the driver writes what it hears."""


_DIED = "the process died while measuring this sample"
_Measured = tuple[tuple[float | None, ...], str]


def _measured(
    tar: Path, record: ShardRecord, entry: SampleEntry, metrics: list[ScoreMetric]
) -> list[_Measured]:
    try:
        degraded, target = (_wave(tar, record, entry, name) for name in (DEGRADED, TARGET))
    except _Undecodable as error:
        return _refused(metrics, str(error))
    return [metric.measured(target, degraded) for metric in metrics]


def _refused(metrics: list[ScoreMetric], reason: str) -> list[_Measured]:
    return [((None,) * len(metric.columns), reason) for metric in metrics]


def _gathered(metric: ScoreMetric, keys: list[str], measured: list[_Measured]) -> MetricScores:
    columns = {
        name: tuple(values[place] for values, _ in measured) for place, name in enumerate(metric.columns)
    }
    failures = {key: reason for key, (_, reason) in zip(keys, measured, strict=True) if reason}
    return MetricScores(identity=metric.identity, columns=columns, failures=failures)


class _Undecodable(Exception):
    """A member of an intact shard is not audio of the recorded length."""


def _wave(tar: Path, record: ShardRecord, entry: SampleEntry, name: str) -> Audio:
    member = entry.members.get(name)
    if member is None:
        raise _Undecodable(f"has no {name}")
    with tar.open("rb") as stream:
        stream.seek(member.offset)
        content = stream.read(member.bytes)
    try:
        audio, rate_hz = soundfile.read(io.BytesIO(content), dtype="float32")
    except RuntimeError as error:  # libsndfile's errors
        raise _Undecodable(f"{name} is not readable FLAC") from error
    if rate_hz != SAMPLE_RATE_HZ or audio.shape != (record.frames_per_sample,):
        raise _Undecodable(f"{name} is not 48 kHz mono of the recorded length")
    wave: Audio = np.ascontiguousarray(audio)
    return wave
