"""What a person hears: what went in, what came out, and what was wanted, with pictures of all of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import soundfile

from manifests.errors import UserError
from manifests.recipe import SAMPLE_RATE_HZ
from pipelines.report.markup import Html, tag
from pipelines.report.media import MOST_SECONDS, Audio, heard

HOW_TO_READ = (
    "Waveforms are drawn to their peaks, spectrograms on the mel scale with the same colours for all. Sound is coded "
    f"as Opus, at most {MOST_SECONDS:g} s of each; a clip that is started while another of its sample plays goes on "
    "from the same moment."
)


@dataclass(frozen=True)
class Listened:
    """One sample."""

    key: str
    about: str
    """In words: under which conditions it was recorded; or nothing."""
    waves: Mapping[str, Path]
    """Files by what they are: `degraded`, a stage or system, `target`."""


def listening(samples: Sequence[Listened]) -> Html:
    """Return players and pictures, which hold the audio themselves.

    Raises:
        UserError: when a file is not audio of one channel at 48 kHz.
    """
    return tag("div", map(_sample, samples), class_="samples")


def _sample(sample: Listened) -> Html:
    return tag(
        "article",
        tag("h3", sample.key),
        tag("p", sample.about, class_="note") if sample.about else None,
        tag(
            "div",
            [heard(name, f"{name} of {sample.key}", _read(path)) for name, path in sample.waves.items()],
            class_="heard",
        ),
        class_="card sample",
    )


def _read(path: Path) -> Audio:
    """Read the beginning of a wave, shape (N,)."""
    try:
        with soundfile.SoundFile(path) as file:
            if file.samplerate != SAMPLE_RATE_HZ or file.channels != 1:
                raise UserError(
                    f"{path}: is not audio of one channel at 48 kHz, as runs and evaluations keep it"
                )
            audio: Audio = file.read(round(MOST_SECONDS * SAMPLE_RATE_HZ), dtype="float32")
    except (OSError, soundfile.SoundFileError) as error:
        raise UserError(f"{path}: cannot be read as audio") from error
    return audio
