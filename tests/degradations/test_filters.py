"""Filters and equalisers have the response that their names promise, and no phase."""

import numpy as np
import pytest
from scipy import signal
from stage_signals import RATE_HZ, lag_samples, speech_like

from datagen.degradations.bandwidth import BandwidthLoss
from datagen.degradations.base import CannotApply, Inputs
from datagen.degradations.equalizer import MicrophoneEq, high_shelf_db, low_shelf_db, peak_db
from datagen.degradations.filters import FAMILIES, BandPass, HighPass, LowPass
from datagen.degradations.frequency_response import bandwidth_severity

ORDERS = (1, 2, 7, 20)
SPEECH = speech_like(2.0)


def shape(family, order):
    return {"family": family, "order": order, "ripple_db": 1.0, "attenuation_db": 60.0}


def impulse_response(stage, values):
    impulse = np.zeros(RATE_HZ, np.float32)
    impulse[RATE_HZ // 2] = 1.0
    return stage.apply(impulse, values, Inputs()).audio


def gain_db(response, hz):
    bins = np.abs(np.fft.rfft(response))
    return 20 * np.log10(max(bins[round(hz * len(response) / RATE_HZ)], 1e-12))


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("stage", "edges"),
    [
        (LowPass, {"cutoff_hz": 3_400.0}),
        (LowPass, {"cutoff_hz": 16_000.0}),
        (HighPass, {"cutoff_hz": 60.0}),
        (HighPass, {"cutoff_hz": 300.0}),
        (BandPass, {"low_hz": 300.0, "high_hz": 3_400.0}),
    ],
)
def test_no_filter_delays(stage, edges, family, order):
    applied = stage.apply(SPEECH, edges | shape(family, order), Inputs())
    assert applied.delay_samples == 0.0
    assert abs(lag_samples(SPEECH, applied.audio)) < 0.05


@pytest.mark.parametrize("family", FAMILIES)
def test_an_impulse_spreads_to_both_sides_alike(family):
    response = impulse_response(LowPass, {"cutoff_hz": 4_000.0} | shape(family, 4))
    middle = RATE_HZ // 2
    before, after = response[middle - 2_000 : middle][::-1], response[middle + 1 : middle + 2_001]
    assert np.abs(before - after).max() < 1e-5


@pytest.mark.parametrize("order", [1, 4, 12])
def test_butterworth_has_its_textbook_response(order):
    """3 dB at the edge, and |H|^2 = 1 / (1 + (f / fc)^2n) beyond."""
    response = impulse_response(LowPass, {"cutoff_hz": 2_000.0} | shape("butter", order))
    assert gain_db(response, 2_000) == pytest.approx(-3.01, abs=0.05)
    if order < 12:
        assert gain_db(response, 4_000) == pytest.approx(-10 * np.log10(1 + 2.0 ** (2 * order)), abs=0.1)
    assert gain_db(response, 200) == pytest.approx(0.0, abs=0.05)


@pytest.mark.parametrize("family", ["cheby1", "ellip"])
def test_ripple_and_attenuation_are_what_was_drawn(family):
    values = {"cutoff_hz": 4_000.0, "family": family, "order": 7, "ripple_db": 2.0, "attenuation_db": 50.0}
    passed = [gain_db(impulse_response(LowPass, values), hz) for hz in range(100, 4_000, 25)]
    assert min(passed) == pytest.approx(-2.0, abs=0.1)
    assert max(passed) == pytest.approx(0.0, abs=0.1)
    stopped = [gain_db(impulse_response(LowPass, values), hz) for hz in range(8_000, 24_000, 1_000)]
    assert max(stopped) < -49.0


@pytest.mark.parametrize("family", FAMILIES)
def test_a_high_pass_mirrors_the_analogue_filter_of_scipy(family):
    values = {"cutoff_hz": 250.0} | shape(family, 5)
    ripple = {"rp": 1.0} if family in ("cheby1", "ellip") else {}
    stop = {"rs": 60.0} if family == "ellip" else {}
    if family == "bessel":
        b, a = signal.bessel(5, 2 * np.pi * 250, "highpass", analog=True, norm="mag")
    else:
        b, a = signal.iirfilter(
            5, 2 * np.pi * 250, btype="highpass", analog=True, ftype=family, **ripple, **stop
        )
    response = impulse_response(HighPass, values)
    for hz in (120, 200, 250, 400, 1_000, 5_000):
        _, expected = signal.freqs(b, a, [2 * np.pi * hz])
        assert gain_db(response, hz) == pytest.approx(20 * np.log10(abs(expected[0])), abs=0.15)


