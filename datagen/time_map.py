"""Where each part of a signal was taken from, for stages that move speech in time.

Clock drift plays everything a little faster or slower; a jitter buffer repeats or skips short stretches. Both are
a list of pieces, so that what happened to the degraded signal is recorded, and can be done to its target as well.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import soxr
from numpy.typing import NDArray

RATE_HZ = 48_000


@dataclass(frozen=True)
class Piece:
    """A stretch of the result that was taken from one stretch of the source."""

    at: int
    """Where it begins in the result, in samples at 48 kHz; it lasts until the next piece, or the end."""
    source: int
    """Where it begins in the source."""
    rate: float = 1.0
    """How many samples of the source go by in one of the result."""


@dataclass(frozen=True)
class TimeMap:
    """A signal cut into pieces and put together anew, each joined to the one before by a crossfade."""

    pieces: tuple[Piece, ...]
    """In order of `at`; the first begins at 0."""
    fade_samples: int = 0
    """The end of the piece before goes on for so long under the beginning of the next."""

    def __post_init__(self) -> None:
        starts = [piece.at for piece in self.pieces]
        if not starts or starts[0] != 0 or starts != sorted(set(starts)):
            raise ValueError("the pieces of a time map begin at 0 and come one after the other")

    def applied(self, audio: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return `audio`, shape (N,), rearranged; same length. What lies outside of it is silence."""
        frames = len(audio)
        result = np.zeros(frames, np.float32)
        ends = [*(piece.at for piece in self.pieces[1:]), frames]
        for number, (piece, end) in enumerate(zip(self.pieces, ends, strict=True)):
            played = _played(audio, piece, min(end + self.fade_samples, frames) - piece.at)
            fade = min(self.fade_samples, len(played)) if number else 0
            ramp = np.linspace(0.0, 1.0, fade + 2, dtype=np.float32)[1:-1]
            joined = result[piece.at : piece.at + len(played)]
            joined[fade:] = played[fade:]
            joined[:fade] += ramp * (played[:fade] - joined[:fade])
        return result

    def shift_samples(self, at: int) -> float:
        """By how much the result lags the source at a place in the result, in samples."""
        piece = next(piece for piece in reversed(self.pieces) if piece.at <= at)
        return at - (piece.source + piece.rate * (at - piece.at))

    def plain(self) -> list[list[float]]:
        """Return `[at, source, rate]` of each piece, for the record."""
        return [[piece.at, piece.source, piece.rate] for piece in self.pieces]


def recorded_map(pieces: Sequence[Sequence[float]], fade_samples: int) -> TimeMap:
    """Return the map of which `TimeMap.plain` gave the pieces."""
    return TimeMap(tuple(Piece(int(at), int(source), rate) for at, source, rate in pieces), fade_samples)


def _played(audio: NDArray[np.float32], piece: Piece, frames: int) -> NDArray[np.float32]:
    if frames <= 0:
        return np.zeros(0, np.float32)
    needed = frames if piece.rate == 1.0 else int(np.ceil(frames * piece.rate)) + 1
    taken = np.zeros(needed, np.float32)
    first, last = max(piece.source, 0), min(piece.source + needed, len(audio))
    if last > first:
        taken[first - piece.source : last - piece.source] = audio[first:last]
    if piece.rate == 1.0:
        return taken
    played: NDArray[np.float32] = soxr.resample(taken, RATE_HZ * piece.rate, RATE_HZ, quality="HQ")
    return np.pad(played, (0, max(0, frames - len(played))))[:frames]
