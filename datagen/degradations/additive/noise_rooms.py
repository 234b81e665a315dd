"""The rooms that noises and other talkers are heard in: where the talker is, but at another place.

A noise that comes through the response of the talker's own place would come out of the talker's mouth. So another
response of the same room is drawn; where the room has none, the response of another room that reverberates alike.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from datagen.degradations.base import Audio, Scene
from datagen.degradations.room.conditioning import LEAD_SAMPLES
from datagen.degradations.room.room import conditioned, convolved
from manifests.ranges import one_of
from manifests.recipe import SAMPLE_RATE_HZ
from manifests.sample import Clip
from manifests.source import Source
from manifests.sources import Sources

Relation = Literal["same", "alike", "any"]
"""Of a noise's room to the talker's: the same one; one with the nearest RT60; any, as the talker is in none."""


@dataclass(frozen=True)
class Place:
    """Where a noise comes from."""

    source: Source
    """The impulse response."""
    relation: Relation
    clip: Clip

    @property
    def samples(self) -> int:
        """Upper limit of the length of the conditioned response at 48 kHz."""
        return -(-self.source.frames * SAMPLE_RATE_HZ // self.source.rate_hz) + LEAD_SAMPLES


def draw_place(rng: np.random.Generator, scene: Scene) -> Place | None:
    """Draw where a noise comes from; None where the split has no response but the talker's own."""
    candidates, relation = _candidates(scene)
    if not candidates:
        return None
    source = one_of(rng, candidates)
    channel = int(rng.integers(0, max(1, source.channels)))
    return Place(source, relation, Clip(sha256=source.sha256, start=0, frames=source.frames, channel=channel))


def in_room(sound: Audio, response: Audio) -> Audio:
    """Put a sound into a room: same length, its direct path where it was."""
    return convolved(sound, conditioned(response))


def _candidates(scene: Scene) -> tuple[Sources, Relation]:
    pool, own = scene.pool("rir"), scene.rir
    if own is None:
        return pool, "any"
    # Another channel of the same file is another ear at the same place.
    if own.room and (same := pool.named("room", own.room).without_sha256(own.sha256)):
        return same, "same"
    others = pool.without_sha256(own.sha256)
    return others if own.rt60_s is None else others.nearest("rt60_s", own.rt60_s), "alike"
