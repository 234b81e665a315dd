"""Scores agree with independent formulas and packages, and depend on nothing but the signals."""

import math
import os
from pathlib import Path

import numpy as np
import pytest
import soxr
from tiny_corpora import RATE_HZ, noise, voice

from datagen.audio import read_all, resampled
from pipelines.enhancement.enhance import files_below
from pipelines.quality.dnsmos import dnsmos, score_16khz
from pipelines.quality.metrics import (
    MeasurementError,
    estoi,
    level_error_db,
    log_spectral_distance_db,
    over_suppression_percent,
    reference_metrics,
    si_sdr_db,
)
from pipelines.quality.recordings import bandwidth_khz, level_dbfs, noise_floor_dbfs

DATA = Path(os.environ.get("SSIFORGE_DATA", Path(__file__).resolve().parents[2] / ".." / "shared" / "data"))


@pytest.fixture(scope="module")
def talker() -> np.ndarray:
    return voice(1, 4.0)


def test_si_sdr_of_orthogonal_noise_is_the_ratio_of_energies_whatever_the_scale(talker: np.ndarray) -> None:
    hiss = noise(2, 4.0, 1.0).astype(np.float64)
    clean = talker.astype(np.float64)
    hiss -= clean * (hiss @ clean) / (clean @ clean)
    hiss *= math.sqrt((clean @ clean) / (hiss @ hiss)) * 10 ** (-12.5 / 20)
    mixture = (clean + hiss).astype(np.float32)
    assert si_sdr_db(talker, mixture) == pytest.approx(12.5, abs=0.01)
    assert si_sdr_db(talker, 0.01 * mixture) == pytest.approx(12.5, abs=0.01)


def test_log_spectral_distance_of_a_gain_is_the_gain(talker: np.ndarray) -> None:
    loud = noise(3, 2.0, 0.1)
    assert log_spectral_distance_db(loud, loud * np.float32(10 ** (-7 / 20))) == pytest.approx(7.0, abs=1e-3)
    assert log_spectral_distance_db(talker, talker) == 0.0


def test_log_spectral_distance_agrees_with_scipy(talker: np.ndarray) -> None:
    from scipy.signal import stft

    other = talker + noise(4, 4.0, 0.003)
    levels = []
    for wave in (talker, other):
        # scipy scales by the window's sum: a full-scale sine has magnitude 1/2 in its bin.
        spectrum = stft(wave.astype(float), RATE_HZ, "hann", 1536, 1536 - 384, boundary=None, padded=False)[2]
        levels.append(np.maximum(20 * np.log10(np.maximum(2 * np.abs(spectrum), 1e-12)), -100.0))
    expected = np.sqrt(((levels[0] - levels[1]) ** 2).mean(axis=0)).mean()
    assert log_spectral_distance_db(talker, other) == pytest.approx(expected, rel=1e-6)


def tone(frequency_hz: float) -> np.ndarray:
    """A second in double precision: at the exponent 0.3, what rounding to float32 leaves counts for 0.4 %."""
    return 0.3 * np.sin(2 * np.pi * frequency_hz * np.arange(RATE_HZ) / RATE_HZ)


def test_over_suppression_of_tones_is_as_by_hand() -> None:
    # Both lie in the middle of a bin and are equally strong: each is half of the target.
    both = tone(1_000) + tone(3_000)
    assert over_suppression_percent(both, tone(1_000)) == pytest.approx(50.0, abs=0.01)
    quieter = tone(1_000) + 0.1 * tone(3_000)
    assert over_suppression_percent(both, quieter) == pytest.approx(50.0 * (1 - 0.1**0.3) ** 2, abs=0.01)
    for gain_db, percent in ((-6.0206, 3.526), (-20.0, 24.881)):
        scaled = both * 10 ** (gain_db / 20)
        assert over_suppression_percent(both, scaled) == pytest.approx(percent, abs=0.01)


