"""A voice of full bandwidth that is always there: what stages are shown and timed on."""

import numpy as np
from scipy import fft
from scipy.ndimage import uniform_filter1d

from datagen.audio import mixed_down, read_all, resampled
from datagen.degradations.base import Audio
from datagen.level import with_active_level
from manifests.keyed import generator
from manifests.recipe import SAMPLE_RATE_HZ
from pipelines.stages.trial_material import demo_sources

TALKER = "clara"
ACTIVE_LEVEL_DBFS = -26.0
PAUSE_S = 0.35
VOICE_ENDS_HZ = (8_500.0, 10_500.0)
"""Between these the voice fades into its upper part; eSpeak NG speaks at 22.05 kHz."""
HISS_FROM_HZ = 5_000.0
"""The part of the voice that fricatives fill, and that their upper octave follows in time."""
HISS_GAIN_DB = -3.0
HISS_FALLS_DB_AN_OCTAVE = 12.0
ENVELOPE_SAMPLES = 240
NOISE_FLOOR_DBFS = -84.0
"""Of a quiet studio: digital silence in the pauses would show nothing of gates, gain control and codecs."""


def example_voice(seconds: float) -> Audio:
    """Return so many seconds of a demo voice, shape (N,) at 48 kHz, with the frequencies that it lacks.

    Above 9 kHz speech is mostly the hiss of fricatives: noise that follows the voice's own from 5 kHz up.
    """
    frames = round(seconds * SAMPLE_RATE_HZ)
    sentences = sorted(
        (source for source in demo_sources("speech") if source.speaker == TALKER),
        key=lambda source: source.name,
    )
    pause = np.zeros(round(PAUSE_S * SAMPLE_RATE_HZ), np.float32)
    parts: list[Audio] = [pause]
    while sum(map(len, parts)) < frames:
        for source in sentences:
            audio, rate_hz = read_all(source.path)
            parts += [resampled(mixed_down(audio), rate_hz, SAMPLE_RATE_HZ), pause]
    voice = with_active_level(_extended(np.concatenate(parts)[:frames]), ACTIVE_LEVEL_DBFS)
    voice = voice + _noise(frames, "floor") * np.float32(10.0 ** (NOISE_FLOOR_DBFS / 20.0))
    voice.setflags(write=False)
    return voice


def _extended(voice: Audio) -> Audio:
    hz = fft.rfftfreq(len(voice), 1.0 / SAMPLE_RATE_HZ)
    upper_share = np.clip((hz - VOICE_ENDS_HZ[0]) / (VOICE_ENDS_HZ[1] - VOICE_ENDS_HZ[0]), 0.0, 1.0)
    spectrum = fft.rfft(voice) * np.cos(0.5 * np.pi * upper_share)
    hiss = fft.irfft(np.where(hz > HISS_FROM_HZ, spectrum, 0.0), len(voice))
    envelope = np.sqrt(np.maximum(uniform_filter1d(np.square(hiss), ENVELOPE_SAMPLES), 0.0))
    octaves = np.log2(np.maximum(hz / VOICE_ENDS_HZ[0], 1.0))
    shape = 10.0 ** ((HISS_GAIN_DB - HISS_FALLS_DB_AN_OCTAVE * octaves) / 20.0) * np.sin(
        0.5 * np.pi * upper_share
    )
    upper = fft.rfft(_noise(len(voice), "hiss") * envelope) * shape
    extended: Audio = fft.irfft(spectrum + upper, len(voice)).astype(np.float32)
    return extended


def _noise(frames: int, what: str) -> Audio:
    return generator("example voice", what).standard_normal(frames, np.float32)
