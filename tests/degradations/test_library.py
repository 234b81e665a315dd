"""Transforms of audiomentations: seeded by the sample, recorded, and without a trace in the global generators."""

import random

import numpy as np
import pytest
from stage_signals import lag_samples, scene_of

from datagen.degradations.base import CannotApply, Inputs
from datagen.degradations.library import REFUSED, Audiomentations, usable_transforms
from manifests.keyed import generator

NEEDS_OPTIONAL_PACKAGE = {"Limiter", "LoudnessNormalization", "Mp3Compression"}
USABLE = [name for name in usable_transforms() if name not in NEEDS_OPTIONAL_PACKAGE]


def _drawn(name, audio, number=0, **keywords):
    stage = Audiomentations(transform=name, **keywords)
    return stage.draw(generator("library", name, number), scene_of(audio)).values


@pytest.mark.parametrize("name", USABLE)
def test_every_usable_transform_keeps_length_and_place(name, voice):
    for number in range(3):
        values = _drawn(name, voice, number)
        applied = Audiomentations.apply(voice, values, Inputs())
        again = Audiomentations.apply(voice, values, Inputs())
        assert applied.audio.shape == voice.shape
        assert applied.audio.dtype == np.float32
        assert applied.audio.tobytes() == again.audio.tobytes()
        assert abs(lag_samples(voice, applied.audio)) < 0.5, values


@pytest.mark.parametrize("name", ["TanhDistortion", "AddColorNoise", "AddGaussianNoise", "TimeMask"])
def test_the_global_generators_are_left_as_they_were(name, speech):
    random.seed(5)
    np.random.seed(5)
    expected = random.random(), np.random.random()
    random.seed(5)
    np.random.seed(5)
    Audiomentations.apply(speech, _drawn(name, speech), Inputs())
    assert (random.random(), np.random.random()) == expected


def test_the_global_generators_do_not_matter(speech):
    first = Audiomentations.apply(speech, _drawn("AddGaussianNoise", speech), Inputs()).audio
    random.seed(99)
    np.random.seed(99)
    second = Audiomentations.apply(speech, _drawn("AddGaussianNoise", speech), Inputs()).audio
    assert first.tobytes() == second.tobytes()


def test_what_was_drawn_is_recorded_and_within_the_keywords(speech):
    for number in range(50):
        values = _drawn("TanhDistortion", speech, number, min_distortion=0.2, max_distortion=0.3)
        assert 0.2 <= values["parameters"]["distortion_amount"] <= 0.3


def test_the_record_decides_what_is_applied(speech):
    values = _drawn("BitCrush", speech)
    crushed = values | {"parameters": values["parameters"] | {"bit_depth": 2}}
    assert len(np.unique(Audiomentations.apply(speech, crushed, Inputs()).audio)) <= 5


def test_a_transform_that_listens_before_it_draws_is_recorded_afterwards(speech):
    values = _drawn("AddGaussianSNR", speech)
    assert values["parameters"] is None
    assert Audiomentations.apply(speech, values, Inputs()).measured["parameters"]["noise_std"] > 0.0


def test_filters_of_the_library_run_without_phase(voice):
    values = _drawn("LowPassFilter", voice, min_cutoff_freq=1_000, max_cutoff_freq=1_500)
    assert abs(lag_samples(voice, Audiomentations.apply(voice, values, Inputs()).audio)) < 0.05


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_would_break_the_pair_is_refused_with_a_reason(name):
    with pytest.raises(ValueError, match=f"{name} cannot be used: it .*"):
        Audiomentations(transform=name)


def test_a_failing_transform_is_a_reason_and_not_a_crash(speech):
    values = _drawn("TimeMask", speech) | {"parameters": {"should_apply": True}}
    with pytest.raises(CannotApply, match="TimeMask: KeyError"):
        Audiomentations.apply(speech, values, Inputs())


def test_what_a_transform_refuses_without_a_word_is_named():
    with pytest.raises(ValueError, match=r"TanhDistortion refuses min_distortion=5.* \(AssertionError\)"):
        Audiomentations(transform="TanhDistortion", min_distortion=5)


@pytest.mark.parametrize("name", sorted(NEEDS_OPTIONAL_PACKAGE))
def test_a_missing_package_is_said_once(name, capfd):
    try:
        Audiomentations(transform=name)
    except ValueError as error:
        assert "needs the package" in str(error)
    assert capfd.readouterr() == ("", "")
