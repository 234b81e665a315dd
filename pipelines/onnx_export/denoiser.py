"""The denoiser as ONNX nodes, one frame at a time.

A complex map of C channels is (batch, 2C, 1, bins): real parts, then imaginary ones (within each group). Where
complex maps are joined, they stand one after the other, and the kernel's inputs are put in that order instead.
"""

import numpy as np
from torch import Tensor, nn

from pipelines.onnx_export.graph import BATCH, Graph
from pipelines.onnx_export.layers import (
    Array,
    BatchNorm,
    array,
    convolved,
    floored,
    frames_first,
    interleaved,
    phase_kernel,
    pointwise,
    prelu,
    scale_and_shift,
    squared,
    tcm,
    untyped,
    with_past,
)
from training.models.attention import ComplexAxialAttention
from training.models.complex_layers import (
    ComplexConv,
    ComplexDenseBlock,
    ComplexTransposedConv,
    block_weight,
)
from training.models.denoiser import BANDS, Denoiser, MaskNet
from training.models.stft import BINS, MIN_COMPRESSED_POWER, MIN_POWER

DENOISED_BINS = BINS - 1


def denoised(g: Graph, net: Denoiser, spectrum: str) -> str:
    """Denoise a linear spectrum (batch, 2, 1, 481); its DC bin becomes zero."""
    C, bins = net.config.channels, DENOISED_BINS
    powers = array(net.powers()).reshape(1, 1, 1, bins)
    above_dc = g.node("Slice", spectrum, g.whole(1), g.whole(BINS), g.whole(3))
    factor = g.node("Pow", floored(g, squared(g, above_dc), MIN_POWER), g.constant((powers - 1.0) / 2.0))
    compressed = g.node("Mul", above_dc, factor)

    x = _activated(g, "cfe_in", compressed, untyped(net.encode)[0], bins)
    x = _dense(g, "cfe_dense", x, untyped(net.encode)[1], C, bins)
    x = _attended(g, x, untyped(net.encode)[2], bins)
    encoded = _activated(g, "cfe_out", x, untyped(net.encode)[3], bins)

    halves = g.nodes("Split", [encoded], BANDS, axis=3, num_outputs=BANDS)
    in_bands = g.node("Concat", *halves, axis=1)
    mask = _mask(g, "sub", net.sub, [in_bands], bins // BANDS)
    parts = g.nodes("Split", [mask], BANDS, axis=1, num_outputs=BANDS)
    masked_halves = [_product(g, half, _bounded(g, part)) for half, part in zip(halves, parts, strict=True)]
    masked = g.node("Concat", *masked_halves, axis=3)
    mask = _mask(g, "full", net.full, [masked, encoded], bins)
    masked = _product(g, masked, _bounded(g, mask))

    x = _activated(g, "cfd_in", masked, untyped(net.decode)[0], bins)
    x = _dense(g, "cfd_dense", x, untyped(net.decode)[1], C, bins)
    x = _attended(g, x, untyped(net.decode)[2], bins)
    assert net.mask.bias is not None
    mask = _bounded(g, convolved(g, x, _kernel(net.mask), array(net.mask.bias)))
    if net.config.mask_bound != 1.0:
        mask = g.node("Mul", mask, g.number(net.config.mask_bound))
    estimate = _product(g, compressed, mask)
    exponent = g.constant((1.0 / powers - 1.0) / 2.0)
    factor = g.node("Pow", floored(g, squared(g, estimate), MIN_COMPRESSED_POWER), exponent)
    linear = g.node("Mul", estimate, factor)
    return g.node("Pad", linear, g.whole(0, 0, 0, 1, 0, 0, 0, 0))


def _kernel(conv: ComplexConv) -> Array:
    """Return the real kernel (out, in / groups, frames, bins) of a complex convolution."""
    return frames_first(block_weight(conv.weight_real, conv.weight_imag, conv.groups, transposed=False))


def _one_after_the_other(weight: Array, channels: list[int]) -> Array:
    """Reorder a kernel's inputs (axis 1) from (all real parts, all imaginary parts) to map after map.

    Args:
        weight: (out, 2 sum(channels), ...), of one group.
        channels: complex channels of each joined map.
    """
    total = sum(channels)
    order: list[int] = []
    begin = 0
    for count in channels:
        order += [*range(begin, begin + count), *range(total + begin, total + begin + count)]
        begin += count
    return weight[:, order]


def _activated(g: Graph, name: str, x: str, layer: nn.Sequential, bins: int) -> str:
    """Run a complex convolution with batch norm and PReLU on its channels."""
    conv, norm, act = untyped(layer)
    kernel = _kernel(conv)
    if kernel.shape[2] > 1:
        x = with_past(g, name, x, kernel.shape[1] * conv.groups, bins, (conv.dilation_frames,))
    pad = (conv.padding_bins, conv.padding_bins)
    y = convolved(g, x, kernel, None, norm, pad, conv.stride_bins, conv.groups)
    return prelu(g, y, act)


def _dense(g: Graph, name: str, x: str, block: ComplexDenseBlock, channels: int, bins: int) -> str:
    """Run a dense block; each of its maps is kept once, for all layers that look back on it."""
    depth = len(block.layers)
    seen = [x]
    past: list[dict[int, str]] = []
    for i, layer in enumerate(untyped(block.layers)):
        delays = [2**later for later in range(i, depth)]
        shape = (BATCH, 2 * channels, 1, bins)
        past.append(dict(zip(delays, g.delayed(f"{name}_{i}", seen[-1], shape, delays), strict=True)))
        before = [feature[2**i] for feature in past]
        joined = g.node(
            "Concat",
            g.node("Concat", *before, axis=1) if i else before[0],
            g.node("Concat", *seen, axis=1) if i else seen[0],
            axis=2,
        )
        conv, norm, act = untyped(layer)
        kernel = _one_after_the_other(_kernel(conv), [channels] * (i + 1))
        seen.append(prelu(g, convolved(g, joined, kernel, None, norm, (1, 1)), act))
    return seen[-1]


def _attended(g: Graph, x: str, layer: nn.Module, bins: int) -> str:
    """Attend along the bins of a frame; queries, keys and values are one convolution."""
    if isinstance(layer, nn.Identity):
        return x
    assert isinstance(layer, ComplexAxialAttention)
    width = layer.query_position.shape[-1]
    # The scale of the scores goes through PReLU, since it is positive.
    query = _projected(g, x, layer.query, layer.query_position, width**-0.5)
    key = _projected(g, x, layer.key, layer.key_position)
    value = _projected(g, x, layer.value)
    query = g.node("Transpose", g.node("Reshape", query, g.whole(0, width, bins)), perm=[0, 2, 1])
    key, value = (_pooled(g, part, width, bins, layer.key_pool_bins) for part in (key, value))
    scores = g.node("Softmax", g.node("MatMul", query, key), axis=-1)
    found = g.node("MatMul", scores, g.node("Transpose", value, perm=[0, 2, 1]))
    found = g.node("Reshape", g.node("Transpose", found, perm=[0, 2, 1]), g.whole(0, width, 1, bins))
    conv, norm, act = untyped(layer.out)
    return g.node("Add", x, prelu(g, convolved(g, found, _kernel(conv), None, norm), act))


def _projected(
    g: Graph, x: str, projection: nn.Module, position: Tensor | None = None, scale: float = 1.0
) -> str:
    """Return queries, keys or values times `scale`, with their positions (bins, 1, width) added."""
    conv, norm, act = untyped(untyped(projection).body)
    gain, shift = scale_and_shift(norm)
    kernel = scale * _kernel(conv) * gain[:, None, None, None]
    y = prelu(g, convolved(g, x, kernel, scale * shift), act)
    if position is None:
        return y
    return g.node(
        "Add", y, g.constant(scale * array(position.permute(2, 1, 0)).reshape(1, -1, 1, len(position)))
    )


def _pooled(g: Graph, x: str, width: int, bins: int, pool: int) -> str:
    """Average neighbouring bins: (batch, width, bins / pool)."""
    if pool == 1:
        return g.node("Reshape", x, g.whole(0, width, bins))
    return g.node(
        "ReduceMean", g.node("Reshape", x, g.whole(0, width, bins // pool, pool)), g.whole(3), keepdims=0
    )


def _mask(g: Graph, name: str, net: MaskNet, inputs: list[str], bins: int) -> str:
    """Estimate a complex mask, unbounded, of one or several joined maps of equally many channels."""
    down, ups = untyped(net.down), untyped(net.up)
    ladder = [bins]
    skips: list[str] = []
    x = g.node("Concat", *inputs, axis=1) if len(inputs) > 1 else inputs[0]
    for i, layer in enumerate(down):
        conv, norm, act = untyped(layer)
        kernel = _kernel(conv)
        if i == 0 and len(inputs) > 1:
            kernel = _one_after_the_other(kernel, [kernel.shape[1] // (2 * len(inputs))] * len(inputs))
        joined = with_past(g, f"{name}_down{i}", x, kernel.shape[1] * conv.groups, ladder[-1], (1,))
        pad = (conv.padding_bins, conv.padding_bins)
        x = prelu(g, convolved(g, joined, kernel, None, norm, pad, conv.stride_bins, conv.groups), act)
        ladder.append(-(-ladder[-1] // 2))
        skips.append(x)

    real_channels = 2 * down[-1][0].weight_real.shape[0]
    x = g.node("Reshape", x, g.whole(0, real_channels * ladder[-1]))
    first, *groups, last = untyped(net.bottleneck)
    x = pointwise(g, x, first)
    for i, group in enumerate(groups):
        for j, module in enumerate(group):
            x = tcm(g, f"{name}_temporal{i}_{j}", x, module)
    x = g.node("Reshape", pointwise(g, x, last), g.whole(0, real_channels, 1, ladder[-1]))

    for level, up in zip(reversed(range(len(ups))), ups, strict=True):
        bare = isinstance(up, ComplexTransposedConv)
        conv = up if bare else up[0]
        channels = 2 * down[level][0].weight_real.shape[0]
        x = _joined_by_group(g, x, skips.pop(), net.groups, channels, ladder[level + 1])
        x = _doubled(
            g, f"{name}_up{level}", x, conv, None if bare else up[1], ladder[level + 1], ladder[level]
        )
        if not bare:
            x = prelu(g, x, up[2])
    return x


def _joined_by_group(g: Graph, x: str, skip: str, groups: int, channels: int, bins: int) -> str:
    """Join two maps of (batch, channels, 1, bins) on channels, within each group."""
    if groups == 1:
        return g.node("Concat", x, skip, axis=1)
    apart = [g.node("Reshape", part, g.whole(0, groups, channels // groups, bins)) for part in (x, skip)]
    joined = g.node("Concat", *apart, axis=2)
    return g.node("Reshape", joined, g.whole(0, 2 * channels, 1, bins))


def _doubled(
    g: Graph,
    name: str,
    x: str,
    conv: ComplexTransposedConv,
    norm: BatchNorm | None,
    bins: int,
    bins_out: int,
) -> str:
    """Run a complex transposed convolution of two joined maps of equally many channels."""
    weight = block_weight(conv.weight_real, conv.weight_imag, conv.groups, transposed=True)
    into, out = weight.shape[0], weight.shape[1] * conv.groups
    kernels = []
    for part in weight.chunk(conv.groups, dim=0):  # (in / groups, out / groups, taps, frames)
        half = part.shape[0] // 4
        ordered = _one_after_the_other(array(part.transpose(0, 1)), [half, half])
        kernels.append(phase_kernel(np.ascontiguousarray(ordered.swapaxes(0, 1)), 2))
    kernel = np.concatenate(kernels)
    bias = np.zeros(out, np.float32) if conv.bias is None else array(conv.bias)
    if norm is not None:
        scale, shift = scale_and_shift(norm)
        kernel, bias = kernel * np.repeat(scale, 2)[:, None, None, None], bias * scale + shift
    if kernel.shape[2] > 1:
        x = with_past(g, name, x, into, bins, range(kernel.shape[2] - 1, 0, -1))
    # One bin of padding less on the left leaves out the two bins that the layer's own padding cuts off.
    y = convolved(g, x, kernel, np.repeat(bias, 2), pad_bins=(1, 1), groups=conv.groups)
    if bins_out == 2 * bins:
        apart = g.node("Reshape", y, g.whole(0, out, 2, bins))
        return g.node("Reshape", g.node("Transpose", apart, perm=[0, 1, 3, 2]), g.whole(0, out, 1, bins_out))
    return interleaved(g, y, out, 2, 0, bins_out)


def _product(g: Graph, a: str, b: str) -> str:
    """Multiply two complex maps."""
    ar, ai = g.nodes("Split", [a], 2, axis=1, num_outputs=2)
    br, bi = g.nodes("Split", [b], 2, axis=1, num_outputs=2)
    real = g.node("Sub", g.node("Mul", ar, br), g.node("Mul", ai, bi))
    imag = g.node("Add", g.node("Mul", ar, bi), g.node("Mul", ai, br))
    return g.node("Concat", real, imag, axis=1)


def _bounded(g: Graph, mask: str) -> str:
    """Squash magnitudes by tanh and keep phases."""
    real, imag = g.nodes("Split", [mask], 2, axis=1, num_outputs=2)
    power = g.node("Add", g.node("Mul", real, real), g.node("Mul", imag, imag))
    magnitude = g.node("Sqrt", g.node("Add", power, g.number(1e-12)))
    scale = g.node("Div", g.node("Tanh", magnitude), magnitude)
    return g.node("Concat", g.node("Mul", real, scale), g.node("Mul", imag, scale), axis=1)
