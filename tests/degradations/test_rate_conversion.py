"""Down to a lower rate and back: what is left of the band, what is folded into it, and not a sample too late."""

import math

import numpy as np
import pytest
from scipy import interpolate
from stage_signals import RATE_HZ, lag_samples, scene_of, speech_like

from datagen.alignment import without_delay
from datagen.degradations.base import CannotApply, Inputs
from datagen.degradations.rate.bandwidth_loss import BandwidthLoss
from datagen.degradations.rate.faithfulness import faithfulness
from datagen.degradations.rate.interpolation import held_lag_samples, interpolated
from manifests.keyed import generator

SPEECH = speech_like(2.0)
RATES_HZ = (4_000, 6_000, 8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100)
ODD_RATES_HZ = (3_000, 7_999, 17_389, 25_601, 31_999)
CRUDE = ("zoh", "linear", "cubic")


def lose(audio, rate_hz, method="soxr", quality="HQ", antialias=False):
    """Values as they are drawn, and what comes of them."""
    lag = held_lag_samples(rate_hz, RATE_HZ, held_down=not antialias) if method == "zoh" else 0.0
    how = {"quality": quality} if method == "soxr" else {"antialias": antialias}
    values = {
        "rate_hz": rate_hz,
        "method": method,
        "lag_samples": lag,
        "speech_bandwidth_hz": 24_000.0,
        **how,
    }
    return BandwidthLoss.apply(audio, values, Inputs())


def tone(hz):
    return (0.5 * np.sin(2 * np.pi * hz * np.arange(RATE_HZ) / RATE_HZ + 0.3)).astype(np.float32)


def amplitude_at(audio, hz):
    return 2 * np.abs(np.fft.rfft(audio.astype(np.float64)))[hz] / RATE_HZ


@pytest.mark.parametrize("quality", ["QQ", "LQ", "MQ", "HQ", "VHQ"])
@pytest.mark.parametrize("rate_hz", (*RATES_HZ, *ODD_RATES_HZ))
def test_resampling_leaves_no_lag(rate_hz, quality, voice):
    for audio in (voice, voice[:95_959]):
        applied = lose(audio, rate_hz, quality=quality)
        assert len(applied.audio) == len(audio)
        assert abs(lag_samples(audio, applied.audio)) < 0.25
        assert abs(applied.measured["lag_samples"]) < 0.25


@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize("method", CRUDE)
@pytest.mark.parametrize("rate_hz", (*RATES_HZ[2:], *ODD_RATES_HZ[1:]))
def test_interpolating_leaves_no_lag_once_the_declared_one_is_removed(rate_hz, method, antialias, voice):
    applied = lose(voice[:95_959], rate_hz, method, antialias=antialias)
    kept = without_delay(applied.audio, applied.delay_samples, 95_959)
    assert abs(lag_samples(voice[:95_959], kept)) < 0.25
    assert applied.measured["lag_samples"] == pytest.approx(applied.delay_samples, abs=0.25)


@pytest.mark.parametrize(("rate_hz", "lag"), [(8_000, 2.5), (16_000, 1.0), (24_000, 0.5), (12_000, 1.5)])
def test_a_hold_lags_by_half_a_low_sample_less_half_a_high_one(rate_hz, lag):
    assert held_lag_samples(rate_hz, RATE_HZ, held_down=True) == lag
    assert held_lag_samples(rate_hz, RATE_HZ, held_down=False) == lag
    assert lag == RATE_HZ / rate_hz / 2 - 0.5


@pytest.mark.parametrize("rate_hz", [11_025, 17_389, 32_000, 44_100])
def test_a_hold_at_an_odd_rate_lags_by_the_mean_age_of_what_is_heard(rate_hz):
    """On a ramp, a hold's lag is how far it lies below: exactly, over whole periods of both rates."""
    period = RATE_HZ // math.gcd(rate_hz, RATE_HZ)
    ramp = np.arange(2 * period, dtype=np.float32)
    count = 2 * rate_hz * period // RATE_HZ
    narrow = interpolated(ramp, RATE_HZ, rate_hz, count, "zoh")
    held = interpolated(narrow, rate_hz, RATE_HZ, 2 * period, "zoh")
    assert np.mean(ramp - held) == pytest.approx(held_lag_samples(rate_hz, RATE_HZ, held_down=True), abs=1e-3)
    exact = (np.arange(count) * (RATE_HZ / rate_hz)).astype(np.float32)
    held = interpolated(exact, rate_hz, RATE_HZ, 2 * period, "zoh")
    assert np.mean(ramp - held) == pytest.approx(
        held_lag_samples(rate_hz, RATE_HZ, held_down=False), abs=1e-2
    )


