"""What a microphone and the air do to a voice: responses against independent filters, and nothing else changed."""

import numpy as np
import pytest
from scipy import signal
from stage_cases import Case, inputs_for
from stage_signals import RATE_HZ, lag_samples, scene_of, speech_like

from datagen.air import air_absorption_db_m
from datagen.alignment import residual_lag, without_delay
from datagen.degradations.base import CannotApply, Inputs
from datagen.degradations.microphone.comb import Comb
from datagen.degradations.microphone.microphone_eq import (
    MicrophoneEq,
    group_delay_samples,
    high_shelf,
    low_shelf,
    peak,
    response,
)
from datagen.degradations.microphone.notch import Notch
from datagen.degradations.microphone.spectral_holes import SpectralHoles
from datagen.degradations.room.air_absorption import AirAbsorption
from datagen.frequency_response import grid_hz, with_response
from datagen.measured_response import response_between
from manifests.keyed import generator

SPEECH = speech_like(2.0)
NOISE = np.random.default_rng(4).standard_normal(4 * RATE_HZ).astype(np.float32) * np.float32(0.05)
MIDDLE = RATE_HZ // 2
FLAT = {"low_shelf_hz": 100.0, "low_shelf_db": 0.0, "high_shelf_hz": 9_000.0, "high_shelf_db": 0.0}


def curve(phase="zero", peaks=(), **shelves):
    heard = {"heard_to_hz": 16_000.0, "largest_hz": 1_000.0}
    return FLAT | shelves | heard | {"phase": phase, "peaks": list(peaks)}


def impulse_response(stage, values):
    impulse = np.zeros(RATE_HZ, np.float32)
    impulse[MIDDLE] = 1.0
    return np.asarray(stage.apply(impulse, values, Inputs()).audio)


def asymmetry(impulse):
    before, after = impulse[:MIDDLE][::-1], impulse[MIDDLE + 1 :]
    return float(np.abs(before[: len(after)] - after).max())


def gains_db(audio, frequencies_hz):
    """Gain of a response of one second at whole frequencies."""
    return 20 * np.log10(np.maximum(np.abs(np.fft.rfft(audio[:RATE_HZ]))[np.asarray(frequencies_hz)], 1e-12))


def biquad(kind, hz, gain_db, q):
    """The cookbook's digital filters: like the analogue ones far below half the sample rate."""
    w, A = 2 * np.pi * hz / RATE_HZ, 10 ** (gain_db / 40)
    alpha, c, r = np.sin(w) / (2 * q), np.cos(w), 2 * np.sqrt(A) * np.sin(w) / (2 * q)
    if kind == "peak":
        return [1 + alpha * A, -2 * c, 1 - alpha * A], [1 + alpha / A, -2 * c, 1 - alpha / A]
    sign = 1 if kind == "low" else -1
    b = [
        A * ((A + 1) - sign * (A - 1) * c + r),
        2 * sign * A * ((A - 1) - sign * (A + 1) * c),
        A * ((A + 1) - sign * (A - 1) * c - r),
    ]
    a = [
        (A + 1) + sign * (A - 1) * c + r,
        -2 * sign * ((A - 1) + sign * (A + 1) * c),
        (A + 1) + sign * (A - 1) * c - r,
    ]
    return b, a


# --- measuring a response -------------------------------------------------------------------------


def test_a_measured_response_is_that_of_the_filter_in_between(voice):
    b, a = signal.butter(3, [200, 5_000], "bandpass", fs=RATE_HZ)
    filtered = signal.lfilter(b, a, voice).astype(np.float32)
    hz = np.geomspace(100, 10_000, 40)
    expected = 20 * np.log10(np.abs(signal.freqz(b, a, hz, fs=RATE_HZ)[1]))
    assert response_between(voice, filtered).gains_db(hz, 1 / 48) == pytest.approx(expected, abs=0.15)


@pytest.mark.parametrize("seconds", [0.05, 0.7, 1.9, 3.3])
def test_a_response_is_measured_at_any_length(seconds):
    audio = NOISE[: round(seconds * RATE_HZ)]
    measured = response_between(audio, 0.5 * audio)
    assert measured.gain_db(500, 600) == pytest.approx(-6.02, abs=0.01)
    assert measured.hz[-1] == pytest.approx(RATE_HZ / 2) and 0.0 < measured.hz[1] <= 0.8


