"""Noises for the demo, made by arithmetic: fans, hum, rain, traffic, clatter, a crowd-like murmur."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from manifests.keyed import generator

RATE_HZ = 48_000
SECONDS = 12.0
_FRAMES = round(RATE_HZ * SECONDS)

Noise = NDArray[np.float32]


def _shaped(rng: np.random.Generator, magnitude: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    spectrum = fft.rfft(rng.standard_normal(_FRAMES))
    frequency_hz = fft.rfftfreq(_FRAMES, 1.0 / RATE_HZ)
    return np.asarray(fft.irfft(spectrum * magnitude(np.maximum(frequency_hz, 1.0)), _FRAMES))


def _slow(rng: np.random.Generator, rate_hz: float) -> np.ndarray:
    """A random curve between 0 and 1 that changes about `rate_hz` times a second."""
    points = rng.uniform(0.0, 1.0, max(4, int(SECONDS * rate_hz) + 2))
    return np.interp(np.linspace(0.0, len(points) - 1.0, _FRAMES), np.arange(len(points)), points)


def fan(rng: np.random.Generator) -> np.ndarray:
    """Broadband hiss that falls by 6 dB an octave, with blade tones."""
    time_s = np.arange(_FRAMES) / RATE_HZ
    blade_hz = rng.uniform(40.0, 110.0)
    tones = sum(np.sin(2 * np.pi * blade_hz * k * time_s) / k for k in range(1, 6))
    return _shaped(rng, lambda f: 1.0 / (1.0 + f / 200.0)) + 0.02 * np.asarray(tones)


def rain(rng: np.random.Generator) -> np.ndarray:
    """Dense drops: hiss with many short clicks."""
    drops = rng.standard_normal(_FRAMES) * (rng.uniform(size=_FRAMES) < rng.uniform(0.001, 0.006))
    body = fft.irfft(fft.rfft(drops) * fft.rfft(np.exp(-np.arange(_FRAMES) / 60.0)), _FRAMES)
    return _shaped(rng, lambda f: np.sqrt(f) / (2000.0 + f)) * 2.0 + 0.5 * np.asarray(body)


def traffic(rng: np.random.Generator) -> np.ndarray:
    """Low rumble that swells and fades as cars pass."""
    return _shaped(rng, lambda f: 1.0 / (1.0 + (f / 150.0) ** 1.5)) * (0.2 + _slow(rng, 0.5) ** 2)


def clatter(rng: np.random.Generator) -> np.ndarray:
    """Dishes or keys: rare, resonant strokes."""
    out = np.zeros(_FRAMES)
    time_s = np.arange(RATE_HZ // 4) / RATE_HZ
    for start in rng.integers(0, _FRAMES - len(time_s), 60):
        tone = np.sin(2 * np.pi * rng.uniform(800.0, 7000.0) * time_s) * np.exp(
            -time_s * rng.uniform(25.0, 120.0)
        )
        out[start : start + len(time_s)] += rng.uniform(0.1, 1.0) * tone
    return out + 0.01 * rng.standard_normal(_FRAMES)


def murmur(rng: np.random.Generator) -> np.ndarray:
    """A far crowd: speech-shaped noise, modulated at the rate of syllables."""
    parts = [
        _shaped(rng, lambda f: (f / 300.0) / (1.0 + (f / 500.0) ** 2)) * _slow(rng, 6.0) ** 2
        for _ in range(4)
    ]
    return np.asarray(sum(parts))


def hum(rng: np.random.Generator) -> np.ndarray:
    """Mains hum with harmonics, over soft hiss."""
    time_s = np.arange(_FRAMES) / RATE_HZ
    mains_hz = float(rng.choice([50.0, 60.0]))
    tones = sum(np.sin(2 * np.pi * mains_hz * k * time_s + rng.uniform(0, 6.28)) / k for k in range(1, 12))
    return np.asarray(tones) + 0.1 * rng.standard_normal(_FRAMES)


KINDS = (fan, rain, traffic, clatter, murmur, hum)
RECORDINGS_OF_A_KIND = 3
PEAK = 0.5


def write_noises(folder: Path) -> Iterator[Path]:
    """Write every noise as `folder/KIND/KIND_0.flac`, skipping what is there; yield each path."""
    import soundfile

    for kind in KINDS:
        (folder / kind.__name__).mkdir(parents=True, exist_ok=True)
        for number in range(RECORDINGS_OF_A_KIND):
            path = folder / kind.__name__ / f"{kind.__name__}_{number}.flac"
            if not path.exists():
                noise = kind(generator("demo noise", kind.__name__, number))
                soundfile.write(path, noise * (PEAK / np.abs(noise).max()), RATE_HZ, subtype="PCM_16")
            yield path
