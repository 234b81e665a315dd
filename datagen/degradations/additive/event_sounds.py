"""The sounds of single events, made from a seed: clicks, key strokes and thumps.

All are struck things: a few modes that ring and die away, and a burst of noise from the contact itself. A key is
heard three times (Asonov and Agrawal, Keyboard Acoustic Emanations, IEEE S&P 2004): when the finger touches it, when
it hits the bottom some milliseconds later, and when it comes back about 100 ms later.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

from manifests.keyed import generator
from manifests.ranges import Span, log_uniform, uniform
from manifests.recipe import SAMPLE_RATE_HZ

LENGTH_MS: dict[str, float] = {"click": 20.0, "key": 200.0, "thump": 400.0}
"""How long each kind lasts, until nothing is left of it."""
ONSET_SAMPLES = 6
"""Nothing starts within one sample: an eighth of a millisecond."""
END_SAMPLES = 240
BURST_DECAYS = 8.0
"""Time constants after which a burst of noise has died away, by 70 dB."""
LOWEST_HZ = 20.0
"""No microphone hears the slow push of a hand."""
JITTER_DB = 4.0
"""Two strokes excite the same modes differently."""


def synthetic_events(kind: str, seed: int, count: int) -> Iterator[NDArray[np.float32]]:
    """Make events one after the other, each of shape (N,) and of no particular level.

    Args:
        kind: one of `LENGTH_MS`.
        seed: stands for the thing that is struck; its modes are the same for every event.
        count: how many; each is struck a little differently.
    """
    rng = generator("short events", kind, seed)
    samples = round(LENGTH_MS[kind] * SAMPLE_RATE_HZ / 1_000.0)
    sounds = {"click": _clicks, "key": _keys, "thump": _thumps}[kind](rng, samples, count)
    end = np.linspace(1.0, 0.0, END_SAMPLES, dtype=np.float32)
    for sound in sounds:
        sound[-END_SAMPLES:] *= end
        yield sound


@dataclass(frozen=True)
class _Thing:
    """Something that can be struck."""

    rings: NDArray[np.float32]
    """Its modes, of equal energy: in phase, then in quadrature; shape (2 * modes, samples)."""
    contact: float
    """Level of the contact's noise against one mode."""
    contact_s: float
    """Time constant of that noise."""
    corner_hz: float
    """Above this, that noise falls by 12 dB an octave."""

    def struck(self, rng: np.random.Generator, samples: int) -> NDArray[np.float32]:
        """Strike it once: modes at levels and phases of this stroke, and the noise; all begin at once."""
        modes = len(self.rings) // 2
        level = 10.0 ** (rng.uniform(-JITTER_DB, JITTER_DB, modes) / 20.0)
        phase = rng.uniform(0.0, 2.0 * math.pi, modes)
        weights = np.concatenate((level * np.cos(phase), level * np.sin(phase))).astype(np.float32)
        sound: NDArray[np.float32] = weights @ self.rings[:, :samples]
        burst = self.contact * self._burst(rng, samples)
        sound[: len(burst)] += burst
        sound[:ONSET_SAMPLES] *= np.linspace(0.0, 1.0, ONSET_SAMPLES, dtype=np.float32)
        return sound

    def _burst(self, rng: np.random.Generator, samples: int) -> NDArray[np.float32]:
        length = min(samples, math.ceil(BURST_DECAYS * self.contact_s * SAMPLE_RATE_HZ))
        decay = np.exp(-np.arange(length, dtype=np.float32) / np.float32(self.contact_s * SAMPLE_RATE_HZ))
        pole = math.exp(-2.0 * math.pi * self.corner_hz / SAMPLE_RATE_HZ)
        noise = rng.standard_normal(length, np.float32) * decay
        filtered = lfilter([(1.0 - pole) ** 2], [1.0, -2.0 * pole, pole**2], noise)
        burst: NDArray[np.float32] = filtered.astype(np.float32)
        return burst / np.float32(math.sqrt(float(np.dot(burst, burst)) + 1e-30))


