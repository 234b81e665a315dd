"""What holds for every stage that can be named, so that a new one is covered the day it is registered."""

import json
from functools import lru_cache

import numpy as np
import pytest
import soxr
from stage_cases import HARSHER, NO_STRENGTH, Case, cases, inputs_for, severity_of
from stage_signals import lag_samples, recorded, speech_like

from datagen.alignment import without_delay
from datagen.degradations import stage_names
from datagen.degradations.base import CannotApply
from datagen.time_map import TimeMap
from manifests.sample import AXES

RATES_HZ = (
    8_000,
    pytest.param(16_000, marks=pytest.mark.faults),
    pytest.param(44_100, marks=pytest.mark.faults),
    48_000,
)
"""Sources come at these: the lowest and the highest always, all in the long suite."""
DRAWS = 2
LARGEST_LAG_SAMPLES = 0.5
NO_OP_DB = -90.0
"""The engine's own limit: less than this is nothing."""
SPOILS_CORRELATION = {
    "comb": "a reflection is a later arrival; its direct path is tested in test_microphone.py",
    "phaser": "all-passes bend the phase of a voice; what lies above their sweep is tested in test_device.py",
    "room": "reflections are later arrivals; its direct path is tested in test_room.py",
}
"""Stages after which the best match of waveforms says nothing about a delay, and why."""


@lru_cache
def _source(kind: str, rate_hz: int) -> np.ndarray:
    """Two and a half seconds of speech as a recording at `rate_hz` comes out of the reader at 48 kHz."""
    audio = speech_like(2.5, 140.0, 3) if kind == "synthetic" else recorded(1, 2.5)
    if rate_hz != 48_000:
        audio = soxr.resample(soxr.resample(audio, 48_000, rate_hz), rate_hz, 48_000)[: len(audio)]
    audio = np.ascontiguousarray(audio, np.float32)
    audio.setflags(write=False)
    return audio


@pytest.mark.parametrize("kind", ["synthetic", "real"])
@pytest.mark.parametrize("rate_hz", RATES_HZ)
@pytest.mark.parametrize("case", cases())
def test_a_stage_keeps_its_contract(case: Case, rate_hz, kind):
    audio = _source(kind, rate_hz)
    before = audio.copy()
    fired = 0
    for drawn in case.draws(audio, DRAWS, bandwidth_hz=0.46 * rate_hz):
        inputs = inputs_for(drawn, audio)
        try:
            applied = case.stage.apply(audio, drawn.values, inputs)
        except CannotApply as refusal:  # narrow speech may hold nothing that the stage could take away
            assert str(refusal)
            continue
        fired += 1
        # What a record holds has been through JSON.
        again = case.stage.apply(audio, json.loads(json.dumps(drawn.values)), inputs_for(drawn, audio))
        assert applied.audio.tobytes() == again.audio.tobytes()
        assert applied.measured == again.measured
        assert applied.delay_samples == again.delay_samples
        assert np.array_equal(audio, before)
        assert not np.shares_memory(applied.audio, audio)
        json.dumps(dict(applied.measured), allow_nan=False)

        kept = without_delay(np.asarray(applied.audio, np.float32), applied.delay_samples, len(audio))
        assert len(kept) == len(audio)
        assert np.isfinite(kept).all()
        change = float(np.sum(np.square(kept - audio, dtype=np.float64)))
        assert change > 10 ** (NO_OP_DB / 10) * float(np.sum(np.square(audio, dtype=np.float64))), (
            drawn.values
        )
        assert case.stage.broken_promises(drawn.values, dict(applied.measured)) == (), (
            drawn.values,
            applied.measured,
        )
        assert 0.0 <= case.stage.severity(drawn.values, dict(applied.measured)) <= 1.0
        if case.stage.warps_time:
            assert isinstance(applied.time_map, TimeMap)
        elif case.name not in SPOILS_CORRELATION:
            # Where something was added, it is the speech that must stay in place.
            voice = kept if applied.added is None else kept - applied.added
            assert abs(lag_samples(audio, voice)) <= LARGEST_LAG_SAMPLES, drawn.values
    assert fired or rate_hz < 44_100


