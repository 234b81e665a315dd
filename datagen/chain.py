"""The chain of stages: what happens to speech on its way through the drawn degradations of a sample.

Here are the promises that no single stage can keep: inputs are read-only, declared delays are removed, a stage that
fired has changed something, and the target stays the aligned talker.
"""

import errno
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from datagen.alignment import without_delay
from datagen.audio import AudioError, read_stretch, resampled
from datagen.degradations import stage_class
from datagen.degradations.base import Applied, Audio, CannotApply, Degradation, Inputs
from datagen.file_identity import is_as_scanned
from datagen.level import scaled, with_active_level
from datagen.source_cache import SourceChanged, local_file
from manifests.canonical import rounded
from manifests.recipe import SAMPLE_RATE_HZ
from manifests.sample import Clip, SampleSpec, StageRecord, StageSpec, Values
from manifests.source import Source

FETCHES = 3
"""A cached source may be removed between fetching and opening it, if the cache is much too small."""
NO_OP_DB = -90.0
"""A stage whose change lies this far below its input has done nothing: less than a 16-bit step."""


class SampleFailed(Exception):
    """A sample cannot be rendered as it was drawn."""

    def __init__(self, stage: str, reason: str) -> None:
        super().__init__(f"{stage}: {reason}")
        self.stage = stage
        self.reason = reason


@dataclass
class StageClock:
    """Seconds spent, by what they were spent on. For benchmarks; never written into a sample."""

    seconds: dict[str, float] = field(default_factory=dict)
    calls: dict[str, int] = field(default_factory=dict)

    def charge(self, name: str, since: float) -> float:
        """Add the time since `since` to `name`; return the present time."""
        now = time.perf_counter()
        self.seconds[name] = self.seconds.get(name, 0.0) + now - since
        self.calls[name] = self.calls.get(name, 0) + 1
        return now


@dataclass
class Chain:
    """The signals as they pass from stage to stage."""

    audio: Audio
    """Degraded so far."""
    reference: Audio
    """The speech in it, without what was added since the last stage that mixed them inseparably."""
    target: Audio
    noise: Audio
    """Everything additive stages added."""
    reverberant: Audio
    """As the last room left it; the dry talker where there is no room."""
    records: list[StageRecord] = field(default_factory=list)
    aligned: bool = True


def run_chain(spec: SampleSpec, dry: Audio, sources: Mapping[str, Source], clock: StageClock) -> Chain:
    """Send the dry talker through the stages of a spec.

    Args:
        spec: the fully drawn sample.
        dry: shape (N,), 48 kHz, read-only.
        sources: catalogue rows of the stages' clips, by content hash.
        clock: collects the cost of each stage.

    Raises:
        SampleFailed: naming the stage and the reason.
    """
    chain = Chain(dry, dry, dry, np.zeros(0, np.float32), dry)
    for stage in spec.stages:
        now = time.perf_counter()
        degradation = stage_class(stage.stage)
        clips = tuple(frozen(clip_audio(clip, sources, stage.label)) for clip in stage.clips)
        now = clock.charge("sources", now) if clips else now
        inputs = Inputs(clips, chain.reference)
        applied = _apply(degradation, stage, chain.audio, inputs)
        _advance(chain, degradation, stage, applied, inputs, spec)
        clock.charge(stage.label, now)
    if chain.target is not dry:
        chain.target = frozen(with_active_level(chain.target, spec.target.active_level_dbfs))
    return chain


def _apply(degradation: type[Degradation], stage: StageSpec, audio: Audio, inputs: Inputs) -> Applied:
    try:
        return degradation.apply(audio, stage.values, inputs)
    except CannotApply as error:
        raise SampleFailed(stage.label, str(error)) from error
    except MemoryError:
        raise
    except Exception as error:
        raise SampleFailed(stage.label, f"{type(error).__name__}: {error}") from error