def _thing(
    modes: Sequence[tuple[float, float]], samples: int, contact: float, contact_s: float, corner_hz: float
) -> _Thing:
    """Build a thing from the frequency in Hz and the time constant in seconds of each of its modes."""
    hz, decay_s = (np.array(column)[:, None] for column in zip(*modes, strict=True))
    poles = np.exp(2j * math.pi * hz / SAMPLE_RATE_HZ - 1.0 / (decay_s * SAMPLE_RATE_HZ))
    ringing = np.cumprod(np.broadcast_to(poles, (len(modes), samples)), axis=1)
    ringing /= np.sqrt(decay_s * SAMPLE_RATE_HZ / 4.0)
    return _Thing(np.vstack((ringing.imag, ringing.real)).astype(np.float32), contact, contact_s, corner_hz)


def _modes(rng: np.random.Generator, count: int, hz: Span, decay_s: Span) -> list[tuple[float, float]]:
    return [(log_uniform(rng, hz), log_uniform(rng, decay_s)) for _ in range(count)]


def _clicks(rng: np.random.Generator, samples: int, count: int) -> Iterator[NDArray[np.float32]]:
    modes = _modes(rng, 3, (1_200.0, 9_000.0), (0.15e-3, 1.5e-3))
    contact, contact_s = log_uniform(rng, (0.5, 2.0)), log_uniform(rng, (0.05e-3, 0.4e-3))
    switch = _thing(modes, samples, contact, contact_s, 12_000.0)
    for _ in range(count):
        yield switch.struck(rng, samples)


def _keys(rng: np.random.Generator, samples: int, count: int) -> Iterator[NDArray[np.float32]]:
    modes = [
        *_modes(rng, 2, (150.0, 700.0), (3e-3, 10e-3)),
        *_modes(rng, 4, (1_200.0, 8_000.0), (0.5e-3, 3e-3)),
    ]
    contact_s, corner_hz = log_uniform(rng, (0.8e-3, 3e-3)), log_uniform(rng, (2_000.0, 8_000.0))
    pressed = _thing(modes, samples, 1.5, contact_s, corner_hz)
    # A key that comes back is lighter than one with a finger on it: its modes lie higher.
    higher = uniform(rng, (1.05, 1.25))
    released = _thing([(hz * higher, s) for hz, s in modes], samples, 1.5, contact_s, corner_hz)
    for _ in range(count):
        yield _stroke(rng, samples, pressed, released)


def _stroke(rng: np.random.Generator, samples: int, pressed: _Thing, released: _Thing) -> NDArray[np.float32]:
    touch_db, release_db = uniform(rng, (-14.0, -6.0)), uniform(rng, (-15.0, -3.0))
    hit, release = (
        round(uniform(rng, seconds) * SAMPLE_RATE_HZ) for seconds in ((4e-3, 25e-3), (70e-3, 140e-3))
    )
    sound = np.float32(10.0 ** (touch_db / 20.0)) * pressed.struck(rng, samples)
    sound[hit:] += pressed.struck(rng, samples - hit)
    sound[release:] += np.float32(10.0 ** (release_db / 20.0)) * released.struck(rng, samples - release)
    return sound


def _thumps(rng: np.random.Generator, samples: int, count: int) -> Iterator[NDArray[np.float32]]:
    modes = _modes(rng, 3, (35.0, 220.0), (12e-3, 60e-3))
    contact_s, corner_hz = log_uniform(rng, (10e-3, 40e-3)), log_uniform(rng, (150.0, 700.0))
    body = _thing(modes, samples, 2.0, contact_s, corner_hz)
    pole = math.exp(-2.0 * math.pi * LOWEST_HZ / SAMPLE_RATE_HZ)
    for _ in range(count):
        sound = body.struck(rng, samples)
        attack = round(uniform(rng, (2e-3, 10e-3)) * SAMPLE_RATE_HZ)
        sound[:attack] *= 0.5 - 0.5 * np.cos(np.linspace(0.0, math.pi, attack, dtype=np.float32))
        filtered = lfilter([1.0, -1.0], [1.0, -pole], sound)
        yield filtered.astype(np.float32)
