"""Processors of dynamics lie on their static curves, keep their times, and take what they were asked to take."""

import numpy as np
import pytest
from stage_signals import RATE_HZ, recorded, scene_of, speech_like

from datagen.degradations.base import CannotApply, Inputs
from datagen.degradations.device.agc import Agc
from datagen.degradations.device.compressor import Compressor
from datagen.degradations.device.dynamics import ballistic_db, compression_db, held_db, with_gain
from datagen.degradations.device.expander import Expander
from datagen.degradations.device.limiter import Limiter
from datagen.degradations.device.noise_gate import HYSTERESIS_DB, NoiseGate, opened
from datagen.level import active_level_dbfs
from manifests.keyed import generator

HZ = 1_000.0
"""A whole number of periods in each millisecond."""


def tone(*parts):
    """A sine in parts of (seconds, peak in dBFS)."""
    gain = np.concatenate([np.full(round(s * RATE_HZ), 10 ** (dbfs / 20)) for s, dbfs in parts])
    return (gain * np.sin(2 * np.pi * HZ * (np.arange(len(gain)) + 0.25) / RATE_HZ)).astype(np.float32)


def peak_dbfs(audio, from_s, to_s):
    return 20 * np.log10(np.abs(audio[round(from_s * RATE_HZ) : round(to_s * RATE_HZ)]).max())


