"""Filters have the response that their names promise, and no phase."""

import numpy as np
import pytest
from scipy import optimize, signal
from stage_signals import RATE_HZ, lag_samples, scene_of, speech_like

from datagen.degradations.base import CannotApply, Inputs
from datagen.degradations.microphone.filters import FAMILIES, BandPass, HighPass, LowPass, edge_db
from datagen.frequency_response import bandwidth_severity
from datagen.level import scaled
from manifests.keyed import generator

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


@pytest.mark.parametrize("family", ["butter", "cheby1", "ellip", "bessel"])
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


@pytest.mark.parametrize("order", [2, 5, 9])
def test_an_inverse_chebyshev_is_that_of_scipy_with_its_half_power_at_the_cutoff(order):
    """In scipy its frequency is the edge of the stop band: found here so that the gain at 2 kHz is a half."""

    def analogue(hz, stop_hz):
        b, a = signal.cheby2(order, 45.0, 2 * np.pi * stop_hz, analog=True)
        return abs(signal.freqs(b, a, [2 * np.pi * hz])[1][0])

    stop_hz = optimize.brentq(lambda hz: analogue(2_000.0, hz) ** 2 - 0.5, 2_001.0, 200_000.0)
    values = {"cutoff_hz": 2_000.0, "family": "cheby2", "order": order, "attenuation_db": 45.0}
    response = impulse_response(LowPass, values)
    assert gain_db(response, 2_000) == pytest.approx(-3.01, abs=0.05)
    for hz in (500, 1_500, 1_900, 2_200, 2_500):
        assert gain_db(response, hz) == pytest.approx(20 * np.log10(analogue(hz, stop_hz)), abs=0.1)
    assert max(gain_db(response, hz) for hz in range(int(stop_hz) + 50, 24_000, 250)) < -44.9


def test_a_brick_wall_is_flat_then_gone_and_does_not_ring_for_long():
    response = impulse_response(LowPass, {"cutoff_hz": 4_000.0, "family": "brickwall"})
    assert [gain_db(response, hz) for hz in (100, 2_000, 3_900)] == pytest.approx([0.0] * 3, abs=0.01)
    assert gain_db(response, 4_000) == pytest.approx(-6.02, abs=0.1)
    assert max(gain_db(response, hz) for hz in range(4_100, 24_000, 100)) < -90.0
    far = np.abs(np.arange(RATE_HZ) - RATE_HZ // 2) > 0.05 * RATE_HZ
    assert np.sum(response[far] ** 2) < 1e-5 * np.sum(response**2)
    low = impulse_response(HighPass, {"cutoff_hz": 80.0, "family": "brickwall"})
    assert gain_db(low, 70) < -60.0 < -0.1 < gain_db(low, 90)


EDGED = [
    (LowPass, {"cutoff_hz": 900.0}),
    (LowPass, {"cutoff_hz": 7_000.0}),
    (LowPass, {"cutoff_hz": 18_000.0}),
    (HighPass, {"cutoff_hz": 45.0}),
    (HighPass, {"cutoff_hz": 250.0}),
    (BandPass, {"low_hz": 60.0, "high_hz": 8_000.0}),
    (BandPass, {"low_hz": 400.0, "high_hz": 2_800.0}),
]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("family", FAMILIES)
def test_the_measured_edge_is_the_drawn_one_in_every_voice(voice, family, order):
    for stage, edges in EDGED:
        values = edges | shape(family, order)
        assert stage.broken_promises(values, stage.apply(voice, values, Inputs()).measured) == (), values


@pytest.mark.parametrize(
    ("family", "down_db"), [("butter", 3.01), ("cheby2", 3.01), ("cheby1", 1.0), ("brickwall", 6.02)]
)
def test_the_edge_is_measured_from_the_audio_not_copied(family, down_db):
    """What came out is compared with an edge that was not asked for."""
    assert edge_db(shape(family, 6)) == pytest.approx(-down_db, abs=0.01)
    asked, got = ({"cutoff_hz": hz} | shape(family, 6) for hz in (4_000.0, 4_200.0))
    measured = LowPass.apply(SPEECH, got, Inputs()).measured
    assert measured["cutoff_hz"] == pytest.approx(4_200.0, rel=0.01)
    assert LowPass.broken_promises(asked, measured) == ("cutoff_hz",)


def test_the_edge_is_found_at_any_level():
    values = {"cutoff_hz": 3_000.0} | shape("butter", 4)
    faint, loud = (LowPass.apply(scaled(SPEECH, db), values, Inputs()).measured for db in (-80.0, 30.0))
    assert faint["cutoff_hz"] == pytest.approx(loud["cutoff_hz"], rel=1e-3)


def test_what_cannot_be_filtered_is_refused():
    values = {"cutoff_hz": 2_000.0} | shape("butter", 4)
    with pytest.raises(CannotApply, match="no signal"):
        LowPass.apply(np.zeros(RATE_HZ, np.float32), values, Inputs())
    tone = (0.1 * np.sin(2 * np.pi * 300 * np.arange(RATE_HZ) / RATE_HZ)).astype(np.float32)
    with pytest.raises(CannotApply, match="no sound around 9000 Hz"):
        LowPass.apply(tone, values | {"cutoff_hz": 9_000.0}, Inputs())


def test_a_recipe_that_names_its_families_draws_what_it_drew_before_there_were_more():
    named = HighPass(families=("butter", "cheby1", "ellip", "bessel"))
    seen = {named.draw(generator(1, n), scene_of(SPEECH)).values["family"] for n in range(100)}
    assert seen == set(FAMILIES[:4])
    assert "order" not in LowPass(families=["brickwall"]).draw(generator(2), scene_of(SPEECH)).values


def test_less_band_is_worse():
    low_pass = [LowPass.severity({"cutoff_hz": hz}, {}) for hz in (18_000, 8_000, 4_000, 2_000)]
    high_pass = [HighPass.severity({"cutoff_hz": hz}, {}) for hz in (25, 80, 300, 900)]
    both = [BandPass.severity({"low_hz": lo, "high_hz": hi}, {}) for lo, hi in ((50, 8_000), (300, 3_400))]
    for rising in (low_pass, high_pass, both):
        assert rising == sorted(set(rising))
    assert (bandwidth_severity(24_000), bandwidth_severity(1_000)) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("values", "left_hz"),
    [
        ({"family": "brickwall"}, 3_045.0),
        ({"family": "butter", "order": 7}, 3_000.0 * 10 ** (40 / 140)),  # 42 dB an octave
        ({"family": "butter", "order": 1}, 24_000.0),
        ({"family": "cheby2", "order": 9, "attenuation_db": 30.0}, 24_000.0),  # never further down than 30 dB
    ],
)
def test_a_filter_says_where_what_it_leaves_ends(values, left_hz):
    settings = {"families": [values["family"]], "attenuation_db": values.get("attenuation_db", 60.0)}
    settings |= {"order": values.get("order", 1)}
    scene = scene_of(SPEECH, 24_000.0)
    low = LowPass(cutoff_hz=3_000, **settings).draw(generator(1), scene)
    band = BandPass(low_hz=100, high_hz=3_000, **settings).draw(generator(1), scene)
    assert low.bandwidth_hz == pytest.approx(left_hz, rel=0.01)
    assert band.bandwidth_hz == low.bandwidth_hz
