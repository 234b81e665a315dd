"""DNSMOS P.835 and P.808: predicted mean opinion scores, without a reference.

Reddy, Gopal, Cutler, "DNSMOS P.835", ICASSP 2022, and "DNSMOS", ICASSP 2021. The networks and the
polynomial that maps their output to scores are those of the package `speechmos`; its own entry point
imports librosa and starts a thread pool for each core, so the few lines around the networks are written out
here: single-threaded sessions made once, and the same scores on every machine with as many or as few cores.
"""

import hashlib
import math
from functools import cache
from importlib import resources
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from manifests.recipe import SAMPLE_RATE_HZ
from pipelines.quality.metrics import Audio, MeasurementError

RATE_HZ = 16_000
WINDOW_SAMPLES = int(9.01 * RATE_HZ)
"""The networks see 9.01 s."""
HOP_SAMPLES = RATE_HZ
"""Longer clips are scored every second, and the scores averaged."""
MIN_SAMPLES = RATE_HZ // 4
"""Shorter clips would be repeated more than 36 times to fill a window."""

MODELS = ("sig_bak_ovr.onnx", "model_v8.onnx")
"""The networks for P.835 and P.808, files of `speechmos`."""

_MEL_BANDS = 120
_MEL_FFT = 321
_MEL_HOP = 160
_POLYNOMIALS = (
    (-0.08397278, 1.22083953, 0.0052439),
    (-0.13166888, 1.60915514, -0.39604546),
    (-0.06766283, 1.11546468, 0.04602535),
)
"""From the network's output to P.835 scores: signal, background, overall."""


class Dnsmos(NamedTuple):
    """Scores from 1 (bad) to 5 (excellent)."""

    sig: float
    """Speech signal quality (P.835)."""
    bak: float
    """Background noise quality (P.835)."""
    ovrl: float
    """Overall quality (P.835)."""
    p808: float
    """Overall quality (P.808)."""


def dnsmos(audio: Audio) -> Dnsmos:
    """Score a clip at 48 kHz, shape (N,). A clip under 9.01 s is repeated to fill it, as in the original.

    Raises:
        MeasurementError: when it is silent, not finite, or shorter than 0.25 s.
    """
    import soxr

    if len(audio) * RATE_HZ < MIN_SAMPLES * SAMPLE_RATE_HZ:
        raise MeasurementError("shorter than 0.25 s")
    if not np.isfinite(audio).all():
        raise MeasurementError("holds NaN or infinity")
    if not audio.any():
        raise MeasurementError("silent")
    low = soxr.resample(np.asarray(audio, np.float32), SAMPLE_RATE_HZ, RATE_HZ)
    return score_16khz(np.clip(low, -1.0, 1.0))


def score_16khz(audio: NDArray[np.float32]) -> Dnsmos:
    """Score a clip that is at 16 kHz already, within -1 to 1 and not empty."""
    repeats = 2 ** max(0, math.ceil(math.log2(WINDOW_SAMPLES / len(audio))))
    filled = np.tile(audio, repeats)
    primary, p808 = _sessions()
    scores = []
    windows = (
        int(len(filled) // RATE_HZ - WINDOW_SAMPLES / RATE_HZ) + 1
    )  # as in the original, rounding included
    for start in range(0, windows * HOP_SAMPLES, HOP_SAMPLES):
        window = filled[start : start + WINDOW_SAMPLES].astype(np.float32)
        raw = primary.run(None, {"input_1": window[None]})[0][0]
        mel = _mel_spectrogram(window[:-_MEL_HOP]).astype(np.float32)
        quality = p808.run(None, {"input_1": mel[None]})[0][0][0]
        scores.append([*(np.polyval(c, r) for c, r in zip(_POLYNOMIALS, raw, strict=True)), quality])
    return Dnsmos(*(float(mean) for mean in np.mean(np.asarray(scores, np.float64), axis=0)))


@cache
def _sessions() -> tuple[Any, Any]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1

    def open_model(name: str) -> Any:
        return onnxruntime.InferenceSession(_content(name), options, providers=["CPUExecutionProvider"])

    p835, p808 = MODELS
    return open_model(p835), open_model(p808)


@cache
def model_hashes() -> dict[str, str]:
    """SHA-256 of each network's file."""
    return {name: hashlib.sha256(_content(name)).hexdigest() for name in MODELS}


def _content(name: str) -> bytes:
    return resources.files("speechmos").joinpath("dnsmos_models", name).read_bytes()


def _mel_spectrogram(audio: NDArray[np.float32]) -> NDArray[np.float64]:
    """Mel power spectrogram in dB under its own peak, shifted and scaled to -1..1; shape (frames, 120)."""
    padded = np.pad(audio.astype(np.float64), _MEL_FFT // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, _MEL_FFT)[::_MEL_HOP]
    window = np.hanning(_MEL_FFT + 1)[:-1]
    power = np.abs(np.fft.rfft(frames * window, axis=1)) ** 2 @ _mel_filters()
    decibels = 10.0 * np.log10(np.maximum(power, 1e-10))
    decibels -= decibels.max()
    scaled: NDArray[np.float64] = (np.maximum(decibels, -80.0) + 40.0) / 40.0
    return scaled


@cache
def _mel_filters() -> NDArray[np.float64]:
    """Triangles on Slaney's mel scale (linear to 1 kHz, logarithmic above), each of unit area; (161, 120)."""
    linear_mel = 1000.0 / (200.0 / 3.0)
    log_step = math.log(6.4) / 27.0
    top_mel = linear_mel + math.log(RATE_HZ / 2 / 1000.0) / log_step
    mel = np.linspace(0.0, top_mel, _MEL_BANDS + 2)
    edges = np.where(mel < linear_mel, mel * 200.0 / 3.0, 1000.0 * np.exp(log_step * (mel - linear_mel)))
    bins = np.arange(_MEL_FFT // 2 + 1) * (RATE_HZ / _MEL_FFT)
    rising = (bins[:, None] - edges[:-2]) / np.diff(edges)[:-1]
    falling = (edges[2:] - bins[:, None]) / np.diff(edges)[1:]
    filters: NDArray[np.float64] = np.maximum(0.0, np.minimum(rising, falling)) * (
        2.0 / (edges[2:] - edges[:-2])
    )
    return filters
