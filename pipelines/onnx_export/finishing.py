"""What a finished model puts out, as ONNX nodes (`training.models.finishing`)."""

from pipelines.onnx_export.graph import Graph
from pipelines.onnx_export.layers import squared
from training.models.finishing import BAND_BINS, MIN_MAGNITUDE
from training.models.stft import BINS

BANDS = -(-BINS // BAND_BINS)


def kept(g: Graph, enhanced: str, levelled: str, share: float) -> str:
    """Put the levelled input back where it is like the enhanced signal; both are linear, (batch, 2, 1, 481)."""
    ours, theirs = (_of_bands(g, spectrum) for spectrum in (enhanced, levelled))
    least = g.number(MIN_MAGNITUDE)
    below, above = (g.node("Add", g.node(side, ours, theirs), least) for side in ("Min", "Max"))
    ratio = g.node("Mul", g.node("Div", below, above), g.number(share))
    spread = g.node("Expand", ratio, g.whole(1, 1, BANDS, BAND_BINS))
    flat = g.node("Reshape", spread, g.whole(0, 1, 1, BANDS * BAND_BINS))
    weight = g.node("Slice", flat, g.whole(0), g.whole(BINS), g.whole(3))
    return g.node("Add", enhanced, g.node("Mul", weight, g.node("Sub", levelled, enhanced)))


def _of_bands(g: Graph, spectrum: str) -> str:
    """Return sums of magnitudes, (batch, 1, bands, 1)."""
    magnitude = g.node("Sqrt", squared(g, spectrum))
    padded = g.node("Pad", magnitude, g.whole(0, 0, 0, 0, 0, 0, 0, BANDS * BAND_BINS - BINS))
    return g.node("ReduceSum", g.node("Reshape", padded, g.whole(0, 1, BANDS, BAND_BINS)), g.whole(3))
