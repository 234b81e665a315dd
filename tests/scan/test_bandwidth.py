"""The bandwidth is where the spectrum ends, whatever rate the header gives."""

from pathlib import Path

import numpy as np
import pytest
import scipy.signal
import soundfile
import soxr
from numpy.typing import NDArray

from datagen.audio import mixed_down, read_all
from datagen.bandwidth import true_bandwidth_hz

RATE_HZ = 48_000
Filter = str


def pink_bursts(seed: int = 0, seconds: float = 5.0) -> NDArray[np.float32]:
    """Noise that falls by 60 dB from 100 Hz to 24 kHz and comes in syllables, as speech does."""
    rng = np.random.default_rng(seed)
    frames = int(seconds * RATE_HZ)
    spectrum = np.fft.rfft(rng.standard_normal(frames))
    frequency_hz = np.maximum(np.fft.rfftfreq(frames, 1 / RATE_HZ), 100.0)
    shaped = np.fft.irfft(spectrum * (100.0 / frequency_hz) ** 1.26, frames)
    syllables = np.maximum(0.0, np.sin(2 * np.pi * 3.0 * np.arange(frames) / RATE_HZ))
    voiced = shaped * syllables
    return (0.2 * voiced / np.abs(voiced).max()).astype(np.float32)


def cut(audio: NDArray[np.float32], cutoff_hz: int, how: Filter) -> NDArray[np.float32]:
    if how == "fir":
        taps = scipy.signal.firwin(801, cutoff_hz, fs=RATE_HZ)
        return scipy.signal.fftconvolve(audio, taps, mode="same").astype(np.float32)
    if how == "elliptic":
        sections = scipy.signal.ellip(10, 0.5, 70, cutoff_hz, output="sos", fs=RATE_HZ)
        return scipy.signal.sosfilt(sections, audio).astype(np.float32)
    low = soxr.resample(audio, RATE_HZ, 2 * cutoff_hz, quality="VHQ")
    return soxr.resample(low, 2 * cutoff_hz, RATE_HZ, quality="VHQ")


@pytest.mark.parametrize("floor_dbfs", [None, -90.0])
@pytest.mark.parametrize("how", ["fir", "elliptic", "resampled"])
@pytest.mark.parametrize("cutoff_hz", [4_000, 7_000, 8_000, 11_025, 15_000, 19_000])
def test_a_cut_is_found_with_and_without_a_noise_floor(
    cutoff_hz: int, how: Filter, floor_dbfs: float | None
) -> None:
    audio = cut(pink_bursts(), cutoff_hz, how)
    if floor_dbfs is not None:
        noise = np.random.default_rng(1).standard_normal(len(audio)) * 10 ** (floor_dbfs / 20)
        audio = (audio + noise).astype(np.float32)
    assert true_bandwidth_hz(audio, RATE_HZ) == pytest.approx(cutoff_hz, rel=0.08)


def test_a_quiet_top_without_an_edge_is_full_band() -> None:
    assert true_bandwidth_hz(pink_bursts(), RATE_HZ) == RATE_HZ / 2


@pytest.mark.parametrize("gain_db", [-40, -20, 10])
def test_the_level_of_a_recording_does_not_move_its_bandwidth(gain_db: int) -> None:
    audio = cut(pink_bursts(), 8_000, "resampled")
    louder = (audio * 10 ** (gain_db / 20)).astype(np.float32)
    assert true_bandwidth_hz(louder, RATE_HZ) == true_bandwidth_hz(audio, RATE_HZ)


def test_one_click_does_not_make_a_recording_full_band() -> None:
    audio = cut(pink_bursts(), 8_000, "resampled").copy()
    audio[100_000] = 0.5
    assert true_bandwidth_hz(audio, RATE_HZ) == pytest.approx(8_000, rel=0.05)


def test_rounding_to_16_bit_does_not_make_a_recording_full_band() -> None:
    audio = cut(pink_bursts(), 8_000, "resampled")
    rounded = (np.rint(audio * 32768) / 32768).astype(np.float32)
    assert true_bandwidth_hz(rounded, RATE_HZ) == pytest.approx(8_000, rel=0.05)


def test_silence_and_short_audio_have_an_answer() -> None:
    assert true_bandwidth_hz(np.zeros(48_000, np.float32), RATE_HZ) == 0.0
    assert 0.0 < true_bandwidth_hz(pink_bursts()[4_000:4_500], RATE_HZ) <= 24_000.0


@pytest.mark.parametrize(
    ("pattern", "low_hz", "high_hz"),
    [
        ("speech/kerstin-7khz/*.flac", 7_200, 7_800),
        ("speech/vctk-p234/*.wav", 23_500, 24_000),
        ("speech/vctk-nuwave2/*.wav", 23_500, 24_000),
        ("speech/voicebank-p808/*.wav", 23_500, 24_000),
        ("speech/freesound-33711/*.wav", 20_500, 21_800),
        ("degraded/fake-fullband/*.wav", 6_900, 7_900),
        ("degraded/common-voice-mp3/*.mp3", 7_300, 7_900),
    ],
)
def test_real_recordings_end_where_their_spectrogram_ends(
    shared_data: Path, pattern: str, low_hz: int, high_hz: int
) -> None:
    files = sorted(shared_data.glob(pattern))[:12]
    found = [true_bandwidth_hz(mixed_down(audio), rate) for audio, rate in map(read_all, map(str, files))]
    assert found
    assert all(low_hz <= bandwidth <= high_hz for bandwidth in found)


@pytest.mark.parametrize(
    ("pattern", "low_hz", "high_hz"),
    [
        ("speech/gcompris-wideband15k/*/*.ogg", 14_900, 15_700),
        ("speech/gcompris-fullband/*/*.ogg", 17_000, 22_050),
    ],
)
def test_most_of_a_crowd_sourced_set_ends_where_its_encoder_cut_it(
    shared_data: Path, pattern: str, low_hz: int, high_hz: int
) -> None:
    files = sorted(shared_data.glob(pattern))[::20]
    found = [true_bandwidth_hz(mixed_down(audio), rate) for audio, rate in map(read_all, map(str, files))]
    assert low_hz <= np.median(found) <= high_hz
    assert np.mean([low_hz <= bandwidth <= high_hz for bandwidth in found]) >= 0.8


def test_an_mp3_at_64_kbit_ends_at_its_encoders_low_pass(tmp_path: Path) -> None:
    path = tmp_path / "talk.mp3"
    soundfile.write(
        path, pink_bursts(), RATE_HZ, format="MP3", bitrate_mode="CONSTANT", compression_level=0.95
    )
    audio, rate = read_all(str(path))
    assert true_bandwidth_hz(mixed_down(audio), rate) < 20_000
