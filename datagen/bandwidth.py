"""True bandwidth: where a recording's spectrum ends, whatever its header says.

A threshold below the peak does not find it. The top of honest full-band speech lies 60 to 70 dB below its peak,
and so do the images and the codec noise of speech that was sampled at 16 kHz and stored at 48 kHz. What tells them
apart is the edge: a spectrum that was cut falls by tens of dB within a few per cent of its frequency and never comes
back, while natural speech and noise fall slowly all the way up.

The rule, on the 95th percentile over active frames of the power in narrow bands:

1. An edge of width w is the lowest frequency c such that every band above (1 + w) c lies at least D dB below the
   mean of the bands within [0.85 c, c]. `EDGES` lists steep ones, as resamplers and codecs make them, and gentler
   ones, of analogue-style filters. Below 3 kHz D rises, because vowels fall fast there.
2. At an edge the spectrum ends with the last band that is at most `end_drop_db` below that mean, and above all that
   lies beyond the edge. A gentler edge counts if it lies clearly below a steeper one.
3. Without an edge it ends with the last band that stands above 16-bit quantisation noise, which is the Nyquist
   frequency for anything recorded with a microphone.

Of the real recordings that the constants were chosen on, uncut speech never falls by more than 18 dB at the first
width, and the mildest cut falls by 25 dB. A resampler's or codec's cut is found to within 4 %; a filter of less than
100 dB an octave has no edge worth the name, and the result lies somewhere on its slope.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.fft import rfft
from scipy.signal.windows import hann

FFT_SAMPLES = 2048
BANDS = 256
MOST_FRAMES = 128
ACTIVE_RANGE_DB = 60.0
"""Frames further below the loudest one are pauses."""
PERCENTILE = 0.95
"""High enough to catch fricatives, which hold the top of speech; a single click does not count."""


@dataclass(frozen=True)
class Edge:
    """What counts as an edge, and where the spectrum then ends."""

    width: float
    """Relative to its frequency."""
    drop_db: float
    end_drop_db: float


EDGES = (
    Edge(0.08, 21.0, 30.0),
    Edge(0.3, 30.0, 20.0),
    Edge(1.0, 40.0, 20.0),
)
EDGE_MIN_WIDTH_HZ = 400.0
TOP_MARGIN_HZ = 300.0
"""Width at the top of the spectrum that must lie beyond an edge."""
STEEP_BELOW_HZ = 3000.0
STEEP_DB_PER_OCTAVE = 12.0
BEYOND_MARGIN_DB = 3.0
QUANTISATION_DBFS = -98.1
"""Power of 16-bit rounding noise: (2^-15)^2 / 12 is -101.1 dB; triangular dither makes it 4.8 dB more."""
FLOOR_MARGIN_DB = 3.0

_HANN = hann(FFT_SAMPLES, sym=False).astype(np.float32)
_SCALE = np.float32(2.0 / (FFT_SAMPLES * float(np.sum(_HANN**2))))


def true_bandwidth_hz(audio: NDArray[np.float32], rate_hz: int) -> float:
    """Return where the spectrum of a recording ends, in Hz: 0 for silence, at most half the rate.

    Args:
        audio: mono, shape (N,); long recordings are sampled at 128 places.
        rate_hz: its sample rate.
    """
    return bandwidth_of(band_powers(audio), rate_hz)


def band_powers(audio: NDArray[np.float32], most_frames: int = MOST_FRAMES) -> NDArray[np.float32]:
    """Return power in `BANDS` equal bands from 0 to the Nyquist frequency, shape (frames, BANDS).

    Frames are spread evenly over the audio. The sum over the bands is the mean square of the frame.
    """
    if len(audio) < FFT_SAMPLES:
        audio = np.pad(audio, (0, FFT_SAMPLES - len(audio)))
    room = len(audio) - FFT_SAMPLES
    count = min(most_frames, 1 + 4 * room // FFT_SAMPLES)
    starts = np.linspace(0, room, count).astype(int)
    spectra = rfft(np.stack([audio[start : start + FFT_SAMPLES] for start in starts]) * _HANN, axis=1)
    power = spectra.real**2 + spectra.imag**2
    banded: NDArray[np.float32] = power[:, :-1].reshape(count, BANDS, -1).sum(axis=2) * _SCALE
    return banded


def bandwidth_of(powers: NDArray[np.float32], rate_hz: int) -> float:
    """Return the bandwidth in Hz that rows of `band_powers` show together."""
    energy = powers.sum(axis=1)
    if not len(powers) or energy.max() <= 0.0:
        return 0.0
    active = powers[energy >= energy.max() * 10.0 ** (-ACTIVE_RANGE_DB / 10.0)]
    levels_db = _smoothed(10.0 * np.log10(_high_quantile(active) + 1e-20))
    band_hz = rate_hz / 2 / BANDS
    ends = [(edge.width, _end_at(edge, levels_db, band_hz)) for edge in EDGES]
    bands: int | None = None
    for width, end in ends:
        # A gentle edge that ends close below a steep one is the same edge, seen with less precision.
        if end is not None and (bands is None or end * (1.0 + width) < bands):
            bands = end
    if bands is None:
        floor_db = QUANTISATION_DBFS - 10.0 * math.log10(BANDS) + FLOOR_MARGIN_DB
        bands = int(np.flatnonzero(levels_db > floor_db).max(initial=-1)) + 1
    return bands * band_hz


def _high_quantile(powers: NDArray[np.float32]) -> NDArray[np.float64]:
    """Quantile `PERCENTILE` of each column, interpolated as `numpy.quantile` does, which partitions each alone."""
    ordered = np.sort(np.ascontiguousarray(powers.T), axis=1)
    place = PERCENTILE * (len(powers) - 1)
    below = int(place)
    low, high = ordered[:, below], ordered[:, min(below + 1, len(powers) - 1)]
    step = (high - low).astype(np.float64)
    share = place - below
    return np.asarray(low + step * share if share < 0.5 else high - step * (1.0 - share))


def _smoothed(levels_db: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.convolve(np.pad(levels_db, 1, mode="edge"), [0.25, 0.5, 0.25], mode="valid")


def _end_at(edge: Edge, levels_db: NDArray[np.float64], band_hz: float) -> int | None:
    """Find how many bands lie below the end that the lowest edge of this width makes; None without one."""
    bands = np.arange(2, len(levels_db) - math.ceil(TOP_MARGIN_HZ / band_hz))
    frequency_hz = bands * band_hz
    beyond = bands + np.ceil(np.maximum(edge.width * frequency_hz, EDGE_MIN_WIDTH_HZ) / band_hz).astype(int)
    inside = beyond <= bands[-1]
    bands, frequency_hz, beyond = bands[inside], frequency_hz[inside], beyond[inside]
    first = (0.85 * bands).astype(int)
    summed = np.concatenate([[0.0], np.cumsum(levels_db)])
    below_db = (summed[bands] - summed[first]) / (bands - first)
    beyond_db = np.maximum.accumulate(levels_db[::-1])[::-1][beyond]
    steeper_db = STEEP_DB_PER_OCTAVE * np.maximum(0.0, np.log2(STEEP_BELOW_HZ / frequency_hz))
    found = np.flatnonzero(below_db - beyond_db >= edge.drop_db + steeper_db)
    if not len(found):
        return None
    # An edge is found at several neighbouring bands: the first stands before it, and the drop is deepest where it ends.
    run = found[: int(np.argmax(np.append(np.diff(found), 2) > 1)) + 1]
    beyond_edge_db = float((beyond_db[run]).min())
    end_db = max(below_db[run[0]] - edge.end_drop_db, beyond_edge_db + BEYOND_MARGIN_DB)
    return int(np.flatnonzero(levels_db >= end_db)[-1]) + 1
