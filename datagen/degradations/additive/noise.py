"""Recordings of the world around the talker, at an exact signal-to-noise ratio."""

from collections.abc import Mapping
from typing import Annotated, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from datagen.degradations.additive.noise_rooms import Place, draw_place, in_room
from datagen.degradations.additive.snr import (
    SNR_TOLERANCE_DB,
    added_at_snr,
    severity_of_snr,
)
from datagen.degradations.base import (
    Applied,
    Audio,
    CannotApply,
    Degradation,
    Drawn,
    Inputs,
    NoMaterial,
    Scene,
    Tolerance,
)
from datagen.degradations.room.conditioning import LEAD_SAMPLES
from datagen.level import SILENCE_DBFS, active_level_dbfs, rms_dbfs, scaled
from manifests.keyed import generator
from manifests.ranges import Probability, Span, Whole, Within, integer, uniform
from manifests.recipe import SAMPLE_RATE_HZ
from manifests.sample import Axis, Clip, Values
from manifests.source import Source

CROSSFADE_SAMPLES = 960
"""Repetitions of a short recording overlap by 20 ms, so that they do not click."""
_QUIETEST_SOURCE_DB = (-10.0, 0.0)


class EnvironmentalNoise(Degradation):
    """One to three recordings at once, from random places in them, at an SNR against the speech.

    The SNR is the difference of two ITU-T P.56 active levels, so neither pauses in the talk nor silence between barks
    count. Recordings can come through a room of their own and with a microphone's hiss on top, as in the synthesizer
    of the ICASSP Speech Signal Improvement challenge.
    """

    name: ClassVar[str] = "noise"
    axis: ClassVar[Axis | None] = "noisiness"
    promises: ClassVar[Mapping[str, Tolerance]] = {
        "snr_db": Tolerance(absolute=SNR_TOLERANCE_DB),
        "self_noise_db": Tolerance(absolute=SNR_TOLERANCE_DB),
    }

    snr_db: Annotated[Span, Within(-30.0, 60.0)] = (-5.0, 30.0)
    sources: Annotated[Span, Whole(1, 5)] = (1.0, 3.0)
    """How many recordings play at once; never more than the split has."""
    min_bandwidth_hz: float = Field(default=0.0, ge=0.0, le=24_000.0)
    """Recordings whose spectrum ends below this are not drawn."""
    room_share: Probability = 0.0
    """How often a recording comes through a room impulse response: one of the talker's room at another position;
    where that room has no other, the one with the nearest RT60; where the talker is in no room, any. Recordings stay
    as they are where the split has no such response."""
    self_noise_share: Probability = 0.0
    """How often white noise is added to the recordings."""
    self_noise_db: Annotated[Span, Within(-60.0, 20.0)] = (-10.0, 0.0)
    """RMS of that white noise against the RMS of the recordings; the SNR counts both."""

    def draw(self, rng: np.random.Generator, scene: Scene) -> Drawn:
        """Draw recordings (each at most once), a stretch and a room of each, their balance, hiss and the SNR."""
        pool = scene.pool("noise")
        if self.min_bandwidth_hz:
            pool = pool.within("bandwidth_hz", self.min_bandwidth_hz)
        if not pool:
            raise NoMaterial(_no_noise(scene, self.min_bandwidth_hz))
        count = min(integer(rng, self.sources), len(pool))
        chosen = [pool[int(i)] for i in rng.choice(len(pool), count, replace=False)]
        places: list[Place | None] = [None] * count
        if self.room_share:
            places = [draw_place(rng, scene) if rng.random() < self.room_share else None for _ in chosen]
        # A room needs to have been heard for as long as it rings before the sample begins.
        clips = tuple(
            _stretch(rng, source, scene.frames + (place.samples if place else 0))
            for source, place in zip(chosen, places, strict=True)
        )
        balance = [0.0, *(uniform(rng, _QUIETEST_SOURCE_DB) for _ in chosen[1:])]
        values: Values = {
            "snr_db": uniform(rng, self.snr_db),
            "relative_db": [round(x, 3) for x in balance],
            "begin_samples": [clip.at for clip in clips],
        }
        if self.room_share:
            values["rooms"] = [place.source.room if place else None for place in places]
            values["room_relations"] = [place.relation if place else None for place in places]
        if self.self_noise_share and rng.random() < self.self_noise_share:
            values["self_noise_db"] = uniform(rng, self.self_noise_db)
            values["self_noise_seed"] = int(rng.integers(0, 1 << 32))
        return Drawn(values, (*clips, *(place.clip for place in places if place)))

    @staticmethod
    def apply(audio: Audio, values: Values, inputs: Inputs) -> Applied:
        """Mix the clips by their active levels and add them at the drawn SNR.

        The clips are the recordings, and after them the responses of those that have a room, in the same order.

        Raises:
            CannotApply: when there is no speech, or one of the clips is silent.
        """
        balance = values["relative_db"]
        responses = iter(inputs.clips[len(balance) :])
        relations = values.get("room_relations") or [None] * len(balance)
        noise = np.zeros(0, np.float32)
        for clip, relative_db, begin, relation in zip(
            inputs.clips[: len(balance)], balance, values["begin_samples"], relations, strict=True
        ):
            part = _heard(clip, len(audio), begin, next(responses) if relation else None)
            level_dbfs = active_level_dbfs(part)
            if level_dbfs <= SILENCE_DBFS:
                raise CannotApply("the drawn stretch of noise is silent")
            part = scaled(part, relative_db - level_dbfs)
            noise = np.add(noise, part, out=noise) if len(noise) else part
        # One recording has the level that it was just given.
        noise_dbfs = balance[0] if len(balance) == 1 else None
        hiss: dict[str, float] = {}
        if values.get("self_noise_db") is not None:
            hiss["self_noise_db"] = _add_self_noise(noise, values["self_noise_db"], values["self_noise_seed"])
            noise_dbfs = None
        return added_at_snr(audio, noise, values["snr_db"], inputs, noise_dbfs=noise_dbfs, measured=hiss)

    @staticmethod
    def severity(values: Values, measured: Values) -> float:
        """1 at -5 dB SNR, 0 at 40 dB."""
        return severity_of_snr(values["snr_db"])


