"""Undoing the phase, not the loss, of the high-pass that some speech codecs begin with.

AMR and the `voip` mode of Opus take away rumble with recursive filters. What they take stays taken; but their phase
shifts the lowest harmonics of a voice by up to a millisecond against the rest, by different amounts for different
voices, so that no single delay would align the result. The filters are in the standards, so their phase can be
taken out exactly where the filter is fixed (AMR), and nearly where it follows the pitch (Opus).
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import fft
from scipy.signal import sosfreqz

PAD_S = 0.25
"""Silence behind the signal: what reaches before its start wraps into it."""

AMR_HIGHPASS = (
    (0.92727435, -1.8544941, 0.92727435, 1.0, -1.9059465, 0.9114024),
    (0.939819335, -1.879638672, 0.939819335, 1.0, -1.933105469, 0.935913085),
)
"""3GPP TS 26.090 at 8 kHz: 80 Hz before the encoder (section 5.1) and 60 Hz after the decoder (section 6.2.2)."""

OPUS_VOIP_CUTOFF_HZ = 60.0
"""Opus moves its cut-off with the pitch, from 60 to 100 Hz; 60 Hz leaves the least spread over voices."""


def opus_voip_highpass(rate_hz: int) -> tuple[float, ...]:
    """Return the biquad of `hp_cutoff` in libopus (src/opus_encoder.c) as b0, b1, b2, a0, a1, a2."""
    corner = 1.5 * np.pi * OPUS_VOIP_CUTOFF_HZ / rate_hz
    r = 1.0 - 0.92 * corner
    return (r, -2.0 * r, r, 1.0, -2.0 * r * (1.0 - 0.5 * corner**2), r**2)


def without_phase_of(
    audio: NDArray[np.float32], sections: tuple[tuple[float, ...], ...], rate_hz: int
) -> NDArray[np.float32]:
    """Take the phase of a filter out of a signal that went through it; its magnitude stays.

    Args:
        audio: shape (N,) at `rate_hz`.
        sections: the filter's biquads, each b0, b1, b2, a0, a1, a2.
        rate_hz: for the length of the padding.
    """
    size = fft.next_fast_len(len(audio) + round(PAD_S * rate_hz), real=True)
    spectrum = fft.rfft(audio, size)
    spectrum *= _opposite_phase(size, sections)
    restored: NDArray[np.float32] = fft.irfft(spectrum, size)[: len(audio)]
    return restored


@lru_cache(maxsize=4)
def _opposite_phase(size: int, sections: tuple[tuple[float, ...], ...]) -> NDArray[np.complex64]:
    _, response = sosfreqz(np.array(sections), 2.0 * np.pi * fft.rfftfreq(size))
    opposite: NDArray[np.complex64] = np.exp(-1j * np.angle(response)).astype(np.complex64)
    return opposite
