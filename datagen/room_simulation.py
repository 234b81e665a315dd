"""One simulated room: rendered with pyroomacoustics, tuned to its reverberation time, checked against its plan.

Short reverberation is computed by image sources alone, of full order (Allen & Berkley, 1979). Above
`HYBRID_FROM_S` their number explodes, so three orders of reflections are image sources and the rest is noise whose
envelope comes from ray tracing (Schroeder, 2011, section 5.3). Image sources of a perfect box line up into sweeping
echoes that no real room has; moving each by a few centimetres removes them (De Sena et al., IEEE/ACM TASLP 23(4),
2015). Air absorption (ISO 9613-1) follows as a filter that changes with time.

All positions of a room share one simulation, seen from the other end: sound goes from the microphone to them, and by
reciprocity every response is the same (all are omnidirectional). Eight positions cost two and a half times as much
as one, and the search for the walls' absorption is done once.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from datagen.room_plan import (
    SPEED_OF_SOUND_M_S,
    Point,
    RoomPlan,
    asked_rt60_s,
    draw_plan,
    sabine_absorption,
)
from datagen.room_response import LEAD_SAMPLES, SimulatedResponse, finished, with_tail
from manifests.errors import UserError
from manifests.keyed import generator
from manifests.recipe import SAMPLE_RATE_HZ, RoomBank

HYBRID_FROM_S = 0.25
"""Image sources would be affordable up to 0.45 s, but a bare box decays in two slopes: from -25 to -45 dB it takes 1.5
times as long as from -5 to -25 dB (rays, which scatter: 1.1 times)."""
HYBRID_ORDER = 3
LARGEST_ORDER = 90
"""Above this order (a million images, 0.2 GB) short reverberation in a tiny room is ray-traced as well."""
RT60_TOLERANCE = 0.15
"""A response whose RT60 is further from the asked one, as a share of it, is not kept."""
DIRECT_TOLERANCE_DB = 1.0
"""A direct path must be as loud as its distance makes it (1/r), within this: a reflection may fall on it."""
MOST_ATTEMPTS = 10

_DISPLACEMENT_M = 0.08
_SCATTERING = 0.3
"""Share of the energy that walls reflect in all directions; without it the tails of long rooms decay in two slopes."""
_FIRST_GUESS = {"hybrid": 0.81, "image sources": 0.97}
"""Median of the exponents found over those of Eyring's formula."""
_SIMULATIONS = 5
_CLOSE_ENOUGH = 0.06
_TOO_DEAD_STEP = 0.7


@dataclass(frozen=True)
class SimulatedRoom:
    """A rendered room: one response for each position of its plan."""

    plan: RoomPlan
    responses: tuple[SimulatedResponse, ...]
    absorption: float
    """Share of the energy that a wall takes, found such that the realised RT60 comes close to the asked one."""
    method: str
    """`image sources` or `hybrid`."""
    attempt: int = 0
    """How many drawn rooms were given up before this one."""

    @property
    def errors(self) -> tuple[float, ...]:
        """Realised over asked RT60 of each position, as natural logarithms."""
        return tuple(math.log(response.rt60_s / self.plan.rt60_s) for response in self.responses)

    @property
    def fault(self) -> str | None:
        """Say what is not as it was asked for; None for a good room."""
        for response, metres in zip(self.responses, self.plan.distances_m, strict=True):
            if abs(response.rt60_s / self.plan.rt60_s - 1.0) > RT60_TOLERANCE:
                return f"an RT60 of {response.rt60_s:.3f} s"
            if response.direct_frame != LEAD_SAMPLES or abs(response.direct_error_db) > DIRECT_TOLERANCE_DB:
                return f"no clear direct path from a talker {metres:.2f} m away"
        return None


def simulate(bank: RoomBank, number: int) -> SimulatedRoom:
    """Draw and render room `number` of a bank: a pure function of the bank's settings (not its count) and the number.

    A room that does not become what was asked for is drawn again, with the same RT60.

    Raises:
        UserError: when the bank's sizes, distances and RT60 contradict one another.
    """
    asked_s = asked_rt60_s(bank, number)
    fault = ""
    for attempt in range(MOST_ATTEMPTS):
        plan = draw_plan(bank, number, attempt)
        room = plan and _tuned(plan, (bank.seed, number, attempt))
        if room and room.fault is None:
            return replace(room, attempt=attempt)
        if plan is None:
            fault = "no size that is so dead and holds its talkers"
        else:
            fault = (room and room.fault) or "no measurable reverberation"
    raise UserError(
        f"rooms: room {number}, to reverberate for {asked_s:.2f} s, still has {fault} after {MOST_ATTEMPTS} draws; "
        "allow longer rt60_s, other distance_m, or smaller length_m, width_m and height_m"
    )


def _tuned(plan: RoomPlan, key: tuple[int, int, int]) -> SimulatedRoom | None:
    """Render a room until its RT60 is close to the asked one; None when it has no measurable reverberation.

    The exponent is Eyring's: a wall leaves exp(-exponent) of the energy.
    """
    exponent = sabine_absorption(plan.size_m, plan.rt60_s) * _FIRST_GUESS[_method(plan)]
    best: SimulatedRoom | None = None
    too_long: tuple[float, float] | None = None
    too_short: tuple[float, float] | None = None
    for _ in range(_SIMULATIONS):
        room = _rendered(plan, 1.0 - math.exp(-exponent), key)
        if room is None:  # all direct path: harder walls
            exponent *= _TOO_DEAD_STEP
            continue
        if best is None or _worst(room) < _worst(best):
            best = room
        error = sum(room.errors) / len(room.errors)
        if abs(error) < _CLOSE_ENOUGH:
            break
        if error > 0.0:
            too_long = (exponent, error)
        else:
            too_short = (exponent, error)
        exponent = _next_exponent(exponent, error, too_long, too_short)
    return best


