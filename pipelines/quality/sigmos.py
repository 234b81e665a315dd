"""SIGMOS: predicted scores on the dimensions of ITU-T P.804, without a reference, by a network that the user brings.

Ristea, Saabas, Cutler et al., "ICASSP 2024 Speech Signal Improvement Challenge" (arXiv:2401.14444). The estimator is
published with the challenge (MIT licence, one ONNX file) and not part of any package; what is in front of it is written
here after the challenge's own script: the spectrum of 48 kHz audio in frames of 20 ms every 10 ms under the square root
of a Hann window, compressed with the exponent 0.3. The whole clip is scored at once, as there.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from manifests.errors import UserError
from manifests.recipe import SAMPLE_RATE_HZ
from pipelines.quality.metrics import Audio, MeasurementError

FRAME_SAMPLES = 960
HOP_SAMPLES = 480
BINS = FRAME_SAMPLES // 2 + 1
COMPRESSION = 0.3
POWER_FLOOR = 1e-12
MIN_SAMPLES = SAMPLE_RATE_HZ // 4
"""As for DNSMOS: nothing can be heard in less."""
_TRIAL_FRAMES = 100
SHOWN_SHAPES = 4

Features = NDArray[np.float32]
"""(1, 3, frames, 481): compressed magnitude, real and imaginary part."""


class SigmosScores(NamedTuple):
    """Scores from 1 (bad) to 5 (excellent), in the order of the network's outputs."""

    col: float
    """Coloration."""
    disc: float
    """Discontinuity."""
    loud: float
    """Loudness."""
    noise: float
    """Noisiness."""
    reverb: float
    """Reverberation."""
    sig: float
    """Signal."""
    ovrl: float
    """Overall."""


@dataclass(frozen=True)
class Sigmos:
    """An opened estimator."""

    session: Any
    sha256: str
    """Of the network's file."""

    def score(self, audio: Audio) -> SigmosScores:
        """Score a clip at 48 kHz, shape (N,).

        Raises:
            MeasurementError: when it is silent, not finite or shorter than 0.25 s, or the network gives no finite
            number.
        """
        if len(audio) < MIN_SAMPLES:
            raise MeasurementError("shorter than 0.25 s")
        if not np.isfinite(audio).all():
            raise MeasurementError("holds NaN or infinity")
        if not audio.any():
            raise MeasurementError("silent")
        scores = _answer(self.session, features(audio))[0]
        if not np.isfinite(scores).all():
            raise MeasurementError("not a finite number")
        return SigmosScores(*(float(score) for score in scores))


def open_sigmos(path: Path) -> Sigmos:
    """Open an estimator and try it on silence.

    Raises:
        UserError: when the file cannot be read, is no ONNX network, or does not take and give what SIGMOS does.
    """
    import onnxruntime

    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"--sigmos {path}: cannot be read ({error.strerror})") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what is wrong is said below, in one sentence
    try:
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own classes share no base but this
        raise UserError(f"--sigmos {path}: not an ONNX network that onnxruntime can open") from error
    _check(session, path)
    return Sigmos(session, hashlib.sha256(content).hexdigest())


def _check(session: Any, path: Path) -> None:
    wanted = f"SIGMOS takes one input (1, 3, frames, {BINS}) and gives (1, {len(SigmosScores._fields)})"
    takes, gives = (_shapes(entries) for entries in (session.get_inputs(), session.get_outputs()))
    refusal = UserError(f"--sigmos {path}: {wanted}; this network takes {takes} and gives {gives}")
    if len(session.get_inputs()) != 1:
        raise refusal
    for frames in (_TRIAL_FRAMES, _TRIAL_FRAMES + 1):
        try:
            answer = _answer(session, np.zeros((1, 3, frames, BINS), np.float32))
        except Exception as error:  # likewise
            raise refusal from error
        if np.shape(answer) != (1, len(SigmosScores._fields)):
            raise refusal


def _shapes(entries: Sequence[Any]) -> str:
    if len(entries) > SHOWN_SHAPES:
        return f"{len(entries)} arrays"
    return ", ".join(f"{entry.shape}" for entry in entries)


def _answer(session: Any, heard: Features) -> Any:
    return session.run(None, {session.get_inputs()[0].name: heard})[0]


def features(audio: Audio) -> Features:
    """Return what the network hears of a clip at 48 kHz, shape (N,): (1, 3, frames, 481).

    The first frame begins 10 ms before the clip, and the last one is filled up with silence.
    """
    into_last = len(audio) % HOP_SAMPLES or HOP_SAMPLES
    padded = np.pad(np.asarray(audio, np.float32), (FRAME_SAMPLES - HOP_SAMPLES, FRAME_SAMPLES - into_last))
    window = np.sqrt(np.hanning(FRAME_SAMPLES + 1)[:-1]).astype(np.float32)
    frames = np.lib.stride_tricks.sliding_window_view(padded, FRAME_SAMPLES)[::HOP_SAMPLES]
    spectrum = np.fft.rfft(frames * window, axis=1).astype(np.complex64)
    power = np.maximum(spectrum.real**2 + spectrum.imag**2, np.float32(POWER_FLOOR))
    compressed = spectrum * power ** np.float32((COMPRESSION - 1.0) / 2.0)
    magnitude = power ** np.float32(COMPRESSION / 2.0)
    return np.stack((magnitude, compressed.real, compressed.imag))[None].astype(np.float32)