def test_over_suppression_counts_nothing_but_what_is_missing(talker: np.ndarray) -> None:
    assert over_suppression_percent(talker, talker) == 0.0
    assert over_suppression_percent(talker, 2 * talker) == 0.0
    assert over_suppression_percent(tone(1_000), tone(1_000) + tone(3_000)) == pytest.approx(0.0, abs=1e-6)
    words_lost = talker.copy()
    words_lost[: len(talker) // 2] *= np.float32(1e-3)
    assert 20.0 < over_suppression_percent(talker, words_lost) < 60.0
    # 60 dB under the loudest bin is not part of the target
    assert over_suppression_percent(tone(1_000) + 1e-3 * tone(3_000), tone(1_000)) < 1e-6


def test_a_recording_is_described_by_its_level_noise_floor_and_bandwidth(talker: np.ndarray) -> None:
    hiss = noise(8, 4.0, 1e-3)
    paused = talker.copy()
    paused[RATE_HZ : 2 * RATE_HZ] = 0.0
    assert level_dbfs(np.float32(0.1) * talker) == pytest.approx(-46.0, abs=0.01)
    assert noise_floor_dbfs(paused + hiss) == pytest.approx(-60.0, abs=0.3)
    assert noise_floor_dbfs(paused) == -100.0
    narrow = resampled(resampled(talker + hiss, RATE_HZ, 16_000), 16_000, RATE_HZ)
    assert bandwidth_khz(narrow) == pytest.approx(8.0, rel=0.06) and bandwidth_khz(hiss) > 23.0
    for measure in (level_dbfs, bandwidth_khz):
        with pytest.raises(MeasurementError, match="silent"):
            measure(np.zeros_like(talker))
    with pytest.raises(MeasurementError, match="0.5 s"):
        noise_floor_dbfs(talker[:20_000])


def test_level_error_is_the_gain(talker: np.ndarray) -> None:
    assert level_error_db(talker, talker * np.float32(0.5)) == pytest.approx(-6.0206, abs=1e-3)


def test_estoi_is_pystoi_seeded_whatever_ran_before_and_leaves_the_global_generator_alone(
    talker: np.ndarray,
) -> None:
    from pystoi import stoi

    noisy = talker + noise(5, 4.0, 0.02)
    np.random.seed(0)
    expected = stoi(talker.astype(float), noisy.astype(float), RATE_HZ, extended=True)
    np.random.seed(123)
    untouched = np.random.get_state()[1].copy()
    first = estoi(talker, noisy)
    assert np.array_equal(np.random.get_state()[1], untouched)
    np.random.standard_normal(1000)
    assert estoi(talker, noisy) == first == pytest.approx(expected, abs=1e-12)
    assert estoi(talker, talker) > 0.999 > first


def test_estoi_repeats_where_the_noise_that_pystoi_adds_decides(talker: np.ndarray) -> None:
    cut_off = talker.copy()
    cut_off[len(cut_off) // 2 :] = 0.0  # silence is scored by pystoi's own random noise
    np.random.seed(1)
    first = estoi(talker, cut_off)
    np.random.seed(2)
    assert estoi(talker, cut_off) == first


def test_dnsmos_equals_the_package_that_brings_the_networks(talker: np.ndarray) -> None:
    original = pytest.importorskip("speechmos.dnsmos", reason="speechmos' own code needs librosa")
    clip = np.tile(soxr.resample(talker, RATE_HZ, 16_000), 3)[: round(11.7 * 16_000)]
    ours = score_16khz(clip)
    theirs = original.run(clip, 16_000)
    for name, value in ours._asdict().items():
        key = "p808_mos" if name == "p808" else f"{name}_mos"
        assert value == pytest.approx(float(theirs[key]), abs=1e-4)


def test_dnsmos_hears_noise() -> None:
    path = DATA / "speech" / "vctk-p234"
    if not path.is_dir():
        pytest.skip(f"no recordings at {path}")
    audio, rate_hz = read_all(str(files_below(path)[0]))
    clean = resampled(audio[:, 0], rate_hz, RATE_HZ)
    noisy = clean + noise(6, len(clean) / RATE_HZ, float(np.std(clean)))
    assert dnsmos(clean).bak > dnsmos(noisy).bak + 1.0
    assert dnsmos(clean).ovrl > 2.5 > dnsmos(noisy).ovrl


def test_what_cannot_be_measured_says_so_and_never_returns_a_number(talker: np.ndarray) -> None:
    silent = np.zeros_like(talker)
    broken = talker.copy()
    broken[100] = np.nan
    for metric in reference_metrics():
        for estimate in (silent, broken):
            with pytest.raises(MeasurementError):
                metric.measure(talker, estimate)
        with pytest.raises(MeasurementError):
            metric.measure(silent, talker)
    for clip in (silent, broken, talker[:1000], talker[:0]):
        with pytest.raises(MeasurementError):
            dnsmos(clip)
    with pytest.raises(MeasurementError):
        si_sdr_db(talker, talker)
    with pytest.raises(MeasurementError, match="0.4 s"):
        estoi(talker[:9600], talker[:9600] * np.float32(0.9))


def test_metrics_leave_their_inputs_alone(talker: np.ndarray) -> None:
    estimate = talker * np.float32(0.7) + noise(7, 4.0, 0.01)
    for wave in (talker, estimate):
        wave.flags.writeable = False
    for metric in reference_metrics():
        metric.measure(talker, estimate)
    dnsmos(estimate)
    talker.flags.writeable = True


def test_spectrogram_is_a_png_of_levels_and_repeats_to_the_byte(talker: np.ndarray) -> None:
    from pipelines.quality.figures import spectrogram_db, spectrogram_png

    tone = np.sin(2 * np.pi * 3_000 * np.arange(RATE_HZ) / RATE_HZ).astype(np.float32)
    levels = spectrogram_db(np.float32(0.1) * tone)
    assert levels.shape == (481, 99)
    assert levels[60].min() == pytest.approx(-20.0, abs=0.01)  # 3 kHz is bin 60 of 50 Hz
    assert spectrogram_db(talker[:10]).shape == (481, 1)
    waves = {"a $x_1$ <b>": talker, "short": talker[:10]}
    image = spectrogram_png(waves)
    assert image.startswith(b"\x89PNG\r\n") and image == spectrogram_png(waves)
