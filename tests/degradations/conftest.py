"""Voices that every stage is tried on."""

import numpy as np
import pytest
from stage_signals import recorded, scene_of, speech_like

from datagen.degradations.base import Scene


@pytest.fixture(scope="session")
def speech() -> np.ndarray:
    return speech_like()


@pytest.fixture(scope="session", params=["low voice", "high voice", "recorded man", "recorded woman"])
def voice(request) -> np.ndarray:
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