def test_silence_cannot_be_filtered():
    with pytest.raises(CannotApply, match="no signal"):
        LowPass.apply(np.zeros(RATE_HZ, np.float32), {"cutoff_hz": 2_000.0} | shape("butter", 4), Inputs())


def test_equaliser_curves_reach_their_gain_where_they_should():
    hz = np.array([1.0, 500.0, 1_000.0, 2_000.0, 23_000.0])
    assert peak_db(hz, 1_000.0, 9.0, 3.0)[[0, 2, 4]] == pytest.approx([0.0, 9.0, 0.0], abs=0.02)
    assert low_shelf_db(hz, 500.0, -12.0)[[0, 1, 4]] == pytest.approx([-12.0, -6.0, 0.0], abs=0.02)
    assert high_shelf_db(hz, 2_000.0, 8.0)[[0, 3, 4]] == pytest.approx([0.0, 4.0, 8.0], abs=0.02)


def test_the_equaliser_delivers_its_curve():
    values = {"low_shelf_hz": 100.0, "low_shelf_db": -6.0, "high_shelf_hz": 12_000.0, "high_shelf_db": 0.0}
    response = impulse_response(MicrophoneEq, values | {"peaks": [{"hz": 3_000.0, "db": 10.0, "q": 2.0}]})
    assert gain_db(response, 3_000) == pytest.approx(10.0, abs=0.1)
    assert gain_db(response, 20) == pytest.approx(-6.0, abs=0.3)
    assert gain_db(response, 800) == pytest.approx(0.0, abs=0.5)


def test_a_bent_response_is_worse_than_a_flat_one():
    def severity(gain):
        values = {
            "low_shelf_hz": 200.0,
            "low_shelf_db": gain,
            "high_shelf_hz": 6_000.0,
            "high_shelf_db": -gain,
        }
        measured = MicrophoneEq.apply(SPEECH, values | {"peaks": []}, Inputs()).measured
        return MicrophoneEq.severity(values, dict(measured))

    assert severity(1.0) < severity(4.0) < severity(12.0)


def test_less_band_is_worse():
    low_pass = [LowPass.severity({"cutoff_hz": hz}, {}) for hz in (18_000, 8_000, 4_000, 2_000)]
    high_pass = [HighPass.severity({"cutoff_hz": hz}, {}) for hz in (25, 80, 300, 900)]
    both = [BandPass.severity({"low_hz": lo, "high_hz": hi}, {}) for lo, hi in ((50, 8_000), (300, 3_400))]
    lost = [BandwidthLoss.severity({"rate_hz": rate}, {}) for rate in (32_000, 16_000, 8_000)]
    for rising in (low_pass, high_pass, both, lost):
        assert rising == sorted(set(rising))
    assert (bandwidth_severity(24_000), bandwidth_severity(1_000)) == (0.0, 1.0)


@pytest.mark.parametrize("quality", ["QQ", "LQ", "MQ", "HQ", "VHQ"])
@pytest.mark.parametrize(
    "rate_hz", [4_000, 6_000, 8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100]
)
def test_resampling_leaves_no_lag(rate_hz, quality, voice):
    values = {"rate_hz": rate_hz, "quality": quality, "speech_bandwidth_hz": 24_000.0}
    applied = BandwidthLoss.apply(voice, values, Inputs())
    assert len(applied.audio) == len(voice)
    assert abs(lag_samples(voice, applied.audio)) < 0.25


def test_a_sharp_resampler_leaves_nothing_above_its_rate():
    noise = np.random.default_rng(0).standard_normal(RATE_HZ).astype(np.float32) * np.float32(0.1)
    values = {"rate_hz": 16_000, "quality": "VHQ", "speech_bandwidth_hz": 24_000.0}
    power = np.abs(np.fft.rfft(BandwidthLoss.apply(noise, values, Inputs()).audio)) ** 2
    assert power[8_100:].sum() < 1e-6 * power.sum()


def test_a_rate_that_takes_nothing_away_is_refused():
    values = {"rate_hz": 16_000, "quality": "HQ", "speech_bandwidth_hz": 7_400.0}
    with pytest.raises(CannotApply, match="7400 Hz"):
        BandwidthLoss.apply(SPEECH, values, Inputs())
