"""Hum has its lines where the power line has them; wind has the spectrum, the gusts and the ducking that were drawn."""

import math

import numpy as np
import pytest
from naive_p56 import active_dbfs
from scipy import signal
from stage_cases import Case
from stage_signals import recorded, speech_like

from datagen.degradations.additive.mains_hum import MainsHum
from datagen.degradations.additive.wind import Wind, blowing, ducking
from datagen.degradations.base import CannotApply, Inputs, Scene

RATE = 48_000
SCENE = Scene(10 * RATE, 20_000.0, lambda kind: ())

HUM = {
    "snr_db": 20.0,
    "begin_hz": 50.0,
    "end_hz": 50.0,
    "decay_db_per_octave": 6.0,
    "even_db": -10.0,
    "harmonics_seed": 3,
}
WIND = {
    "snr_db": 0.0,
    "corner_hz": 100.0,
    "exponent": 3.0,
    "gustiness": 0.3,
    "gusts_hz": 0.5,
    "wind_seed": 5,
    "duck_threshold_db": 0.0,
    "duck_ratio": 4.0,
    "duck_attack_ms": 10.0,
    "duck_release_ms": 50.0,
}


def _frozen(audio: np.ndarray) -> np.ndarray:
    audio = np.ascontiguousarray(audio, np.float32)
    audio.setflags(write=False)
    return audio


def _hum(seconds: float = 10.0, **changes: float) -> np.ndarray:
    speech = speech_like(seconds)
    return MainsHum.apply(speech, HUM | changes, Inputs((), speech)).added.astype(np.float64)


def _lines_db(hum: np.ndarray, hz: np.ndarray) -> np.ndarray:
    """Level of lines that lie on bins of the transform."""
    bins = np.rint(hz * len(hum) / RATE).astype(int)
    return 20 * np.log10(np.abs(np.fft.rfft(hum))[bins] * 2 / len(hum))


# --- mains hum ------------------------------------------------------------------------------------


@pytest.mark.parametrize("mains_hz", [50.0, 60.0, 49.9, 60.1])
def test_all_of_a_hum_lies_on_multiples_of_the_mains_up_to_2_khz(mains_hz):
    hum = _hum(begin_hz=mains_hz, end_hz=mains_hz)
    power = np.abs(np.fft.rfft(hum)) ** 2
    bins = np.rint(np.arange(1, int(2_000 / mains_hz) + 1) * mains_hz * len(hum) / RATE).astype(int)
    assert 10 * math.log10((power.sum() - power[bins].sum()) / power.sum()) < -80
    # Falls by 6 dB an octave, the even ones lie 10 dB lower, each is up to 3 dB off.
    assert 10 * np.log10(power[bins] / power[bins[0]]).min() > -6 * math.log2(40) - 10 - 6


def test_harmonics_fall_as_drawn_and_even_ones_lie_below_odd_ones():
    number = np.arange(1, 41)
    falls, gaps = [], []
    for seed in range(30):
        level_db = _lines_db(_hum(2.0, harmonics_seed=seed, even_db=-10.0), 50.0 * number)
        odd, even = number % 2 == 1, number % 2 == 0
        falls.append(np.polyfit(np.log2(number[odd]), level_db[odd], 1)[0])
        law = level_db + 6.0 * np.log2(number)
        gaps.append(law[even].mean() - law[odd].mean())
    assert np.mean(falls) == pytest.approx(-6.0, abs=0.4)
    assert np.mean(gaps) == pytest.approx(-10.0, abs=0.4)


def test_the_power_line_drifts_from_its_first_to_its_last_frequency():
    hum = _hum(begin_hz=49.9, end_hz=50.1)
    time_s = np.arange(len(hum)) / RATE
    beat = (hum * np.exp(-2j * np.pi * 50.0 * time_s)).reshape(-1, 960 * 25).mean(axis=1)
    moving_hz = np.diff(np.unwrap(np.angle(beat))) / (2 * np.pi * 0.5)
    assert moving_hz[0] == pytest.approx(-0.09, abs=0.02)
    assert moving_hz[-1] == pytest.approx(0.09, abs=0.02)


