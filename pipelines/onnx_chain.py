"""One ONNX graph for a whole causal model: a hop of audio in, a hop of audio out, 20 ms later.

Input `hop` and output `enhanced` are (batch, 480) samples at 48 kHz, full scale 1.0; `enhanced` is the audio of
one hop before. The first hop out lies before the beginning of the signal; one hop of zeros after the end gets
the last one out. All other inputs are states, zero at first: output `next_NAME` is input `NAME` of the next call.
"""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipelines.onnx_denoiser import denoised
from pipelines.onnx_graph import BATCH, Graph
from pipelines.onnx_repair import repaired
from training.bundle import Network
from training.models.chain import Chain
from training.models.stft import BINS, HOP_SAMPLES, SAMPLE_RATE_HZ, WINDOW_SAMPLES

if TYPE_CHECKING:
    import onnx

HOP_IN = "hop"
HOP_OUT = "enhanced"
HALF = WINDOW_SAMPLES // 2


def streaming_model(network: Network, metadata: dict[str, str]) -> "onnx.ModelProto":
    """Return a causal network, in evaluation mode, as an ONNX model that runs hop by hop.

    Raises:
        ValueError: the network looks ahead, or attends along time, which the graph does not hold.
    """
    net = network.repair if isinstance(network, Chain) else network
    if not net.causal:
        raise ValueError("the network looks ahead: it cannot run hop by hop")
    if isinstance(network, Chain) and network.denoiser.config.asa_over_time:
        raise ValueError("attention along time is not exported")
    g = Graph()
    hop = g.input(HOP_IN, (BATCH, HOP_SAMPLES))
    [before] = g.delayed("last_hop", hop, (BATCH, HOP_SAMPLES), (1,))
    spectrum = repaired(g, net, _analysed(g, before, hop))
    if isinstance(network, Chain):
        spectrum = denoised(g, network.denoiser, spectrum)
    early, late = _synthesised(g, spectrum)
    [overlap] = g.delayed("overlap", late, (BATCH, HOP_SAMPLES), (1,))
    g.output(HOP_OUT, g.node("Add", overlap, early), (BATCH, HOP_SAMPLES))
    return g.model({"sample_rate_hz": str(SAMPLE_RATE_HZ), "hop_samples": str(HOP_SAMPLES), **metadata})


def _window() -> NDArray[np.float64]:
    window: NDArray[np.float64] = np.sqrt(
        0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(WINDOW_SAMPLES) / WINDOW_SAMPLES)
    )
    return window


def _turns(bins: NDArray[np.int64], samples: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the angles 2 pi k n / 960, with k n reduced first so that large products lose nothing."""
    turns = np.outer(samples, bins) % WINDOW_SAMPLES
    return turns.astype(np.float64) * (2.0 * np.pi / WINDOW_SAMPLES)


def _analysed(g: Graph, before: str, hop: str) -> str:
    """Transform two hops into the spectrum of their windowed frame, (batch, 2, 1, 481).

    Samples n and 960 - n share their cosines and, but for the sign, their sines: their sums and differences are
    transformed, by products with half of the DFT's matrix.
    """
    window = _window()
    rising = g.node("Mul", before, g.constant(window[None, :HALF].astype(np.float32)))
    falling = g.node("Mul", hop, g.constant(window[None, HALF:].astype(np.float32)))
    # Samples 1..479, sample 480, samples 959..481. Sample 0 has the weight zero.
    first = g.node("Slice", rising, g.whole(1), g.whole(HALF), g.whole(1))
    middle = g.node("Slice", falling, g.whole(0), g.whole(1), g.whole(1))
    last = g.node("Slice", falling, g.whole(HALF - 1), g.whole(0), g.whole(1), g.whole(-1))
    even = g.node("Concat", g.node("Add", first, last), middle, axis=1)
    odd = g.node("Sub", first, last)
    k = np.arange(BINS)
    cosines = np.cos(_turns(k, np.arange(1, HALF + 1)))
    sines = -np.sin(_turns(k, np.arange(1, HALF)))
    real = g.node("MatMul", even, g.constant(cosines.astype(np.float32)))
    imag = g.node("MatMul", odd, g.constant(sines.astype(np.float32)))
    both = g.node("Concat", real, imag, axis=1)
    return g.node("Reshape", both, g.whole(0, 2, 1, BINS))


def _synthesised(g: Graph, spectrum: str) -> tuple[str, str]:
    """Transform a spectrum into its windowed frame, as two hops."""
    flat = g.node("Reshape", spectrum, g.whole(0, 2 * BINS))
    real, imag = g.nodes("Split", [flat], 2, axis=1, num_outputs=2)
    k = np.arange(BINS)
    weight = np.where((k == 0) | (k == BINS - 1), 1.0, 2.0)[:, None] / WINDOW_SAMPLES
    cosines = weight * np.cos(_turns(np.arange(HALF + 1), k))
    sines = weight * np.sin(_turns(np.arange(1, HALF), k))
    even = g.node("MatMul", real, g.constant(cosines.astype(np.float32)))  # samples 0..480
    odd = g.node("MatMul", imag, g.constant(sines.astype(np.float32)))  # samples 1..479
    inner = g.node("Slice", even, g.whole(1), g.whole(HALF), g.whole(1))
    first = g.node("Slice", even, g.whole(0), g.whole(1), g.whole(1))
    middle = g.node("Slice", even, g.whole(HALF), g.whole(HALF + 1), g.whole(1))
    rising = g.node("Concat", first, g.node("Sub", inner, odd), axis=1)
    mirrored = g.node(
        "Slice", g.node("Add", inner, odd), g.whole(-1), g.whole(-HALF), g.whole(1), g.whole(-1)
    )
    falling = g.node("Concat", middle, mirrored, axis=1)
    window = _window()
    early = g.node("Mul", rising, g.constant(window[None, :HALF].astype(np.float32)))
    late = g.node("Mul", falling, g.constant(window[None, HALF:].astype(np.float32)))
    return early, late