@pytest.mark.parametrize(
    ("from_hz", "to_hz"), [(8_000, 48_000), (11_025, 48_000), (48_000, 17_389), (48_000, 16_000)]
)
@pytest.mark.parametrize("method", CRUDE)
def test_interpolators_are_those_of_scipy(method, from_hz, to_hz):
    audio = generator("audio").standard_normal(3_000).astype(np.float32)
    count = 2_900 * to_hz // from_hz
    found = interpolated(audio, from_hz, to_hz, count, method)
    at = np.arange(count) * from_hz / to_hz
    places = np.arange(len(audio))
    match method:
        case "zoh":
            expected = audio[np.floor(at + 1e-9).astype(int)]
        case "linear":
            expected = np.interp(at, places, audio)
        case _:  # Catmull-Rom: the cubic of Hermite whose slopes are those between the neighbours
            expected = interpolate.CubicHermiteSpline(places, audio, np.gradient(audio.astype(np.float64)))(
                at
            )
            inside = at >= 1.0
            found, expected = found[inside], expected[inside]
    assert found == pytest.approx(expected, abs=2e-4)


def test_a_sharp_resampler_leaves_nothing_above_its_rate():
    noise = np.random.default_rng(0).standard_normal(RATE_HZ).astype(np.float32) * np.float32(0.1)
    applied = lose(noise, 16_000, quality="VHQ")
    power = np.abs(np.fft.rfft(applied.audio * np.hanning(RATE_HZ))) ** 2
    assert power[8_100:].sum() < 1e-6 * power.sum()
    assert applied.measured["images_db"] < -60.0


@pytest.mark.parametrize(("method", "power"), [("zoh", 1), ("linear", 2)])
def test_images_are_as_strong_as_the_kernel_lets_them(method, power):
    """A 3 kHz tone at 12 kHz has images at 9, 15 and 21 kHz, under sinc(f / 12 kHz) or its square."""
    lost = lose(tone(3_000), 12_000, method, antialias=True).audio
    # 48 kHz is four times 12: a hold of four samples has the sinc of four samples, not that of a staircase in time.
    for hz in (3_000, 9_000, 15_000, 21_000):
        periodic = abs(np.sin(np.pi * hz / 12_000) / (4 * np.sin(np.pi * hz / RATE_HZ)))
        assert amplitude_at(lost, hz) == pytest.approx(0.5 * periodic**power, rel=0.01)


@pytest.mark.parametrize("method", CRUDE)
def test_only_an_unfiltered_way_down_aliases(method):
    """A 7 kHz tone cannot live at 12 kHz: it folds to 5 kHz, unless a filter takes it away before."""
    folded = lose(tone(7_000), 12_000, method, antialias=False).audio
    filtered = lose(tone(7_000), 12_000, method, antialias=True).audio
    assert amplitude_at(folded, 5_000) > 0.15
    assert amplitude_at(filtered, 5_000) < 1e-4
    assert np.abs(lose(tone(7_000), 12_000, quality="HQ").audio[1_000:-1_000]).max() < 1e-4


@pytest.mark.parametrize("quality", ["LQ", "MQ", "HQ", "VHQ"])
@pytest.mark.parametrize("rate_hz", [3_000, 8_000, 17_389, 32_000])
def test_the_bandwidth_that_is_left_is_measured(rate_hz, quality, voice):
    found = lose(voice, rate_hz, quality=quality).measured["bandwidth_hz"]
    assert found == pytest.approx(rate_hz / 2, rel=0.15)
    broken = BandwidthLoss.broken_promises({"bandwidth_hz": 0.7 * rate_hz / 2}, {"bandwidth_hz": found})
    assert broken == ("bandwidth_hz",)


