"""Levels, steps and drifts are what was asked for, as measured on the audio."""

import numpy as np
import pytest
from stage_signals import RATE_HZ, scene_of, speech_like

from datagen.degradations.base import CannotApply, Inputs
from datagen.degradations.playout.final_level import FinalLevel
from datagen.degradations.talker.level import GainStep, Level, LevelDrift
from datagen.level import active_level_dbfs
from manifests.keyed import generator

SPEECH = speech_like(3.0)


def _sine(seconds=2.0, peak=0.1, hz=1_000.0):
    return (peak * np.sin(2 * np.pi * hz * np.arange(round(seconds * RATE_HZ)) / RATE_HZ)).astype(np.float32)


# --- level ----------------------------------------------------------------------------------------


def test_level_moves_by_the_gain_that_was_drawn():
    applied = Level.apply(SPEECH, {"gain_db": -7.5}, Inputs())
    assert active_level_dbfs(applied.audio) - active_level_dbfs(SPEECH) == pytest.approx(-7.5, abs=1e-3)
    assert applied.measured["gain_db"] == pytest.approx(-7.5, abs=1e-3)
    assert Level.severity({"gain_db": -20.0}, {}) > Level.severity({"gain_db": 5.0}, {})


@pytest.mark.parametrize("level_dbfs", [-40.0, -26.0, -15.0])
def test_a_steady_sine_comes_out_at_the_level_that_was_asked_for(level_dbfs):
    """A sine has no pauses: its active level is its RMS, but for the 20 ms in which P.56's envelope rises."""
    applied = Level.apply(_sine(), {"active_level_dbfs": level_dbfs}, Inputs())
    assert 20 * np.log10(np.abs(applied.audio).max() / np.sqrt(2)) == pytest.approx(level_dbfs, abs=0.06)
    assert applied.measured["active_level_dbfs"] == pytest.approx(level_dbfs, abs=0.01)


def test_a_level_that_is_asked_for_counts_instead_of_a_gain():
    stage = Level(gain_db=[3, 3], active_level_dbfs=[-35, -15])
    drawn = [stage.draw(generator("level", n), scene_of(SPEECH)).values for n in range(300)]
    assert all(set(values) == {"active_level_dbfs"} for values in drawn)
    levels = np.array([values["active_level_dbfs"] for values in drawn])
    assert (levels.min(), levels.max()) == (pytest.approx(-35, abs=0.5), pytest.approx(-15, abs=0.5))
    far, near = ({"active_level_dbfs": level} for level in (-40.0, -24.0))
    assert Level.severity(far, far) > Level.severity(near, near) > 0.0


# --- gain step ------------------------------------------------------------------------------------


def _gain_db(values):
    flat = np.full(2 * RATE_HZ, 0.01, np.float32)
    return 20 * np.log10(GainStep.apply(flat, values, Inputs()).audio / 0.01)


