"""One simulated room as a picture: its plan, how it decays, and a spectrogram of what is heard of each position."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.io import wavfile

from datagen.rooms import response_path
from manifests.errors import UserError
from manifests.files import write_atomically
from manifests.recipe import SAMPLE_RATE_HZ

FLOOR_DB = -80.0
FRAME_SAMPLES = 512
HOP_SAMPLES = 64
_WIDTH_INCHES = 9.0
_ROW_INCHES = 2.6
_DPI = 100
_CURVE_STEP = 48
"""Decay curves are drawn with a point a millisecond."""


def draw_room(out: Path, folder: Path, records: Sequence[dict[str, Any]]) -> None:
    """Write the picture of a room.

    Args:
        out: the PNG to write.
        folder: of the bank.
        records: of the room's responses.

    Raises:
        UserError: when it is not to be a PNG, or cannot be written.
    """
    if out.suffix.lower() != ".png":
        raise UserError(f"--out {out}: must end in .png")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(out, room_png(folder, records))
    except OSError as error:
        raise UserError(f"{out}: cannot be written ({error.strerror})") from error


def room_png(folder: Path, records: Sequence[dict[str, Any]]) -> bytes:
    """Draw a room of a bank as PNG bytes.

    Args:
        folder: of the bank.
        records: of the room's responses.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    longest_s = max(record["frames"] for record in records) / SAMPLE_RATE_HZ
    figure = Figure(figsize=(_WIDTH_INCHES, _ROW_INCHES * (1 + len(records))), dpi=_DPI, layout="constrained")
    grid = figure.add_gridspec(1 + len(records), 2, width_ratios=(1, 2))
    _plan(figure.add_subplot(grid[0, 0]), records)
    curves = figure.add_subplot(grid[0, 1])
    curves.axhspan(-25.0, -5.0, color="0.92")
    image = None
    for row, record in enumerate(records, start=1):
        rir = wavfile.read(response_path(folder, record["room"], record["position"]))[1].astype(np.float64)
        seconds = np.arange(0, len(rir), _CURVE_STEP) / SAMPLE_RATE_HZ
        label = f"position {record['position']}: T20 {record['rt60_s']:.2f} s, DRR {record['drr_db']:.1f} dB"
        curves.plot(seconds, _decay_db(rir)[::_CURVE_STEP], label=label)
        axis = figure.add_subplot(grid[row, :])
        image = axis.imshow(
            _spectrogram_db(rir),
            origin="lower",
            aspect="auto",
            cmap="magma",
            vmin=FLOOR_DB,
            vmax=0.0,
            extent=(0.0, len(rir) / SAMPLE_RATE_HZ, 0.0, SAMPLE_RATE_HZ / 2000.0),
        )
        axis.set_title(
            f"position {record['position']}, {record['distance_m']:.2f} m away", fontsize=9, loc="left"
        )
        axis.set(xlim=(0.0, longest_s), ylabel="kHz", facecolor="black")
        figure.colorbar(image, ax=axis, label="dB")
    asked_s = records[0]["asked_rt60_s"]
    curves.plot((0.0, asked_s), (0.0, -60.0), "k:", label=f"asked for: {asked_s:.2f} s")
    curves.set(ylim=(FLOOR_DB, 3.0), xlabel="s", ylabel="energy still to come, dB")
    curves.legend(fontsize=7)
    content = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(content, format="png", metadata={"Software": None})
    return content.getvalue()


def _plan(axis: Any, records: Sequence[dict[str, Any]]) -> None:
    length, width, height = records[0]["size_m"]
    microphone = records[0]["microphone_m"]
    axis.plot((0, length, length, 0, 0), (0, 0, width, width, 0), "k")
    axis.plot(*microphone[:2], "k^", label="microphone")
    for record in records:
        axis.plot(*record["position_m"][:2], "o", label=f"position {record['position']}")
    axis.set_aspect("equal")
    axis.set_title(f"room {records[0]['room']}, {height:.1f} m high", fontsize=9, loc="left")
    axis.set(xlabel="m", ylabel="m")
    axis.legend(fontsize=6)


def _decay_db(rir: NDArray[np.float64]) -> NDArray[np.float64]:
    """Schroeder's backward integral in dB, 0 dB at the beginning."""
    remaining = np.cumsum(rir[::-1] ** 2)[::-1]
    curve: NDArray[np.float64] = 10.0 * np.log10(np.maximum(remaining / remaining[0], 1e-12))
    return curve


def _spectrogram_db(rir: NDArray[np.float64]) -> NDArray[np.float64]:
    """Shape (257, frames), 0 dB at the loudest."""
    padded = np.pad(rir, (FRAME_SAMPLES // 2, FRAME_SAMPLES))
    frames = np.lib.stride_tricks.sliding_window_view(padded, FRAME_SAMPLES)[::HOP_SAMPLES]
    magnitude = np.abs(np.fft.rfft(frames * np.hanning(FRAME_SAMPLES), axis=1))
    levels: NDArray[np.float64] = 20.0 * np.log10(np.maximum(magnitude / magnitude.max(), 1e-6))
    return levels.T