def _worst(room: SimulatedRoom) -> float:
    return max(abs(error) for error in room.errors)


def _next_exponent(
    exponent: float, error: float, too_long: tuple[float, float] | None, too_short: tuple[float, float] | None
) -> float:
    """Between an exponent that gave too long an RT60 and one that gave too short: interpolate. Else step by Eyring.

    Eyring has RT60 inversely proportional to the exponent; air, and a near talker's direct sound, make it otherwise.
    """
    if too_long and too_short:
        share = too_long[1] / (too_long[1] - too_short[1])
        return too_long[0] * float((too_short[0] / too_long[0]) ** share)
    return float(np.clip(exponent * math.exp(error), 0.005, 2.5))


def _method(plan: RoomPlan) -> str:
    hybrid = plan.rt60_s >= HYBRID_FROM_S or _full_order(plan) > LARGEST_ORDER
    return "hybrid" if hybrid else "image sources"


def _full_order(plan: RoomPlan) -> int:
    """Image order that covers all paths as long as sound travels within RT60."""
    length, width, height = plan.size_m
    narrowest = min(a * b / math.hypot(a, b) for a, b in ((length, width), (length, height), (width, height)))
    return max(HYBRID_ORDER, math.ceil(SPEED_OF_SOUND_M_S * plan.rt60_s / narrowest - 1.0))


def _rendered(plan: RoomPlan, absorption: float, key: tuple[int, int, int]) -> SimulatedRoom | None:
    """Render the responses of a room; None when one of them does not decay measurably."""
    method = _method(plan)
    hybrid = method == "hybrid"
    library = _pyroomacoustics(key)
    room = library.ShoeBox(
        plan.size_m,
        fs=SAMPLE_RATE_HZ,
        materials=library.Material(absorption, _SCATTERING if hybrid else None),
        max_order=HYBRID_ORDER if hybrid else _full_order(plan),
    )
    if hybrid:
        room.set_ray_tracing(receiver_radius=_receiver_radius_m(plan.size_m))
    room.add_source(plan.microphone_m)
    room.add_microphone_array(np.array(plan.positions_m).T)
    room.image_source_model()
    first_frames = _displace_images(room.sources[0], plan, key)
    if hybrid:
        room.ray_tracing()
        room.simulator_state["rt_needed"] = False
    room.compute_rir()
    responses = []
    for position, metres in enumerate(plan.distances_m):
        # The library delays everything by half the length of its fractional-delay filters.
        heard = np.asarray(room.rir[position][0], np.float64)[
            library.constants.get("frac_delay_length") // 2 :
        ]
        if hybrid:
            histogram = room.rt_histograms[position][0][0].sum(axis=0)
            noise = generator("diffuse tail", *key, position)
            bin_samples = room.rt_args["hist_bin_size_samples"]
            heard = with_tail(heard, histogram, bin_samples, first_frames[position], noise)
        response = finished(heard, plan.direct_frames[position], metres)
        if response is None:
            return None
        responses.append(response)
    return SimulatedRoom(plan, tuple(responses), absorption, method)


def _receiver_radius_m(size_m: Point) -> float:
    """Half a metre in rooms up to 1000 m3; larger in halls, so that they need no more than 20,000 rays."""
    volume = size_m[0] * size_m[1] * size_m[2]
    return 0.5 * max(1.0, math.sqrt(volume / 1_000.0))


def _pyroomacoustics(key: tuple[int, int, int]) -> Any:
    """Import the library with one thread (more give other bytes) and its two random generators seeded."""
    import pyroomacoustics

    pyroomacoustics.constants.set("num_threads", 1)
    pyroomacoustics.constants.set("rir_hpf_enable", False)
    numpy_seed, tracer_seed = generator("ray tracing", *key).integers(0, 1 << 63, 2)
    pyroomacoustics.random.seed(numpy=int(numpy_seed), libroom=int(tracer_seed))
    return pyroomacoustics


def _displace_images(source: Any, plan: RoomPlan, key: tuple[int, int, int]) -> tuple[int, ...]:
    """Move every image but the direct path by up to 8 cm an axis, none of them nearer to a position than the source.

    Returns:
        When the first reflection arrives at each position, in samples after the sound was sent.
    """
    rng = generator("image sources", *key)
    moved = source.images + rng.uniform(-_DISPLACEMENT_M, _DISPLACEMENT_M, source.images.shape)
    away = np.ones(source.images.shape[1], bool)
    for position, metres in zip(plan.positions_m, plan.distances_m, strict=True):
        away &= np.linalg.norm(moved - np.asarray(position)[:, None], axis=0) > metres
    keep = (source.orders == 0) | ~away
    source.images = np.where(keep, source.images, moved).astype(source.images.dtype)
    reflections = source.images[:, source.orders > 0]
    nearest_m = [np.linalg.norm(reflections - np.asarray(p)[:, None], axis=0).min() for p in plan.positions_m]
    return tuple(int(metres / SPEED_OF_SOUND_M_S * SAMPLE_RATE_HZ) for metres in nearest_m)
