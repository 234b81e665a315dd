"""What can be measured on real recordings and on degraded clips of a corpus alike, without any reference."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import PurePosixPath

import numpy as np

from datagen.audio import AudioError, mixed_down, read_all, resampled
from datagen.folders import audio_files
from manifests.errors import UserError
from manifests.keyed import generator
from manifests.recipe import SAMPLE_RATE_HZ
from pipelines.dnsmos import dnsmos
from pipelines.metrics import Audio, MeasurementError
from pipelines.progress import JobProgress
from pipelines.recording_measures import bandwidth_khz, flat_top_share, level_dbfs, noise_floor_dbfs
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

Measured = dict[str, Values]
"""Values by column; a clip for which a measure is not defined (silence) has none."""


def measure_recordings(root: str, say: Callable[[str], None]) -> tuple[Measured, int, int]:
    """Measure a folder of recordings; of many, the same ones are drawn every time.

    Args:
        root: a folder or URI.
        say: told of files that cannot be read.

    Returns:
        What was measured, how many recordings that was, and how many there are.

    Raises:
        UserError: when there is no such folder, or not a single recording in it can be read.
    """
    found = audio_files(root)
    if not found:
        raise UserError(f"{root}: holds neither a corpus nor audio files to compare with")
    paths = [file.path for file in found]
    if len(paths) > MOST_MEASURED:
        chosen = generator("report recordings", len(paths)).choice(len(paths), MOST_MEASURED, replace=False)
        paths = [paths[number] for number in sorted(chosen)]
    measured, count = _measured(_recordings(paths, say), len(paths), "recordings")
    if not count:
        raise UserError(f"{root}: none of its audio files can be read")
    return measured, count, len(found)


def measure_clips(clips: Iterable[Audio], count: int) -> Measured:
    """Measure clips at 48 kHz, each of shape (N,)."""
    return _measured(((clip, clip) for clip in clips), count, "clips")[0]


def spread(total: int, count: int) -> Sequence[int]:
    """Choose positions, evenly spread."""
    count = min(total, count)
    return [(2 * number + 1) * total // (2 * count) for number in range(count)]


def _recordings(paths: Sequence[str], say: Callable[[str], None]) -> Iterator[tuple[Audio, Audio]]:
    """Yield each recording at 48 kHz, and as it is: resampling rounds flat tops off."""
    for path in paths:
        try:
            frames, rate_hz = read_all(path)
        except AudioError as error:
            say(f"{path}: {error}")
            continue
        native = mixed_down(frames)[: int(LONGEST_S * rate_hz)]
        if len(native) < SHORTEST_S * rate_hz or not np.isfinite(native).all():
            say(f"{PurePosixPath(path)}: shorter than {SHORTEST_S:g} s, or holds NaN or infinity")
            continue
        yield resampled(native, rate_hz, SAMPLE_RATE_HZ), native


def _measured(clips: Iterable[tuple[Audio, Audio]], total: int, unit: str) -> tuple[Measured, int]:
    found: dict[str, list[float]] = {measure.column: [] for measure in MEASURED}
    count = 0
    with JobProgress("measure", total, unit) as progress:
        for audio, native in clips:
            count += 1
            found[CLIPPING.column].append(100.0 * flat_top_share(native))
            for measure, take in ((LEVEL, level_dbfs), (BANDWIDTH, bandwidth_khz), (FLOOR, noise_floor_dbfs)):
                _add(found, measure.column, take, audio)
            try:
                scores = dnsmos(audio)._asdict()
            except MeasurementError:
                scores = {}
            for name, score in scores.items():
                found[f"dnsmos_{name}"].append(score)
            progress.advance(1)
    return {name: np.asarray(values, np.float64) for name, values in found.items()}, count


def _add(found: dict[str, list[float]], name: str, take: Callable[[Audio], float], audio: Audio) -> None:
    try:
        found[name].append(take(audio))
    except MeasurementError:
        return
