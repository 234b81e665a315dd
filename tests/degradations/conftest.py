"""Voices that every stage is tried on."""

import numpy as np
import pytest
from stage_signals import recorded, scene_of, speech_like

from datagen.degradations.base import Scene


@pytest.fixture(scope="session")
def speech() -> np.ndarray:
    return speech_like()


LONG_SUITE = pytest.mark.faults
VOICES = (
    "low voice",
    pytest.param("high voice", marks=LONG_SUITE),
    pytest.param("recorded man", marks=LONG_SUITE),
    "recorded woman",
)


@pytest.fixture(scope="session", params=VOICES)
def voice(request) -> np.ndarray:
    """Two made and two recorded voices, from low to high: the lowest and the highest always, all in the long suite."""
    match request.param:
        case "low voice":
            return speech_like(f0_hz=95.0, seed=1)
        case "high voice":
            return speech_like(f0_hz=230.0, seed=2)
        case "recorded man":
            return recorded(3, 4.0)
        case _:
            return recorded(0, 4.0)


@pytest.fixture(scope="session")
def scene(speech) -> Scene:
    return scene_of(speech)
