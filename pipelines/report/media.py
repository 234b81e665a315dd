"""Sound and pictures that are part of a page: Opus in WebM, which all browsers play, and spectrograms of few bytes."""

import base64
import io
from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from manifests.recipe import SAMPLE_RATE_HZ
from pipelines.quality.figures import FLOOR_DB, STEP_DB, TOP_DB, mel, mel_cells, spectrogram_db
from pipelines.report.charts import drawing
from pipelines.report.markup import Html, tag
from pipelines.report.scales import Scale, ticks
from pipelines.report.scales import coordinate as at

Audio = NDArray[np.float32]
MOST_SECONDS = 10.0
"""Longer clips are cut: the page has a limit."""
BITRATE = 64_000
"""bit/s of Opus: more than enough for one voice."""
CELLS = (536, 128)
"""Of a spectrogram: columns over the clip, rows from 0 to 24 kHz on the mel scale."""
KHZ = (0, 1, 2, 4, 8, 16, 24)
_COLOURS = round((TOP_DB - FLOOR_DB) / STEP_DB) + 1
_LEFT, _WIDTH, _RIGHT = 36, 268, 40
_TOP, _WAVE, _GAP, _PICTURE, _BELOW = 2, 32, 8, 128, 18
_SCALE_WIDTH = 8
_LEVELS_DB = (-100, -80, -60, -40, -20)
"""At which the scale of colours has a number."""
SILENT = 10.0 ** (-100.0 / 20.0)


def excerpt(audio: Audio) -> Audio:
    """Return what a page plays of a clip: its first `MOST_SECONDS`."""
    return audio[: int(MOST_SECONDS * SAMPLE_RATE_HZ)]


def player(audio: Audio, label: str) -> Html:
    """Return a player of a clip at 48 kHz, shape (N,)."""
    return tag(
        "audio", controls=True, preload="none", aria_label=label, src=data_uri("audio/webm", opus(audio))
    )


def heard(title: str, what: str, audio: Audio, facts: Sequence[str] = ()) -> Html:
    """Return a clip to see and to hear.

    Args:
        title: above it.
        what: it is, in a word or two and with a name, for those who cannot see.
        audio: at 48 kHz, shape (N,).
        facts: what was measured, with units.
    """
    said = ", ".join([f"{len(audio) / SAMPLE_RATE_HZ:.3g} s", *facts])
    return tag(
        "figure",
        tag("figcaption", title, tag("small", ", ".join(facts)) if facts else None),
        panel(audio, f"Waveform and spectrogram: {what}, {said}; 0 to 24 kHz"),
        player(audio, what),
    )


def opus(audio: Audio) -> bytes:
    """Encode a clip at 48 kHz, shape (N,), as Opus in WebM; the same clip gives the same bytes."""
    import av

    file = io.BytesIO()
    # Without bitexact there would be random identifiers in it.
    with av.open(file, "w", format="webm", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream(
            "libopus", rate=SAMPLE_RATE_HZ, layout="mono", options={"b": str(BITRATE)}
        )
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(audio[None], np.float32), "flt", "mono")
        frame.sample_rate, frame.pts = SAMPLE_RATE_HZ, 0
        for given in (frame, None):
            container.mux(stream.encode(given))
    return file.getvalue()


