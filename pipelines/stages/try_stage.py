"""One stage on one recording, as a corpus would have it: drawn once, applied by the engine, and measured."""

import io
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.io import wavfile

from datagen.audio import AudioError, flac_bytes, mixed_down, read_all, resampled
from datagen.bandwidth import true_bandwidth_hz
from datagen.chain import SampleFailed
from datagen.degradations import provenance, stage_class
from datagen.degradations.base import Audio, Degradation, Drawn, NoMaterial, Scene, Tolerance
from datagen.level import SILENCE_DBFS, active_level_dbfs, peak_dbfs, scaled
from datagen.render import PEAK_LIMIT_DBFS, apply_stage
from manifests.documents import Document, check, with_overrides
from manifests.errors import JobError, UserError
from manifests.files import write_atomically
from manifests.keyed import generator
from manifests.recipe import SAMPLE_RATE_HZ
from manifests.sample import StageRecord, StageSpec, Values
from manifests.source import Kind, Source
from pipelines.quality.figures import spectrogram_png
from pipelines.stages.settings import plain, rounded
from pipelines.stages.trial_material import trial_sources

SUFFIXES = (".wav", ".flac")
SHORTEST_S = 0.05
Sources = Callable[[Kind], tuple[Source, ...]]


@dataclass(frozen=True)
class Trial:
    """One stage, drawn and applied."""

    stage: Degradation
    before: Audio
    after: Audio
    record: StageRecord
    sources: tuple[Source, ...]
    """What was drawn from."""

    def promise(self, name: str) -> tuple[Tolerance, bool] | None:
        """Return how exactly a drawn value is to be delivered and whether it was; None without a promise."""
        tolerance = type(self.stage).promises.get(name)
        if tolerance is None or self.record.values.get(name) is None:
            return None
        return tolerance, name not in self.record.out_of_tolerance

    def plain(self) -> dict[str, Any]:
        """Return everything but the audio as JSON values."""
        return {
            "stage": self.record.stage,
            "settings": self.stage.model_dump(mode="json"),
            "package": self.record.package,
            "values": self.record.values,
            "measured": self.record.measured,
            "out_of_tolerance": list(self.record.out_of_tolerance),
            "axis": self.record.axis,
            "severity": self.record.severity,
            "delay_samples": self.record.delay_samples,
            "moves_time": type(self.stage).warps_time,
            "sources": [{"path": s.path, "sha256": s.sha256, "kind": s.kind} for s in self.sources],
        }


def try_stage(
    name: str,
    source: Path,
    out: Path,
    settings: Iterable[str] = (),
    seed: int = 0,
    material: Mapping[Kind, Path] | None = None,
    say: Callable[[str], None] = print,
) -> Trial:
    """Degrade a recording with one stage; write the result and a picture of before and after beside it.

    Args:
        name: of the stage.
        source: any audio file; its channels are mixed down.
        out: `.wav` (32-bit float) or `.flac` (24 bits), 48 kHz, as long as the input; a `.png` appears beside it.
        settings: `snr_db=5` and the like.
        seed: of everything that is drawn.
        material: recordings to draw from, by kind; what is not given is built in.
        say: told of what is left out.

    Raises:
        UserError: when something that was asked for does not exist or is impossible.
        JobError: when what was drawn cannot be applied to this recording.
    """
    cls = stage_class(name)
    stage = check(cls, *_document(name, settings))
    _check_out(source, out)
    speech = read_speech(source)
    sources = trial_sources(material or {}, seed, getattr(stage, "rt60_s", None), say)
    trial = draw_and_apply(stage, speech, sources, seed)
    _write(trial, out, source.name, say)
    return trial


def draw_and_apply(stage: Degradation, speech: Audio, sources: Sources, seed: int) -> Trial:
    """Draw a stage for some speech, shape (N,) at 48 kHz, and apply it as the engine does in a chain.

    Raises:
        UserError: when there is nothing to draw from.
        JobError: when it cannot be applied, or changes nothing.
    """
    offered: dict[str, Source] = {}

    def offering(kind: Kind) -> tuple[Source, ...]:
        offered.update((source.sha256, source) for source in sources(kind))
        return sources(kind)

    drawn = draw(stage, speech, offering, seed)
    package, code_digest = provenance(type(stage))
    spec = StageSpec(
        label=stage.name,
        stage=stage.name,
        values=drawn.values,
        clips=drawn.clips,
        package=package,
        code_digest=code_digest,
    )
    try:
        after, record = apply_stage(spec, speech, offered)
    except SampleFailed as error:
        raise JobError(f"{error}; another --seed draws other values") from error
    used = dict.fromkeys(clip.sha256 for clip in drawn.clips)
    return Trial(stage, speech, after, record, tuple(offered[sha256] for sha256 in used))


