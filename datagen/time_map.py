"""Where each part of a signal was taken from, for stages that move speech in time.

Clock drift plays everything a little faster or slower; a jitter buffer repeats or skips short stretches. Both are
a list of pieces, so that what happened to the degraded signal is recorded, and can be done to its target as well.
"""

from dataclasses import dataclass

import numpy as np
import soxr
from numpy.typing import NDArray

RATE_HZ = 48_000
CONTEXT_SAMPLES = 512
"""What the resampler gets to hear before and after a piece, so that it does not ring where the piece is cut out."""
WHOLE_SAMPLES = 0.005
"""How far from a whole sample the beginning of that context may be; 0.01 at the most unlucky rate."""


@dataclass(frozen=True)
class Piece:
    """A stretch of the result that was taken from one stretch of the source."""

    at: int
    """Where it begins in the result, in samples at 48 kHz; it lasts until the next piece, or the end."""
    source: int
    """Where it begins in the source; may lie before the source does, where there is silence."""
    rate: float = 1.0
    """How many samples of the source go by in one of the result."""


@dataclass(frozen=True)
class TimeMap:
    """A signal cut into pieces and put together anew, each joined to the one before by a crossfade."""

    pieces: tuple[Piece, ...]
    """In order of `at`; the first begins at 0."""
    fade_samples: int = 0
    """The piece before goes on for so long under the beginning of the next, and fades out linearly."""

    def __post_init__(self) -> None:
        starts = [piece.at for piece in self.pieces]
        if not starts or starts[0] != 0 or starts != sorted(set(starts)):
            raise ValueError("the pieces of a time map begin at 0 and come one after the other")
        if not all(0.0 < piece.rate < float("inf") for piece in self.pieces):
            raise ValueError("the pieces of a time map go forward: rate must be above 0")
        if self.fade_samples < 0:
            raise ValueError("fade_samples must not be negative")

    def applied(self, audio: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return `audio`, shape (N,), rearranged; same length. What lies outside of it is silence."""
        frames = len(audio)
        result = np.zeros(frames, np.float32)
        ends = [*(piece.at for piece in self.pieces[1:]), frames]
        for number, (piece, end) in enumerate(zip(self.pieces, ends, strict=True)):
            if piece.at >= frames:
                break
            played = _played(audio, piece, min(end + self.fade_samples, frames) - piece.at)
            fade = min(self.fade_samples, len(played)) if number else 0
            ramp = np.arange(1, fade + 1, dtype=np.float32) / np.float32(self.fade_samples + 1)
            # Under a fade lies what all pieces before made of this stretch, a fade not yet finished included.
            joined = result[piece.at : piece.at + len(played)]
            joined[fade:] = played[fade:]
            joined[:fade] += ramp * (played[:fade] - joined[:fade])
        return result

    def plain(self) -> list[list[float]]:
        """Return `[at, source, rate]` of each piece, for the record."""
        return [[piece.at, piece.source, piece.rate] for piece in self.pieces]


def _played(audio: NDArray[np.float32], piece: Piece, frames: int) -> NDArray[np.float32]:
    """Return the first `frames` samples of a piece."""
    if piece.rate == 1.0:
        return _stretch(audio, piece.source, frames)
    before = _context(piece.rate) if piece.source > 0 else 0
    needed = int(np.ceil((before + frames + CONTEXT_SAMPLES) * piece.rate))
    taken = _stretch(audio, piece.source - round(before * piece.rate), needed)
    played: NDArray[np.float32] = soxr.resample(taken, RATE_HZ * piece.rate, RATE_HZ, quality="HQ")
    return played[before : before + frames]


def _context(rate: float) -> int:
    """Return how many samples of the result to make before a piece, so that a whole number of the source goes by."""
    lengths = np.arange(CONTEXT_SAMPLES, CONTEXT_SAMPLES + RATE_HZ)
    passed = rate * lengths
    off = np.abs(passed - np.rint(passed))
    return int(lengths[np.argmax(off <= max(off.min(), WHOLE_SAMPLES))])


def _stretch(audio: NDArray[np.float32], start: int, frames: int) -> NDArray[np.float32]:
    """Return `frames` samples from `start` on, silence where there are none."""
    taken = np.zeros(frames, np.float32)
    first, last = max(start, 0), min(start + frames, len(audio))
    if last > first:
        taken[first - start : last - start] = audio[first:last]
    return taken
