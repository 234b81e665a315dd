"""The voices on which alignment is measured: four of the demo's, made full-band, or the user's own."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import signal

from datagen.audio import mixed_down, read_all, resampled
from datagen.degradations.base import Audio
from datagen.folders import audio_files
from datagen.level import with_active_level
from manifests.keyed import generator
from manifests.recipe import SAMPLE_RATE_HZ
from pipelines.stages.trial_material import demo_sources

VOICES = 4
SECONDS = 2.5
"""Of each sentence, and of each recording."""
PAUSE_S = 0.8
"""Between two sentences, for stages that do something there."""
FLOOR_DBFS = -80.0
"""RMS of the white noise that fills their pauses."""
LEVEL_DBFS = -26.0
"""Active level of each (ITU-T P.56)."""
FRICATIVES_FROM_HZ = 9_000.0
"""The demo's voices end at 11 kHz: hiss above, that follows their own, gives every stage something to work on."""


def demo_voices() -> list[Audio]:
    """Return two sentences of each of four talkers with a pause between, shape (N,) at 48 kHz each."""
    spoken: dict[str, list[str]] = {}
    for source in sorted(demo_sources("speech"), key=lambda source: source.path):
        spoken.setdefault(source.speaker or "", []).append(source.path)
    pause = np.zeros(round(PAUSE_S * SAMPLE_RATE_HZ), np.float32)
    joined = [
        np.concatenate((read_voice(first), pause, read_voice(second)))
        for first, second, *_ in spoken.values()
    ]
    return [_full_band(voice, number) for number, voice in enumerate(joined[:VOICES])]


def given_voices(folder: Path) -> list[Audio]:
    """Return the beginnings of the recordings in a folder."""
    files = audio_files(str(folder))
    if not files:
        raise SystemExit(f"{folder} holds no audio files")
    return [read_voice(file.path) for file in files[: 2 * VOICES]]


def read_voice(path: str) -> Audio:
    frames, rate_hz = read_all(path)
    audio = resampled(mixed_down(frames), rate_hz, SAMPLE_RATE_HZ)
    return _frozen(audio[: round(SECONDS * SAMPLE_RATE_HZ)])


def _full_band(voice: Audio, number: int) -> Audio:
    follower = signal.butter(1, 30.0, fs=SAMPLE_RATE_HZ, output="sos")
    own = signal.sosfiltfilt(_highpass(5_000.0), voice.astype(np.float64))
    noise = generator("fricatives", number).standard_normal(len(voice))
    hiss = signal.sosfiltfilt(_highpass(FRICATIVES_FROM_HZ), noise) * signal.sosfiltfilt(
        follower, np.abs(own)
    )
    return _frozen((voice + hiss + 10.0 ** (FLOOR_DBFS / 20.0) * noise).astype(np.float32))


def _highpass(cutoff_hz: float) -> NDArray[np.float64]:
    sections: NDArray[np.float64] = signal.butter(4, cutoff_hz, "highpass", fs=SAMPLE_RATE_HZ, output="sos")
    return sections


def _frozen(audio: Audio) -> Audio:
    levelled = with_active_level(audio, LEVEL_DBFS)
    levelled.setflags(write=False)
    return levelled
