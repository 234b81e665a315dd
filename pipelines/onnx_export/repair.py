"""The repairing net as ONNX nodes, one frame at a time."""

import numpy as np

from pipelines.onnx_export.graph import BATCH, Graph
from pipelines.onnx_export.layers import (
    array,
    convolved,
    cumulative_norm,
    floored,
    frames_first,
    gate_conv,
    gtcm,
    prelu,
    squared,
    tfcm,
    transposed_gate_conv,
    untyped,
)
from training.models.level import (
    FLOOR,
    SPEECH_LEVEL,
    SPEECH_VARIATION,
    STEADY_TRUST,
    STEADY_VARIATION,
    TRUSTED_FRAMES,
)
from training.models.repair import LEVELS, LOUDER, MIN_SHARED_POWER, RepairNet, level_bins
from training.models.stft import BINS, MIN_COMPRESSED_POWER, MIN_POWER


def repaired(g: Graph, net: RepairNet, spectrum: str) -> tuple[str, str]:
    """Map a degraded linear spectrum (batch, 2, 1, 481) to a repaired one; the levelled input, linear, is second."""
    bins = level_bins()
    channels = net.config.channels
    compressed = _levelled(g, _compressed(g, spectrum))
    x = compressed
    skips = []
    for i, down in enumerate(untyped(net.down)):
        conv, norm, act, module = down.body
        x = gate_conv(g, f"repair_down{i}", x, conv, bins[i])
        x = cumulative_norm(g, f"repair_down{i}_sums", x, norm, channels * bins[i + 1])
        x = tfcm(g, f"repair_down{i}_tfcm", prelu(g, x, act), module, bins[i + 1])
        skips.append(x)

    x = g.node("Reshape", x, g.whole(0, channels * bins[-1]))
    for i, group in enumerate(untyped(net.temporal)):
        for j, module in enumerate(group):
            x = gtcm(g, f"repair_temporal{i}_{j}", x, module)
    x = g.node("Reshape", x, g.whole(0, channels, 1, bins[-1]))

    for level, up in zip(range(LEVELS, 0, -1), untyped(net.up), strict=True):
        module, conv, norm, act = up.body
        name = f"repair_up{level}"
        x = g.node("Concat", x, skips.pop(), axis=1)
        x = convolved(g, x, frames_first(up.merge.weight), array(up.merge.bias))
        x = tfcm(g, f"{name}_tfcm", x, module, bins[level])
        x = transposed_gate_conv(g, name, x, conv, bins[level])
        x = cumulative_norm(g, f"{name}_sums", x, norm, norm.gain.numel() * bins[level - 1])
        x = prelu(g, x, act)

    assert net.head.bias is not None
    head = convolved(g, x, frames_first(net.head.weight), array(net.head.bias), pad_bins=(1, 1))
    mask_real, mask_imag, added = g.nodes("Split", [head, g.constant(np.array([1, 1, 2]))], 3, axis=1)
    gain = g.constant(array(net.skip_gain).reshape(1, 1, 1, BINS))
    mask_real = g.node("Add", mask_real, gain)
    power = g.node("Add", g.node("Mul", mask_real, mask_real), g.node("Mul", mask_imag, mask_imag))
    beyond_one = g.node("Sqrt", floored(g, power, 1.0))
    real, imag = g.nodes("Split", [compressed], 2, axis=1, num_outputs=2)
    turned = g.node("Concat", g.node("Neg", imag), real, axis=1)  # i times the input
    masked = g.node("Add", g.node("Mul", compressed, mask_real), g.node("Mul", turned, mask_imag))
    masked = g.node("Div", masked, beyond_one)
    power = squared(g, added)
    left = g.node("Mul", squared(g, masked), g.number(LOUDER**2))
    share = g.node("Div", power, g.node("Add", g.node("Add", power, left), g.number(MIN_SHARED_POWER)))
    mapped = g.node("Add", masked, g.node("Mul", added, share))
    return _decompressed(g, mapped), _decompressed(g, compressed)


def _decompressed(g: Graph, compressed: str) -> str:
    """Square magnitudes."""
    magnitude = g.node("Sqrt", floored(g, squared(g, compressed), MIN_COMPRESSED_POWER))
    return g.node("Mul", compressed, magnitude)


def _compressed(g: Graph, spectrum: str) -> str:
    """Raise magnitudes to the power 0.5."""
    root = g.node("Sqrt", g.node("Sqrt", floored(g, squared(g, spectrum), MIN_POWER)))
    return g.node("Div", spectrum, root)


def _levelled(g: Graph, compressed: str) -> str:
    """Bring a compressed spectrum to the level of targets by the level so far (`training.models.level`)."""

    def number(value: float) -> str:
        return g.constant(np.array([value], np.float64))

    power = g.node("ReduceSumSquare", compressed, g.whole(1, 2, 3))  # (batch, 1, 1, 1)
    power = g.node("Reshape", power, g.whole(0, 1))
    magnitude = g.node("Div", g.node("Cast", power, to=11), number(BINS))
    one = g.node("Add", g.node("Mul", magnitude, number(0.0)), number(1.0))
    present = g.node("Concat", g.node("Mul", magnitude, magnitude), magnitude, one, axis=1)
    sums = g.node("Add", g.state("level_sums", (BATCH, 3), "float64"), present)
    g.keep("level_sums", sums)
    squares, total, frames = g.nodes("Split", [sums], 3, axis=1, num_outputs=3)
    tiny = number(float(np.finfo(np.float32).tiny))
    level = g.node("Div", squares, g.node("Add", total, tiny))
    gain = g.node("Div", number(SPEECH_LEVEL), g.node("Add", level, number(FLOOR)))
    sounding = g.node("Div", g.node("Mul", total, total), g.node("Add", squares, tiny))
    variation = g.node("Sub", g.node("Div", frames, g.node("Add", sounding, tiny)), number(1.0))
    above = g.node("Sub", variation, number(STEADY_VARIATION))
    speech = g.node("Div", above, number(SPEECH_VARIATION - STEADY_VARIATION))
    speech = g.node("Clip", speech, g.constant(np.array(0.0)), g.constant(np.array(1.0)))
    evidence = g.node("Mul", sounding, g.node("Add", speech, number(STEADY_TRUST)))
    trust = g.node("Div", evidence, g.node("Add", evidence, number(TRUSTED_FRAMES)))
    gain = g.node("Sqrt", g.node("Pow", gain, trust))
    gain = g.node("Unsqueeze", g.node("Cast", gain, to=1), g.whole(2, 3))
    return g.node("Mul", compressed, gain)