def test_a_measured_bandwidth_does_not_take_images_for_speech():
    """Images of a hold are far stronger than what the speech had there; they still do not follow it."""
    for method in ("zoh", "linear"):
        found = lose(SPEECH, 8_000, method, antialias=True).measured
        assert found["bandwidth_hz"] == pytest.approx(4_000, rel=0.05)
        assert found["images_db"] > -45.0


def test_a_measured_lag_is_the_one_there_is(voice):
    delayed = np.concatenate([np.zeros(4, np.float32), voice])[: len(voice)]
    assert faithfulness(voice, delayed, 8_000.0).lag_samples == pytest.approx(4.0, abs=0.05)


def test_a_rate_that_takes_nothing_away_is_refused():
    values = {"rate_hz": 16_000, "method": "soxr", "quality": "HQ", "lag_samples": 0.0}
    with pytest.raises(CannotApply, match="7400 Hz"):
        BandwidthLoss.apply(SPEECH, values | {"speech_bandwidth_hz": 7_400.0}, Inputs())
    with pytest.raises(CannotApply, match="no signal"):
        lose(np.zeros(RATE_HZ, np.float32), 8_000)


def test_less_band_and_stronger_images_are_worse():
    def severity(rate_hz, images_db):
        return BandwidthLoss.severity({"rate_hz": rate_hz}, {"images_db": images_db})

    rising = [severity(rate, -90.0) for rate in (44_100, 32_000, 16_000, 8_000, 4_000)]
    assert rising == sorted(set(rising))
    assert severity(16_000, -90.0) < severity(16_000, -40.0) < severity(16_000, -20.0) <= 1.0


STANDARD_HZ = {8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100}
FULL_BAND = scene_of(np.zeros(480_000, np.float32), 24_000.0)


def drawn(scene=FULL_BAND, **settings):
    stage = BandwidthLoss(**settings)
    return [stage.draw(generator("rates", n), scene).values for n in range(1_000)]


def test_any_rate_is_drawn_where_it_bites_and_converted_by_any_method():
    values = drawn(any_rate_hz=[3_000, 32_000])
    rates = [v["rate_hz"] for v in values]
    assert all(isinstance(rate, int) for rate in rates)
    assert np.histogram(rates, bins=10, range=(3_000, 32_000))[0].min() > 60
    assert {v["method"] for v in values} == {"soxr", *CRUDE}
    assert {v["antialias"] for v in values if v["method"] != "soxr"} == {False, True}
    narrow = scene_of(np.zeros(480_000, np.float32), 7_000.0)
    values = drawn(narrow, any_rate_hz=[3_000, 32_000])
    assert max(v["rate_hz"] for v in values if v["method"] == "soxr") < 14_000
    # The others leave images of narrow speech as well.
    assert max(v["rate_hz"] for v in values if v["method"] != "soxr") > 31_000


def test_rates_that_a_recipe_names_are_resampled_by_soxr_at_several_qualities():
    """As the URGENT recipes name them."""
    rates = (8_000, 16_000, 22_050, 24_000, 32_000, 44_100)
    values = drawn(rates_hz=rates)
    assert {v["rate_hz"] for v in values} == set(rates)
    assert {v["method"] for v in values} == {"soxr"}
    assert {v["quality"] for v in values} == {"QQ", "LQ", "MQ", "HQ", "VHQ"}


def test_by_default_three_of_four_rates_are_those_of_devices():
    values = drawn()
    standard = [v for v in values if v["rate_hz"] in STANDARD_HZ]
    assert 0.70 < len(standard) / len(values) < 0.80
    assert {v["rate_hz"] for v in standard} == STANDARD_HZ
    assert {v["method"] for v in standard} == {"soxr"}
    assert {v["method"] for v in values if v["rate_hz"] not in STANDARD_HZ} == {"soxr", *CRUDE}


def test_a_recipe_may_name_the_method_for_all_rates():
    assert {v["method"] for v in drawn(methods=["zoh", "linear"])} == {"zoh", "linear"}
    both = drawn(rates_hz=[8_000], any_rate_hz=[20_000, 30_000], methods=["cubic"])
    assert 0.70 < np.mean([v["rate_hz"] == 8_000 for v in both]) < 0.80
    assert {v["method"] for v in both} == {"cubic"}
