"""Levels, steps and clipping hit what was asked for."""

import numpy as np
import pytest
from stage_signals import RATE_HZ, speech_like

from datagen.degradations.base import CannotApply, Inputs
from datagen.degradations.clipping import Clipping
from datagen.degradations.playout import FinalLevel
from datagen.degradations.talker import GainStep, Level
from datagen.level import active_level_dbfs

SPEECH = speech_like(3.0)


@pytest.mark.parametrize("share", [0.0005, 0.01, 0.2, 0.6])
def test_hard_clipping_hits_exactly_the_share_that_was_drawn(share):
    applied = Clipping.apply(SPEECH, {"kind": "hard", "share": share, "restore_level": False}, Inputs())
    ceiling = np.abs(applied.audio).max()
    assert abs(np.count_nonzero(np.abs(applied.audio) == ceiling) - share * len(SPEECH)) <= 1
    assert applied.measured["clipped_share"] == pytest.approx(share, abs=1.01 / len(SPEECH))
    below = np.abs(SPEECH) < ceiling
    assert np.array_equal(applied.audio[below], SPEECH[below])


def test_soft_clipping_bends_only_the_share_that_was_drawn():
    values = {"kind": "soft", "share": 0.1, "softness": 0.5, "restore_level": False}
    applied = Clipping.apply(SPEECH, values, Inputs())
    changed = np.count_nonzero(applied.audio != SPEECH)
    assert changed == pytest.approx(0.1 * len(SPEECH), abs=0.002 * len(SPEECH))
    order = np.argsort(SPEECH, kind="stable")
    assert (np.diff(applied.audio[order]) >= -1e-7).all()


def test_asymmetric_clipping_cuts_at_the_quantiles_of_numpy():
    values = {"kind": "asymmetric", "low_quantile": 0.03, "high_quantile": 0.95, "restore_level": False}
    applied = Clipping.apply(SPEECH, values, Inputs())
    low, high = np.quantile(SPEECH.astype(np.float64), [0.03, 0.95])
    assert applied.audio.min() == pytest.approx(low, rel=1e-5)
    assert applied.audio.max() == pytest.approx(high, rel=1e-5)
    assert applied.measured["clipped_share"] == pytest.approx(0.08, abs=1e-3)


@pytest.mark.parametrize("kind", ["hard", "soft", "asymmetric"])
def test_the_level_comes_back_when_asked(kind):
    values = {"kind": kind, "share": 0.1, "softness": 0.2, "low_quantile": 0.05, "high_quantile": 0.97}
    applied = Clipping.apply(SPEECH, values | {"restore_level": True}, Inputs())
    assert applied.audio.std() == pytest.approx(SPEECH.std(), rel=1e-3)
    assert applied.measured["restored_db"] > 0.0


def test_more_clipping_is_worse_and_a_soft_knee_less_so():
    def severity(share, **values):
        return Clipping.severity({"kind": "hard", **values}, {"clipped_share": share})

    assert 0.0 < severity(0.001) < severity(0.01) < severity(0.1) < severity(0.25) == 1.0
    assert severity(0.1, softness=1.0) < severity(0.1, softness=0.2) < severity(0.1)


def test_silence_and_a_square_wave_cannot_be_clipped():
    square = np.where(np.arange(RATE_HZ) // 100 % 2, 0.5, -0.5).astype(np.float32)
    for audio in (np.zeros(RATE_HZ, np.float32), square):
        with pytest.raises(CannotApply, match="stand out"):
            Clipping.apply(audio, {"kind": "hard", "share": 0.01, "restore_level": False}, Inputs())


def test_level_moves_by_the_gain_that_was_drawn():
    applied = Level.apply(SPEECH, {"gain_db": -7.5}, Inputs())
    assert active_level_dbfs(applied.audio) - active_level_dbfs(SPEECH) == pytest.approx(-7.5, abs=1e-3)
    assert Level.severity({"gain_db": -20.0}, {}) > Level.severity({"gain_db": 5.0}, {})


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


@pytest.mark.parametrize("ramp_ms", [0.1, 5.0, 400.0, 3_000.0])
@pytest.mark.parametrize("end_s", [None, 0.6, 1.99])
def test_a_gain_step_never_jumps(ramp_ms, end_s):
    gain = _gain_db({"step_db": 18.0, "ramp_ms": ramp_ms, "start_s": 0.5, "end_s": end_s})
    steepest = 18.0 / max(1, round(ramp_ms * RATE_HZ / 1_000))
    assert np.abs(np.diff(gain)).max() < steepest * 1.1 + 1e-3


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


def test_a_level_far_from_comfortable_is_worse():
    levels = [FinalLevel.severity({}, {"active_level_dbfs": level}) for level in (-26.0, -30.0, -40.0, -50.0)]
    assert levels == sorted(set(levels))
