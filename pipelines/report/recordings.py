"""What can be measured on real recordings and on degraded clips of a corpus alike, without any reference."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from datagen.audio import AudioError, mixed_down, read_all, resampled
from datagen.folders import audio_files
from datagen.provenance import Found
from manifests.errors import UserError
from manifests.keyed import generator
from manifests.recipe import SAMPLE_RATE_HZ
from pipelines.progress import JobProgress
from pipelines.quality.dnsmos import dnsmos
from pipelines.quality.metrics import Audio, MeasurementError
from pipelines.quality.recordings import bandwidth_khz, flat_top_share, level_dbfs, noise_floor_dbfs
from pipelines.report.scales import Values
from pipelines.report.summary import Measure

MOST_MEASURED = 60
"""Clips of each side: DNSMOS takes most of the time."""
LONGEST_S = 30.0
"""Of longer recordings, the beginning is measured."""
SHORTEST_S = 0.5

LEVEL = Measure("level_dbfs", "Active level", "dBFS")
BANDWIDTH = Measure("bandwidth_khz", "Bandwidth", "kHz")
FLOOR = Measure("noise_floor_dbfs", "Noise floor", "dBFS")
CLIPPING = Measure("flat_top_share", "Samples in flat tops (clipping)", "%", 100.0)
SCORES = tuple(
    Measure(f"dnsmos_{name}", f"DNSMOS {title}", "MOS")
    for name, title in (("ovrl", "overall"), ("sig", "speech"), ("bak", "background"), ("p808", "P.808"))
)
MEASURED = (LEVEL, BANDWIDTH, FLOOR, CLIPPING, *SCORES)


@dataclass(frozen=True)
class Clip:
    """What was measured on a recording, or on a degraded clip."""

    name: str
    """Place below the folder of the recordings, or the sample's key."""
    where: str
    """Path or URI of a recording; of a clip its key."""
    values: Mapping[str, float]
    """By column; a measure that is not defined (of silence) is missing."""


def values_of(clips: Iterable[Clip], measure: Measure) -> Values:
    """Return a measure of all clips that have one."""
    return np.asarray([c.values[measure.column] for c in clips if measure.column in c.values], np.float64)


def measure_recordings(root: str, say: Callable[[str], None]) -> tuple[list[Clip], int]:
    """Measure a folder of recordings; of many, the same ones are drawn every time.

    Args:
        root: a folder or URI.
        say: told of files that cannot be read.

    Returns:
        What was measured, and how many recordings there are.

    Raises:
        UserError: when there is no such folder, or not a single recording in it can be read.
    """
    found = audio_files(root)
    if not found:
        raise UserError(f"{root}: holds neither a corpus nor audio files to compare with")
    files = found
    if len(files) > MOST_MEASURED:
        chosen = generator("report recordings", len(files)).choice(len(files), MOST_MEASURED, replace=False)
        files = [files[number] for number in sorted(chosen)]
    measured = _measured(_recordings(files, say), len(files), "recordings")
    if not measured:
        raise UserError(f"{root}: none of its audio files can be read")
    return measured, len(found)


def measure_clips(clips: Iterable[tuple[str, Audio]], count: int) -> list[Clip]:
    """Measure clips at 48 kHz, each a key and audio of shape (N,)."""
    return _measured(((key, key, clip, clip) for key, clip in clips), count, "clips")


def read_recording(where: str) -> tuple[Audio, Audio]:
    """Read a recording's beginning as one channel, shape (N,): at 48 kHz, and as it is.

    Raises:
        AudioError: when it cannot be read, is too short, or holds what is no sound.
    """
    frames, rate_hz = read_all(where)
    native = mixed_down(frames)[: int(LONGEST_S * rate_hz)]
    if len(native) < SHORTEST_S * rate_hz or not np.isfinite(native).all():
        raise AudioError(f"shorter than {SHORTEST_S:g} s, or holds NaN or infinity")
    return resampled(native, rate_hz, SAMPLE_RATE_HZ), native


def spread(total: int, count: int) -> Sequence[int]:
    """Choose positions, evenly spread."""
    count = min(total, count)
    return [(2 * number + 1) * total // (2 * count) for number in range(count)]


def _recordings(
    files: Sequence[Found], say: Callable[[str], None]
) -> Iterator[tuple[str, str, Audio, Audio]]:
    """Yield each recording at 48 kHz, and as it is: resampling rounds flat tops off."""
    for file in files:
        try:
            audio, native = read_recording(file.path)
        except AudioError as error:
            say(f"{file.path}: {error}")
            continue
        yield file.relative, file.path, audio, native


def _measured(clips: Iterable[tuple[str, str, Audio, Audio]], total: int, unit: str) -> list[Clip]:
    found = []
    with JobProgress("measure", total, unit) as progress:
        for name, where, audio, native in clips:
            found.append(Clip(name, where, _values(audio, native)))
            progress.advance(1)
    return found


def _values(audio: Audio, native: Audio) -> Mapping[str, float]:
    values = {CLIPPING.column: 100.0 * flat_top_share(native)}
    for measure, take in ((LEVEL, level_dbfs), (BANDWIDTH, bandwidth_khz), (FLOOR, noise_floor_dbfs)):
        with suppress(MeasurementError):
            values[measure.column] = take(audio)
    with suppress(MeasurementError):
        values |= {f"dnsmos_{name}": score for name, score in dnsmos(audio)._asdict().items()}
    return values
