"""Convolution of long audio with room impulse responses, fast in float32.

Uniformly partitioned overlap-save (Stockham, 1966; Kulp, AES 85, 1988): audio and response are cut into blocks of one
size, so that all transforms are small, run together and stay in the cache. As the blocks do not depend on the
response, the transform of the audio serves for every response it is convolved with: the last audio's is kept, for the
target that hears the room too.
"""

import weakref

import numpy as np
from numpy.typing import NDArray
from scipy import fft

BLOCK_SAMPLES = 8_192
BLOCKS_AT_ONCE = 8
"""Products and inverse transforms are made of so many at a time: half a megabyte, which is not fetched anew."""
PIECE_SAMPLES = 176 * BLOCK_SAMPLES
"""Longer audio is convolved in pieces of half a minute, which bounds memory."""

_Spectra = NDArray[np.complex64]

_latest: tuple["weakref.ref[NDArray[np.float32]]", int, _Spectra] | None = None
"""The last read-only audio, up to which frame it is heard, and its spectra."""


def convolved(
    audio: NDArray[np.float32], response: NDArray[np.float32], advance_samples: int = 0
) -> NDArray[np.float32]:
    """Convolve, and return what lies `advance_samples` after the beginning, at the length of the audio.

    Args:
        audio: shape (N,).
        response: shape (M,).
        advance_samples: where the response's direct path is, so that the result does not lag the audio.

    Returns:
        A new array of shape (N,).
    """
    if len(audio) <= PIECE_SAMPLES:
        return _convolved(_spectra(audio, len(audio) + advance_samples), response)[
            advance_samples : advance_samples + len(audio)
        ]
    wet = np.empty(len(audio), np.float32)
    for begin in range(0, len(audio), PIECE_SAMPLES):
        heard_from = max(0, begin - len(response))
        end = begin + PIECE_SAMPLES + advance_samples
        spectra = _transformed(audio[heard_from:end], end - heard_from)
        here = wet[begin : begin + PIECE_SAMPLES]
        first = begin - heard_from + advance_samples
        here[:] = _convolved(spectra, response)[first : first + len(here)]
    return wet


def _spectra(audio: NDArray[np.float32], until: int) -> _Spectra:
    """Transform the blocks of the audio, or recall them; only of audio that nobody writes to."""
    global _latest
    kept = _latest
    if kept is not None and kept[0]() is audio and kept[1] == until:
        return kept[2]
    spectra = _transformed(audio, until)
    _latest = None if audio.flags.writeable else (weakref.ref(audio), until, spectra)
    return spectra


def _transformed(audio: NDArray[np.float32], until: int) -> _Spectra:
    """Spectra of stretches of two blocks, of which the second ones follow each other from frame 0 to `until`.

    Shape (blocks, BLOCK_SAMPLES + 1).
    """
    blocks = max(1, -(-until // BLOCK_SAMPLES))
    padded = np.zeros((blocks + 1) * BLOCK_SAMPLES, np.float32)
    padded[BLOCK_SAMPLES : BLOCK_SAMPLES + len(audio)] = audio
    stretches = np.lib.stride_tricks.sliding_window_view(padded, 2 * BLOCK_SAMPLES)[::BLOCK_SAMPLES]
    spectra: _Spectra = fft.rfft(stretches, axis=1)
    return spectra


def _convolved(spectra: _Spectra, response: NDArray[np.float32]) -> NDArray[np.float32]:
    parts = np.zeros((-(-len(response) // BLOCK_SAMPLES), 2 * BLOCK_SAMPLES), np.float32)
    for part, begin in zip(parts, range(0, len(response), BLOCK_SAMPLES), strict=True):
        stretch = response[begin : begin + BLOCK_SAMPLES]
        part[: len(stretch)] = stretch
    filters = fft.rfft(parts, axis=1)
    heard = np.empty((len(spectra), BLOCK_SAMPLES), np.float32)
    for begin in range(0, len(spectra), BLOCKS_AT_ONCE):
        end = min(begin + BLOCKS_AT_ONCE, len(spectra))
        product = spectra[begin:end] * filters[0]
        for late in range(1, min(len(filters), end)):
            first = max(begin, late)
            product[first - begin :] += spectra[first - late : end - late] * filters[late]
        # Of each stretch, the first block is wrapped around; the second is what is heard.
        heard[begin:end] = fft.irfft(product, axis=1, overwrite_x=True)[:, BLOCK_SAMPLES:]
    return heard.reshape(-1)
