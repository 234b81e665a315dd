"""One simulated room: drawn from the bank's settings, rendered with pyroomacoustics, trimmed to its direct path.

Short reverberation is computed by image sources alone, of full order (Allen & Berkley, 1979). Above
`HYBRID_FROM_S` their number explodes, so three orders of reflections are image sources and the rest is noise whose
envelope comes from ray tracing (Schroeder, 2011, section 5.3). Image sources of a perfect box line up into sweeping
echoes that no real room has; moving each by a few centimetres removes them (De Sena et al., IEEE/ACM TASLP 23(4),
2015). Air absorption (ISO 9613-1) follows as a filter that changes with time.

Two parts of pyroomacoustics are replaced. Its ray-traced tail has a hole of up to 0.3 s when the talker is near,
because it waits for the first pulse at the rate of the direct path's arrival; and its air absorption is constant
within octaves and from 8 kHz upwards, which steps visibly in a 48 kHz spectrogram.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datagen.air import through_air
from datagen.rir import drr_db, rt60_s
from manifests.errors import UserError
from manifests.keyed import generator
from manifests.ranges import log_uniform, uniform
from manifests.recipe import SAMPLE_RATE_HZ, RoomBank

SPEED_OF_SOUND_M_S = 343.0
LEAD_SAMPLES = 96
"""Every simulated response starts 2 ms before its direct path: `rir[LEAD_SAMPLES]` is the direct path."""
HYBRID_FROM_S = 0.25
"""Image sources would be affordable up to 0.45 s, but a bare box decays in two slopes with flutter; rays scatter."""
HYBRID_ORDER = 3
LARGEST_ORDER = 90
"""Above this order (a million images, 0.2 GB) short reverberation in a tiny room is ray-traced as well."""
TRIM_DB = -80.0
"""The tail ends where the energy still to come lies this far below the whole."""

_WALL_MARGIN_M = 0.3
_ELEVATION_RAD = math.radians(30.0)
_DISPLACEMENT_M = 0.08
_SCATTERING = 0.3
"""Share of the energy that walls reflect in all directions; without it the tails of long rooms decay in two slopes."""
_MOST_ABSORBING = 1.2
"""Largest Sabine absorption drawn (Eyring: 70 % absorbed at each wall); beyond it no room reverberates."""
_DRAWS = 2_000
_SIMULATIONS = 6
_CLOSE_ENOUGH = 0.03
_END_FADE_SAMPLES = 240

Point = tuple[float, float, float]


@dataclass(frozen=True)
class RoomPlan:
    """A drawn room."""

    size_m: Point
    source_m: Point
    microphone_m: Point
    distance_m: float
    """A whole number of samples of sound travel, so that the direct path falls exactly on a sample."""
    rt60_s: float
    """Asked for."""


@dataclass(frozen=True)
class SimulatedRoom:
    """A rendered room."""

    rir: NDArray[np.float32]
    """Shape (N,), 48 kHz, peak 1.0, direct path at `LEAD_SAMPLES`."""
    plan: RoomPlan
    absorption: float
    """Share of the energy that a wall takes, found such that the realised RT60 comes close to the asked one."""
    method: str
    """`image sources` or `hybrid`."""
    rt60_s: float
    """Realised, measured from the response."""
    drr_db: float

    @property
    def error(self) -> float:
        """Realised over asked RT60, as a natural logarithm."""
        return math.log(self.rt60_s / self.plan.rt60_s)


def simulate(bank: RoomBank, number: int) -> SimulatedRoom:
    """Draw and render room `number` of a bank: a pure function of the bank's settings (not its count) and the number.

    Raises:
        UserError: when the bank's sizes, distances and RT60 contradict one another.
    """
    plan = draw_room(bank, number)
    exponent = _sabine_absorption(plan.size_m, plan.rt60_s)
    best: SimulatedRoom | None = None
    too_long: tuple[float, float] | None = None
    too_short: tuple[float, float] | None = None
    for _ in range(_SIMULATIONS):
        room = _rendered(plan, 1.0 - math.exp(-exponent), bank.seed, number)
        if room is None:  # all direct path: harder walls
            exponent *= 0.7
            continue
        if best is None or abs(room.error) < abs(best.error):
            best = room
        if abs(room.error) < _CLOSE_ENOUGH:
            break
        if room.error > 0.0:
            too_long = (exponent, room.error)
        else:
            too_short = (exponent, room.error)
        exponent = _next_exponent(exponent, room.error, too_long, too_short)
    if best is None:
        raise UserError(
            f"rooms: room {number} ({plan.rt60_s:.2f} s, talker {plan.distance_m:.2f} m away) has no measurable "
            "reverberation; allow longer rt60_s or distance_m"
        )
    return best


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


def draw_room(bank: RoomBank, number: int) -> RoomPlan:
    """Draw reverberation and distance first, then sizes and positions until they are possible together.

    Raises:
        UserError: when they never are.
    """
    rng = generator("simulated room", bank.seed, number)
    rt60 = log_uniform(rng, bank.rt60_s)
    step_m = SPEED_OF_SOUND_M_S / SAMPLE_RATE_HZ
    distance = round(log_uniform(rng, bank.distance_m) / step_m) * step_m
    for _ in range(_DRAWS):
        size = (uniform(rng, bank.length_m), uniform(rng, bank.width_m), uniform(rng, bank.height_m))
        microphone = tuple(uniform(rng, (_margin(side), side - _margin(side))) for side in size)
        azimuth = uniform(rng, (-math.pi, math.pi))
        elevation = uniform(rng, (-_ELEVATION_RAD, _ELEVATION_RAD))
        towards = (
            math.cos(azimuth) * math.cos(elevation),
            math.sin(azimuth) * math.cos(elevation),
            math.sin(elevation),
        )
        source = tuple(m + distance * t for m, t in zip(microphone, towards, strict=True))
        inside = all(_margin(side) <= x <= side - _margin(side) for x, side in zip(source, size, strict=True))
        if inside and _sabine_absorption(size, rt60) <= _MOST_ABSORBING:
            return RoomPlan(
                size,
                (source[0], source[1], source[2]),
                (microphone[0], microphone[1], microphone[2]),
                distance,
                rt60,
            )
    raise UserError(
        f"rooms: no room within length_m, width_m and height_m holds a talker {distance:.2f} m away and reverberates "
        f"for only {rt60:.2f} s; allow smaller rooms or longer rt60_s, or shorter distance_m"
    )


def _margin(side_m: float) -> float:
    return min(_WALL_MARGIN_M, side_m / 5.0)


def _sabine_absorption(size_m: Point, rt60: float) -> float:
    """Sabine: 24 ln(10) V / (c S RT60); above 1 it has no meaning, but Eyring's 1 - exp(-it) still does."""
    length, width, height = size_m
    volume = length * width * height
    surface = 2.0 * (length * width + length * height + width * height)
    return 24.0 * math.log(10.0) * volume / (SPEED_OF_SOUND_M_S * surface * rt60)


