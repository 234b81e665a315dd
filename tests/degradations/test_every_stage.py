"""What holds for every stage that can be named, so that a new one is covered the day it is registered."""

import json

import numpy as np
import pytest
from stage_signals import aligned, lag_samples, scene_of, speech_like

from datagen.degradations import stage_class, stage_names
from datagen.degradations.base import CannotApply, Inputs
from manifests.keyed import generator
from manifests.sample import AXES

NEED_SOURCES = {"noise", "room"}
"""These draw from recordings; they are tested with some beside their own tests."""
VARIANTS = {
    "audiomentations": [
        {"transform": "TanhDistortion"},
        {"transform": "BitCrush", "min_bit_depth": 4, "max_bit_depth": 8},
        {"transform": "AddColorNoise"},
    ],
    "clipping": [{"kinds": [kind]} for kind in ("hard", "soft", "asymmetric")],
    "codec": [{"codecs": {name: {}}} for name in ("opus", "mp3", "aac", "g711", "g722", "amr_nb")],
    "gain_step": [{"ends_early": 0.0}, {"ends_early": 1.0}],
    "packet_loss": [{"concealments": [how]} for how in ("zero", "hold", "repeat")],
}
"""Settings with which a stage behaves differently; every other stage is taken with its defaults."""
CASES = [
    pytest.param(name, settings, id=f"{name}-{number}")
    for name in stage_names()
    if name not in NEED_SOURCES
    for number, settings in enumerate(VARIANTS.get(name, [{}]))
]
DRAWS = 3


def _draws(name, settings, audio, count=DRAWS):
    stage = stage_class(name)(**settings)
    scene = scene_of(audio)
    return stage, [stage.draw(generator(7, name, number), scene) for number in range(count)]


def _inputs(audio):
    return Inputs(reference=audio)


@pytest.mark.parametrize(("name", "settings"), CASES)
def test_the_same_values_give_the_same_bytes(name, settings, speech):
    stage, draws = _draws(name, settings, speech)
    for drawn in draws:
        first = stage.apply(speech, drawn.values, _inputs(speech))
        # What a record holds has been through JSON.
        second = stage.apply(speech, json.loads(json.dumps(drawn.values)), _inputs(speech))
        assert first.audio.tobytes() == second.audio.tobytes()
        assert first.delay_samples == second.delay_samples
        assert first.measured == second.measured


@pytest.mark.parametrize(("name", "settings"), CASES)
def test_the_same_key_draws_the_same_values(name, settings, speech):
    assert _draws(name, settings, speech)[1] == _draws(name, settings, speech)[1]


@pytest.mark.parametrize(("name", "settings"), CASES)
def test_a_stage_that_fired_changed_the_signal_and_nothing_else(name, settings, speech):
    before = speech.copy()
    stage, draws = _draws(name, settings, speech)
    for drawn in draws:
        applied = stage.apply(speech, drawn.values, _inputs(speech))
        kept = aligned(applied, len(speech))
        assert kept.dtype == np.float32
        assert np.isfinite(kept).all()
        assert not np.array_equal(kept, speech)
        assert np.array_equal(speech, before)
        assert not np.shares_memory(applied.audio, speech)
        json.dumps(dict(applied.measured), allow_nan=False)


@pytest.mark.parametrize(("name", "settings"), CASES)
def test_severity_is_a_share_of_the_worst_on_a_known_axis(name, settings, speech):
    stage, draws = _draws(name, settings, speech)
    assert stage.axis is None or stage.axis in AXES
    for drawn in draws:
        measured = dict(stage.apply(speech, drawn.values, _inputs(speech)).measured)
        assert 0.0 <= stage.severity(drawn.values, measured) <= 1.0


@pytest.mark.parametrize(("name", "settings"), CASES)
def test_speech_stays_where_it_was(name, settings, voice):
    stage, draws = _draws(name, settings, voice)
    for drawn in draws:
        applied = stage.apply(voice, drawn.values, _inputs(voice))
        assert abs(lag_samples(voice, aligned(applied, len(voice)))) <= 0.5, drawn.values


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


def _fifty_milliseconds():
    return speech_like(1.0)[12_000:14_400].copy()


@pytest.mark.parametrize("make", [_silence, _click, _faint, _loud, _constant, _fifty_milliseconds])
@pytest.mark.parametrize(("name", "settings"), CASES)
def test_odd_audio_is_degraded_or_refused_in_words(name, settings, make):
    audio = make()
    audio.setflags(write=False)
    stage, draws = _draws(name, settings, audio)
    for drawn in draws:
        try:
            applied = stage.apply(audio, drawn.values, _inputs(audio))
        except CannotApply as refusal:
            assert str(refusal)
            continue
        assert np.isfinite(aligned(applied, len(audio))).all()


@pytest.mark.parametrize(("name", "settings"), CASES)
def test_settings_survive_being_written_down(name, settings):
    stage = stage_class(name)(**settings)
    assert stage_class(name)(**json.loads(json.dumps(stage.model_dump(mode="json")))) == stage
