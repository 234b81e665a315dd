"""Absorption of sound in air, after ISO 9613-1:1993: high frequencies die on long ways."""

import numpy as np
from numpy.typing import NDArray
from scipy import fft

PRESSURE_KPA = 101.325
TEMPERATURE_K = 293.15
HUMIDITY_PERCENT = 50.0

_WINDOW = 256
_HOP = 64


def air_absorption_db_m(frequency_hz: NDArray[np.float64]) -> NDArray[np.float64]:
    """Attenuation in dB per metre at 20 degrees C, 50 % humidity and sea level (ISO 9613-1, equations 3 to 5)."""
    squared = np.square(frequency_hz)
    saturation = 10.0 ** (-6.8346 * (273.16 / TEMPERATURE_K) ** 1.261 + 4.6151)
    vapour = HUMIDITY_PERCENT * saturation  # molar concentration in percent
    oxygen_hz = 24.0 + 4.04e4 * vapour * (0.02 + vapour) / (0.391 + vapour)
    nitrogen_hz = 9.0 + 280.0 * vapour  # the reference temperature is ours: its correction is 1
    relaxation = 0.01275 * np.exp(-2239.1 / TEMPERATURE_K) / (oxygen_hz + squared / oxygen_hz)
    relaxation += 0.1068 * np.exp(-3352.0 / TEMPERATURE_K) / (nitrogen_hz + squared / nitrogen_hz)
    attenuation: NDArray[np.float64] = 8.686 * squared * (1.84e-11 + relaxation)
    return attenuation


def through_air(response: NDArray[np.float64], rate_hz: int, speed_m_s: float) -> NDArray[np.float64]:
    """Filter an impulse response by the air that each of its moments has travelled through.

    Zero phase, in overlapping windows: what arrives at time t has come t * c metres.

    Args:
        response: shape (N,), beginning when the sound leaves its source.
        rate_hz: sample rate.
        speed_m_s: speed of sound.
    """
    window = np.sin(np.pi * (np.arange(_WINDOW) + 0.5) / _WINDOW) ** 2 / (_WINDOW / (2.0 * _HOP))
    padded = np.pad(response, _WINDOW)
    starts = np.arange(0, len(padded) - _WINDOW + 1, _HOP)
    frames = np.lib.stride_tricks.sliding_window_view(padded, _WINDOW)[::_HOP] * window
    metres = np.maximum(starts + _WINDOW / 2.0 - _WINDOW, 0.0) / rate_hz * speed_m_s
    gain_db_m = air_absorption_db_m(np.arange(_WINDOW + 1) * rate_hz / (2.0 * _WINDOW))
    # Room for the filter's own response on both sides of a window.
    spectrum = fft.rfft(np.pad(frames, ((0, 0), (_WINDOW // 2, _WINDOW // 2))), axis=1)
    spectrum *= 10.0 ** (-gain_db_m * metres[:, None] / 20.0)
    filtered = fft.irfft(spectrum, 2 * _WINDOW, axis=1)
    out = np.zeros(len(padded) + 2 * _WINDOW)
    for start, frame in zip(starts, filtered, strict=True):
        out[start : start + 2 * _WINDOW] += frame
    first = _WINDOW + _WINDOW // 2
    return out[first : first + len(response)]