def test_edges_are_found_from_outside_and_only_where_there_is_sound():
    sos = signal.ellip(7, 1.0, 50.0, [500, 4_000], "bandpass", fs=RATE_HZ, output="sos")
    measured = response_between(NOISE, signal.sosfilt(sos, NOISE).astype(np.float32))
    assert measured.edge_hz(4_000, -1.0, falling=True) == pytest.approx(4_000, rel=0.01)
    assert measured.edge_hz(500, -1.0, falling=False) == pytest.approx(500, rel=0.01)
    assert measured.edge_hz(1_400, -1.0, falling=False) is None
    tone = (0.1 * np.sin(2 * np.pi * 1_000 * np.arange(RATE_HZ) / RATE_HZ)).astype(np.float32)
    hushed = response_between(tone, 0.5 * tone)
    assert hushed.edge_hz(6_000, -3.0, falling=True) is None
    assert hushed.gain_db(5_000, 6_000) is None
    assert hushed.gain_db(990, 1_010) == pytest.approx(-6.02, abs=0.01)


def test_an_echo_is_deconvolved():
    late = NOISE.copy()
    late[240:] += np.float32(0.3) * NOISE[:-240]
    impulse = response_between(NOISE, late).impulse_response(1e-6)
    assert impulse[[0, 240]] == pytest.approx([1.0, 0.3], abs=0.01)
    assert np.abs(np.delete(impulse, [0, 240])).max() < 0.05


# --- applying a response --------------------------------------------------------------------------


@pytest.mark.parametrize("frames", [2_400, 48_000, 96_001])
def test_a_response_is_applied_at_every_frequency_and_nothing_wraps(frames):
    """A one-pole low-pass forwards and backwards, in the time domain."""
    pole = np.exp(-2 * np.pi * 30 / RATE_HZ)
    once = (1 - pole) / (1 - pole * np.exp(-2j * np.pi * grid_hz() / RATE_HZ))
    audio = NOISE[:frames]
    forwards = signal.lfilter([1 - pole], [1, -pole], np.pad(audio, RATE_HZ))
    expected = signal.lfilter([1 - pole], [1, -pole], forwards[::-1])[::-1][RATE_HZ:][:frames]
    assert np.abs(with_response(audio, np.abs(once) ** 2) - expected).max() < 2e-3 * np.abs(expected).max()


# --- microphone -----------------------------------------------------------------------------------


@pytest.mark.parametrize("gain_db", [-12.0, -3.0, 9.0])
def test_equaliser_curves_are_those_of_the_cookbook(gain_db):
    hz = np.geomspace(20, 2_500, 60)
    for kind, mine in (("peak", peak(hz, 400, gain_db, 2.0)), ("low", low_shelf(hz, 300, gain_db))):
        b, a = biquad(kind, 400 if kind == "peak" else 300, gain_db, 2.0 if kind == "peak" else 0.7071)
        theirs = signal.freqz(b, a, hz, fs=RATE_HZ)[1]
        assert np.abs(mine / theirs - 1).max() < 0.02
    b, a = biquad("high", 700, gain_db, 0.7071)
    assert np.abs(high_shelf(hz, 700, gain_db) / signal.freqz(b, a, hz, fs=RATE_HZ)[1] - 1).max() < 0.02


def test_the_equaliser_delivers_its_curve():
    values = curve(low_shelf_db=-6.0, high_shelf_hz=12_000.0, peaks=[{"hz": 3_000.0, "db": 10.0, "q": 2.0}])
    for phase in ("zero", "minimum"):
        delivered = impulse_response(MicrophoneEq, values | {"phase": phase})
        assert gains_db(delivered, [3_000, 20, 800]) == pytest.approx([10.0, -6.0, 0.0], abs=0.5)
        assert gains_db(delivered, [3_000])[0] == pytest.approx(10.0, abs=0.1)


def test_zero_phase_is_symmetrical_and_minimum_phase_comes_after():
    values = curve(peaks=[{"hz": 600.0, "db": 12.0, "q": 3.0}])
    assert asymmetry(impulse_response(MicrophoneEq, values)) < 1e-5
    impulse = np.zeros(RATE_HZ, np.float32)
    impulse[MIDDLE] = 1.0
    applied = MicrophoneEq.apply(impulse, values | {"phase": "minimum"}, Inputs())
    onset = MIDDLE + round(applied.delay_samples)  # an impulse lags by its own peak: by nothing
    assert onset == MIDDLE
    before, after = applied.audio[: onset - 2], applied.audio[onset + 2 :]
    assert np.sum(before**2) < 1e-3 * np.sum(after**2)


