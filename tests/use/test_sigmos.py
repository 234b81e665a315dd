"""SIGMOS by a network of the user's: it hears what the challenge's estimator hears, and misfits are refused."""

from pathlib import Path

import numpy as np
import pytest
from scipy.signal import ShortTimeFFT
from sigmos_network import WEIGHTS, write_network
from tiny_corpora import RATE_HZ, noise, voice

from manifests.errors import UserError
from pipelines.quality.metrics import MeasurementError
from pipelines.quality.sigmos import features, open_sigmos


def expected_features(audio: np.ndarray) -> np.ndarray:
    """Spectra by scipy, compressed by the formula in complex numbers: another way to the same features."""
    window = np.sqrt(0.5 - 0.5 * np.cos(2 * np.pi * np.arange(960) / 960))
    padded = np.concatenate((np.zeros(480), audio, np.zeros(480 + -len(audio) % 480)))
    transform = ShortTimeFFT(window, 480, RATE_HZ, phase_shift=None)  # its frame p is centred at sample 480 p
    spectrum = transform.stft(padded, p0=1, p1=len(padded) // 480).T
    floor = np.maximum(np.abs(spectrum), 1e-6)
    squeezed = floor**0.3 * spectrum / floor
    return np.stack((floor**0.3, squeezed.real, squeezed.imag))[None]


@pytest.mark.parametrize("samples", [24_000, 24_001, 24_479])
def test_features_are_compressed_magnitude_real_and_imaginary_part(samples: int) -> None:
    audio = (voice(1, 1.0) + noise(1, 1.0, 0.01))[:samples]
    found, wanted = features(audio), expected_features(audio.astype(float))
    assert found.dtype == np.float32 and found.shape == wanted.shape == (1, 3, 1 + -(-samples // 480), 481)
    assert found == pytest.approx(wanted, abs=2e-4)


def test_scores_are_the_networks_in_the_order_of_its_outputs(tmp_path: Path) -> None:
    audio = voice(2, 1.0) + noise(2, 1.0, 0.01)
    scores = open_sigmos(write_network(tmp_path / "net.onnx")).score(audio)
    wanted = expected_features(audio.astype(float)).mean(axis=(0, 2, 3)) @ WEIGHTS
    assert scores == pytest.approx(tuple(wanted), abs=1e-4)
    assert scores._fields == ("col", "disc", "loud", "noise", "reverb", "sig", "ovrl")


def test_what_is_not_this_network_is_refused_with_what_it_takes_and_gives(tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text("not a network")
    for path, says in (
        (tmp_path / "none.onnx", "cannot be read"),
        (tmp_path / "text.onnx", "not an ONNX network"),
        (write_network(tmp_path / "bins.onnx", bins=257), "takes .*257"),
        (write_network(tmp_path / "five.onnx", outputs=5), "gives .*5"),
        (write_network(tmp_path / "fixed.onnx", frames=100), r"\(1, 3, frames, 481\)"),
    ):
        with pytest.raises(UserError, match=says) as refused:
            open_sigmos(path)
        assert f"--sigmos {path}" in str(refused.value)


def test_what_cannot_be_scored_says_so(tmp_path: Path) -> None:
    network = open_sigmos(write_network(tmp_path / "net.onnx"))
    clip = voice(3, 1.0)
    broken = clip.copy()
    broken[5] = np.nan
    for audio in (np.zeros_like(clip), clip[:1000], broken):
        with pytest.raises(MeasurementError):
            network.score(audio)