def test_buzz_is_pulses_of_even_harmonics_as_loud_as_drawn():
    smooth = _hum(even_db=-60.0)
    buzzing = _hum(even_db=-60.0, buzz_db=-6.0, buzz_corner_hz=2_000.0)
    odd, even = 50.0 * np.arange(1, 40, 2), 100.0 * np.arange(1, 101)
    power = [10 ** (_lines_db(buzzing, hz) / 10) for hz in (odd, even)]
    assert 10 * math.log10(power[1].sum() / power[0].sum()) == pytest.approx(-6.0, abs=0.05)
    assert 10 * np.log10(power[1][19] / power[1][0]) == pytest.approx(20 * math.log10(0.5), abs=0.1)
    crest = [np.abs(x).max() / np.sqrt(np.mean(x**2)) for x in (smooth, buzzing)]
    assert crest[1] > 1.3 * crest[0]


def test_the_active_level_of_a_hum_is_its_rms_and_its_snr_the_drawn_one():
    speech = recorded(0, 4.0)
    for snr_db in (15.0, 45.0):
        applied = MainsHum.apply(speech, HUM | {"snr_db": snr_db}, Inputs((), speech))
        assert active_dbfs(speech) - active_dbfs(applied.added) == pytest.approx(snr_db, abs=0.1)
        rms_db = 10 * math.log10(np.mean(applied.added.astype(np.float64) ** 2))
        assert applied.measured["noise_active_level_dbfs"] == pytest.approx(rms_db, abs=0.1)
        assert np.array_equal(applied.audio, speech + applied.added)


def test_hums_are_drawn_within_their_settings():
    drawn = [MainsHum().draw(np.random.default_rng(seed), SCENE).values for seed in range(300)]
    for values in drawn:
        nominal = round(values["begin_hz"] / 10) * 10
        assert nominal in (50, 60)
        assert abs(values["begin_hz"] - nominal) <= 0.1 and abs(values["end_hz"] - nominal) <= 0.1
        assert 15 <= values["snr_db"] <= 45
    assert 0.2 < np.mean(["buzz_db" in values for values in drawn]) < 0.4
    assert 0.4 < np.mean([values["begin_hz"] < 55 for values in drawn]) < 0.6


# --- wind -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("exponent", [5 / 3, 7 / 3, 4.0])
@pytest.mark.parametrize("corner_hz", [60.0, 250.0])
def test_steady_wind_is_flat_to_its_corner_and_then_falls_by_its_exponent(corner_hz, exponent):
    wind = blowing(40 * RATE, WIND | {"corner_hz": corner_hz, "exponent": exponent, "gustiness": 0.0})
    hz, power = signal.welch(wind, RATE, nperseg=1 << 14)
    level_db = 10 * np.log10(power)

    def octave_db(centre_hz: float) -> float:
        return float(level_db[(hz > centre_hz / 1.41) & (hz < centre_hz * 1.41)].mean())

    beyond = 8 * corner_hz * 2.0 ** np.arange(4)
    slope = np.polyfit(np.arange(4), [octave_db(f) for f in beyond], 1)[0]
    assert slope == pytest.approx(-10 * math.log10(2) * exponent, abs=0.3)
    # At the corner (1 + 1)^(-exponent / 2), against 30 Hz, where the microphone's own limit has 1 dB.
    expected = 10 * math.log10(2) * -exponent / 2
    at = level_db[(hz > 0.93 * corner_hz) & (hz < 1.07 * corner_hz)].mean()
    low = level_db[(hz > 27) & (hz < 33)].mean()
    low -= 10 * math.log10((1 + (30 / corner_hz) ** 2) ** (-exponent / 2)) + 10 * math.log10(
        30**4 / (30**4 + 20**4)
    )
    assert at - low == pytest.approx(expected, abs=1.0)
    assert level_db[hz < 6].mean() < low - 12