def data_uri(kind: str, content: bytes) -> str:
    """Return content as an address that needs no other file."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def spectrogram_png(audio: Audio) -> bytes:
    """Draw the spectrogram of a clip, shape (N,), as PNG, a pixel a cell; `FLOOR_DB` to `TOP_DB`, dark to light."""
    from PIL import Image

    levels = mel_cells(spectrogram_db(audio), CELLS)[::-1]
    shades = np.rint((np.clip(levels, FLOOR_DB, TOP_DB) - FLOOR_DB) / STEP_DB).astype(np.uint8)
    picture = Image.fromarray(shades, "P")
    picture.putpalette(palette())
    content = io.BytesIO()
    picture.save(content, "PNG", optimize=True)
    return content.getvalue()


@cache
def palette() -> bytes:
    """Return colours from `FLOOR_DB` to `TOP_DB`, red, green, blue: their lightness alone tells levels."""
    from matplotlib import colormaps

    return (
        (colormaps["magma"](np.linspace(0.0, 1.0, _COLOURS))[:, :3] * 255.0)
        .round()
        .astype(np.uint8)
        .tobytes()
    )


def panel(audio: Audio, label: str) -> Html:
    """Draw a clip's waveform above its spectrogram, on one axis of time, with a line that shows what is played.

    Beside the waveform stands its peak, beside the spectrogram what its colours mean.

    Args:
        audio: at 48 kHz, shape (N,).
        label: what it is.
    """
    seconds = len(audio) / SAMPLE_RATE_HZ
    x = Scale(0.0, seconds, _LEFT, _LEFT + _WIDTH)
    top = _TOP + _WAVE + _GAP
    y = Scale(0.0, mel(SAMPLE_RATE_HZ / 2.0), top + _PICTURE, top)
    bottom = top + _PICTURE
    right = _LEFT + _WIDTH
    level = Scale(FLOOR_DB, TOP_DB, bottom, top)
    picture = {"y": top, "height": _PICTURE, "preserveAspectRatio": "none"}
    parts = (
        tag("path", class_="wave", d=_wave(audio, _TOP + _WAVE / 2.0)),
        _peak(audio, right + 4),
        tag("image", href=data_uri("image/png", spectrogram_png(audio)), x=_LEFT, width=_WIDTH, **picture),
        [
            tag("text", f"{khz:g}", x=_LEFT - 4, y=at(y(mel(1000.0 * khz)) + 4), text_anchor="end")
            for khz in KHZ
        ],
        tag(
            "text",
            "kHz",
            transform=f"translate(9 {at(top + _PICTURE / 2)}) rotate(-90)",
            text_anchor="middle",
        ),
        [
            tag(
                "text",
                f"{second:g}{' s' if second == 0 else ''}",
                x=at(x(second)),
                y=bottom + 14,
                text_anchor="middle",
            )
            for second in ticks(0.0, seconds, 6)
        ],
        tag("image", class_="scale", href=_scale_uri(), x=right + 5, width=_SCALE_WIDTH, **picture),
        [tag("text", f"{db}", x=right + 5 + _SCALE_WIDTH + 2, y=at(level(db) + 4)) for db in _LEVELS_DB],
        tag("text", "dBFS", x=right + _RIGHT, y=bottom + 14, text_anchor="end"),
        tag(
            "line",
            class_="playhead",
            x1=_LEFT,
            x2=_LEFT,
            y1=_TOP,
            y2=bottom,
            visibility="hidden",
            data_from=_LEFT,
            data_to=right,
        ),
    )
    return drawing(right + _RIGHT, bottom + _BELOW, label, *parts)


def _peak(audio: Audio, x: float) -> list[Html]:
    """Say how loud a waveform is: its picture is as high for a faint clip as for a loud one."""
    peak = float(np.abs(audio).max(initial=0.0))
    if peak < SILENT:
        return [tag("text", "silent", x=x, y=_TOP + _WAVE / 2 + 4)]
    return [
        tag("text", text, x=x, y=_TOP + 10 + 11 * line)
        for line, text in enumerate(("peak", f"{20.0 * np.log10(peak):.1f}", "dBFS"))
    ]


@cache
def _scale_uri() -> str:
    """Return the colours of all spectrograms as a picture, a pixel a level, the loudest above."""
    from PIL import Image

    picture = Image.fromarray(np.arange(_COLOURS, dtype=np.uint8)[::-1, None], "P")
    picture.putpalette(palette())
    content = io.BytesIO()
    picture.save(content, "PNG", optimize=True)
    return data_uri("image/png", content.getvalue())


def _wave(audio: Audio, middle: float) -> str:
    """Return a waveform as a path: the highest and lowest value of each unit of width; its peak fills the height."""
    edges = np.linspace(0, len(audio), _WIDTH + 1).astype(int)[:-1]
    if not len(audio):
        return ""
    edges = np.minimum(edges, len(audio) - 1)
    half = _WAVE / 2.0 / max(float(np.abs(audio).max()), SILENT)
    least = 0.5 / half  # a line where there is no sound
    high = middle - half * np.clip(np.maximum.reduceat(audio, edges), least, None)
    low = middle - half * np.clip(np.minimum.reduceat(audio, edges), None, -least)
    upper = "L".join(f"{_LEFT + n} {at(float(value))}" for n, value in enumerate(high))
    lower = "L".join(f"{_LEFT + n} {at(float(low[n]))}" for n in reversed(range(len(low))))
    return f"M{upper}L{lower}Z"
