"""Rendering: a spec and its sources become audio and a record. A pure function.

The clean talker is put together and sent through the chain of stages (`datagen.chain`); what comes out is measured,
brought into what a file can hold, and described.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from datagen.alignment import residual_lag
from datagen.bandwidth import true_bandwidth_hz
from datagen.chain import Chain, SampleFailed, StageClock, clip_audio, frozen, run_chain
from datagen.degradations.base import Audio
from datagen.level import SILENCE_DBFS, active_level_dbfs, peak_dbfs, rms_dbfs, scaled
from manifests.canonical import rounded
from manifests.recipe import SAMPLE_RATE_HZ, Stem, TargetSettings
from manifests.sample import (
    AXES,
    Axis,
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


@dataclass(frozen=True)
class Rendered:
    """A rendered sample, quantised as it will be written."""

    degraded: Audio
    target: Audio
    stems: dict[Stem, Audio]
    record: SampleRecord


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
    dry = frozen(_talker(spec, sources))
    now = clock.charge("speech", now)
    chain = run_chain(spec, dry, sources, clock)
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
    chain = run_chain(spec, frozen(speech.view()), sources, StageClock())
    return chain.audio, chain.records[0]


# --- the clean talker -----------------------------------------------------------------------------


def _talker(spec: SampleSpec, sources: Mapping[str, Source]) -> Audio:
    audio = np.zeros(spec.frames, np.float32)
    for clip in spec.speech:
        utterance = clip_audio(clip, sources, "speech")[: spec.frames - clip.at]
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


# --- what came out --------------------------------------------------------------------------------


def _room_for_stems_db(spec: SampleSpec, chain: Chain) -> float:
    """Gain at which no stem clips: later stages may have turned down what was added too loud for a file."""
    parts = {"noise": chain.noise, "reverberant": chain.reverberant}
    return min(
        (PEAK_LIMIT_DBFS - peak_dbfs(parts[name]) for name in spec.stems if name in parts), default=0.0
    )


def _stem(name: Stem, dry: Audio, chain: Chain, gain_db: float) -> Audio:
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
    chain: Chain,
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
