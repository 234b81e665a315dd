"""Layers of both networks as ONNX nodes, one frame at a time.

A map is (batch, channels, 1, bins), a vector (batch, features). What a layer looks back on lies along the axis
of length one. Batch norms are folded into the convolution before them where there is one. A transposed
convolution along bins becomes a plain one that computes each of its phases as channels of their own, since
that needs no scattering of columns.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from pipelines.onnx_export.graph import BATCH, Graph
from training.models.layers import TFCM, CumulativeNorm, GateConv, TransposedGateConv
from training.models.temporal import GTCM, TCM

Array = NDArray[np.float32]
BatchNorm = nn.BatchNorm1d | nn.BatchNorm2d


def untyped(module: nn.Module) -> Any:
    """Return a module as what mypy does not check: torch's containers do not say what they hold."""
    return module


def array(value: Tensor) -> Array:
    """Return a tensor as a contiguous float32 array."""
    return np.ascontiguousarray(value.detach().cpu().numpy(), np.float32)


def scale_and_shift(norm: BatchNorm) -> tuple[Array, Array]:
    """Return what a batch norm multiplies by and adds, in evaluation mode."""
    assert norm.running_mean is not None and norm.running_var is not None
    scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    return array(scale), array(norm.bias.double() - norm.running_mean.double() * scale)


def convolved(
    g: Graph,
    x: str,
    weight: Array,
    bias: Array | None = None,
    norm: BatchNorm | None = None,
    pad_bins: tuple[int, int] = (0, 0),
    stride_bins: int = 1,
    groups: int = 1,
) -> str:
    """Convolve (batch, C, frames, bins) with a kernel (out, in / groups, frames, taps), norm folded in."""
    bias = np.zeros(weight.shape[0], np.float32) if bias is None else bias
    if norm is not None:
        scale, shift = scale_and_shift(norm)
        weight, bias = weight * scale[:, None, None, None], bias * scale + shift
    return g.node(
        "Conv",
        x,
        g.constant(np.ascontiguousarray(weight, np.float32)),
        g.constant(np.ascontiguousarray(bias, np.float32)),
        kernel_shape=list(weight.shape[2:]),
        pads=[0, pad_bins[0], 0, pad_bins[1]],
        strides=[1, stride_bins],
        group=groups,
    )


def frames_first(weight: Tensor) -> Array:
    """Turn a kernel (out, in, bins, frames) into (out, in, frames, bins)."""
    return array(weight.transpose(2, 3))


def prelu(g: Graph, x: str, layer: nn.Module) -> str:
    """Apply PReLU; with its one slope it is a leaky ReLU, which runtimes fuse into the convolution before it."""
    assert isinstance(layer, nn.PReLU) and layer.weight.numel() == 1
    return g.node("LeakyRelu", x, alpha=float(layer.weight.detach()))


def gated(g: Graph, x: str) -> str:
    """Return values times sigmoid of gates, both stacked on channels."""
    values, gates = g.nodes("Split", [x], 2, axis=1, num_outputs=2)
    return g.node("Mul", values, g.node("Sigmoid", gates))


def with_past(g: Graph, name: str, x: str, channels: int, bins: int, delays: Sequence[int]) -> str:
    """Return (batch, channels, len(delays) + 1, bins): the map as it was, oldest first, and as it is."""
    frames = max(delays)
    if list(delays) == list(range(frames, 0, -1)):
        before = g.state(name, (BATCH, channels, frames, bins))
        seen = g.node("Concat", before, x, axis=2)
        g.keep(name, x if frames == 1 else g.node("Slice", seen, g.whole(1), g.whole(frames + 1), g.whole(2)))
        return seen
    past = g.delayed(name, x, (BATCH, channels, 1, bins), delays)
    return g.node("Concat", *past, x, axis=2)


def interleaved(g: Graph, x: str, channels: int, phases: int, first: int, bins: int) -> str:
    """Turn (batch, channels * phases, 1, n) into (batch, channels, 1, phases * n); keep `bins` from `first` on."""
    apart = g.node("Reshape", x, g.whole(0, channels, phases, -1))
    mixed = g.node("Transpose", apart, perm=[0, 1, 3, 2])
    flat = g.node("Reshape", mixed, g.whole(0, channels, 1, -1))
    return g.node("Slice", flat, g.whole(first), g.whole(first + bins), g.whole(3))


