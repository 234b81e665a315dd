"""Signals that the stages are tested on: a speech-like one that is always there, and real voices where they are.

They are read-only, and made once for all the tests of a process.
"""

import os
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
from scipy import fft
from scipy.signal import lfilter

from datagen.degradations.base import Scene

RATE_HZ = 48_000


@lru_cache
def speech_like(seconds: float = 4.0, f0_hz: float = 120.0, seed: int = 0) -> np.ndarray:
    """Pulses through glottis and formants, in syllables with pauses, and fricatives up to 20 kHz; -26 dBFS."""
    rng = np.random.Generator(np.random.Philox(seed))
    count = round(seconds * RATE_HZ)
    t = np.arange(count) / RATE_HZ
    pitch_hz = f0_hz * (1.0 + 0.15 * np.sin(2 * np.pi * 0.7 * t) + 0.03 * np.sin(2 * np.pi * 5.1 * t))
    phase = np.cumsum(pitch_hz) / RATE_HZ
    voiced = np.diff(np.floor(phase), prepend=0.0)
    for hz, width_hz in ((600, 90), (1_250, 110), (2_500, 160), (3_600, 250), (5_200, 400)):
        radius = np.exp(-np.pi * width_hz / RATE_HZ)
        voiced = lfilter([1.0], [1.0, -2 * radius * np.cos(2 * np.pi * hz / RATE_HZ), radius**2], voiced)
    # The glottis: falls by 12 dB an octave from 150 Hz, rises by 6 at the lips; nothing below 40 Hz.
    glottal = np.exp(-2 * np.pi * 150.0 / RATE_HZ)
    voiced = lfilter(
        [1.0, -1.0], [1.0, -2 * glottal, glottal**2], lfilter([1.0, -1.0], [1.0, -0.995], voiced)
    )
    syllables = np.clip(np.sin(2 * np.pi * 2.3 * t + 0.4), 0.0, None) ** 0.5
    hiss = lfilter([1.0, -0.9], [1.0], rng.standard_normal(count))
    bursts = np.clip(np.sin(2 * np.pi * 2.3 * t + 3.6) - 0.6, 0.0, None)
    audio = voiced / voiced.std() * syllables + 0.12 * hiss * bursts + 1e-4 * rng.standard_normal(count)
    audio = (audio / audio.std() * 10 ** (-26 / 20)).astype(np.float32)
    audio.setflags(write=False)
    return audio


def _shared_speech() -> Path:
    beside = Path(__file__).resolve().parents[2] / ".." / "shared" / "data"
    return Path(os.environ.get("SSIFORGE_DATA", beside)) / "speech" / "voicebank-p808"


@lru_cache
def recorded(number: int, seconds: float) -> np.ndarray:
    import soundfile

    files = sorted(_shared_speech().glob("*.wav")) or sorted(_shared_speech().glob("*.flac"))
    if not files:
        pytest.skip("real speech is not there (../shared/data or SSIFORGE_DATA)")
    audio, rate_hz = soundfile.read(files[number % len(files)], dtype="float32", always_2d=True)
    assert rate_hz == RATE_HZ
    voice = np.ascontiguousarray(audio[: round(seconds * RATE_HZ), 0])
    voice.setflags(write=False)
    return voice


def scene_of(audio: np.ndarray, bandwidth_hz: float = 22_000.0) -> Scene:
    return Scene(frames=len(audio), bandwidth_hz=bandwidth_hz, sources=lambda kind: ())


def lag_samples(reference: np.ndarray, audio: np.ndarray, furthest: int = 2_000) -> float:
    """By how much `audio` lags `reference`: full cross-correlation, parabolic around its peak."""
    size = fft.next_fast_len(max(len(reference), len(audio)) + furthest, real=True)
    spectrum = np.conj(fft.rfft(reference.astype(np.float64), size)) * fft.rfft(
        audio.astype(np.float64), size
    )
    correlation = np.roll(fft.irfft(spectrum, size), furthest)[: 2 * furthest + 1]
    peak = int(np.argmax(correlation))
    before, at, after = correlation[peak - 1 : peak + 2]
    return peak - furthest + 0.5 * (before - after) / (before - 2 * at + after)


def aligned(applied, frames: int) -> np.ndarray:
    """What a whole declared delay leaves, independently of the engine's own code for it."""
    assert applied.delay_samples == int(applied.delay_samples) >= 0
    kept = applied.audio[int(applied.delay_samples) :][:frames]
    assert len(kept) == frames
    return kept
