"""Signal-to-noise ratios, and noise brought to one.

Every SNR here is the difference of two ITU-T P.56 active levels, that of the speech and that of the noise: pauses
in the talk and silence between barks do not count. (An SNR of plain RMS values would be 10 dB off for a door slam.)
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from datagen.degradations.base import (
    Applied,
    Audio,
    CannotApply,
    Inputs,
)
from datagen.level import SILENCE_DBFS, active_level_dbfs, rms_dbfs

SNR_TOLERANCE_DB = 0.1
"""Scaling moves an active level by exactly the gain; this leaves room for the next measurement's rounding."""


def severity_of_snr(snr_db: float) -> float:
    """1 at -5 dB and below, 0 at 40 dB and above."""
    return min(1.0, max(0.0, (40.0 - snr_db) / 45.0))


def added_at_snr(
    audio: Audio,
    noise: NDArray[np.float32],
    snr_db: float,
    inputs: Inputs,
    *,
    noise_dbfs: float | None = None,
    name: str = "snr",
    measured: Mapping[str, float] | None = None,
) -> Applied:
    """Scale `noise` so that its active level lies `snr_db` below that of the speech, and add it.

    Args:
        audio: what it is added to, shape (N,).
        noise: shape (N,), the caller's own array: it is scaled in place.
        snr_db: the ratio of the active levels.
        inputs: hold the speech.
        noise_dbfs: active level of `noise`, where it is known.
        name: as for `delivered`.
        measured: what else is reported.

    Raises:
        CannotApply: when the speech or the noise is silent.
    """
    scale_to_snr(noise, snr_db, inputs, noise_dbfs)
    return Applied(
        audio + noise, measured={**delivered(noise, inputs, name), **(measured or {})}, added=noise
    )


def scale_to_snr(
    noise: NDArray[np.float32], snr_db: float, inputs: Inputs, noise_dbfs: float | None = None
) -> None:
    """Scale `noise` in place so that its active level lies `snr_db` below that of the speech.

    Raises:
        CannotApply: when the speech or the noise is silent.
    """
    speech_dbfs = inputs.speech_level_dbfs
    if speech_dbfs <= SILENCE_DBFS:
        raise CannotApply("the speech is silent, so there is no SNR")
    noise_dbfs = active_level_dbfs(noise) if noise_dbfs is None else noise_dbfs
    if noise_dbfs <= SILENCE_DBFS:
        raise CannotApply("the noise is silent")
    noise *= np.float32(10.0 ** ((speech_dbfs - snr_db - noise_dbfs) / 20.0))


def delivered(added: NDArray[np.float32], inputs: Inputs, name: str = "snr") -> dict[str, float]:
    """Measure what was added: `NAME_db` of active levels, `NAME_rms_db` of plain RMS, and its own active level."""
    assert inputs.reference is not None
    added_dbfs = active_level_dbfs(added)
    return {
        f"{name}_db": inputs.speech_level_dbfs - added_dbfs,
        f"{name}_rms_db": rms_dbfs(inputs.reference) - rms_dbfs(added),
        "noise_active_level_dbfs": added_dbfs,
    }