@pytest.mark.parametrize("case", cases())
def test_the_same_key_draws_the_same_values(case: Case, speech):
    assert case.draws(speech, DRAWS) == case.draws(speech, DRAWS)


@pytest.mark.parametrize("case", cases())
def test_settings_survive_being_written_down(case: Case):
    stage = case.stage
    assert type(stage)(**json.loads(json.dumps(stage.model_dump(mode="json")))) == stage
    assert stage.axis is None or stage.axis in AXES


@pytest.mark.parametrize("name", sorted(set(stage_names()) - NO_STRENGTH))
def test_harsher_settings_are_more_severe(name, speech):
    held, setting, values = HARSHER[name]
    severities = []
    for value in values:
        case = Case(name, {**held, setting: value})
        severities.append(np.mean([severity_of(case, speech, drawn) for drawn in case.draws(speech, DRAWS)]))
    assert severities == sorted(severities)
    assert severities[-1] > severities[0] + 0.1


@pytest.mark.parametrize("name", stage_names())
def test_what_a_stage_drew_is_measured_and_promised(name):
    """Each stage of our own says which of its drawn values it delivers, and how exactly."""
    case = Case(name, {"transform": "TanhDistortion"} if name == "audiomentations" else {})
    assert case.stage.promises or name in NO_STRENGTH


def _silence():
    return np.zeros(48_000, np.float32)


def _click():
    audio = np.zeros(48_000, np.float32)
    audio[20_000] = 0.9
    return audio


def _faint():
    return speech_like(1.0) * np.float32(1e-6)


def _loud():
    return speech_like(1.0) * np.float32(40.0)


def _constant():
    return np.full(48_000, 0.25, np.float32)


def _full_scale_square():
    return np.where(np.arange(48_000) // 110 % 2, 1.0, -1.0).astype(np.float32)


def _fifty_milliseconds():
    return speech_like(1.0)[12_000:14_400].copy()


@pytest.mark.parametrize(
    "make", [_silence, _click, _faint, _loud, _constant, _full_scale_square, _fifty_milliseconds]
)
@pytest.mark.parametrize("case", cases())
def test_odd_audio_is_degraded_or_refused_in_words(case: Case, make):
    _degraded_or_refused(case, make(), DRAWS)


@pytest.mark.parametrize("minutes", [1, pytest.param(10, marks=pytest.mark.faults)])
@pytest.mark.parametrize("case", cases())
def test_minutes_pass(case: Case, minutes):
    """A minute is longer than what any stage works on at once; the longest is half a one (datagen/convolution.py)."""
    assert _degraded_or_refused(case, np.tile(speech_like(6.0), 10 * minutes), 1) == 1


def _degraded_or_refused(case: Case, audio: np.ndarray, draws: int) -> int:
    audio.setflags(write=False)
    degraded = 0
    for drawn in case.draws(audio, draws):
        try:
            applied = case.stage.apply(audio, drawn.values, inputs_for(drawn, audio))
        except CannotApply as refusal:
            assert str(refusal)
            continue
        degraded += 1
        kept = without_delay(np.asarray(applied.audio, np.float32), applied.delay_samples, len(audio))
        assert kept.shape == audio.shape
        assert np.isfinite(kept).all()
        json.dumps(dict(applied.measured), allow_nan=False)
    return degraded


@pytest.mark.parametrize("case", cases())
def test_what_is_drawn_lies_in_the_range_of_the_setting_of_that_name(case: Case, speech):
    stage = case.stage
    for drawn in case.draws(speech, 200):
        for name, value in drawn.values.items():
            bounds = getattr(stage, name, None)
            of_others = name == "mean_burst_packets" and case.settings.get("burst_lengths") == "uniform"
            if isinstance(value, int | float) and isinstance(bounds, tuple) and not of_others:
                assert value in bounds or bounds[0] <= value <= bounds[-1], name