def _full_order(size_m: Point, rt60: float) -> int:
    """Image order that covers all paths as long as sound travels within RT60."""
    length, width, height = size_m
    narrowest = min(a * b / math.hypot(a, b) for a, b in ((length, width), (length, height), (width, height)))
    return math.ceil(SPEED_OF_SOUND_M_S * rt60 / narrowest - 1.0)


def _rendered(plan: RoomPlan, absorption: float, seed: int, number: int) -> SimulatedRoom | None:
    """Render a room; None when its response does not decay measurably."""
    order = _full_order(plan.size_m, plan.rt60_s)
    hybrid = plan.rt60_s >= HYBRID_FROM_S or order > LARGEST_ORDER
    library = _pyroomacoustics(seed, number)
    room = library.ShoeBox(
        plan.size_m,
        fs=SAMPLE_RATE_HZ,
        materials=library.Material(absorption, _SCATTERING if hybrid else None),
        max_order=HYBRID_ORDER if hybrid else max(order, HYBRID_ORDER),
    )
    if hybrid:
        room.set_ray_tracing(receiver_radius=_receiver_radius_m(plan.size_m))
    room.add_source(plan.source_m)
    room.add_microphone(plan.microphone_m)
    room.image_source_model()
    _displace_images(room.sources[0], plan, seed, number)
    if hybrid:
        room.ray_tracing()
        room.simulator_state["rt_needed"] = False
    room.compute_rir()
    # The library delays everything by half the length of its fractional-delay filters.
    response = np.asarray(room.rir[0][0], np.float64)[library.constants.get("frac_delay_length") // 2 :]
    if hybrid:
        response = _with_tail(response, room, generator("diffuse tail", seed, number))
    response = through_air(response, SAMPLE_RATE_HZ, SPEED_OF_SOUND_M_S)
    rir = _trimmed(response, round(plan.distance_m / SPEED_OF_SOUND_M_S * SAMPLE_RATE_HZ))
    realised_s, ratio_db = rt60_s(rir, SAMPLE_RATE_HZ), drr_db(rir, SAMPLE_RATE_HZ)
    if realised_s is None or not math.isfinite(ratio_db):
        return None
    return SimulatedRoom(
        rir=rir,
        plan=plan,
        absorption=absorption,
        method="hybrid" if hybrid else "image sources",
        rt60_s=realised_s,
        drr_db=ratio_db,
    )


def _receiver_radius_m(size_m: Point) -> float:
    """Half a metre in rooms up to 1000 m3; larger in halls, so that they need no more than 20,000 rays."""
    volume = size_m[0] * size_m[1] * size_m[2]
    return 0.5 * max(1.0, math.sqrt(volume / 1_000.0))


def _pyroomacoustics(seed: int, number: int) -> Any:
    """Import the library with one thread (more give other bytes) and its two random generators seeded."""
    import pyroomacoustics

    pyroomacoustics.constants.set("num_threads", 1)
    numpy_seed, tracer_seed = generator("ray tracing", seed, number).integers(0, 1 << 63, 2)
    pyroomacoustics.random.seed(numpy=int(numpy_seed), libroom=int(tracer_seed))
    return pyroomacoustics


def _displace_images(source: Any, plan: RoomPlan, seed: int, number: int) -> None:
    """Move every image but the direct path by up to 8 cm an axis, none of them nearer than the talker."""
    rng = generator("image sources", seed, number)
    moved = source.images + rng.uniform(-_DISPLACEMENT_M, _DISPLACEMENT_M, source.images.shape)
    distance = np.linalg.norm(moved - np.asarray(plan.microphone_m)[:, None], axis=0)
    keep = (source.orders == 0) | (distance <= plan.distance_m)
    source.images = np.where(keep, source.images, moved).astype(source.images.dtype)


def _with_tail(early: NDArray[np.float64], room: Any, rng: np.random.Generator) -> NDArray[np.float64]:
    """Add what the rays brought: Gaussian noise with the energy of the ray tracer's histogram in each time bin."""
    energy = room.rt_histograms[0][0][0].sum(axis=0)
    filled = np.flatnonzero(energy)
    if not len(filled):
        return early
    energy = energy[: filled[-1] + 1]
    bin_samples = room.rt_args["hist_bin_size_samples"]
    frames = len(energy) * bin_samples
    centres = (np.arange(len(energy)) + 0.5) * bin_samples
    envelope = np.sqrt(np.interp(np.arange(frames), centres, energy) / bin_samples)
    result = np.zeros(max(len(early), frames))
    result[: len(early)] = early
    result[:frames] += envelope * rng.standard_normal(frames)
    return result


def _trimmed(rir: NDArray[np.float64], direct: int) -> NDArray[np.float32]:
    """Cut to `LEAD_SAMPLES` before the direct path and to where the remaining energy falls below `TRIM_DB`."""
    rir = np.pad(rir, (max(0, LEAD_SAMPLES - direct), 0))[max(0, direct - LEAD_SAMPLES) :]
    # The zero-phase high-pass of the library rings before the direct path.
    rir[:LEAD_SAMPLES] *= np.linspace(0.0, 1.0, LEAD_SAMPLES) ** 2
    remaining = np.cumsum(rir[::-1] ** 2)[::-1]
    end = int(np.searchsorted(-remaining, -remaining[0] * 10.0 ** (TRIM_DB / 10.0)))
    rir = rir[: max(end, 2 * LEAD_SAMPLES)]
    fade = min(_END_FADE_SAMPLES, len(rir) - LEAD_SAMPLES - 1)
    rir[len(rir) - fade :] *= np.cos(np.linspace(0.0, math.pi / 2.0, fade)) ** 2
    trimmed: NDArray[np.float32] = (rir / np.abs(rir).max()).astype(np.float32)
    return trimmed