def test_minimum_phase_is_the_phase_that_the_cepstrum_gives():
    """Folding the cepstrum of the magnitude, at four times the rate: there half the rate is far away."""
    values = curve(
        low_shelf_hz=300.0,
        low_shelf_db=-9.0,
        high_shelf_hz=6_000.0,
        high_shelf_db=7.0,
        peaks=[{"hz": 1_500.0, "db": 8.0, "q": 2.0}],
    )
    size = 1 << 18
    hz = np.fft.rfftfreq(size, 1 / (16 * RATE_HZ))
    cepstrum = np.fft.irfft(np.log(np.abs(response(hz, values))))
    fold = np.zeros(size)
    fold[0] = fold[size // 2] = 1.0
    fold[1 : size // 2] = 2.0
    folded = np.exp(np.fft.rfft(cepstrum * fold))
    heard = (hz > 60) & (hz < 16_000)
    assert np.abs(np.angle(folded[heard] / response(hz[heard], values))).max() < 0.02


@pytest.mark.parametrize("number", range(6))
def test_minimum_phase_leaves_no_lag(voice, number):
    stage = MicrophoneEq(phase=["minimum"])
    values = stage.draw(generator("eq", number), scene_of(voice)).values
    applied = stage.apply(voice, values, Inputs())
    kept = without_delay(applied.audio, applied.delay_samples, len(voice))
    assert abs(lag_samples(voice, kept)) <= 0.5
    assert stage.broken_promises(values, applied.measured) == ()


def test_the_group_delay_is_that_of_the_digital_filter():
    values = curve("minimum", low_shelf_hz=200.0, low_shelf_db=10.0)
    b, a = biquad("low", 200, 10.0, 0.7071)
    for hz in (120.0, 300.0, 900.0):
        expected = signal.group_delay((b, a), [hz], fs=RATE_HZ)[1][0]
        assert group_delay_samples(hz, values) == pytest.approx(expected, rel=0.02, abs=0.02)
    measured = MicrophoneEq.apply(SPEECH, values, Inputs()).measured
    at_centroid = signal.group_delay((b, a), [measured["centroid_hz"]], fs=RATE_HZ)[1][0]
    assert measured["group_delay_samples"] == pytest.approx(at_centroid, abs=0.05)


def test_a_curve_that_is_not_the_drawn_one_breaks_the_promise():
    asked = MicrophoneEq().draw(generator("eq"), scene_of(SPEECH)).values
    got = asked | {"high_shelf_db": asked["high_shelf_db"] + 3.0}
    measured = MicrophoneEq.apply(SPEECH, got, Inputs()).measured
    assert "deviation_db" in MicrophoneEq.broken_promises(asked, measured)
    assert MicrophoneEq.broken_promises(asked, MicrophoneEq.apply(SPEECH, asked, Inputs()).measured) == ()


def test_the_strongest_curves_that_a_recipe_may_ask_for_are_delivered():
    stage = MicrophoneEq(shelf_db=[-30, 30], peaks=20, peak_db=[-30, 30], peak_q=[0.1, 30])
    for number in range(5):
        values = stage.draw(generator("wild", number), scene_of(NOISE)).values
        assert stage.broken_promises(values, stage.apply(NOISE, values, Inputs()).measured) == ()


def test_a_bent_response_is_worse_than_a_flat_one():
    def severity(gain):
        values = curve(low_shelf_hz=200.0, low_shelf_db=gain, high_shelf_hz=6_000.0, high_shelf_db=-gain)
        return MicrophoneEq.severity(values, dict(MicrophoneEq.apply(SPEECH, values, Inputs()).measured))

    assert severity(1.0) < severity(4.0) < severity(12.0)


# --- notch ----------------------------------------------------------------------------------------


def test_a_notch_has_its_depth_and_width_and_touches_nothing_else():
    delivered = impulse_response(Notch, {"notches": [{"hz": 2_000.0, "width_hz": 400.0}], "depth_db": 30.0})
    assert gains_db(delivered, [1_910, 2_000, 2_090]) == pytest.approx([-30.0] * 3, abs=0.1)
    assert gains_db(delivered, [1_800, 2_200]) == pytest.approx([-15.0] * 2, abs=0.1)
    outside = [hz for hz in range(50, 24_000, 50) if abs(hz - 2_000) > 300]
    assert np.abs(gains_db(delivered, outside)).max() < 0.01
    assert asymmetry(delivered) < 1e-5


def test_notches_that_overlap_are_no_deeper_than_one():
    pair = [{"hz": 1_000.0, "width_hz": 400.0}, {"hz": 1_100.0, "width_hz": 400.0}]
    delivered = impulse_response(Notch, {"notches": pair, "depth_db": 20.0})
    assert gains_db(delivered, [1_000, 1_050, 1_100]) == pytest.approx([-20.0] * 3, abs=0.1)


def test_the_narrowest_notch_takes_out_its_tone():
    t = np.arange(3 * RATE_HZ) / RATE_HZ
    tones = (0.1 * np.sin(2 * np.pi * 11_000 * t) + 0.1 * np.sin(2 * np.pi * 10_950 * t)).astype(np.float32)
    values = {"notches": [{"hz": 11_000.0, "width_hz": 20.0}], "depth_db": 40.0}
    left = Notch.apply(tones, values, Inputs()).audio[RATE_HZ : 2 * RATE_HZ]
    assert gains_db(left, [11_000])[0] - gains_db(left, [10_950])[0] == pytest.approx(-40.0, abs=1.0)


def test_a_notch_stays_in_place_and_is_measured_on_voices(voice):
    for number in range(4):
        values = Notch().draw(generator("notch", number), scene_of(voice)).values
        applied = Notch.apply(voice, values, Inputs())
        assert abs(lag_samples(voice, applied.audio)) < 0.05
        assert Notch.broken_promises(values, applied.measured) == ()
        assert Notch.broken_promises(values | {"depth_db": values["depth_db"] + 2}, applied.measured)


def test_where_there_is_no_sound_there_is_no_notch():
    tone = (0.1 * np.sin(2 * np.pi * 300 * np.arange(RATE_HZ) / RATE_HZ)).astype(np.float32)
    with pytest.raises(CannotApply, match="no sound at 9000 Hz"):
        Notch.apply(tone, {"notches": [{"hz": 9_000.0, "width_hz": 50.0}], "depth_db": 30.0}, Inputs())


def test_wider_and_deeper_notches_are_worse():
    def severity(width_hz, depth_db):
        values = {"notches": [{"hz": 1_500.0, "width_hz": width_hz}], "depth_db": depth_db}
        return Notch.severity(values, {"depth_db": depth_db})

    rising = [severity(20, 10), severity(20, 30), severity(200, 30), severity(500, 40)]
    assert rising == sorted(set(rising))


# --- comb -----------------------------------------------------------------------------------------


def test_a_comb_has_its_peaks_and_notches_where_the_delay_puts_them():
    """|1 + g exp(-j w d)|, far above the corner of the reflector."""
    delivered = impulse_response(Comb, {"delay_ms": 1.0, "echo_db": -3.0, "reflector_m": 2.0})
    echo = 10 ** (-3 / 20)
    peaks, notches = np.arange(4_000, 20_000, 1_000), np.arange(4_500, 20_000, 1_000)
    assert gains_db(delivered, peaks) == pytest.approx(20 * np.log10(1 + echo), abs=0.1)
    assert gains_db(delivered, notches) == pytest.approx(20 * np.log10(1 - echo), abs=0.5)


def test_the_reflection_is_high_passed_by_the_size_of_the_reflector():
    values = {"delay_ms": 2.0, "echo_db": -6.0, "reflector_m": 0.343}
    delivered = impulse_response(Comb, values)
    delivered[MIDDLE] -= 1.0
    expected = np.abs(
        signal.freqz(*signal.butter(1, 1_000, fs=RATE_HZ, btype="high"), [200, 1_000, 8_000], fs=RATE_HZ)[1]
    )
    assert gains_db(delivered, [200, 1_000, 8_000]) == pytest.approx(-6.0 + 20 * np.log10(expected), abs=0.05)


def test_the_direct_sound_stays_where_and_as_it_is(voice):
    onset = voice.copy()
    onset[:10_000] = 0.0
    values = {"delay_ms": 5.0, "echo_db": -1.0, "reflector_m": 0.5}
    applied = Comb.apply(onset, values, Inputs())
    assert applied.delay_samples == 0.0
    assert np.array_equal(applied.audio[:10_240], onset[:10_240])
    assert not np.array_equal(applied.audio[10_241:10_400], onset[10_241:10_400])
    assert applied.measured["delay_ms"] == pytest.approx(5.0, abs=0.001)
    assert applied.measured["echo_db"] == pytest.approx(-1.0, abs=0.1)


def test_the_engine_finds_no_lag_behind_a_reflection(voice):
    """Of a reflector of the sizes that are drawn: less than what it takes to count as misaligned."""
    for number in range(20):
        drawn = Comb().draw(generator("comb", number), scene_of(voice))
        lag, likeness = residual_lag(Comb.apply(voice, drawn.values, Inputs()).audio, voice)
        assert likeness > 0.5 and abs(lag) < 5.0, drawn.values


def test_another_echo_breaks_the_promise():
    asked = {"delay_ms": 1.0, "echo_db": -6.0, "reflector_m": 0.5}
    later = Comb.apply(SPEECH, asked | {"delay_ms": 1.0 + 1 / 48}, Inputs()).measured
    louder = Comb.apply(SPEECH, asked | {"echo_db": -5.5}, Inputs()).measured
    assert Comb.broken_promises(asked, later) == ("delay_ms",)
    assert Comb.broken_promises(asked, louder) == ("echo_db",)


# --- spectral holes -------------------------------------------------------------------------------


def hole(at_ms, hz, duration_ms, width_hz, depth_db=60.0):
    lists = {"at_ms": [at_ms], "centre_hz": [hz], "duration_ms": [duration_ms], "width_hz": [width_hz]}
    return lists | {"depth_db": depth_db, "up_to_hz": 10_000.0}


def test_a_hole_is_where_it_was_drawn_and_only_there():
    values = hole(2_000.0, 5_000.0, 400.0, 2_000.0, 40.0)
    audio = SpectralHoles.apply(NOISE, values, Inputs()).audio
    assert np.array_equal(audio[: round(1.75 * RATE_HZ)], NOISE[: round(1.75 * RATE_HZ)])
    assert np.array_equal(audio[round(2.25 * RATE_HZ) :], NOISE[round(2.25 * RATE_HZ) :])
    _, _, before = signal.stft(NOISE, RATE_HZ, nperseg=2_048)
    hz, t, after = signal.stft(audio, RATE_HZ, nperseg=2_048)
    inside = np.ix_((hz > 4_200) & (hz < 5_800), (t > 1.85) & (t < 2.15))
    beside = np.ix_((hz < 3_500) | (hz > 6_500), (t > 1.7) & (t < 2.3))
    assert 20 * np.log10(np.linalg.norm(after[inside]) / np.linalg.norm(before[inside])) == pytest.approx(
        -40.0, abs=0.5
    )
    assert np.linalg.norm((after - before)[beside]) < 1e-3 * np.linalg.norm(before[beside])


def test_a_hole_takes_the_energy_of_its_area():
    """Of white noise, a hole of 0.4 s and 2 kHz in 4 s of 24 kHz takes 1/120 of the energy."""
    measured = SpectralHoles.apply(NOISE, hole(2_000.0, 5_000.0, 400.0, 2_000.0), Inputs()).measured
    assert measured["removed_energy_db"] == pytest.approx(10 * np.log10(0.4 * 2 / (4 * 24)), abs=0.3)
    assert measured["removed_share"] == pytest.approx(0.4 * 2 / (4 * 10), rel=0.08)


@pytest.mark.parametrize("count", [1, 20, 250, 2_000])
def test_the_drawn_share_is_gone_from_every_voice(voice, count):
    stage = SpectralHoles(holes=count)
    values = stage.draw(generator("holes", count), scene_of(voice)).values
    applied = stage.apply(voice, values, Inputs())
    assert stage.broken_promises(values, applied.measured) == ()
    assert abs(lag_samples(voice, applied.audio)) < 0.1


def test_holes_are_drawn_in_the_clip_and_in_the_speech():
    stage = SpectralHoles()
    for number in range(50):
        values = stage.draw(generator("holes", number), scene_of(SPEECH, 7_000.0)).values
        count = len(values["at_ms"])
        assert 1 <= count <= 250
        assert {len(values[name]) for name in ("centre_hz", "duration_ms", "width_hz")} == {count}
        assert 0.0 <= min(values["at_ms"]) <= max(values["at_ms"]) <= 2_000.0
        assert 100.0 <= min(values["centre_hz"]) <= max(values["centre_hz"]) <= 7_000.0
        assert 20.0 <= min(values["duration_ms"]) <= max(values["duration_ms"]) <= 400.0
        assert 100.0 <= min(values["width_hz"]) <= max(values["width_hz"]) <= 2_000.0


def test_pauses_count_as_drawn_and_holes_in_nothing_are_refused():
    gated = NOISE.copy()
    gated[: 2 * RATE_HZ] = 0.0
    stage = SpectralHoles(holes=200)
    values = stage.draw(generator("gated"), scene_of(gated)).values
    assert stage.broken_promises(values, stage.apply(gated, values, Inputs()).measured) == ()
    with pytest.raises(CannotApply, match="no sound where the holes are"):
        SpectralHoles.apply(gated, hole(500.0, 2_000.0, 200.0, 500.0), Inputs())


# --- air ------------------------------------------------------------------------------------------

ISO_9613_2_TABLE_2 = {
    (10, 70): (0.1, 0.4, 1.0, 1.9, 3.7, 9.7, 32.8, 117),
    (20, 70): (0.1, 0.3, 1.1, 2.8, 5.0, 9.0, 22.9, 76.6),
    (30, 70): (0.1, 0.3, 1.0, 3.1, 7.4, 12.7, 23.1, 59.3),
    (15, 20): (0.3, 0.6, 1.2, 2.7, 8.2, 28.2, 88.8, 202),
    (15, 50): (0.1, 0.5, 1.2, 2.2, 4.2, 10.8, 36.2, 129),
    (15, 80): (0.1, 0.3, 1.1, 2.4, 4.1, 8.3, 23.7, 82.8),
}
"""dB per km in octaves from 63 Hz to 8 kHz, for degrees C and percent of humidity."""


@pytest.mark.parametrize(("temperature_c", "humidity_percent"), ISO_9613_2_TABLE_2)
def test_air_absorbs_what_the_standard_tabulates(temperature_c, humidity_percent):
    midbands_hz = 1_000.0 * 10.0 ** (0.3 * np.arange(-4, 4))
    found = 1_000 * air_absorption_db_m(midbands_hz, temperature_c, humidity_percent)
    expected = ISO_9613_2_TABLE_2[temperature_c, humidity_percent]
    assert found == pytest.approx(expected, rel=0.005, abs=0.055)


def test_twenty_metres_of_air_take_two_decibels_at_8_khz():
    """The standard's 105 dB a kilometre at 20 degrees C and 50 %."""
    air = {"temperature_c": 20.0, "humidity_percent": 50.0, "reference_hz": 8_000.0}
    delivered = impulse_response(AirAbsorption, air | {"distance_m": 20.0})
    assert gains_db(delivered, [8_000])[0] == pytest.approx(-2.1, abs=0.02)
    assert gains_db(delivered, [1_000])[0] == pytest.approx(-0.093, abs=0.005)
    assert asymmetry(delivered) < 1e-5


@pytest.mark.parametrize("bandwidth_hz", [3_700.0, 7_400.0, 22_000.0])
def test_air_bites_on_the_shortest_way_and_is_measured(voice, bandwidth_hz):
    stage = AirAbsorption(distance_m=1)
    narrow = with_response(voice, (grid_hz() < bandwidth_hz).astype(float))
    drawn = stage.draw(generator("air"), scene_of(narrow, bandwidth_hz))
    assert drawn.values["reference_hz"] < min(8_001.0, bandwidth_hz)
    applied = stage.apply(narrow, drawn.values, Inputs())
    assert stage.broken_promises(drawn.values, applied.measured) == ()
    assert np.linalg.norm(applied.audio - narrow) > 10 ** (-80 / 20) * np.linalg.norm(narrow)


def test_dry_cold_air_further_away_is_worse():
    def severity(**air):
        stage = AirAbsorption(**({"distance_m": 10, "temperature_c": 20, "humidity_percent": 50} | air))
        drawn = stage.draw(generator("air"), scene_of(SPEECH))
        return stage.severity(drawn.values, dict(stage.apply(SPEECH, drawn.values, Inputs()).measured))

    assert severity(distance_m=5) < severity() < severity(distance_m=20)
    assert severity() < severity(humidity_percent=20)


# --- all ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["air_absorption", "microphone_eq", "notch"])
@pytest.mark.parametrize("gain_db", [-80, 30])
def test_a_response_is_measured_at_any_level(name, gain_db):
    audio = SPEECH * np.float32(10 ** (gain_db / 20))
    case = Case(name, {})
    for drawn in case.draws(audio, 3):
        applied = case.stage.apply(audio, drawn.values, inputs_for(drawn, audio))
        assert case.stage.broken_promises(drawn.values, dict(applied.measured)) == ()
