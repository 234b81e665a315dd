"""Perturbed responses: other rooms, with the reverberation that was drawn, in place, and in full band."""

from pathlib import Path

import numpy as np
import pytest
from scipy import signal
from stage_cases import material_scene
from stage_signals import speech_like

from datagen.audio import read_all, resampled
from datagen.degradations.base import Inputs
from datagen.degradations.room import conditioning
from datagen.degradations.room.conditioning import prepared
from datagen.degradations.room.room import LEAD_SAMPLES, Room, conditioned
from datagen.room_simulation import simulate
from manifests.keyed import generator
from manifests.recipe import RoomBank

RATE = 48_000
DATA = Path(__file__).resolve().parents[2] / ".." / "shared" / "data" / "rir"


def _frozen(audio: np.ndarray) -> np.ndarray:
    audio = np.ascontiguousarray(audio, np.float32)
    audio.setflags(write=False)
    return audio


def _t20_s(response: np.ndarray) -> float:
    """By Schroeder's integration, written anew."""
    energy = np.cumsum(response[LEAD_SAMPLES:][::-1].astype(np.float64) ** 2)[::-1]
    level_db = 10 * np.log10(energy / energy[0] + 1e-30)
    stretch = np.flatnonzero((level_db <= -5) & (level_db >= -25))
    return -60 / np.polyfit(stretch / RATE, level_db[stretch], 1)[0]


def _responses() -> list[tuple[str, np.ndarray]]:
    found = [
        (f"simulated {number}", _frozen(response.rir))
        for number in range(6)
        for response in simulate(RoomBank(rt60_s=(0.4, 1.2), seed=4), number).responses
    ]
    for path in sorted(DATA.glob("*/*.wav"))[::6]:
        audio, rate = read_all(str(path))
        found.append((path.name, _frozen(resampled(np.ascontiguousarray(audio[:, 0]), rate, RATE))))
    return found


RESPONSES = _responses()


@pytest.mark.parametrize("factor", [0.8, 0.93, 1.07, 1.2])
def test_a_response_played_faster_rings_shorter_by_as_much_and_its_direct_path_stays(factor):
    for name, rir in RESPONSES:
        before, after = conditioned(rir), prepared(rir, resample=factor)
        assert _t20_s(after.response) == pytest.approx(_t20_s(before) / factor, rel=0.1), name
        assert after.rt60_s == pytest.approx(_t20_s(after.response), rel=0.1), name
        around = np.abs(after.response[LEAD_SAMPLES - 3 : LEAD_SAMPLES + 4])
        assert int(np.argmax(around)) == 3, name


@pytest.mark.parametrize("factor", [0.7, 0.8, 1.0 / 3.0 + 0.6, 1.01, 1.2])
def test_a_click_stays_a_click_of_all_frequencies_and_its_echo_comes_when_it_should(factor):
    rir = np.zeros(9_600, np.float32)
    rir[[500, 3_500]] = 1.0, 0.25
    response = prepared(_frozen(rir), resample=factor).response
    direct = np.zeros(4_096)
    direct[: 2 * LEAD_SAMPLES] = response[: 2 * LEAD_SAMPLES]
    spectrum = np.fft.rfft(np.roll(direct, -LEAD_SAMPLES))
    audible = np.fft.rfftfreq(4_096, 1 / RATE) < 20_000
    assert np.abs(20 * np.log10(np.abs(spectrum[audible]))).max() < 0.5
    assert np.abs(np.angle(spectrum[audible])).max() < 0.05
    echo = LEAD_SAMPLES + 500 + int(np.argmax(np.abs(response[LEAD_SAMPLES + 500 :])))
    assert echo - LEAD_SAMPLES == pytest.approx(3_000 / factor, abs=1.0)


