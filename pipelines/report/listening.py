"""What a person hears: for each sample, what went in, what came out, and what was wanted, with pictures of all of them."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from manifests.errors import UserError
from manifests.recipe import SAMPLE_RATE_HZ
from pipelines.figures import FLOOR_DB, TOP_DB, mel_share, spectrogram_cells_png

TICKS_KHZ = (1, 4, 8, 16)
LEGEND = (
    f"Spectrograms reach from 0 to {SAMPLE_RATE_HZ // 2000} kHz on the mel scale, and from {FLOOR_DB:g} (black) to "
    f"{TOP_DB:g} dBFS (white) in each bin: all on one scale, so that they can be compared."
)
FULL_SCALE = 2**15
MOST_S = 15.0
"""Of longer waves the beginning is in the page."""


@dataclass(frozen=True)
class Listened:
    """One sample."""

    key: str
    about: str
    """In words: under which conditions it was recorded, or nothing."""
    waves: Mapping[str, Path]
    """Files by what they are: `degraded`, a stage or system, `target`."""


def listen_section(samples: Sequence[Listened]) -> str:
    """Return players and spectrograms as HTML that holds the audio itself; names are escaped.

    Raises:
        UserError: when a file is no audio at 48 kHz.
    """
    return "\n".join([f'<p class="note">{LEGEND}</p>', *map(_sample, samples)])


def _sample(sample: Listened) -> str:
    about = f'<p class="note">{escape(sample.about)}</p>' if sample.about else ""
    figures = "".join(_wave(sample.key, name, path) for name, path in sample.waves.items())
    return f'<section class="heard"><h3>{escape(sample.key)}</h3>{about}<div class="waves">{figures}</div></section>'


def _wave(key: str, name: str, path: Path) -> str:
    wave = _read(path)
    seconds = len(wave) / SAMPLE_RATE_HZ
    picture = base64.b64encode(spectrogram_cells_png(wave.astype(np.float32) / FULL_SCALE)).decode()
    audio = base64.b64encode(_flac(wave)).decode()
    ticks = "".join(
        f'<span style="bottom:{100 * mel_share(1000 * khz):.1f}%">{khz}</span>' for khz in TICKS_KHZ
    )
    said = escape(f"{name} of {key}")
    return (
        f'<figure><figcaption>{escape(name)}</figcaption><div class="spectrogram">'
        f'<img alt="spectrogram of {said}, {seconds:.1f} s" src="data:image/png;base64,{picture}">'
        f'<span class="khz" aria-hidden="true">{ticks}</span></div>'
        f'<audio controls preload="metadata" aria-label="{said}" src="data:audio/flac;base64,{audio}"></audio></figure>'
    )


def _read(path: Path) -> NDArray[np.int16]:
    """Read the beginning of a wave, shape (N,): as integers, for they come back from FLAC as they were."""
    try:
        with soundfile.SoundFile(path) as file:
            if file.samplerate != SAMPLE_RATE_HZ or file.channels != 1:
                raise UserError(f"{path}: is of {file.samplerate} Hz and {file.channels} channels, not 48 kHz mono")
            wave: NDArray[np.int16] = file.read(round(MOST_S * SAMPLE_RATE_HZ), dtype="int16")
    except (OSError, soundfile.SoundFileError) as error:
        raise UserError(f"{path}: cannot be read as audio") from error
    return wave


def _flac(wave: NDArray[np.int16]) -> bytes:
    stream = io.BytesIO()
    soundfile.write(stream, wave, SAMPLE_RATE_HZ, format="FLAC", subtype="PCM_16")
    return stream.getvalue()
