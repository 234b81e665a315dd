"""Partitioned convolution is convolution, whatever the lengths and whatever was convolved before."""

import numpy as np
import pytest
from scipy import signal

from datagen.convolution import BLOCK_SAMPLES, PIECE_SAMPLES, convolved


def _noise(frames: int, seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).standard_normal(frames).astype(np.float32)
    noise.flags.writeable = False
    return noise


def _decaying(frames: int) -> np.ndarray:
    return (_noise(frames, 9) * np.exp(-6.0 * np.arange(frames) / frames)).astype(np.float32)


@pytest.mark.parametrize("advance", [0, 96])
@pytest.mark.parametrize("response_frames", [1, 97, BLOCK_SAMPLES, BLOCK_SAMPLES + 1, 60_000])
@pytest.mark.parametrize("frames", [1, 50, BLOCK_SAMPLES - 1, BLOCK_SAMPLES, 100_000, PIECE_SAMPLES + 777])
def test_it_is_the_convolution_in_double_precision(frames, response_frames, advance):
    audio, response = _noise(frames, 1), _decaying(response_frames)
    whole = signal.fftconvolve(audio.astype(np.float64), response.astype(np.float64))
    expected = np.pad(whole, (0, advance))[advance : advance + frames]
    heard = convolved(audio, response, advance)
    assert heard.shape == (frames,) and heard.dtype == np.float32
    assert np.abs(heard - expected).max() < 3e-6 * np.linalg.norm(response) * np.sqrt(len(response)) + 1e-6


def test_results_are_the_same_bytes_with_and_without_what_is_kept_of_the_last_audio():
    first, second, response = _noise(50_000, 1), _noise(50_000, 2), _decaying(9_000)
    cold = convolved(first.copy(), response, 96)
    convolved(second, response, 96)
    assert convolved(first, response, 96).tobytes() == cold.tobytes()
    assert convolved(first, response, 96).tobytes() == cold.tobytes()
    assert (
        convolved(first, response[:2_000], 96).tobytes()
        == convolved(first.copy(), response[:2_000], 96).tobytes()
    )
    assert convolved(first, response, 0).tobytes() == convolved(first.copy(), response, 0).tobytes()


def test_audio_that_may_be_written_to_is_heard_as_it_is_now():
    audio, response = _noise(20_000, 1).copy(), _decaying(3_000)
    before = convolved(audio, response)
    audio *= 2.0
    assert convolved(audio, response) == pytest.approx(2.0 * before, rel=1e-5, abs=1e-5)


def test_results_are_new_arrays():
    audio, response = _noise(1_000, 1), np.ones(1, np.float32)
    heard = convolved(audio, response)
    heard[:] = 0.0
    assert (
        np.array_equal(convolved(audio, response), audio)
        or np.abs(convolved(audio, response) - audio).max() < 1e-5
    )
    assert not np.shares_memory(heard, audio)
