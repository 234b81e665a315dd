"""Spectrograms as PNG: what a degradation took away and what a model put back, on one scale."""

import io
import math
import textwrap
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manifests.recipe import SAMPLE_RATE_HZ

FRAME_SAMPLES = 960
HOP_SAMPLES = 480
TOP_DB = -20.0
FLOOR_DB = -110.0
"""Where speech at -26 dBFS and the noise floor of 16 bits lie, bin by bin."""
MAX_COLUMNS = 1200
"""Longer clips are thinned to this many frames: no screen shows more."""
_INCHES = (9.0, 2.2)
_DPI = 100
_TITLE_COLUMNS = 105
"""So many letters of a title fit above a spectrogram."""
PAIR_CELLS = (200, 100)
"""Of each spectrogram of a pair: columns over the clip, rows from 0 to 24 kHz on the mel scale."""
_CELL_PIXELS = 2
_LEFT, _BETWEEN, _RIGHT, _ABOVE, _BELOW = 44, 12, 10, 20, 20
_TICKS_KHZ = (0, 0.5, 1, 2, 4, 8, 16, 24)
_PALETTE_COLOURS = 48
STEP_DB = 3.0
"""Levels of a pair are rounded to this: a third of the bytes, and no eye sees it."""


def spectrogram_db(audio: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the magnitude spectrogram in dB, a full-scale sine reading 0 dB; shape (481, frames).

    Args:
        audio: shape (N,), at 48 kHz; padded with silence to at least one frame.
    """
    padded = np.pad(audio.astype(np.float64), (0, max(0, FRAME_SAMPLES - len(audio))))
    frames = np.lib.stride_tricks.sliding_window_view(padded, FRAME_SAMPLES)[::HOP_SAMPLES]
    frames = frames[:: max(1, -(-len(frames) // MAX_COLUMNS))]
    window = np.hanning(FRAME_SAMPLES + 1)[:-1]
    magnitude = np.abs(np.fft.rfft(frames * (window * (2.0 / window.sum())), axis=1))
    levels: NDArray[np.float64] = 20.0 * np.log10(np.maximum(magnitude, 10.0 ** (FLOOR_DB / 20.0)))
    return levels.T


def spectrogram_png(waves: Mapping[str, NDArray[np.float32]]) -> bytes:
    """Draw the spectrograms of some waves below one another, titled with their names, as PNG bytes.

    Args:
        waves: mono waves at 48 kHz, shape (N,), by title.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # Figure without pyplot: no global state, no window, safe in any thread.
    figure = Figure(figsize=(_INCHES[0], _INCHES[1] * len(waves)), dpi=_DPI, layout="constrained")
    axes = figure.subplots(len(waves), 1, squeeze=False, sharex=True)[:, 0]
    image = None
    for axis, (title, wave) in zip(axes, waves.items(), strict=True):
        image = axis.imshow(
            spectrogram_db(wave),
            origin="lower",
            aspect="auto",
            cmap="magma",
            vmin=FLOOR_DB,
            vmax=TOP_DB,
            extent=(0.0, len(wave) / SAMPLE_RATE_HZ, 0.0, SAMPLE_RATE_HZ / 2000.0),
            interpolation="nearest",
        )
        wrapped = "\n".join(textwrap.wrap(title, _TITLE_COLUMNS, break_on_hyphens=False))
        axis.set_title(wrapped, fontsize=9, loc="left", parse_math=False)
        axis.set_ylabel("kHz")
    axes[-1].set_xlabel("s")
    if image is not None:
        figure.colorbar(image, ax=list(axes), label="dBFS", shrink=0.8)
    content = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(content, format="png", metadata={"Software": None})
    return content.getvalue()


def before_and_after_png(before: NDArray[np.float32], after: NDArray[np.float32]) -> bytes:
    """Draw two spectrograms side by side, small enough for a page of many, as PNG bytes.

    On one scale of levels (`FLOOR_DB` to `TOP_DB`), frequency on the mel scale.

    Args:
        before: mono wave at 48 kHz, shape (N,).
        after: likewise.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from PIL import Image

    panel_width, panel_height = (_CELL_PIXELS * cells for cells in PAIR_CELLS)
    width = _LEFT + 2 * panel_width + _BETWEEN + _RIGHT
    height = _ABOVE + panel_height + _BELOW
    figure = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI)
    for number, (title, wave) in enumerate({"before": before, "after": after}.items()):
        left = _LEFT + number * (panel_width + _BETWEEN)
        # Whole pixels for every cell, or the picture would be neither sharp nor small.
        place = (left / width, _BELOW / height, panel_width / width, panel_height / height)
        axis = figure.add_axes(place)
        axis.imshow(
            mel_cells(spectrogram_db(wave), PAIR_CELLS),
            origin="lower",
            aspect="auto",
            cmap="magma",
            vmin=FLOOR_DB,
            vmax=TOP_DB,
            extent=(0.0, len(wave) / SAMPLE_RATE_HZ, 0.0, mel(SAMPLE_RATE_HZ / 2.0)),
            interpolation="nearest",
        )
        axis.set_title(title, fontsize=8, loc="left", pad=3)
        seconds = range(int(len(wave) / SAMPLE_RATE_HZ) + 1)
        axis.set_xticks(seconds, [str(second) if second else "0 s" for second in seconds])
        khz = [f"{tick:g}{' kHz' if tick == _TICKS_KHZ[-1] else ''}" for tick in _TICKS_KHZ]
        axis.set_yticks([mel(1_000.0 * tick) for tick in _TICKS_KHZ], [] if number else khz)
        axis.tick_params(labelsize=7, length=2, pad=2)
    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    content = io.BytesIO()
    # A palette takes a third of the bytes of true colour.
    picture = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    picture.quantize(_PALETTE_COLOURS, dither=Image.Dither.NONE).save(content, "PNG", optimize=True)
    return content.getvalue()


def mel(hz: float) -> float:
    """Return the mel value of a frequency in Hz (O'Shaughnessy, Speech Communication, 1987)."""
    return 2595.0 * math.log10(1.0 + hz / 700.0)


def mel_cells(levels_db: NDArray[np.float64], cells: tuple[int, int]) -> NDArray[np.float64]:
    """Average the power of a spectrogram over cells of time and mel frequency, in dB, in steps of `STEP_DB`.

    Args:
        levels_db: shape (481, frames), of `spectrogram_db`.
        cells: columns and rows.

    Returns:
        Shape (rows, columns), the lowest frequency first.
    """
    columns, rows = cells
    power = 10.0 ** (levels_db / 10.0)
    mels = np.linspace(0.0, mel(SAMPLE_RATE_HZ / 2.0), rows + 1)
    bins = (10.0 ** (mels / 2595.0) - 1.0) * 700.0 * FRAME_SAMPLES / SAMPLE_RATE_HZ
    for edges in (np.minimum(bins + 0.5, len(power)), np.linspace(0.0, power.shape[1], columns + 1)):
        # What lies between two edges is what came up to the second less what came up to the first.
        total = np.concatenate([np.zeros((1, power.shape[1])), np.cumsum(power, axis=0)])
        whole = np.minimum(edges.astype(int), len(power) - 1)
        upto = total[whole] + (edges - whole)[:, None] * power[whole]
        power = (np.diff(upto, axis=0) / np.diff(edges)[:, None]).T
    levels: NDArray[np.float64] = STEP_DB * np.round(10.0 * np.log10(np.maximum(power, 1e-30)) / STEP_DB)
    return levels