def phase_kernel(weight: Array, stride: int) -> Array:
    """Rewrite a transposed kernel as that of a plain convolution whose channels are the phases.

    Output bin stride m + p takes tap p + stride j from input bin m - j.

    Args:
        weight: (in, out, taps, frames), a transposed kernel with stride along bins and delays along frames.
        stride: number of phases.

    Returns:
        (out * phases, in, frames, ceil(taps / stride)), phase innermost, oldest frame and lowest bin first.
    """
    into, out, taps, frames = weight.shape
    reach = -(-taps // stride)
    padded = np.zeros((into, out, reach * stride, frames), np.float32)
    padded[:, :, :taps] = weight
    by_phase = padded.reshape(into, out, reach, stride, frames)[:, :, ::-1, :, ::-1]
    return np.ascontiguousarray(by_phase.transpose(1, 3, 0, 4, 2)).reshape(out * stride, into, frames, reach)


def cumulative_norm(g: Graph, name: str, x: str, norm: CumulativeNorm, values: int) -> str:
    """Normalise a map by mean and variance of all frames so far; `values` is its size without the batch."""
    flat = g.node("Reshape", x, g.whole(0, values))
    sums = g.node(
        "Concat",
        g.node("ReduceSum", flat, g.whole(1)),
        g.node("ReduceSumSquare", flat, g.whole(1)),
        axis=1,
    )
    so_far = g.state(name, (BATCH, 2), "float64")
    total = g.node("Add", so_far, g.node("Cast", sums, to=11))
    g.keep(name, total)
    per_value = g.node("Mul", g.frames_so_far, g.constant(np.array([values], np.float64)))
    mean, power = g.nodes("Split", [g.node("Div", total, per_value)], 2, axis=1, num_outputs=2)
    variance = g.node("Sub", power, g.node("Mul", mean, mean))
    floored = g.node("Max", variance, g.constant(np.array(0.0)))
    deviation = g.node("Sqrt", g.node("Add", floored, g.constant(np.array(norm.eps))))
    both = g.node("Concat", g.node("Reciprocal", deviation), g.node("Div", mean, deviation), axis=1)
    inverse, offset = g.nodes("Split", [g.node("Cast", both, to=1)], 2, axis=1, num_outputs=2)
    axes = g.whole(2, 3)
    gain = g.constant(array(norm.gain).reshape(1, -1, 1, 1))
    bias = g.constant(array(norm.bias).reshape(1, -1, 1, 1))
    scale = g.node("Mul", g.node("Unsqueeze", inverse, axes), gain)
    shift = g.node("Sub", bias, g.node("Mul", g.node("Unsqueeze", offset, axes), gain))
    return g.node("Add", g.node("Mul", x, scale), shift)


def gate_conv(g: Graph, name: str, x: str, layer: GateConv, bins: int) -> str:
    """Divide the bins by four, gated."""
    conv = layer.conv
    frames = conv.kernel_size[1]
    if frames > 1:
        x = with_past(g, name, x, conv.in_channels, bins, range(frames - 1, 0, -1))
    assert conv.bias is not None
    wide = convolved(g, x, frames_first(conv.weight), array(conv.bias), pad_bins=(2, 2), stride_bins=4)
    return gated(g, wide)


def transposed_gate_conv(g: Graph, name: str, x: str, layer: TransposedGateConv, bins: int) -> str:
    """Multiply the bins by four, gated; `bins` are those of the input."""
    conv = layer.conv
    frames, out = conv.kernel_size[1], conv.out_channels
    if frames > 1:
        x = with_past(g, name, x, conv.in_channels, bins, range(frames - 1, 0, -1))
    assert conv.bias is not None
    bias = np.repeat(array(conv.bias), 4)
    wide = convolved(g, x, phase_kernel(array(conv.weight), 4), bias, pad_bins=(1, 1))
    bins_out = 4 * bins - 1 + conv.output_padding[0]
    return interleaved(g, gated(g, wide), out // 2, 4, 2, bins_out)


def tfcm(g: Graph, name: str, x: str, module: TFCM, bins: int) -> str:
    """Run a time-frequency convolution module."""
    for number, layer in enumerate(untyped(module.layers)):
        squeeze, norm_1, act_1, _, depthwise, norm_2, act_2, expand = layer.body
        channels, dilation = depthwise.in_channels, depthwise.dilation[1]
        y = prelu(g, convolved(g, x, frames_first(squeeze.weight), norm=norm_1), act_1)
        y = with_past(g, f"{name}_{number}", y, channels, bins, (2 * dilation, dilation))
        y = convolved(g, y, frames_first(depthwise.weight), norm=norm_2, pad_bins=(1, 1), groups=channels)
        y = convolved(g, prelu(g, y, act_2), frames_first(expand.weight), array(expand.bias))
        x = g.node("Add", x, y)
    return x


def linear(g: Graph, x: str, weight: Array, bias: Array) -> str:
    """Map a vector by a matrix (out, in)."""
    return g.node(
        "Gemm",
        x,
        g.constant(np.ascontiguousarray(weight.T, np.float32)),
        g.constant(np.ascontiguousarray(bias, np.float32)),
    )


def pointwise(g: Graph, x: str, conv: nn.Module, norm: BatchNorm | None = None) -> str:
    """Map a vector by a convolution of one tap, after `norm`, which is folded in."""
    weight, bias = _taps(conv)
    weight = weight[:, :, 0]
    if norm is not None:
        scale, shift = scale_and_shift(norm)
        weight, bias = weight * scale, bias + weight @ shift
    return linear(g, x, weight, bias)


def _temporal(
    g: Graph, name: str, x: str, squeeze: nn.Module, act: nn.Module, norm: nn.Module, conv: nn.Module
) -> str:
    """Squeeze a vector, PReLU, norm, and convolve with the past; the norm is folded into that convolution.

    Before the beginning of a signal lie zeros that were not normalised. So each squeezed vector gets a feature
    that is always one, and the convolution takes the norm's shift from there: of frames that never were, that
    feature is zero too.
    """
    assert isinstance(norm, nn.BatchNorm1d) and isinstance(conv, nn.Conv1d)
    weight, bias = _taps(squeeze)
    weight, bias = np.pad(weight[:, :, 0], ((0, 1), (0, 0))), np.append(bias, 1.0)
    y = prelu(g, linear(g, x, weight, bias), act)
    taps, dilation, width = conv.kernel_size[0], conv.dilation[0], conv.in_channels + 1
    y = g.taps(name, y, width, [dilation * back for back in range(taps)])
    kernel, bias = _taps(conv)  # (out, in, taps)
    scale, shift = scale_and_shift(norm)
    extended = np.concatenate(
        (kernel * scale[:, None], np.einsum("oit,i->ot", kernel, shift)[:, None]), axis=1
    )
    return linear(g, y, extended.transpose(0, 2, 1).reshape(len(kernel), -1), bias)


def _taps(conv: nn.Module) -> tuple[Array, Array]:
    assert isinstance(conv, nn.Conv1d) and conv.bias is not None
    return array(conv.weight), array(conv.bias)


def gtcm(g: Graph, name: str, x: str, module: GTCM) -> str:
    """Run a gated temporal convolution module."""
    squeeze, act_1, norm_1, _, conv = untyped(module.body_in)
    act_2, norm_2, expand = untyped(module.body_out)
    y = prelu(g, gated(g, _temporal(g, name, x, squeeze, act_1, norm_1, conv)), act_2)
    return g.node("Add", x, pointwise(g, y, expand, norm_2))


def tcm(g: Graph, name: str, x: str, module: TCM) -> str:
    """Run a temporal convolution module."""
    squeeze, act_1, norm_1, _, conv, act_2, norm_2, expand = untyped(module.body)
    y = prelu(g, _temporal(g, name, x, squeeze, act_1, norm_1, conv), act_2)
    return g.node("Add", x, pointwise(g, y, expand, norm_2))


def squared(g: Graph, x: str) -> str:
    """Return the sum over channels of squares, (batch, 1, 1, bins)."""
    return g.node("ReduceSumSquare", x, g.whole(1))


def floored(g: Graph, x: str, least: float) -> str:
    """Return at least `least`."""
    return g.node("Max", x, g.number(least))