def _advance(
    chain: Chain,
    degradation: type[Degradation],
    stage: StageSpec,
    applied: Applied,
    inputs: Inputs,
    spec: SampleSpec,
) -> None:
    before = chain.audio
    after = without_delay(np.asarray(applied.audio, np.float32), applied.delay_samples, spec.frames)
    _check_changed(before, after, stage)
    chain.audio = frozen(after)
    if applied.added is not None:
        chain.noise = applied.added + chain.noise if len(chain.noise) else applied.added
        chain.reference = chain.reference if applied.speech is None else frozen(applied.speech)
    else:
        chain.reference = chain.audio
    if degradation.axis == "reverberation":
        chain.reverberant = chain.reference
    if spec.target.kind != "dry":
        kind, early_ms = spec.target.kind, spec.target.early_ms
        chain.target = frozen(degradation.on_target(chain.target, stage.values, inputs, kind, early_ms))
    measured = _plain(applied.measured)
    if degradation.warps_time:
        measured |= _warp(chain, stage, applied, spec)
    chain.records.append(
        StageRecord(
            **stage.model_dump(),
            measured=measured,
            delay_samples=applied.delay_samples,
            severity=round(float(np.clip(degradation.severity(stage.values, measured), 0.0, 1.0)), 4),
            axis=degradation.axis,
            out_of_tolerance=degradation.broken_promises(stage.values, measured),
        )
    )


def _warp(chain: Chain, stage: StageSpec, applied: Applied, spec: SampleSpec) -> Values:
    """Let the target follow a stage that moved time, or mark the sample; return the map for the record."""
    if applied.time_map is None:
        raise SampleFailed(stage.label, "moves time and gives no time_map")
    if spec.target.time_warps == "follow":
        chain.target = frozen(applied.time_map.applied(chain.target))
        chain.reverberant = frozen(applied.time_map.applied(chain.reverberant))
    else:
        chain.aligned = False
    return {"time_map": applied.time_map.plain(), "time_map_fade_samples": applied.time_map.fade_samples}


def _check_changed(before: Audio, after: Audio, stage: StageSpec) -> None:
    energy = float(np.dot(after, after))
    if not np.isfinite(energy):
        raise SampleFailed(stage.label, "the result is not finite")
    change = after - before
    if float(np.dot(change, change)) <= float(np.dot(before, before)) * 10.0 ** (NO_OP_DB / 10.0):
        raise SampleFailed(stage.label, "fired and changed nothing")


def clip_audio(clip: Clip, sources: Mapping[str, Source], stage: str) -> Audio:
    """Read a clip as a new, writable array at 48 kHz with its speed and gain applied, unplaced."""
    source = sources.get(clip.sha256)
    if source is None:
        raise SampleFailed(stage, f"source {clip.sha256[:12]} is not in the catalogue")
    channel = None if source.kind == "speech" else clip.channel
    try:
        audio, rate_hz = _read(source, clip, channel)
    except SourceChanged as error:
        raise SampleFailed(stage, f"source {clip.sha256[:12]} {error}") from error
    except AudioError as error:
        raise SampleFailed(stage, f"source {clip.sha256[:12]}: {error}") from error
    if len(audio) != clip.frames:
        raise SampleFailed(stage, f"source {clip.sha256[:12]} is shorter than when it was scanned")
    return scaled(resampled(audio, rate_hz * clip.speed, SAMPLE_RATE_HZ), clip.gain_db)


def _read(source: Source, clip: Clip, channel: int | None) -> tuple[Audio, int]:
    """Read a clip's stretch from wherever its source lies.

    Raises:
        AudioError: when the source is not what was scanned, or cannot be decoded.
        OSError: when it cannot be reached: no other draw would fare better, so this is no failure of the sample.
    """
    for _ in range(FETCHES):
        path = local_file(source)
        if path == source.path and not is_as_scanned(source):
            raise SourceChanged("has changed since it was scanned")
        try:
            return read_stretch(path, clip.start, clip.frames, channel)
        except AudioError:
            if Path(path).exists():
                raise
    raise FileNotFoundError(errno.ENOENT, "source is gone", source.path)


def _plain(values: Mapping[str, Any]) -> Values:
    """Round measured floats so that records are short, and equal where the signal is."""
    return {key: rounded(value, 6) if isinstance(value, float) else value for key, value in values.items()}


def frozen(audio: Audio) -> Audio:
    """Make an array read-only, so that no stage can write into its input, and return it."""
    audio.setflags(write=False)
    return audio
