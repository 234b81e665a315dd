"""Spectrograms as PNG: what a degradation took away and what a model put back, on one scale."""

import io
from collections.abc import Mapping

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
        axis.set_title(title, fontsize=9, loc="left", parse_math=False)
        axis.set_ylabel("kHz")
    axes[-1].set_xlabel("s")
    if image is not None:
        figure.colorbar(image, ax=list(axes), label="dBFS", shrink=0.8)
    content = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(content, format="png", metadata={"Software": None})
    return content.getvalue()