def test_wind_without_gusts_is_steady_and_gusts_move_its_level_as_drawn():
    def spread_db(gustiness: float) -> float:
        wind = blowing(200 * RATE, WIND | {"gustiness": gustiness, "gusts_hz": 0.3, "corner_hz": 300.0})
        blocks = np.mean(
            wind[: len(wind) // 9_600 * 9_600].reshape(-1, 9_600).astype(np.float64) ** 2, axis=1
        )
        return float(np.std(10 * np.log10(blocks)))

    steady = spread_db(0.0)
    assert steady < 1.2
    # The level goes with the square of the speed: 40 log10(e) = 17.4 dB for each unit of gustiness.
    assert math.hypot(spread_db(0.3), -steady) == pytest.approx(0.3 * 17.37, rel=0.2)


def test_gusts_open_the_spectrum():
    wind = blowing(100 * RATE, WIND | {"gustiness": 0.4, "corner_hz": 120.0, "exponent": 3.0})
    frames = wind[: len(wind) // 8_192 * 8_192].reshape(-1, 8_192) * np.hanning(8_192).astype(np.float32)
    power = np.abs(np.fft.rfft(frames)) ** 2
    hz = np.fft.rfftfreq(8_192, 1 / RATE)
    low = 10 * np.log10(power[:, (hz > 25) & (hz < 60)].sum(axis=1))
    high = 10 * np.log10(power[:, (hz > 1_000) & (hz < 4_000)].sum(axis=1))
    speed_db = np.quantile(high, [0.1, 0.9])
    strong, weak = high >= speed_db[1], high <= speed_db[0]
    # Low frequencies go with u^3 and high ones with u^(3 + exponent): twice as many dB.
    rise_low, rise_high = low[strong].mean() - low[weak].mean(), high[strong].mean() - high[weak].mean()
    assert rise_high / rise_low == pytest.approx(2.0, abs=0.35)


def test_a_wind_has_no_seams():
    """Noise that is stationary has the same power everywhere, also where frames meet."""
    power = np.zeros(2_048)
    for seed in range(12):
        wind = blowing(100 * 2_048, WIND | {"gustiness": 0.0, "wind_seed": seed, "corner_hz": 2_000.0})
        power += np.mean(wind.reshape(-1, 2_048).astype(np.float64) ** 2, axis=0)
    smooth_db = 10 * np.log10(power.reshape(32, 64).mean(axis=1))
    assert np.ptp(smooth_db) < 0.6


@pytest.mark.parametrize("snr_db", [-10.0, 15.0])
def test_wind_comes_at_its_snr_against_the_voice_before_it_is_turned_down(snr_db):
    speech = recorded(3, 4.0)
    for seed in range(6):
        values = WIND | {"snr_db": snr_db, "wind_seed": seed, "clip_share": 0.85}
        applied = Wind.apply(speech, values, Inputs((), speech))
        assert active_dbfs(speech) - active_dbfs(applied.added) == pytest.approx(snr_db, abs=0.1)
        assert applied.measured["snr_db"] == pytest.approx(snr_db, abs=0.1)
        ducked_snr = active_dbfs(applied.speech) - active_dbfs(applied.added)
        assert applied.measured["ducked_snr_db"] == pytest.approx(ducked_snr, abs=0.1)
        assert Wind.broken_promises(values, dict(applied.measured)) == ()


def test_a_steady_tone_in_place_of_the_wind_ducks_by_what_the_ratio_says():
    tone = _frozen(10 ** (-10 / 20) * math.sqrt(2) * np.sin(2 * np.pi * 1_000 * np.arange(RATE) / RATE))
    gain = ducking(tone, -26.0, WIND | {"duck_threshold_db": 4.0, "duck_ratio": 4.0})
    # -10 dBFS lies 12 dB above the threshold of -22 dBFS.
    assert 20 * math.log10(gain[-1]) == pytest.approx(-12 * (1 - 1 / 4), abs=0.05)
    assert ducking(_frozen(0.1 * tone), -26.0, WIND | {"duck_threshold_db": 4.0}) == pytest.approx(1.0)
    assert ducking(tone, -26.0, WIND | {"duck_ratio": 1.0}) == pytest.approx(1.0)


def test_ducking_attacks_and_releases_in_its_times():
    level = np.where((np.arange(3 * RATE) > RATE) & (np.arange(3 * RATE) < 2 * RATE), 0.5, 1e-6)
    burst = _frozen(level * np.sign(np.sin(2 * np.pi * 1_000 * (np.arange(3 * RATE) + 0.5) / RATE)))
    values = WIND | {
        "duck_threshold_db": 0.0,
        "duck_ratio": 2.0,
        "duck_attack_ms": 20.0,
        "duck_release_ms": 80.0,
    }
    gain = ducking(burst, -26.0, values)
    followed = 10 ** (-26 / 20) * gain.astype(np.float64) ** -2  # at a ratio of 2 half of the excess is taken
    after_attack = followed[RATE + round(0.020 * RATE)]
    assert after_attack == pytest.approx(0.5 * (1 - math.exp(-1)), rel=0.04)
    after_release = followed[2 * RATE + round(0.080 * RATE)]
    assert after_release == pytest.approx(0.5 * math.exp(-1), rel=0.04)


def test_the_voice_that_is_turned_down_is_the_reference_of_later_stages():
    speech = speech_like(4.0)
    hiss = np.random.default_rng(0).standard_normal(len(speech)).astype(np.float32)
    audio = _frozen(speech + 0.01 * hiss)
    applied = Wind.apply(audio, WIND | {"duck_threshold_db": -10.0}, Inputs((), speech))
    loud = np.abs(speech) > 0.01
    gain = applied.speech[loud] / speech[loud]
    assert 0 < gain.min() < 0.7 and gain.max() <= 1.0
    assert applied.audio[loud] == pytest.approx(gain * audio[loud] + applied.added[loud], abs=1e-5)
    assert applied.measured["deepest_duck_db"] >= applied.measured["ducked_db"] > 0.5
    energies = [float(np.sum(np.square(x, dtype=np.float64))) for x in (speech, applied.speech)]
    assert 10 * math.log10(energies[0] / energies[1]) == pytest.approx(
        applied.measured["ducked_db"], abs=1e-3
    )


def test_clipping_cuts_the_sum_and_counts_as_wind():
    speech = speech_like(4.0)
    free = Wind.apply(speech, WIND, Inputs((), speech))
    cut = Wind.apply(speech, WIND | {"clip_share": 0.85}, Inputs((), speech))
    assert cut.audio.max() == pytest.approx(0.85 * free.audio.max(), rel=1e-5)
    assert cut.audio.min() == pytest.approx(0.85 * free.audio.min(), rel=1e-5)
    assert np.array_equal(cut.speech, free.speech)
    changed = np.abs(cut.audio - free.audio) > 1e-6
    assert changed.mean() == pytest.approx(cut.measured["wind_clipped_share"], abs=2 / len(speech))
    assert free.measured["wind_clipped_share"] == 0.0


def test_clipping_is_drawn_as_often_as_said():
    drawn = [Wind().draw(np.random.default_rng(seed), SCENE).values for seed in range(400)]
    assert 0.69 < np.mean(["clip_share" in values for values in drawn]) < 0.81
    assert all(0.85 <= values.get("clip_share", 1.0) <= 1.0 for values in drawn)
    assert all(-10 <= values["snr_db"] <= 15 and 1 <= values["duck_ratio"] <= 20 for values in drawn)


@pytest.mark.parametrize("name", ["mains_hum", "wind"])
def test_silence_has_no_snr(name):
    silence = _frozen(np.zeros(RATE))
    case = Case(name, {})
    with pytest.raises(CannotApply, match="silent"):
        case.stage.apply(silence, case.draws(silence, 1)[0].values, Inputs((), silence))