def repeated(clip: Audio, frames: int, begin: int) -> NDArray[np.float32]:
    """Fill `frames` with a clip that begins at `begin` (0 or before), again and again, crossfaded at the seams.

    The crossfade keeps power (sine and cosine), as neighbouring repetitions are not alike there.
    """
    if begin == 0 and len(clip) >= frames:
        return clip[:frames]
    fade = min(CROSSFADE_SAMPLES, len(clip) // 4)
    period = len(clip) - fade
    ramp = np.sin(np.linspace(0.0, np.pi / 2.0, fade, dtype=np.float32))
    seamless = clip.copy()
    seamless[:fade] = clip[:fade] * ramp + clip[period:] * ramp[::-1]
    loop = seamless[:period]
    phase = -begin % period
    return np.tile(loop, -(-(frames + phase) // period))[phase : phase + frames]


def _heard(clip: Audio, frames: int, begin: int, response: Audio | None) -> Audio:
    """Fill `frames` with a clip, in the room of `response`; the room was ringing with it before, as rooms do."""
    if response is None:
        return repeated(clip, frames, begin)
    before = len(response) + LEAD_SAMPLES
    return in_room(repeated(clip, before + frames, begin), response)[before:]


def _add_self_noise(noise: NDArray[np.float32], level_db: float, seed: int) -> float:
    """Add white noise in place at a level against the noise's RMS; return that level as measured."""
    hiss = generator("self noise", seed).standard_normal(len(noise), dtype=np.float32)
    noise_dbfs = rms_dbfs(noise)
    hiss *= np.float32(10.0 ** ((noise_dbfs + level_db - rms_dbfs(hiss)) / 20.0))
    delivered_db = rms_dbfs(hiss) - noise_dbfs
    noise += hiss
    return delivered_db


def _stretch(rng: np.random.Generator, source: Source, frames: int) -> Clip:
    """Draw where a recording is entered: a stretch of a long one, all of a short one from a random phase."""
    channel = int(rng.integers(0, max(1, source.channels)))
    # One frame more than needed: resampling rounds the length.
    needed = -(-frames * source.rate_hz // SAMPLE_RATE_HZ) + 1
    if source.frames >= needed:
        start = int(rng.integers(0, source.frames - needed + 1))
        return Clip(sha256=source.sha256, start=start, frames=needed, channel=channel)
    length = max(1, round(source.frames * SAMPLE_RATE_HZ / source.rate_hz))
    begin = -int(rng.integers(0, length))
    return Clip(sha256=source.sha256, start=0, frames=source.frames, at=begin, channel=channel)


def _no_noise(scene: Scene, min_bandwidth_hz: float) -> str:
    enough = f" with a bandwidth of at least {min_bandwidth_hz:g} Hz" if min_bandwidth_hz else ""
    return (
        f"stage noise: there is no usable noise recording{enough} in a split that samples are made for; "
        "scan more noise, or remove the stage"
    )
