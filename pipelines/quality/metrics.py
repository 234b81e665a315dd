"""How good an estimate is: pure functions of target and estimate at 48 kHz, each with its formula's source.

Every metric either returns a finite number or raises `MeasurementError`, so that a mean can say beside itself
how many samples it does not hold. None depends on what was measured before.
"""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np
from numpy.typing import NDArray

from datagen.level import SILENCE_DBFS, active_level_dbfs
from manifests.recipe import SAMPLE_RATE_HZ

Audio = NDArray[np.float32]
"""Mono audio at 48 kHz, shape (N,), full scale 1.0."""

LSD_FRAME_SAMPLES = 1536
"""32 ms."""
LSD_HOP_SAMPLES = 384
"""8 ms."""
LSD_FLOOR_DB = -100.0
"""Bins below this level (a full-scale sine reads 0 dB) count as this: nobody hears what lies under it."""
SUPPRESSION_FRAME_SAMPLES = 960
"""20 ms."""
SUPPRESSION_HOP_SAMPLES = 480
SUPPRESSION_EXPONENT = 0.3
SUPPRESSION_RANGE_DB = 50.0
"""Bins of the target further below its loudest one are pauses or inaudible: nothing is missed there."""
PESQ_RATE_HZ = 16_000
ESTOI_SEED = 0


class MeasurementError(Exception):
    """A metric is not defined on this signal: silence, too short, no speech found."""


@dataclass(frozen=True)
class Metric:
    """A metric of an estimate against its target."""

    name: str
    """Column name, unit included."""
    title: str
    """Heading of its column in a table."""
    higher_is_better: bool | None
    """None where nearest to zero is best."""
    digits: int
    measure: Callable[[Audio, Audio], float]
    """(target, estimate) -> value."""


def si_sdr_db(target: Audio, estimate: Audio) -> float:
    """Scale-invariant signal-to-distortion ratio in dB, means kept.

    With a = <estimate, target> / |target|^2: 10 log10(|a target|^2 / |a target - estimate|^2).
    Le Roux, Wisdom, Erdogan, Hershey, "SDR - half-baked or well done?", ICASSP 2019, equation 3.

    Raises:
        MeasurementError: when either is silent, or the estimate is orthogonal to or an exact multiple of the
        target.
    """
    reference, signal = _both(target, estimate)
    # Sums by numpy itself: those of a BLAS depend on how many threads it takes.
    projection = ((signal * reference).sum() / (reference**2).sum()) * reference
    wanted = float((projection**2).sum())
    unwanted = float(((projection - signal) ** 2).sum())
    # Rounding leaves about 1e-32 of the energy: below that the ratio would measure the machine.
    if wanted <= 1e-30 * float((signal**2).sum()) or unwanted <= 1e-30 * wanted:
        raise MeasurementError("the ratio is infinite")
    return 10.0 * math.log10(wanted / unwanted)


def log_spectral_distance_db(target: Audio, estimate: Audio) -> float:
    """Log-spectral distance in dB: over frames, the mean of the RMS difference of the two spectra in dB.

    Gray and Markel, "Distance measures for speech processing", IEEE Trans. ASSP 24(5), 1976 (d2). Hann
    frames of 32 ms every 8 ms, as in the URGENT 2024 challenge, here in dB, without scaling one signal to
    the other, and with a floor at `LSD_FLOOR_DB`: level is one of the things to repair, and inaudible bins
    are not.

    Raises:
        MeasurementError: when either is silent or shorter than one frame.
    """
    reference, signal = _both(target, estimate)
    if len(reference) < LSD_FRAME_SAMPLES:
        raise MeasurementError("shorter than one frame of 32 ms")
    difference = _spectrum_db(reference) - _spectrum_db(signal)
    return float(np.sqrt(np.mean(difference**2, axis=1)).mean())


def _spectrum_db(signal: NDArray[np.float64]) -> NDArray[np.float64]:
    window = np.hanning(LSD_FRAME_SAMPLES + 1)[:-1]
    frames = np.lib.stride_tricks.sliding_window_view(signal, LSD_FRAME_SAMPLES)[::LSD_HOP_SAMPLES]
    # A full-scale sine reads 0 dB: half of the window's sum is the gain of a real sine in its bin.
    magnitude = np.abs(np.fft.rfft(frames * (window * (2.0 / window.sum())), axis=1))
    levels: NDArray[np.float64] = 20.0 * np.log10(np.maximum(magnitude, 10.0 ** (LSD_FLOOR_DB / 20.0)))
    return levels


