"""What a simulated room is before it sounds: its size, where one hears and talks, and how long it shall reverberate."""

import math
from dataclasses import dataclass

import numpy as np

from manifests.keyed import generator
from manifests.ranges import log_uniform, uniform
from manifests.recipe import SAMPLE_RATE_HZ, RoomBank

SPEED_OF_SOUND_M_S = 343.0

_WALL_MARGIN_M = 0.3
_ELEVATION_RAD = math.radians(30.0)
_MOST_ABSORBING = 1.2
"""Largest Sabine absorption drawn (Eyring: 70 % absorbed at each wall); beyond it no room reverberates."""
_ROOMS_DRAWN = 500
_DIRECTIONS_DRAWN = 12

Point = tuple[float, float, float]


@dataclass(frozen=True)
class RoomPlan:
    """A drawn room with one microphone and one or more positions of a talker (or of a noise)."""

    size_m: Point
    microphone_m: Point
    positions_m: tuple[Point, ...]
    distances_m: tuple[float, ...]
    """Of the positions to the microphone. Whole numbers of samples of sound travel, so that the direct path falls
    exactly on a sample."""
    rt60_s: float
    """Asked for."""

    @property
    def direct_frames(self) -> tuple[int, ...]:
        """When the direct path of each position arrives, in samples after it was sent."""
        return tuple(round(metres / SPEED_OF_SOUND_M_S * SAMPLE_RATE_HZ) for metres in self.distances_m)


def asked_rt60_s(bank: RoomBank, number: int) -> float:
    """Draw the reverberation time of a room, log-uniform."""
    return log_uniform(generator("simulated room", bank.seed, number), bank.rt60_s)


def draw_plan(bank: RoomBank, number: int, attempt: int = 0) -> RoomPlan | None:
    """Draw reverberation and distances first, then sizes and places until they are possible together.

    Every attempt asks for the same RT60, so that redrawing rooms does not favour what is easily rendered.

    Args:
        bank: settings; its count plays no part.
        number: of the room.
        attempt: which draw of this room.

    Returns:
        None when the drawn distances and RT60 fit into no room of the allowed sizes.
    """
    rt60 = asked_rt60_s(bank, number)
    rng = generator("simulated room", bank.seed, number, attempt)
    step_m = SPEED_OF_SOUND_M_S / SAMPLE_RATE_HZ
    distances = tuple(
        max(1, round(log_uniform(rng, bank.distance_m) / step_m)) * step_m for _ in range(bank.positions)
    )
    for _ in range(_ROOMS_DRAWN):
        size = (uniform(rng, bank.length_m), uniform(rng, bank.width_m), uniform(rng, bank.height_m))
        if sabine_absorption(size, rt60) > _MOST_ABSORBING:
            continue
        x, y, z = (uniform(rng, (_margin(side), side - _margin(side))) for side in size)
        microphone = (x, y, z)
        positions = [_position(rng, size, microphone, distance) for distance in distances]
        inside = tuple(position for position in positions if position is not None)
        if len(inside) == len(distances):
            return RoomPlan(size, microphone, inside, distances, rt60)
    return None


def sabine_absorption(size_m: Point, rt60_s: float) -> float:
    """Sabine: 24 ln(10) V / (c S RT60); above 1 it has no meaning, but Eyring's 1 - exp(-it) still does."""
    length, width, height = size_m
    volume = length * width * height
    surface = 2.0 * (length * width + length * height + width * height)
    return 24.0 * math.log(10.0) * volume / (SPEED_OF_SOUND_M_S * surface * rt60_s)


def _position(
    rng: np.random.Generator, size_m: Point, microphone_m: Point, distance_m: float
) -> Point | None:
    """Draw a direction from the microphone in which `distance_m` ends inside the room."""
    for _ in range(_DIRECTIONS_DRAWN):
        azimuth = uniform(rng, (-math.pi, math.pi))
        elevation = uniform(rng, (-_ELEVATION_RAD, _ELEVATION_RAD))
        flat_m = distance_m * math.cos(elevation)
        position = (
            microphone_m[0] + flat_m * math.cos(azimuth),
            microphone_m[1] + flat_m * math.sin(azimuth),
            microphone_m[2] + distance_m * math.sin(elevation),
        )
        if all(
            _margin(side) <= at <= side - _margin(side) for at, side in zip(position, size_m, strict=True)
        ):
            return position
    return None


def _margin(side_m: float) -> float:
    return min(_WALL_MARGIN_M, side_m / 5.0)
