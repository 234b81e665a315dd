"""Rendering: a spec and its sources become audio and a record. A pure function.

The engine keeps the promises that no single stage can: inputs are read-only, declared delays are removed, a stage
that fired has changed something, the target stays the aligned dry talker, and what came out is measured.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from datagen.alignment import residual_lag, without_delay
from datagen.audio import AudioError, read_stretch, resampled
from datagen.bandwidth import true_bandwidth_hz
from datagen.degradations import stage_class
from datagen.degradations.base import Applied, Audio, CannotApply, Degradation, Inputs
from datagen.file_identity import is_as_scanned
from datagen.level import SILENCE_DBFS, active_level_dbfs, peak_dbfs, rms_dbfs, scaled, with_active_level
from manifests.canonical import rounded
from manifests.recipe import SAMPLE_RATE_HZ, Stem, TargetSettings
from manifests.sample import (
    AXES,
    Axis,
    Clip,
    SampleRecord,
    SampleSpec,
    SourceUse,
    StageRecord,
    StageSpec,
    Values,
)
from manifests.source import Source

EDGE_FADE_SAMPLES = 240
"""Utterances are faded over 5 ms at their cut edges, so that joining them does not click."""
NO_OP_DB = -90.0
"""A stage whose change lies this far below its input has done nothing: less than a 16-bit step."""
SHORTEST_SAMPLES = 2_400
"""50 ms: stages need not make sense of less."""
QUIETEST_SPEECH_DBFS = -60.0
"""Drawn speech below this active level holds no talker."""
PEAK_LIMIT_DBFS = -0.1
"""Degraded audio that would clip in the file is scaled down to this peak, its stems with it."""
MISALIGNED_SAMPLES = 6.0
"""One sample of the coarsest clock in any chain, 8 kHz: narrow-band codecs bend phases by a part of that."""
SURE_LIKENESS = 0.5
"""A lag is believed when the degraded signal is at least this much like the dry one (correlation 0 to 1)."""


class SampleFailed(Exception):
    """A sample cannot be rendered as it was drawn."""

    def __init__(self, stage: str, reason: str) -> None:
        super().__init__(f"{stage}: {reason}")
        self.stage = stage
        self.reason = reason


@dataclass(frozen=True)
class Rendered:
    """A rendered sample, quantised as it will be written."""

    degraded: Audio
    target: Audio
    stems: dict[Stem, Audio]
    record: SampleRecord


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


def render(spec: SampleSpec, sources: Mapping[str, Source], clock: StageClock | None = None) -> Rendered:
    """Render one sample.

    Args:
        spec: the fully drawn sample.
        sources: catalogue rows by content hash.
        clock: collects the cost of each part when given.

    Raises:
        SampleFailed: naming the stage and the reason.
    """
    clock = clock or StageClock()
    now = time.perf_counter()
    dry = _frozen(_talker(spec, sources))
    now = clock.charge("speech", now)
    chain = _run_chain(spec, dry, sources, clock)
    now = time.perf_counter()
    step = float(1 << (spec.bits - 1))
    guard_db = min(0.0, PEAK_LIMIT_DBFS - peak_dbfs(chain.audio))
    degraded = _quantised(scaled(chain.audio, guard_db) if guard_db else chain.audio, step)
    target = _quantised(chain.target, step)
    if peak_dbfs(chain.target) >= 0.0:
        raise SampleFailed("target", f"would clip at {spec.target.active_level_dbfs:g} dBFS active level")
    stem_gain_db = min(guard_db, _room_for_stems_db(spec, chain))
    stems = {name: _quantised(_stem(name, dry, chain, stem_gain_db), step) for name in spec.stems}
    now = clock.charge("output", now)
    record = _record(spec, sources, chain, degraded, target, guard_db)
    if spec.stems:
        record = record.model_copy(
            update={"measured": record.measured | {"stem_gain_db": rounded(stem_gain_db, 3)}}
        )
    clock.charge("measure", now)
    return Rendered(degraded, target, stems, record)


def apply_stage(stage: StageSpec, speech: Audio, sources: Mapping[str, Source]) -> tuple[Audio, StageRecord]:
    """Apply one drawn stage to speech as a chain of one: delay removed, change checked, delivery measured.

    Args:
        stage: fully drawn.
        speech: shape (N,), 48 kHz; left as it is.
        sources: catalogue rows of the stage's clips, by content hash.

    Returns:
        The degraded speech, shape (N,), and the stage's record.

    Raises:
        SampleFailed: naming the stage and the reason.
    """
    _check_fit(speech)
    spec = SampleSpec(
        key=stage.stage,
        split="train",
        index=0,
        seed=0,
        frames=len(speech),
        bits=24,
        speech=(),
        target=TargetSettings(),
        stages=(stage,),
    )
    chain = _run_chain(spec, _frozen(speech.view()), sources, StageClock())
    return chain.audio, chain.records[0]


# --- the clean talker -----------------------------------------------------------------------------


def _talker(spec: SampleSpec, sources: Mapping[str, Source]) -> Audio:
    audio = np.zeros(spec.frames, np.float32)
    for clip in spec.speech:
        utterance = _clip_audio(clip, sources, "speech")[: spec.frames - clip.at]
        fade = min(EDGE_FADE_SAMPLES, len(utterance) // 2)
        ramp = np.linspace(0.0, 1.0, fade, dtype=np.float32)
        utterance[:fade] *= ramp
        utterance[len(utterance) - fade :] *= ramp[::-1]
        audio[clip.at : clip.at + len(utterance)] += utterance
    _check_fit(audio)
    level_dbfs = active_level_dbfs(audio)
    if level_dbfs < QUIETEST_SPEECH_DBFS:
        raise SampleFailed("speech", "the drawn stretch holds no speech")
    return scaled(audio, spec.target.active_level_dbfs - level_dbfs)


def _check_fit(speech: Audio) -> None:
    """Keep from stages what none can take: encoders abort the whole process on values that are not finite."""
    if len(speech) < SHORTEST_SAMPLES:
        raise SampleFailed(
            "speech", f"lasts {1000.0 * len(speech) / SAMPLE_RATE_HZ:.1f} ms; 50 ms are needed"
        )
    with np.errstate(over="ignore", invalid="ignore"):
        energy = float(np.dot(speech, speech))
    if not np.isfinite(energy):
        raise SampleFailed("speech", "contains NaN, infinity or values that are as good as infinite")


def _clip_audio(clip: Clip, sources: Mapping[str, Source], stage: str) -> Audio:
    """Read a clip as a new, writable array at 48 kHz with its gain applied, unplaced."""
    source = sources.get(clip.sha256)
    if source is None:
        raise SampleFailed(stage, f"source {clip.sha256[:12]} is not in the catalogue")
    if not is_as_scanned(source):
        raise SampleFailed(stage, f"source {clip.sha256[:12]} has changed since it was scanned")
    channel = None if source.kind == "speech" else clip.channel
    try:
        audio, rate_hz = read_stretch(source.path, clip.start, clip.frames, channel)
    except AudioError as error:
        raise SampleFailed(stage, f"source {clip.sha256[:12]}: {error}") from error
    if len(audio) != clip.frames:
        raise SampleFailed(stage, f"source {clip.sha256[:12]} is shorter than when it was scanned")
    return scaled(resampled(audio, rate_hz, SAMPLE_RATE_HZ), clip.gain_db)


# --- the chain of stages --------------------------------------------------------------------------


@dataclass
class _Chain:
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


def _run_chain(spec: SampleSpec, dry: Audio, sources: Mapping[str, Source], clock: StageClock) -> _Chain:
    chain = _Chain(dry, dry, dry, np.zeros(0, np.float32), dry)
    for stage in spec.stages:
        now = time.perf_counter()
        degradation = stage_class(stage.stage)
        clips = tuple(_frozen(_clip_audio(clip, sources, stage.label)) for clip in stage.clips)
        now = clock.charge("sources", now) if clips else now
        inputs = Inputs(clips, chain.reference)
        applied = _apply(degradation, stage, chain.audio, inputs)
        _advance(chain, degradation, stage, applied, inputs, spec)
        clock.charge(stage.label, now)
    if chain.target is not dry:
        chain.target = _frozen(with_active_level(chain.target, spec.target.active_level_dbfs))
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
    chain: _Chain,
    degradation: type[Degradation],
    stage: StageSpec,
    applied: Applied,
    inputs: Inputs,
    spec: SampleSpec,
) -> None:
    before = chain.audio
    after = without_delay(np.asarray(applied.audio, np.float32), applied.delay_samples, spec.frames)
    _check_changed(before, after, stage)
    chain.audio = _frozen(after)
    if applied.added is not None:
        chain.noise = applied.added + chain.noise if len(chain.noise) else applied.added
        chain.reference = chain.reference if applied.speech is None else _frozen(applied.speech)
    else:
        chain.reference = chain.audio
    if degradation.axis == "reverberation":
        chain.reverberant = chain.reference
    if spec.target.kind != "dry":
        kind, early_ms = spec.target.kind, spec.target.early_ms
        chain.target = _frozen(degradation.on_target(chain.target, stage.values, inputs, kind, early_ms))
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


def _warp(chain: _Chain, stage: StageSpec, applied: Applied, spec: SampleSpec) -> Values:
    """Let the target follow a stage that moved time, or mark the sample; return the map for the record."""
    if applied.time_map is None:
        raise SampleFailed(stage.label, "moves time and gives no time_map")
    if spec.target.time_warps == "follow":
        chain.target = _frozen(applied.time_map.applied(chain.target))
        chain.reverberant = _frozen(applied.time_map.applied(chain.reverberant))
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


# --- what came out --------------------------------------------------------------------------------


def _room_for_stems_db(spec: SampleSpec, chain: _Chain) -> float:
    """Gain at which no stem clips: later stages may have turned down what was added too loud for a file."""
    parts = {"noise": chain.noise, "reverberant": chain.reverberant}
    return min(
        (PEAK_LIMIT_DBFS - peak_dbfs(parts[name]) for name in spec.stems if name in parts), default=0.0
    )


def _stem(name: Stem, dry: Audio, chain: _Chain, gain_db: float) -> Audio:
    if name == "dry":
        return dry
    if name == "reverberant":
        return scaled(chain.reverberant, gain_db)
    noise = chain.noise if len(chain.noise) else np.zeros(len(dry), np.float32)
    return scaled(noise, gain_db)


def _quantised(audio: Audio, step: float) -> Audio:
    """Round to the integers that the file will hold, kept as floats."""
    quantised = audio * np.float32(step)
    np.rint(quantised, out=quantised)
    np.clip(quantised, -step, step - 1.0, out=quantised)
    quantised /= np.float32(step)
    return quantised


def _record(
    spec: SampleSpec,
    sources: Mapping[str, Source],
    chain: _Chain,
    degraded: Audio,
    target: Audio,
    guard_db: float,
) -> SampleRecord:
    level = active_level_dbfs(degraded)
    if level < SILENCE_DBFS:
        raise SampleFailed("output", "the degraded signal is silent")
    # Against the talker as the room left it: a strong reflection is a later arrival, but not a misalignment. That
    # the room itself keeps the direct path in place is the room stage's own promise.
    lag, likeness = residual_lag(degraded, chain.reverberant)
    if chain.aligned and likeness >= SURE_LIKENESS and abs(lag) >= MISALIGNED_SAMPLES:
        raise SampleFailed("alignment", f"the degraded signal lags the talker by {lag:.1f} samples")
    measured: Values = {
        "degraded_active_level_dbfs": rounded(level, 3),
        "degraded_rms_dbfs": rounded(rms_dbfs(degraded), 3),
        "degraded_peak_dbfs": rounded(peak_dbfs(degraded), 3),
        "target_active_level_dbfs": rounded(active_level_dbfs(target), 3),
        "target_peak_dbfs": rounded(peak_dbfs(target), 3),
        "degraded_bandwidth_hz": rounded(true_bandwidth_hz(degraded, SAMPLE_RATE_HZ), 0),
        "target_bandwidth_hz": rounded(true_bandwidth_hz(target, SAMPLE_RATE_HZ), 0),
        "residual_lag_samples": rounded(lag, 3),
        "likeness": rounded(likeness, 4),
        "guard_gain_db": rounded(guard_db, 3),
    }
    measured |= _from_stages(chain.records)
    used = _sources_used(spec, sources)
    return SampleRecord(
        spec_digest=spec.digest,
        key=spec.key,
        split=spec.split,
        index=spec.index,
        attempt=spec.attempt,
        seed=spec.seed,
        sample_rate_hz=SAMPLE_RATE_HZ,
        frames=spec.frames,
        bits=spec.bits,
        target=spec.target,
        stems=spec.stems,
        speech=spec.speech,
        stages=tuple(chain.records),
        sources=used,
        licences=tuple(sorted({source.licence for source in used})),
        speaker=sources[spec.speech[0].sha256].speaker or "",
        measured=measured,
        severity=_severity_by_axis(chain.records),
        aligned=chain.aligned,
    )


SUMMARISED = ("snr_db", "rt60_s", "drr_db", "clipped_share", "loss_share")
"""Measurements of single stages that are shown for the whole sample as well: of the first stage that has one, and of
SNRs the lowest."""


def _from_stages(records: list[StageRecord]) -> Values:
    summary: Values = {}
    for record in records:
        for name in SUMMARISED:
            if name in record.measured:
                summary.setdefault(name, record.measured[name])
    ratios_db = [record.measured["snr_db"] for record in records if "snr_db" in record.measured]
    return summary | ({"snr_db": min(ratios_db)} if ratios_db else {})


def _severity_by_axis(records: list[StageRecord]) -> dict[Axis, float]:
    """Combine stages on one axis as independent chances of disturbing: 1 - prod(1 - severity)."""
    clean = dict.fromkeys(AXES, 1.0)
    for record in records:
        if record.axis is not None:
            clean[record.axis] *= 1.0 - record.severity
    return {axis: round(1.0 - clean[axis], 4) for axis in AXES}


def _sources_used(spec: SampleSpec, sources: Mapping[str, Source]) -> tuple[SourceUse, ...]:
    used = {clip.sha256: sources[clip.sha256] for clip in spec.clips}
    return tuple(
        SourceUse(sha256=sha, kind=s.kind, group=s.group, licence=s.licence)
        for sha, s in sorted(used.items())
    )


def spec_of(record: SampleRecord) -> SampleSpec:
    """Recover the spec from a record, to render the sample again."""
    return SampleSpec(
        **record.model_dump(include=set(SampleSpec.model_fields) - {"stages", "format"}),
        stages=tuple(StageSpec(**s.model_dump(include=set(StageSpec.model_fields))) for s in record.stages),
    )


def _plain(values: Mapping[str, Any]) -> Values:
    """Round measured floats so that records are short, and equal where the signal is."""
    return {key: rounded(value, 6) if isinstance(value, float) else value for key, value in values.items()}


def _frozen(audio: Audio) -> Audio:
    audio.setflags(write=False)
    return audio