def over_suppression_percent(target: Audio, estimate: Audio) -> float:
    """Share of the target's compressed energy that the estimate lacks, in percent: 0 nothing, 100 all of it.

    With S and Y the spectra (Hann frames of 20 ms every 10 ms), over the bins where the target is active:
    100 sum max(|S|^0.3 - |Y|^0.3, 0)^2 / sum |S|^0.6. The asymmetric penalty is that of Wang et al.,
    "VoiceFilter-Lite", Interspeech 2020, with the exponent of TEA-PSE (Ju et al., ICASSP 2022), which trains with
    it. Eskimez et al., "Personalized speech enhancement: new models and comprehensive evaluation", ICASSP 2022,
    made it a measure by putting it in proportion to the target and counting frames beyond a threshold; here the
    proportion itself is the result, so that small harm counts too.

    What an estimate has too much of does not count, so noise that was left in hides what is missing under it.
    Level counts: all 6 dB down is 3.5, 20 dB down is 25.

    Raises:
        MeasurementError: when either is silent or shorter than one frame.
    """
    reference, signal = _both(target, estimate)
    if len(reference) < SUPPRESSION_FRAME_SAMPLES:
        raise MeasurementError("shorter than one frame of 20 ms")
    wanted, there = _magnitude(reference), _magnitude(signal)
    active = wanted >= wanted.max() * 10.0 ** (-SUPPRESSION_RANGE_DB / 20.0)
    compressed = wanted[active] ** SUPPRESSION_EXPONENT
    lacking = np.maximum(compressed - there[active] ** SUPPRESSION_EXPONENT, 0.0)
    return float(100.0 * (lacking**2).sum() / (compressed**2).sum())


def _magnitude(signal: NDArray[np.float64]) -> NDArray[np.float64]:
    window = np.hanning(SUPPRESSION_FRAME_SAMPLES + 1)[:-1]
    frames = np.lib.stride_tricks.sliding_window_view(signal, SUPPRESSION_FRAME_SAMPLES)
    return np.abs(np.fft.rfft(frames[::SUPPRESSION_HOP_SAMPLES] * window, axis=1))


def estoi(target: Audio, estimate: Audio) -> float:
    """Extended short-time objective intelligibility, -1 to 1 (near 1 is best), computed by pystoi at 10 kHz.

    Jensen and Taal, "An algorithm for predicting the intelligibility of speech masked by modulated noise
    maskers", IEEE/ACM TASLP 24(11), 2016. pystoi adds tiny noise from numpy's global generator; it is
    seeded here and put back afterwards, so the value depends on the signals alone.

    Raises:
        MeasurementError: when either is silent, or less than 30 frames (0.4 s) of speech remain.
    """
    from pystoi import stoi

    reference, signal = _both(target, estimate)
    state = np.random.get_state()
    try:
        np.random.seed(ESTOI_SEED)
        with warnings.catch_warnings():
            warnings.simplefilter("error", RuntimeWarning)
            value = float(stoi(reference, signal, SAMPLE_RATE_HZ, extended=True))
    except RuntimeWarning as warning:
        raise MeasurementError("less than 0.4 s of speech") from warning
    finally:
        np.random.set_state(state)
    if not math.isfinite(value):
        raise MeasurementError("not a finite number")
    return value


def level_error_db(target: Audio, estimate: Audio) -> float:
    """Active level of the estimate over that of the target, in dB (ITU-T P.56 method B); 0 is right.

    Raises:
        MeasurementError: when either is silent.
    """
    _both(target, estimate)
    reference, signal = active_level_dbfs(target), active_level_dbfs(estimate)
    if min(reference, signal) <= SILENCE_DBFS:
        raise MeasurementError("silent")
    return signal - reference


def pesq_wb(target: Audio, estimate: Audio) -> float:
    """Wide-band PESQ (ITU-T P.862.2), MOS-LQO 1.04 to 4.64, by the optional package `pesq` at 16 kHz.

    Raises:
        MeasurementError: when PESQ finds no utterance, or the clip is silent or too short for it.
    """
    import soxr
    from pesq import PesqError, pesq

    reference, signal = _both(target, estimate)
    low = [soxr.resample(x, SAMPLE_RATE_HZ, PESQ_RATE_HZ) for x in (reference, signal)]
    try:
        return float(pesq(PESQ_RATE_HZ, low[0], low[1], "wb"))
    except (PesqError, ValueError, ZeroDivisionError) as error:
        raise MeasurementError(f"PESQ: {error}") from error


def _both(target: Audio, estimate: Audio) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if target.shape != estimate.shape or target.ndim != 1:
        raise ValueError(f"target {target.shape} and estimate {estimate.shape} must be equally long and mono")
    if not (np.isfinite(target).all() and np.isfinite(estimate).all()):
        raise MeasurementError("holds NaN or infinity")
    if not (target.any() and estimate.any()):
        raise MeasurementError("silent")
    return target.astype(np.float64), estimate.astype(np.float64)


SI_SDR = Metric("si_sdr_db", "SI-SDR", True, 2, si_sdr_db)
LSD = Metric("lsd_db", "LSD", False, 2, log_spectral_distance_db)
ESTOI = Metric("estoi", "ESTOI", True, 3, estoi)
LEVEL = Metric("level_error_db", "level", None, 2, level_error_db)
SUPPRESSION = Metric("over_suppression_percent", "lost %", False, 1, over_suppression_percent)
PESQ = Metric("pesq_wb", "PESQ", True, 2, pesq_wb)


def pesq_is_installed() -> bool:
    """Whether the optional package `pesq` is there."""
    return find_spec("pesq") is not None


def reference_metrics() -> tuple[Metric, ...]:
    """Metrics that compare with a target: those whose packages are installed."""
    return (SI_SDR, ESTOI, LSD, LEVEL, SUPPRESSION) + ((PESQ,) if pesq_is_installed() else ())