def gain_db(before, after):
    """Gain of each millisecond, from the energies."""
    energies = [
        np.square(x.astype(np.float64)[: len(x) // 48 * 48].reshape(-1, 48)).sum(axis=1)
        for x in (before, after)
    ]
    return 10 * np.log10(energies[1] / energies[0])


# --- building blocks ------------------------------------------------------------------------------


def test_attack_and_release_are_those_of_the_recursion():
    rng = np.random.Generator(np.random.Philox(1))
    reduction = np.maximum(0.0, rng.normal(0.0, 6.0, 3_000))
    held, smooth, expected = 0.0, 0.0, []
    release, attack = np.exp(-1 / 120.0), np.exp(-1 / 7.0)
    for value in reduction:
        held = max(value, release * held)
        smooth = attack * smooth + (1 - attack) * held
        expected.append(smooth)
    assert ballistic_db(reduction, 7.0, 120.0) == pytest.approx(expected, abs=1e-9)


def test_a_held_level_is_that_of_the_recursion():
    rng = np.random.Generator(np.random.Philox(2))
    level, held, expected = rng.normal(-30.0, 10.0, 3_000), -np.inf, []
    for value in level:
        held = max(value, held - 0.087)
        expected.append(held)
    assert held_db(level, 87.0) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("frames", [1, 47, 48, 49, 4_801])
def test_a_gain_of_nothing_changes_nothing_and_a_ramp_has_no_steps(frames):
    audio = np.ones(frames, np.float32)
    count = -(-frames // 48)
    assert np.array_equal(with_gain(audio, np.zeros(count)), audio)
    ramp = with_gain(audio, np.linspace(0.0, -40.0, count))
    assert len(ramp) == frames
    assert np.abs(np.diff(ramp)).max(initial=0.0) < 0.1 / 48 * 1.1 + 1e-6 or frames < 100


def test_the_knee_meets_both_lines_and_halves_at_the_threshold():
    """Equation 4: at the threshold the reduction is an eighth of the knee times the slope."""
    slope, knee = 1 - 1 / 4.0, 8.0
    at = compression_db(np.array([-30.0, -24.0, -20.0, -16.0, 0.0]), -20.0, 4.0, knee)
    assert at == pytest.approx([0.0, 0.0, slope * knee / 8, slope * 4.0, slope * 20.0])


# --- compressor -----------------------------------------------------------------------------------


@pytest.mark.parametrize("ratio", [1.4, 4.0, 20.0])
@pytest.mark.parametrize("level_dbfs", [-45.0, -31.0, -20.0, -3.0])
def test_a_steady_sine_through_a_compressor_lies_on_the_static_curve(ratio, level_dbfs):
    values = {"ratio": ratio, "knee_db": 0.0, "attack_ms": 5.0, "release_ms": 100.0}
    audio = tone((1.0, level_dbfs))
    values |= {"threshold_dbfs": -30.0, "restore_level": False}
    if level_dbfs <= -30.0:
        with pytest.raises(CannotApply, match="does not reach"):
            Compressor.apply(audio, values, Inputs())
        return
    out_dbfs = peak_dbfs(Compressor.apply(audio, values, Inputs()).audio, 0.5, 1.0)
    assert out_dbfs == pytest.approx(-30.0 + (level_dbfs + 30.0) / ratio, abs=0.02)


def test_a_compressor_keeps_its_attack_and_release():
    """A step of 20 dB above the threshold, and back: 63 % of the way after one time constant."""
    audio = tone((0.5, -30.0), (1.0, -10.0), (1.5, -30.0))
    values = {"ratio": 4.0, "knee_db": 0.0, "attack_ms": 20.0, "release_ms": 200.0}
    values |= {"threshold_dbfs": -29.0, "restore_level": False}
    gain = gain_db(audio, Compressor.apply(audio, values, Inputs()).audio)
    final = -19.0 * 0.75
    assert gain[:499] == pytest.approx(0.0, abs=1e-3)
    assert gain[1_400] == pytest.approx(final, abs=0.02)
    attacked = int(np.argmax(gain < (1 - np.exp(-1)) * final)) - 500
    assert attacked == pytest.approx(20.0, abs=1.5)
    # Release first, then the attack's smoothing of it: the sum of two exponentials.
    at_ms = np.arange(1, 1_200)
    expected = final * (200 * np.exp(-at_ms / 200) - 20 * np.exp(-at_ms / 20)) / (200 - 20)
    assert gain[1_501:2_700] == pytest.approx(expected, abs=0.15)


# --- expander -------------------------------------------------------------------------------------


@pytest.mark.parametrize("ratio", [1.4, 2.1, 4.0])
@pytest.mark.parametrize("level_dbfs", [-25.0, -20.0, -12.0])
def test_a_steady_sine_through_an_expander_lies_on_the_static_curve(ratio, level_dbfs):
    values = {"ratio": ratio, "attack_ms": 5.0, "release_ms": 100.0, "threshold_dbfs": -10.0}
    applied = Expander.apply(tone((1.0, level_dbfs)), values | {"restore_level": False}, Inputs())
    expected = -10.0 + ratio * (level_dbfs + 10.0)
    assert peak_dbfs(applied.audio, 0.5, 1.0) == pytest.approx(expected, abs=0.02)


def test_an_expander_falls_with_its_release():
    """The level decays by 8.69 dB in each time constant, and the gain by (ratio - 1) of that."""
    audio = tone((0.5, -10.0), (1.0, -50.0))
    values = {"ratio": 2.0, "attack_ms": 1.0, "release_ms": 100.0, "threshold_dbfs": -10.0}
    gain = gain_db(audio, Expander.apply(audio, values | {"restore_level": False}, Inputs()).audio)
    assert gain[600:900] == pytest.approx(-8.686 * np.arange(100, 400) / 100, abs=0.2)
    assert gain[1_400] == pytest.approx(-40.0, abs=0.05)


# --- what both are asked for ----------------------------------------------------------------------


@pytest.mark.parametrize("stage", [Compressor, Expander])
@pytest.mark.parametrize("reduction_db", [1.0, 5.0, 15.0])
def test_the_reduction_that_was_asked_for_is_taken_from_the_speech(stage, reduction_db, voice):
    for number in range(4):
        drawn = stage(reduction_db=reduction_db, restore_level=0).draw(
            generator("reduce", number), scene_of(voice)
        )
        applied = stage.apply(voice, drawn.values, Inputs())
        frames = len(voice) // 480
        levels = [
            10 * np.log10(np.square(x[: frames * 480].astype(np.float64)).reshape(frames, 480).mean(axis=1))
            for x in (voice, applied.audio)
        ]
        spoken = levels[0] > active_level_dbfs(voice) - 15.9
        assert (levels[0] - levels[1])[spoken].mean() == pytest.approx(reduction_db, abs=0.15)
        assert applied.measured["reduction_db"] == pytest.approx(reduction_db, abs=0.15)


@pytest.mark.parametrize("stage", [Compressor, Expander, Limiter])
def test_the_level_comes_back_when_asked(stage, voice):
    values = stage(restore_level=1.0).draw(generator("restore", 1), scene_of(voice)).values
    applied = stage.apply(voice, values, Inputs())
    assert active_level_dbfs(applied.audio) == pytest.approx(active_level_dbfs(voice), abs=0.01)


def test_a_compressor_evens_out_and_an_expander_spreads(voice):
    def spread_db(audio):
        frames = audio[: len(audio) // 960 * 960].astype(np.float64).reshape(-1, 960)
        levels = 10 * np.log10(np.square(frames).mean(axis=1) + 1e-12)
        return np.percentile(levels, 90) - np.percentile(levels, 30)

    times = {"attack_ms": 2.0, "release_ms": 80.0, "reduction_db": 8.0, "restore_level": False}
    compressed = Compressor.apply(voice, {**times, "ratio": 6.0, "knee_db": 3.0}, Inputs()).audio
    expanded = Expander.apply(voice, {**times, "ratio": 2.0}, Inputs()).audio
    assert spread_db(compressed) < spread_db(voice) - 3.0
    assert spread_db(expanded) > spread_db(voice) + 3.0


# --- limiter --------------------------------------------------------------------------------------


@pytest.mark.parametrize("lookahead_ms", [1.0, 1.9, 5.0, 24.7])
@pytest.mark.parametrize("down_db", [1.0, 9.0, 25.0])
def test_nothing_comes_out_above_the_ceiling_and_the_highest_peak_comes_up_to_it(lookahead_ms, down_db):
    rng = np.random.Generator(np.random.Philox(3))
    hiss = (rng.standard_normal(RATE_HZ) * np.exp(rng.normal(0, 1, RATE_HZ)) * 0.02).astype(np.float32)
    for audio in (speech_like(1.0), recorded(0, 2.0), hiss):
        ceiling = np.abs(audio).max() * 10 ** (-down_db / 20)
        values = {"lookahead_ms": lookahead_ms, "release_ms": 80.0, "peak_reduction_db": down_db}
        applied = Limiter.apply(audio, values | {"restore_level": False}, Inputs())
        assert np.abs(applied.audio).max() == pytest.approx(ceiling, rel=1e-5)


def test_a_limiter_begins_ahead_of_a_peak_and_comes_back_after_it():
    audio = tone((0.5, -30.0), (0.05, -10.0), (1.0, -30.0))
    values = {"lookahead_ms": 10.0, "release_ms": 100.0, "ceiling_dbfs": -20.0, "restore_level": False}
    gain = gain_db(audio, Limiter.apply(audio, values, Inputs()).audio)
    assert gain[:488] == pytest.approx(0.0, abs=1e-4)
    assert (np.diff(gain[488:500]) < 0.0).all()
    assert gain[500:550] == pytest.approx(-10.0, abs=0.01)
    # 8.69 dB in 100 ms, late by half of the averaging.
    assert gain[570:640] == pytest.approx(-10.0 + 0.08686 * (np.arange(570, 640) - 550 - 4.5), abs=0.1)
    assert gain[720:] == pytest.approx(0.0, abs=1e-3)


def test_a_ceiling_that_is_never_reached_is_refused():
    values = {"lookahead_ms": 5.0, "release_ms": 100.0, "ceiling_dbfs": -6.0, "restore_level": False}
    with pytest.raises(CannotApply, match="ceiling"):
        Limiter.apply(tone((1.0, -20.0)), values, Inputs())


# --- gate -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("hold_ms", [0, 1, 7, 50])
def test_a_gate_has_hysteresis_and_holds(hold_ms):
    rng = np.random.Generator(np.random.Philox(4))
    levels = np.convolve(rng.normal(0.0, 12.0, 3_000), np.ones(12) / 12, "same") - 30.0
    state, held, expected = False, 0, []
    for level in levels:
        state = level >= -30.0 or (state and level >= -30.0 - HYSTERESIS_DB)
        held = hold_ms if state else held - 1
        expected.append(state or held >= 0)
    assert np.array_equal(opened(levels, -30.0, hold_ms), expected)
    assert 0.2 < np.mean(expected) < 1.0


def test_a_gate_shuts_after_its_hold_and_release_and_opens_again():
    loud, quiet = -20.0, -33.0
    audio = tone((0.4, loud), (0.6, quiet), (0.4, loud))
    values = {"cut_share": 0.35, "range_db": 30.0, "attack_ms": 4.0, "hold_ms": 40.0, "release_ms": 60.0}
    gain = gain_db(audio, NoiseGate.apply(audio, values, Inputs()).audio)
    shut_ms = int(np.argmax(gain[400:1_000] < -29.5))
    # The detector needs a few milliseconds to see that the level has fallen.
    assert 95 <= shut_ms <= 160
    assert gain[600:990] == pytest.approx(-30.0, abs=0.05)
    assert np.argmax(gain[1_000:] > -30.0 * np.exp(-1)) == pytest.approx(4.0, abs=1.5)
    assert gain[1_030:] == pytest.approx(0.0, abs=0.05)


@pytest.mark.parametrize("share", [0.05, 0.2, 0.35])
def test_a_gate_cuts_away_the_share_that_was_drawn(share, voice):
    stage = NoiseGate(cut_share=share)
    for number in range(4):
        values = stage.draw(generator("gate", number), scene_of(voice)).values
        measured = NoiseGate.apply(voice, values, Inputs()).measured
        assert measured["cut_share"] == pytest.approx(share, abs=0.05)
        assert measured["most_reduction_db"] <= values["range_db"] + 0.01


def test_an_even_tone_cannot_be_gated():
    values = {"cut_share": 0.2, "range_db": 30.0, "attack_ms": 4.0, "hold_ms": 0.0, "release_ms": 60.0}
    with pytest.raises(CannotApply, match="no threshold of a gate"):
        NoiseGate.apply(tone((1.0, -20.0)), values, Inputs())


# --- automatic gain control -----------------------------------------------------------------------

FAST = {"rise_db": 30.0, "rise_db_per_s": 40.0, "hang_ms": 100.0, "attack_ms": 50.0}


@pytest.mark.parametrize("target_dbfs", [-30.0, -18.0])
def test_automatic_gain_control_brings_speech_to_its_target(target_dbfs, voice):
    applied = Agc.apply(voice, {**FAST, "target_dbfs": target_dbfs}, Inputs())
    assert active_level_dbfs(applied.audio) == pytest.approx(target_dbfs, abs=0.05)
    assert applied.measured["pumping_db"] > 3.0


def test_automatic_gain_control_brings_two_talkers_to_one_level():
    audio = tone((2.0, -20.0), (3.0, -38.0), (2.0, -20.0))
    applied = Agc.apply(audio, {**FAST, "target_dbfs": -25.0}, Inputs())
    loud, quiet, again = (peak_dbfs(applied.audio, s, s + 0.2) for s in (1.7, 4.7, 6.7))
    assert quiet == pytest.approx(loud, abs=0.1)
    assert again == pytest.approx(loud, abs=0.1)


def test_its_gain_waits_rises_in_the_pause_and_is_too_high_for_the_next_word():
    audio = tone((1.0, -20.0), (2.0, -80.0), (1.0, -20.0))
    gain = gain_db(audio, Agc.apply(audio, {**FAST, "target_dbfs": -25.0}, Inputs()).audio)
    steady = gain[900]
    assert gain[1_000:1_090] == pytest.approx(steady, abs=0.1)
    # 40 dB a second once it has waited; late by the detector and the attack's smoothing.
    slope = np.polyfit(np.arange(1_400, 1_700) / 1_000, gain[1_400:1_700], 1)[0]
    assert slope == pytest.approx(40.0, abs=0.5)
    # The pause counts a little in the active level, which the rise is counted from.
    assert gain[2_900] == pytest.approx(steady + 30.0, abs=0.7)
    # Then it falls with the time constant of the attack.
    assert gain[3_000 + 50] - steady == pytest.approx(30.0 * np.exp(-1), abs=1.5)
    assert gain[3_600] == pytest.approx(steady, abs=0.05)


def test_an_even_tone_does_not_move_it():
    with pytest.raises(CannotApply, match="stands still"):
        Agc.apply(tone((2.0, -20.0)), {**FAST, "target_dbfs": -25.0}, Inputs())
