"""What a finished model puts out, as ONNX nodes (`training.models.finishing`)."""

import math

from pipelines.onnx_export.graph import BATCH, Graph
from pipelines.onnx_export.layers import squared
from training.models.finishing import (
    BAND_BINS,
    CLEAN_DB,
    FADE_DB,
    HEARD_BINS,
    MIN_MAGNITUDE,
    MIN_POWER,
    NOISY_DB,
    OPEN_DB,
    QUIET_DB,
    RATE_DB,
    SHUT_DB,
    SOFT_DB,
)
from training.models.repair import RepairConfig
from training.models.stft import BINS

BANDS = -(-BINS // BAND_BINS)


def finished(g: Graph, config: RepairConfig, enhanced: str, levelled: str) -> str:
    """Mix the levelled input into the enhanced spectrum, let silence be what it was, and make up for the level.

    All are linear, (batch, 2, 1, 481).
    """
    mixed = enhanced
    if config.dry_share or config.kept_share:
        clean = _noise_gauge(g, enhanced, levelled) if config.by_noise else g.number(1.0)
        mixed = _kept(g, enhanced, levelled, g.node("Mul", clean, g.number(config.kept_share)))
        share = g.node("Mul", clean, g.number(config.dry_share))
        mixed = g.node("Add", mixed, g.node("Mul", share, g.node("Sub", levelled, mixed)))
    heard = g.node("Mul", _silence_gate(g, levelled), g.node("Sub", mixed, levelled))
    mixed = g.node("Add", levelled, heard)
    return mixed if config.makeup_gain == 1.0 else g.node("Mul", mixed, g.number(config.makeup_gain))


def _noise_gauge(g: Graph, enhanced: str, levelled: str) -> str:
    """Say how far the signal is one of which the input may be left in, (batch, 1, 1, 1)."""
    ours, theirs = (_power_db(g, spectrum) for spectrum in (enhanced, levelled))
    taken = g.node("Sub", ours, theirs)
    above_quiet = g.node("Div", g.node("Sub", theirs, g.number(QUIET_DB)), g.number(SOFT_DB))
    heard = g.node("Clip", above_quiet, g.number(0.0), g.number(1.0))
    middle = g.state("noise_middle", (BATCH, 1, 1, 1))
    off = g.node("Div", g.node("Sub", taken, middle), g.number(SOFT_DB))
    step = g.node("Mul", g.node("Clip", off, g.number(-1.0), g.number(1.0)), g.number(RATE_DB))
    present = g.node("Add", middle, g.node("Mul", heard, step))
    g.keep("noise_middle", present)
    above = g.node("Div", g.node("Sub", present, g.number(NOISY_DB)), g.number(CLEAN_DB - NOISY_DB))
    return g.node("Clip", above, g.number(0.0), g.number(1.0))


def _silence_gate(g: Graph, levelled: str) -> str:
    """Say how far what the model puts out is heard, (batch, 1, 1, 1)."""
    before = g.node("Sub", g.state("sound_db", (BATCH, 1, 1, 1)), g.number(FADE_DB))
    present = g.node("Max", _power_db(g, levelled, BINS), before)
    g.keep("sound_db", present)
    above = g.node("Div", g.node("Sub", present, g.number(SHUT_DB)), g.number(OPEN_DB - SHUT_DB))
    return g.node("Clip", above, g.number(0.0), g.number(1.0))


def _power_db(g: Graph, spectrum: str, bins: int = HEARD_BINS) -> str:
    """Return the power of the lowest bins in dB, (batch, 1, 1, 1)."""
    power = squared(g, spectrum)
    if bins < BINS:
        power = g.node("Slice", power, g.whole(0), g.whole(bins), g.whole(3))
    power = g.node("Add", g.node("ReduceSum", power, g.whole(3)), g.number(MIN_POWER))
    return g.node("Mul", g.node("Log", power), g.number(10.0 / math.log(10.0)))


def _kept(g: Graph, enhanced: str, levelled: str, share: str) -> str:
    """Put the levelled input back where it is like the enhanced signal, by a share: one, or (batch, 1, 1, 1)."""
    ours, theirs = (_of_bands(g, spectrum) for spectrum in (enhanced, levelled))
    least = g.number(MIN_MAGNITUDE)
    below, above = (g.node("Add", g.node(side, ours, theirs), least) for side in ("Min", "Max"))
    ratio = g.node("Mul", g.node("Div", below, above), share)
    spread = g.node("Expand", ratio, g.whole(1, 1, BANDS, BAND_BINS))
    flat = g.node("Reshape", spread, g.whole(0, 1, 1, BANDS * BAND_BINS))
    weight = g.node("Slice", flat, g.whole(0), g.whole(BINS), g.whole(3))
    return g.node("Add", enhanced, g.node("Mul", weight, g.node("Sub", levelled, enhanced)))


def _of_bands(g: Graph, spectrum: str) -> str:
    """Return sums of magnitudes, (batch, 1, bands, 1)."""
    magnitude = g.node("Sqrt", squared(g, spectrum))
    padded = g.node("Pad", magnitude, g.whole(0, 0, 0, 0, 0, 0, 0, BANDS * BAND_BINS - BINS))
    return g.node("ReduceSum", g.node("Reshape", padded, g.whole(0, 1, BANDS, BAND_BINS)), g.whole(3))
