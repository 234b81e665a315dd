"""Absorption of sound in air, after ISO 9613-1:1993: high frequencies die on long ways."""

import numpy as np
from numpy.typing import NDArray
from scipy import fft

TEMPERATURE_C = 20.0
HUMIDITY_PERCENT = 50.0

_WINDOW = 256
_HOP = 64


def air_absorption_db_m(
    frequency_hz: NDArray[np.float64],
    temperature_c: float = TEMPERATURE_C,
    humidity_percent: float = HUMIDITY_PERCENT,
) -> NDArray[np.float64]:
    """Attenuation in dB per metre at sea level (ISO 9613-1, equations 3 to 5 and B.3).

    Args:
        frequency_hz: any shape.
        temperature_c: of the air.
        humidity_percent: relative humidity.
    """
    kelvin = temperature_c + 273.15
    warmth = kelvin / 293.15
    squared = np.square(frequency_hz)
    saturation = 10.0 ** (-6.8346 * (273.16 / kelvin) ** 1.261 + 4.6151)
    vapour = humidity_percent * saturation  # molar concentration in percent
    oxygen_hz = 24.0 + 4.04e4 * vapour * (0.02 + vapour) / (0.391 + vapour)
    nitrogen_hz = warmth**-0.5 * (9.0 + 280.0 * vapour * np.exp(-4.170 * (warmth ** (-1.0 / 3.0) - 1.0)))
    relaxation = 0.01275 * np.exp(-2239.1 / kelvin) / (oxygen_hz + squared / oxygen_hz)
    relaxation += 0.1068 * np.exp(-3352.0 / kelvin) / (nitrogen_hz + squared / nitrogen_hz)
    classical = 1.84e-11 * warmth**0.5
    attenuation: NDArray[np.float64] = 8.686 * squared * (classical + warmth**-2.5 * relaxation)
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
