"""One ONNX graph for a whole causal model: a hop of audio in, a hop of audio out, 20 ms later.

Input `hop` and output `enhanced` are (batch, 480) samples at 48 kHz, full scale 1.0; `enhanced` is the audio of
one hop before. The first hop out lies before the beginning of the signal; one hop of zeros after the end gets
the last one out. All other inputs are states, zero at first: output `next_NAME` is input `NAME` of the next call.
"""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipelines.onnx_export.denoiser import denoised
from pipelines.onnx_export.finishing import finished
from pipelines.onnx_export.graph import BATCH, Graph
from pipelines.onnx_export.repair import repaired
from training.bundle import Network, repairing
from training.models.chain import Chain
from training.models.stft import BINS, HOP_SAMPLES, SAMPLE_RATE_HZ, WINDOW_SAMPLES

if TYPE_CHECKING:
    import onnx

HOP_IN = "hop"
HOP_OUT = "enhanced"
ROWS, COLUMNS = 32, 30
"""Factors of the DFT's 960 samples."""
BLOCKS = 16
"""Blocks of 32 bins that hold the 481 of a real signal."""


def streaming_model(network: Network, metadata: dict[str, str]) -> "onnx.ModelProto":
    """Return a causal network, in evaluation mode, as an ONNX model that runs hop by hop.

    Raises:
        ValueError: the network looks ahead, or attends along time, which the graph does not hold.
    """
    net = repairing(network)
    if not net.causal:
        raise ValueError("the network looks ahead: it cannot run hop by hop")
    if isinstance(network, Chain) and network.denoiser.config.asa_over_time:
        raise ValueError("attention along time is not exported")
    g = Graph()
    hop = g.input(HOP_IN, (BATCH, HOP_SAMPLES))
    [before] = g.delayed("last_hop", hop, (BATCH, HOP_SAMPLES), (1,))
    spectrum, levelled = repaired(g, net, _analysed(g, before, hop))
    if isinstance(network, Chain):
        spectrum = denoised(g, network.denoiser, spectrum)
    spectrum = finished(g, net.config, spectrum, levelled)
    early, late = _synthesised(g, spectrum)
    [overlap] = g.delayed("overlap", late, (BATCH, HOP_SAMPLES), (1,))
    g.output(HOP_OUT, g.node("Add", overlap, early), (BATCH, HOP_SAMPLES))
    return g.model({"sample_rate_hz": str(SAMPLE_RATE_HZ), "hop_samples": str(HOP_SAMPLES), **metadata})


def _window() -> NDArray[np.float32]:
    angles = 2.0 * np.pi * np.arange(WINDOW_SAMPLES) / WINDOW_SAMPLES
    return np.sqrt(0.5 - 0.5 * np.cos(angles)).astype(np.float32)


def _turn(product: NDArray[np.int64], length: int) -> NDArray[np.complex128]:
    """Return exp(2 pi i product / length), with the product reduced first so that large ones lose nothing."""
    turn: NDArray[np.complex128] = np.exp(2j * np.pi * (product % length) / length)
    return turn


def _analysed(g: Graph, before: str, hop: str) -> str:
    """Transform two hops into the spectrum of their windowed frame, (batch, 2, 1, 481).

    A DFT of 960 = 32 * 30 samples in two steps (Cooley and Tukey): over a of n = 30 a + b, then for each remainder
    k1 of the bin k = k1 + 32 k2 over b. Whole matrices would have 3.7 MB, more to read each hop than many layers.
    """
    frame = g.node("Mul", g.node("Concat", before, hop, axis=1), g.constant(_window()))
    rows = g.node("Reshape", frame, g.whole(0, ROWS, COLUMNS))
    first = _turn(-np.outer(np.arange(ROWS), np.arange(ROWS)), ROWS)  # (k1, a)
    over_a = g.node("MatMul", g.constant(np.concatenate((first.real, first.imag)).astype(np.float32)), rows)
    by_k1 = g.node("Transpose", g.node("Reshape", over_a, g.whole(0, 2, ROWS, COLUMNS)), perm=[0, 2, 1, 3])
    second = _second_step().transpose(0, 2, 1)  # (k1, b, k2)
    real = np.concatenate((second.real, second.imag), axis=2)
    imag = np.concatenate((-second.imag, second.real), axis=2)
    matrix = np.concatenate((real, imag), axis=1).astype(np.float32)  # (k1, 2 b, 2 k2)
    found = g.node("MatMul", g.node("Reshape", by_k1, g.whole(0, ROWS, 1, 2 * COLUMNS)), g.constant(matrix))
    in_order = g.node("Transpose", g.node("Reshape", found, g.whole(0, ROWS, 2, BLOCKS)), perm=[0, 2, 3, 1])
    whole = g.node("Reshape", in_order, g.whole(0, 2, 1, ROWS * BLOCKS))
    return g.node("Slice", whole, g.whole(0), g.whole(BINS), g.whole(3))


def _second_step() -> NDArray[np.complex128]:
    """Return exp(-2 pi i b (k1 + 32 k2) / 960), (k1, k2, b), and zero beyond the last bin."""
    bins = np.arange(ROWS)[:, None] + ROWS * np.arange(BLOCKS)
    return _turn(-bins[:, :, None] * np.arange(COLUMNS), WINDOW_SAMPLES) * (bins < BINS)[:, :, None]


def _synthesised(g: Graph, spectrum: str) -> tuple[str, str]:
    """Transform a spectrum into its windowed frame, as two hops; the steps of :func:`_analysed` the other way."""
    missing = ROWS * BLOCKS - BINS
    padded = g.node("Pad", spectrum, g.whole(0, 0, 0, 0, 0, 0, 0, missing))
    apart = g.node("Transpose", g.node("Reshape", padded, g.whole(0, 2, BLOCKS, ROWS)), perm=[0, 3, 1, 2])
    bins = np.arange(ROWS)[:, None] + ROWS * np.arange(BLOCKS)
    weight = np.where((bins == 0) | (bins == BINS - 1), 1.0, 2.0) / WINDOW_SAMPLES
    second = weight[:, :, None] * _second_step().conj()  # (k1, k2, b)
    real = np.concatenate((second.real, second.imag), axis=2)
    imag = np.concatenate((-second.imag, second.real), axis=2)
    matrix = np.concatenate((real, imag), axis=1).astype(np.float32)  # (k1, 2 k2, 2 b)
    by_b = g.node("MatMul", g.node("Reshape", apart, g.whole(0, ROWS, 1, 2 * BLOCKS)), g.constant(matrix))
    parts = g.node("Transpose", g.node("Reshape", by_b, g.whole(0, ROWS, 2, COLUMNS)), perm=[0, 2, 1, 3])
    first = _turn(np.outer(np.arange(ROWS), np.arange(ROWS)), ROWS)  # (a, k1)
    real_part = np.concatenate((first.real, -first.imag), axis=1).astype(np.float32)
    rows = g.node("MatMul", g.constant(real_part), g.node("Reshape", parts, g.whole(0, 2 * ROWS, COLUMNS)))
    frame = g.node("Mul", g.node("Reshape", rows, g.whole(0, WINDOW_SAMPLES)), g.constant(_window()))
    early, late = g.nodes("Split", [frame], 2, axis=1, num_outputs=2)
    return early, late