def test_a_gain_step_ramps_and_stays():
    gain = _gain_db({"step_db": -12.0, "ramp_ms": 100.0, "start_s": 0.5, "end_s": None})
    assert gain[: RATE_HZ // 2] == pytest.approx(0.0, abs=1e-3)
    assert gain[round(0.55 * RATE_HZ)] == pytest.approx(-6.0, abs=0.01)
    assert gain[round(0.61 * RATE_HZ) :] == pytest.approx(-12.0, abs=1e-3)


def test_a_gain_step_that_ends_goes_back():
    gain = _gain_db({"step_db": 6.0, "ramp_ms": 20.0, "start_s": 0.5, "end_s": 1.0})
    assert gain[round(0.99 * RATE_HZ)] == pytest.approx(6.0, abs=1e-3)
    assert gain[round(1.03 * RATE_HZ) :] == pytest.approx(0.0, abs=1e-3)


@pytest.mark.parametrize("ramp_ms", [0.1, 5.0, 90.0, 1_000.0])
@pytest.mark.parametrize("end_s", [None, 0.6, 1.99])
def test_a_gain_step_never_jumps(ramp_ms, end_s):
    values = {"step_db": 18.0, "ramp_ms": ramp_ms, "start_s": 0.5, "end_s": end_s}
    if end_s == 0.6 and ramp_ms > 100.0:
        with pytest.raises(CannotApply, match="steps to"):
            _gain_db(values)
        return
    steepest = 18.0 / max(1, round(ramp_ms * RATE_HZ / 1_000))
    assert np.abs(np.diff(_gain_db(values))).max() < steepest * 1.1 + 1e-3


@pytest.mark.parametrize("seconds", [0.05, 2.5, 10.0, 60.0])
def test_a_drawn_step_always_arrives(seconds):
    """The ramp is over before half of what is left of the sample, or of the step, has passed."""
    stage = GainStep(ends_early=0.5)
    scene = scene_of(np.zeros(round(seconds * RATE_HZ), np.float32))
    for number in range(500):
        values = stage.draw(generator("step", number), scene).values
        left_s = (seconds if values["end_s"] is None else values["end_s"]) - values["start_s"]
        assert 5.0 <= values["ramp_ms"] <= max(5.0, 500.0 * left_s + 1e-6)


def test_the_step_is_measured_behind_its_ramp(voice):
    values = {"step_db": -9.0, "ramp_ms": 400.0, "start_s": 1.0, "end_s": 3.0}
    applied = GainStep.apply(voice, values, Inputs())
    plateau = slice(round(1.4 * RATE_HZ), 3 * RATE_HZ)
    ratio = applied.audio[plateau].astype(np.float64).std() / voice[plateau].astype(np.float64).std()
    assert 20 * np.log10(ratio) == pytest.approx(-9.0, abs=0.01)
    assert applied.measured["step_db"] == pytest.approx(-9.0, abs=0.01)
    assert applied.measured["stepped_share"] == 0.5


# --- drift ----------------------------------------------------------------------------------------

KNOTS = [[0.0, 0.5], [1.0, 1.0], [3.0, 0.0], [4.0, 0.25], [6.0, 0.9]]


def test_a_drift_goes_from_knot_to_knot_along_half_a_cosine():
    tone = _sine(5.0)
    applied = LevelDrift.apply(tone, {"range_db": 12.0, "knots": KNOTS}, Inputs())
    with np.errstate(divide="ignore", invalid="ignore"):
        gain_db = 20 * np.log10(np.abs(applied.audio) / np.abs(tone))
    gain_db[np.abs(tone) < 0.05] = np.nan

    def around(second):
        return np.nanmean(gain_db[round(second * RATE_HZ) - 240 : round(second * RATE_HZ) + 240])

    # The heights 0 and 1 are the ends of a range of 12 dB around 0 dB.
    for at_s, height in KNOTS[1:4]:
        assert around(at_s) == pytest.approx(12.0 * (height - 0.5), abs=0.02)
    for share in (0.25, 0.5, 0.75):
        risen = 0.5 - 0.5 * np.cos(np.pi * share)
        assert around(1.0 + 2.0 * share) == pytest.approx(12.0 * (0.5 - risen), abs=0.05)
    assert applied.measured["range_db"] == pytest.approx(12.0, abs=0.05)


def test_the_range_of_a_drift_is_that_over_the_speech():
    """Where the ends of the curve fall into a pause, the speech still drifts by as much as was drawn."""
    speech = np.concatenate((np.zeros(RATE_HZ, np.float32), _sine(1.5), np.zeros(RATE_HZ, np.float32)))
    knots = [[0.0, 0.0], [3.5, 1.0]]
    applied = LevelDrift.apply(speech, {"range_db": 10.0, "knots": knots}, Inputs())
    first, last = (np.abs(applied.audio[round(s * RATE_HZ) :][:480]).max() for s in (1.0, 2.49))
    assert 20 * np.log10(last / first) == pytest.approx(10.0, abs=0.1)


def test_what_is_too_short_does_not_drift():
    with pytest.raises(CannotApply, match="too little"):
        LevelDrift.apply(_sine(0.1), {"range_db": 10.0, "knots": [[0.0, 0.0], [3.0, 1.0]]}, Inputs())


def test_drawn_knots_are_as_far_apart_as_was_asked():
    scene = scene_of(np.zeros(10 * RATE_HZ, np.float32))
    for number in range(200):
        knots = LevelDrift().draw(generator("drift", number), scene).values["knots"]
        apart_s = np.diff([at_s for at_s, _ in knots])
        assert knots[0][0] == 0.0
        assert knots[-1][0] >= 10.0
        assert apart_s.min() >= 0.999
        assert apart_s.max() <= 4.001
        assert all(0.0 <= height <= 1.0 for _, height in knots)


# --- final level ----------------------------------------------------------------------------------


def test_the_final_level_is_the_one_that_was_drawn():
    applied = FinalLevel.apply(SPEECH, {"active_level_dbfs": -31.0, "ceiling_dbfs": -0.1}, Inputs())
    assert active_level_dbfs(applied.audio) == pytest.approx(-31.0, abs=0.01)
    assert applied.measured["held_down_db"] == 0.0


def test_peaks_hold_the_final_level_down_instead_of_clipping():
    peaky = SPEECH.copy()
    peaky[1_000] = 0.9
    applied = FinalLevel.apply(peaky, {"active_level_dbfs": -10.0, "ceiling_dbfs": -0.1}, Inputs())
    assert 20 * np.log10(np.abs(applied.audio).max()) == pytest.approx(-0.1, abs=1e-3)
    assert applied.measured["active_level_dbfs"] == pytest.approx(active_level_dbfs(applied.audio), abs=0.01)
    assert applied.measured["held_down_db"] > 1.0


@pytest.mark.parametrize(
    ("level_dbfs", "peak_dbfs", "kept"),
    [
        (-20.0, -4.0, True),
        (-20.2, -4.0, False),  # nothing kept it from being louder
        (-25.0, -0.1, True),  # a peak has come up to the ceiling
        (-25.0, -0.4, False),
        (-19.0, -0.1, False),  # a ceiling is no reason to be too loud
        (-19.0, -4.0, False),
    ],
)
def test_only_a_peak_at_the_ceiling_excuses_a_level_that_is_too_low(level_dbfs, peak_dbfs, kept):
    values = {"active_level_dbfs": -20.0, "ceiling_dbfs": -0.1}
    measured = {"active_level_dbfs": level_dbfs, "peak_dbfs": peak_dbfs}
    assert FinalLevel.broken_promises(values, measured) == (() if kept else ("active_level_dbfs",))


def test_a_level_far_from_comfortable_is_worse():
    levels = [FinalLevel.severity({}, {"active_level_dbfs": level}) for level in (-26.0, -30.0, -40.0, -50.0)]
    assert levels == sorted(set(levels))
