"""Audio that an evaluation keeps, to be listened to: the input, each model's output, and the target of some samples.

They lie in `OUT/listen/` as FLAC of 16 bits, beside `listen.json`, which says what each file is. Names of files are
numbers: keys of recordings are paths that strangers chose.
"""

import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import soundfile
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from manifests.errors import UserError
from manifests.files import write_atomically
from manifests.recipe import SAMPLE_RATE_HZ
from pipelines.quality.metrics import Audio
from pipelines.quality.scores import DEGRADED, Sample
from pipelines.quality.scoring import Enhanced

FOLDER = "listen"
INDEX_FILE = "listen.json"
TARGET = "target"
KEPT = 4
"""So many samples are kept unless the user says otherwise: a page with them stays small."""
MOST_S = 15.0
"""Of longer recordings the beginning is kept."""

_OURS = re.compile(r"\d{3}-\d{2}\.flac")


class KeptSample(BaseModel):
    """One sample and its files."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    key: str
    conditions: tuple[str, ...]
    files: dict[str, str]
    """Names of files in the folder: of the input (`degraded`), of each system, and of the `target` if there is one."""
    seconds: float = Field(ge=0.0)


class KeptAudio(BaseModel):
    """The content of `listen.json`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: int = 1
    samples: tuple[KeptSample, ...]


def keeping(enhanced: Iterable[Enhanced], total: int, wanted: int, out: Path) -> Iterator[Enhanced]:
    """Pass enhanced samples on, and keep the audio of some that lie evenly among them.

    Args:
        enhanced: each sample with the estimates of the systems.
        total: how many samples there may be at most.
        wanted: how many are kept at most.
        out: folder of the evaluation; what an earlier one kept there is removed.

    Raises:
        UserError: when the audio cannot be written.
    """
    places = {(2 * number + 1) * total // (2 * wanted) for number in range(wanted)}
    kept: list[KeptSample] = []
    with _writing(out / FOLDER) as folder:
        _clear(folder)
    for place, (sample, estimates) in enumerate(enhanced):
        if place in places:
            with _writing(out / FOLDER) as folder:
                kept.append(_kept(folder, len(kept), sample, estimates))
        yield sample, estimates
    if kept:
        with _writing(out / FOLDER) as folder:
            content = KeptAudio(samples=tuple(kept)).model_dump(mode="json")
            text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
            write_atomically(folder / INDEX_FILE, text.encode())


def read_kept(out: Path) -> tuple[KeptSample, ...]:
    """Read which samples an evaluation kept; none where it kept none.

    Raises:
        UserError: when the index is not one of this format, or names what is not in its folder.
    """
    path = out / FOLDER / INDEX_FILE
    if not path.is_file():
        return ()
    try:
        kept = KeptAudio.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise UserError(f"{path}: not the index of an evaluation's audio") from error
    for name in (name for sample in kept.samples for name in sample.files.values()):
        file = out / FOLDER / name
        if not _OURS.fullmatch(name) or file.is_symlink() or not file.is_file():
            raise UserError(f"{path}: names '{name}', which is no audio of its folder")
    return kept.samples


def _clear(folder: Path) -> None:
    """Remove what an earlier evaluation kept, its index first."""
    (folder / INDEX_FILE).unlink(missing_ok=True)
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if _OURS.fullmatch(path.name):
            path.unlink()


def _kept(folder: Path, number: int, sample: Sample, estimates: Mapping[str, Audio]) -> KeptSample:
    folder.mkdir(exist_ok=True)
    waves = {DEGRADED: sample.degraded, **estimates}
    if sample.target is not None:
        waves[TARGET] = sample.target
    files = {name: f"{number:03d}-{place:02d}.flac" for place, name in enumerate(waves)}
    for name, wave in waves.items():
        stream = io.BytesIO()
        beginning = np.clip(wave[: round(MOST_S * SAMPLE_RATE_HZ)], -1.0, 1.0)
        soundfile.write(stream, beginning, SAMPLE_RATE_HZ, format="FLAC", subtype="PCM_16")
        write_atomically(folder / files[name], stream.getvalue())
    seconds = len(sample.degraded) / SAMPLE_RATE_HZ
    return KeptSample(key=sample.key, conditions=sample.conditions, files=files, seconds=seconds)


@contextmanager
def _writing(folder: Path) -> Iterator[Path]:
    try:
        yield folder
    except OSError as error:
        raise UserError(f"{folder}: cannot be written to ({error.strerror})") from error