def draw(stage: Degradation, speech: Audio, sources: Sources, seed: int) -> Drawn:
    """Draw a stage for some speech, with the keys of the first training sample of a corpus of this seed.

    Raises:
        UserError: when there is nothing to draw from.
    """
    scene = Scene(frames=len(speech), bandwidth_hz=true_bandwidth_hz(speech, SAMPLE_RATE_HZ), sources=sources)
    try:
        return stage.draw(generator(seed, "train", 0, 0, stage.name, "values"), scene)
    except NoMaterial as error:
        raise UserError(
            f"stage {stage.name}: nothing that it could draw from fits its settings; set them wider, or give "
            "other recordings with --noise, --rir or --speech"
        ) from error


def read_speech(source: Path) -> Audio:
    """Read a recording as mono at 48 kHz, shape (N,), read-only.

    Raises:
        UserError: when it is missing, no audio, too short, not finite, or silent.
    """
    if not source.is_file():
        raise UserError(f"{source}: {'is a folder' if source.is_dir() else 'no such file'}")
    try:
        frames, rate_hz = read_all(str(source))
    except AudioError as error:
        raise UserError(f"{source}: {error}") from error
    speech = resampled(mixed_down(frames), rate_hz, SAMPLE_RATE_HZ)
    if len(speech) < SHORTEST_S * SAMPLE_RATE_HZ:
        raise UserError(f"{source}: lasts {len(speech) / SAMPLE_RATE_HZ:.3f} s; {SHORTEST_S:g} s are needed")
    if not np.isfinite(speech).all():
        raise UserError(f"{source}: contains NaN or infinity")
    if active_level_dbfs(speech) <= SILENCE_DBFS:
        raise UserError(f"{source}: is silent")
    speech = np.ascontiguousarray(speech)
    speech.setflags(write=False)
    return speech


def short(values: Values) -> str:
    """Write drawn values on one line; lists and seeds are left out."""
    scalars = {
        name: plain(rounded(value))
        for name, value in values.items()
        if not isinstance(value, list | dict) and value is not None and not name.endswith("seed")
    }
    return ", ".join(f"{name} {text}" for name, text in scalars.items())


def _document(name: str, settings: Iterable[str]) -> tuple[dict[str, Any], Document]:
    document = with_overrides(Document(f"stage {name}", {}, {}), settings)
    return document.content, document


def _check_out(source: Path, out: Path) -> None:
    if out.suffix.lower() not in SUFFIXES:
        raise UserError(f"--out {out}: must end in {' or '.join(SUFFIXES)}")
    if out.is_dir():
        raise UserError(f"--out {out}: is a folder")
    for path in (out, out.with_suffix(".png")):
        if path.resolve() == source.resolve() or (
            path.exists() and source.exists() and path.samefile(source)
        ):
            raise UserError(f"--out {out}: would overwrite the input")


def _write(trial: Trial, out: Path, name: str, say: Callable[[str], None]) -> None:
    audio = trial.after
    guard_db = PEAK_LIMIT_DBFS - peak_dbfs(audio)
    if out.suffix.lower() == ".flac":
        if guard_db < 0.0:
            say(
                f"{out}: written {-guard_db:.1f} dB quieter, as FLAC holds nothing above full scale; WAV does"
            )
            audio = scaled(audio, guard_db)
        content = flac_bytes(audio, 24)
    else:
        # Not libsndfile: it puts the time of day into float WAVs.
        stream = io.BytesIO()
        wavfile.write(stream, SAMPLE_RATE_HZ, audio)
        content = stream.getvalue()
    picture = spectrogram_png(
        {name: trial.before, f"{trial.record.stage}: {short(trial.record.values)}": trial.after}
    )
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(out, content)
        write_atomically(out.with_suffix(".png"), picture)
    except OSError as error:
        raise UserError(f"{out}: cannot be written ({error.strerror})") from error
