"""Rooms are measured as ISO 3382 says: against decays whose reverberation time is known."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from datagen.audio import read_all
from datagen.rir import direct_path_index, drr_db, rt60_s

DELAY = 480


def room(
    seconds: float, rate_hz: int, length: float, floor_db: float | None = None, seed: int = 0
) -> NDArray[np.float32]:
    """A direct path of 1.0 after 480 frames, and noise that decays by 60 dB in `seconds`."""
    rng = np.random.default_rng(seed)
    time_s = np.arange(int(length * rate_hz)) / rate_hz
    tail = 0.2 * rng.standard_normal(len(time_s)) * 10 ** (-3 * time_s / seconds)
    rir = np.concatenate([np.zeros(DELAY), [1.0], tail])
    if floor_db is not None:
        rir = rir + 0.2 * 10 ** (floor_db / 20) * rng.standard_normal(len(rir))
    return rir.astype(np.float32)


@pytest.mark.parametrize("floor_db", [None, -60.0, -45.0])
@pytest.mark.parametrize("rate_hz", [16_000, 44_100, 48_000])
@pytest.mark.parametrize("seconds", [0.3, 0.6, 1.2, 2.5])
def test_a_known_reverberation_time_is_found_in_spite_of_noise(
    seconds: float, rate_hz: int, floor_db: float | None
) -> None:
    found = [rt60_s(room(seconds, rate_hz, 1.5 * seconds, floor_db, seed), rate_hz) for seed in range(3)]
    assert np.mean(found) == pytest.approx(seconds, rel=0.05)


def test_padding_after_the_response_changes_nothing() -> None:
    rir = room(0.4, 48_000, 0.6)
    padded = np.pad(rir, (0, 48_000))
    assert rt60_s(padded, 48_000) == pytest.approx(rt60_s(rir, 48_000), rel=1e-6)


def test_a_response_without_a_decay_has_no_reverberation_time() -> None:
    click = np.zeros(4_800, np.float32)
    click[100] = 1.0
    assert rt60_s(click, 48_000) is None
    assert drr_db(click, 48_000) == float("inf")


def test_the_direct_path_comes_first_even_if_a_reflection_is_stronger() -> None:
    rir = np.zeros(4_800, np.float32)
    rir[300], rir[900] = 0.5, 1.0
    assert direct_path_index(rir) == 300
    rir[300] = 0.1  # 20 dB weaker: noise or pre-ringing, no arrival
    assert direct_path_index(rir) == 900


@pytest.mark.parametrize("seconds", [0.4, 1.0])
def test_the_direct_to_reverberant_ratio_is_that_of_the_energies(seconds: float) -> None:
    rate_hz = 48_000
    rir = room(seconds, rate_hz, 2 * seconds)
    half = round(0.0025 * rate_hz)
    energy = np.square(rir.astype(float))
    expected = 10 * np.log10(energy[DELAY - half : DELAY + half + 1].sum() / energy[DELAY + half + 1 :].sum())
    assert drr_db(rir, rate_hz) == pytest.approx(expected, abs=0.05)
    noisy = room(seconds, rate_hz, 2 * seconds, floor_db=-40.0)
    assert drr_db(noisy, rate_hz) == pytest.approx(expected, abs=0.3)


def test_silence_has_no_direct_path() -> None:
    with pytest.raises(ValueError, match="peak"):
        direct_path_index(np.zeros(100, np.float32))


@pytest.mark.parametrize(
    ("pattern", "low_s", "high_s"),
    [
        ("bbc-listening-room/*.wav", 0.13, 0.21),
        ("seminar-room/*.wav", 0.5, 0.62),
        ("web-audio/*.wav", 1.85, 2.55),
    ],
)
def test_real_rooms_have_the_reverberation_times_that_are_known_of_them(
    shared_data: Path, pattern: str, low_s: float, high_s: float
) -> None:
    for path in shared_data.glob(f"rir/{pattern}"):
        audio, rate_hz = read_all(str(path))
        found = rt60_s(audio[:, 0], rate_hz)
        assert found is not None
        assert low_s <= found <= high_s


def test_the_silence_before_a_distant_source_is_no_part_of_the_room(shared_data: Path) -> None:
    audio, rate_hz = read_all(str(shared_data / "rir/web-audio/binaural-s3_r4_bd.wav"))
    assert direct_path_index(audio[:, 0]) / rate_hz == pytest.approx(0.076, abs=0.001)