@pytest.mark.parametrize("wanted_s", [0.2, 0.3, 0.38])
def test_decay_is_brought_down_to_what_was_drawn_and_the_direct_path_left_alone(wanted_s):
    shortened = 0
    for name, rir in RESPONSES:
        before, after = conditioned(rir), prepared(rir, decay_rt60_s=wanted_s)
        if _t20_s(before) < wanted_s:
            continue
        shortened += 1
        assert _t20_s(after.response) == pytest.approx(wanted_s, rel=0.15), name
        assert after.response[: LEAD_SAMPLES + 1] == pytest.approx(before[: LEAD_SAMPLES + 1], abs=1e-7), name
        assert len(after.response) <= len(before)
        change = np.abs(after.response[: len(before)]) - np.abs(before[: len(after.response)])
        assert change.max() < 1e-7, name
    assert shortened > 5


def test_decay_is_never_made_longer():
    for name, rir in RESPONSES:
        before = conditioned(rir)
        after = prepared(rir, decay_rt60_s=4.0).response
        assert np.array_equal(before, after), name


def test_all_at_once_still_gives_the_reverberation_and_the_ratio_that_were_drawn():
    speech = _frozen(speech_like(2.0))
    for name, rir in RESPONSES:
        if _t20_s(conditioned(rir)) < 0.3:
            continue
        values = {"resample": 1.1, "decay_rt60_s": 0.25, "rt60_s": 0.25, "drr_db": 6.0}
        measured = Room.apply(speech, values, Inputs((rir,), speech)).measured
        assert Room.broken_promises(values, measured) == (), name
        assert measured["drr_db"] == pytest.approx(6.0, abs=0.1)


def test_perturbed_speech_lags_dry_speech_by_nothing():
    speech = _frozen(speech_like(2.0))
    rir = RESPONSES[0][1]
    for factor in (0.83, 1.17):
        heard = Room.apply(speech, {"resample": factor, "drr_db": 15.0}, Inputs((rir,), speech)).audio
        correlation = np.abs(signal.correlate(heard, speech, method="fft"))
        assert int(np.argmax(correlation)) == len(speech) - 1


def test_draws_say_which_reverberation_will_come_out():
    scene = material_scene(RATE)
    stage = Room(resample=(0.8, 1.2), decay_rt60_s=(0.2, 1.0), perturb_share=0.5)
    shortened = perturbed = 0
    for number in range(400):
        drawn = stage.draw(generator("perturbation", number), scene)
        values, own_s = drawn.values, drawn.rir.rt60_s
        if "resample" not in values:
            assert values["rt60_s"] == own_s and "decay_rt60_s" not in values
            continue
        perturbed += 1
        assert 0.8 <= values["resample"] <= 1.2
        if "decay_rt60_s" in values:
            shortened += 1
            assert 0.2 <= values["decay_rt60_s"] == values["rt60_s"] < own_s / values["resample"]
        else:
            assert values["rt60_s"] == pytest.approx(own_s / values["resample"])
    assert 160 < perturbed < 240
    assert 20 < shortened < perturbed
    plain = Room().draw(generator("perturbation", 0), scene).values
    assert set(plain) == {"room", "rt60_s", "catalogue_drr_db"}


def test_what_is_kept_of_responses_changes_no_byte_and_is_bounded(monkeypatch):
    speech = _frozen(speech_like(1.0))
    values = {"resample": 0.9, "drr_db": 3.0}
    inputs = Inputs((RESPONSES[1][1],), speech)
    conditioning._kept.clear()
    cold = Room.apply(speech, values, inputs)
    warm = Room.apply(speech, values, Inputs((_frozen(RESPONSES[1][1].copy()),), speech))
    assert cold.audio.tobytes() == warm.audio.tobytes() and cold.measured == warm.measured
    assert len(conditioning._kept) == 1
    monkeypatch.setattr(conditioning, "KEPT_BYTES", 500_000)
    for _, rir in RESPONSES:
        prepared(rir)
    held = [kept.response.nbytes for kept in conditioning._kept.values()]
    assert 1 <= len(held) < len(RESPONSES) and (sum(held) <= 500_000 or len(held) == 1)
    again = Room.apply(speech, values, inputs)
    assert again.audio.tobytes() == cold.audio.tobytes() and again.measured == cold.measured
    with pytest.raises(ValueError, match="read-only"):
        conditioned(RESPONSES[1][1])[0] = 1.0
