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
    LASTING_FRAMES,
    MOST_NEPERS,
    QUICKLY_FADING_FRAMES,
    RECENT_FRAMES,
    REMEMBERED_FRAMES,
    SETTLED_FRAMES,
    SLACK_NEPERS,
    SPEECH_LEVEL,
    SPEECH_VARIATION,
    STEADY_TRUST,
    STEADY_VARIATION,
    TINY,
    TRUSTED_FRAMES,
)
from training.models.repair import LEVELS, MIN_SHARED_POWER, RepairNet, level_bins
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
    louder = g.constant(array(net.louder.square()).reshape(1, 1, 1, BINS))
    left = g.node("Mul", squared(g, masked), louder)
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
    loudness = g.node("Concat", g.node("Mul", magnitude, magnitude), magnitude, axis=1)
    present = g.node("Concat", loudness, one, axis=1)
    tiny, floor = number(TINY), number(FLOOR)

    def split(sums: str, parts: int) -> list[str]:
        return g.nodes("Split", [sums], parts, axis=1, num_outputs=parts)

    def kept(name: str, sums: int, added: str, faded: str | None = None) -> str:
        before = g.state(f"level_{name}", (BATCH, sums), "float64")
        now = g.node("Add", g.node("Mul", before, faded) if faded else before, added)
        g.keep(f"level_{name}", now)
        return now

    def level(squares: str, total: str) -> str:
        return g.node("Div", squares, g.node("Add", total, tiny))

    def sounding(squares: str, total: str) -> str:
        return g.node("Div", g.node("Mul", total, total), g.node("Add", squares, tiny))

    def like_speech(squares: str, total: str, frames: str) -> str:
        frames = g.node("Div", frames, g.node("Add", sounding(squares, total), tiny))
        above = g.node("Sub", frames, number(1.0 + STEADY_VARIATION))
        return within(g.node("Div", above, number(SPEECH_VARIATION - STEADY_VARIATION)), 1.0)

    def within(value: str, most: float) -> str:
        return g.node("Clip", value, g.constant(np.array(0.0)), g.constant(np.array(most)))

    heard = split(kept("heard", 3, present), 3)
    recent = split(kept("recent", 3, present, number(float(np.exp(-1.0 / RECENT_FRAMES)))), 3)
    faded = number(float(np.exp(-1.0 / REMEMBERED_FRAMES)))
    remembered = split(kept("remembered", 2, loudness, faded), 2)

    now = g.node("Add", level(*recent[:2]), floor)
    speech = like_speech(*recent)
    spoken = kept("spoken", 1, speech)
    louder = g.node("Log", g.node("Div", g.node("Add", level(*remembered), floor), now))
    quieter = within(g.node("Sub", louder, number(SLACK_NEPERS)), MOST_NEPERS)
    rate = g.node("Div", quieter, number(QUICKLY_FADING_FRAMES))
    rate = g.node("Add", rate, number(1.0 / LASTING_FRAMES))
    sounding_now = g.node("Min", g.node("Div", magnitude, now), number(1.0))
    rate = g.node("Mul", g.node("Mul", speech, sounding_now), rate)
    faded = g.node("Exp", g.node("Neg", rate))
    sure = g.node("Add", speech, number(STEADY_TRUST))
    unsettled = g.node("Exp", g.node("Div", spoken, number(-SETTLED_FRAMES)))
    rest = g.node("Mul", g.node("Sub", number(1.0), sure), unsettled)
    counted = g.node("Add", sure, rest)
    followed = split(kept("followed", 2, g.node("Mul", counted, loudness), faded), 2)

    gain = g.node("Div", number(SPEECH_LEVEL), g.node("Add", level(*followed), floor))
    trusted = g.node("Add", like_speech(*heard), number(STEADY_TRUST))
    evidence = g.node("Mul", sounding(*heard[:2]), trusted)
    trust = g.node("Div", evidence, g.node("Add", evidence, number(TRUSTED_FRAMES)))
    gain = g.node("Sqrt", g.node("Pow", gain, trust))
    gain = g.node("Unsqueeze", g.node("Cast", gain, to=1), g.whole(2, 3))
    return g.node("Mul", compressed, gain)
