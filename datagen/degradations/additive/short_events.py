"""Short events: clicks, key strokes, thumps of a handled microphone, and barks and taps cut out of recordings."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from datagen.degradations.additive.event_sounds import LENGTH_MS, synthetic_events
from datagen.degradations.additive.snr import severity_of_snr
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
from datagen.level import SILENCE_DBFS
from manifests.ranges import Span, Whole, Within, integer, one_of, uniform
from manifests.recipe import SAMPLE_RATE_HZ
from manifests.sample import Axis, Clip, Values
from manifests.source import Source

Kind = Literal["click", "key", "thump", "recorded"]

WINDOW_SAMPLES = 240
"""An event is as loud as its loudest 5 ms: by more, a click of the speech's level would have ten times its peak."""
LEVEL_TOLERANCE_DB = 0.1
PERIOD_S = 10.0
BUSIEST_PER_10_S = 20.0
STRETCH_S = 6.0
"""So much of a recording is searched for its loud moments."""
BLOCK_SAMPLES = 240
NEARBY_BLOCKS = 20
"""A loud moment is moved to the loudest block within 100 ms."""
FADE_IN_SAMPLES = 240
BEFORE_SHARE = 0.25
"""What is cut out of a recording has its loudest moment a quarter into it; its second half fades out."""


class ShortEvents(Degradation):
    """Single sounds of a fraction of a second, each at a time and a level of its own.

    `click` (a mouse, a bad contact), `key` (stroke and release of a computer key) and `thump` (a hand on the
    microphone or the table) are synthesised; `recorded` cuts loud moments out of noise recordings. Events do not
    overlap. The SNR of an event is the ITU-T P.56 active level of the speech less the RMS of the event's loudest
    5 ms.
    """

    name: ClassVar[str] = "short_events"
    axis: ClassVar[Axis | None] = "noisiness"
    promises: ClassVar[Mapping[str, Tolerance]] = {
        "loudest_snr_db": Tolerance(absolute=LEVEL_TOLERANCE_DB),
        "quietest_snr_db": Tolerance(absolute=LEVEL_TOLERANCE_DB),
    }

    event_snr_db: Annotated[Span, Within(-30.0, 60.0)] = (-6.0, 18.0)
    """Drawn for each event."""
    per_10_s: Annotated[Span, Within(0.1, 60.0)] = (1.0, 20.0)
    """How many events there are in ten seconds, as far as they fit; one at least."""
    kinds: tuple[Kind, ...] = Field(default=("click", "key", "thump", "recorded"), min_length=1)
    """One of them is drawn for a sample: typing is many keys of one keyboard. `recorded` is left out where the split
    has no noise recordings."""
    recordings: Annotated[Span, Whole(1, 8)] = (1.0, 2.0)
    """Of `recorded`: from how many recordings the events of a sample are cut."""
    recorded_ms: Annotated[Span, Within(20.0, 2_000.0)] = (60.0, 400.0)
    """Of `recorded`: how long an event is."""

    def draw(self, rng: np.random.Generator, scene: Scene) -> Drawn:
        """Draw what happens, and how often; of each event the time, the level and the sound."""
        kind = self._kind(rng, scene)
        per_10_s = uniform(rng, self.per_10_s)
        count = max(1, round(per_10_s * scene.frames / (PERIOD_S * SAMPLE_RATE_HZ)))
        lengths_ms = [
            uniform(rng, self.recorded_ms) if kind == "recorded" else LENGTH_MS[kind] for _ in range(count)
        ]
        begins, lengths = _placed(rng, lengths_ms, scene.frames)
        snr_db = [round(uniform(rng, self.event_snr_db), 3) for _ in begins]
        values: Values = {
            "kind": kind,
            "per_10_s": per_10_s,
            "begin_samples": begins,
            "length_samples": lengths,
            "event_snr_db": snr_db,
            "loudest_snr_db": min(snr_db),
            "quietest_snr_db": max(snr_db),
        }
        if kind != "recorded":
            return Drawn(values | {"sound_seed": int(rng.integers(0, 1 << 32))})
        pool = scene.sources("noise")
        chosen = rng.choice(len(pool), min(integer(rng, self.recordings), len(pool)), replace=False)
        clips = tuple(_stretch(rng, pool[int(i)]) for i in chosen)
        values["recording"] = [int(rng.integers(len(clips))) for _ in begins]
        values["energy_share"] = [float(rng.random()) for _ in begins]
        return Drawn(values, clips)

    def _kind(self, rng: np.random.Generator, scene: Scene) -> Kind:
        kinds = self.kinds if scene.sources("noise") else tuple(k for k in self.kinds if k != "recorded")
        if not kinds:
            raise NoMaterial(
                f"stage {self.name}: there is no usable noise recording in a split that samples are made for; "
                "scan some noise, or allow other kinds"
            )
        return one_of(rng, kinds)

    @staticmethod
    def apply(audio: Audio, values: Values, inputs: Inputs) -> Applied:
        """Make or cut out the events, and add each at its own SNR; measures them where they stand.

        Raises:
            CannotApply: when there is no speech, or a drawn recording is silent.
        """
        speech_dbfs = inputs.speech_level_dbfs
        if speech_dbfs <= SILENCE_DBFS:
            raise CannotApply("the speech is silent, so there is no SNR")
        events = np.zeros(len(audio), np.float32)
        places = list(zip(values["begin_samples"], values["length_samples"], strict=True))
        sounds = _sounds(values, inputs.clips)
        for sound, (begin, length), snr_db in zip(sounds, places, values["event_snr_db"], strict=True):
            loudest_db = loudest_window_dbfs(sound[:length])
            if loudest_db <= SILENCE_DBFS:
                raise CannotApply("the drawn stretch of noise is silent")
            gain = np.float32(10.0 ** ((speech_dbfs - snr_db - loudest_db) / 20.0))
            events[begin : begin + length][: len(sound)] = gain * sound[:length]
        delivered = [
            speech_dbfs - loudest_window_dbfs(events[begin : begin + length]) for begin, length in places
        ]
        measured = {
            "events": len(delivered),
            "event_snr_db": [round(snr_db, 3) + 0.0 for snr_db in delivered],
            "loudest_snr_db": min(delivered),
            "quietest_snr_db": max(delivered),
        }
        return Applied(audio + events, measured=measured, added=events)

    @staticmethod
    def severity(values: Values, measured: Values) -> float:
        """As noise of the events' mean SNR at 20 in ten seconds; half of that for one."""
        often = min(1.0, float(values["per_10_s"]) / BUSIEST_PER_10_S)
        return severity_of_snr(float(np.mean(values["event_snr_db"]))) * (0.5 + 0.5 * often)


def loudest_window_dbfs(sound: NDArray[np.float32]) -> float:
    """Return the highest RMS in dBFS of any 5 ms of a sound; what is shorter is filled up with silence."""
    energy = np.cumsum(np.square(sound, dtype=np.float64))
    if len(energy) > WINDOW_SAMPLES:
        energy[WINDOW_SAMPLES:] -= energy[:-WINDOW_SAMPLES].copy()
    loudest = float(energy.max()) / WINDOW_SAMPLES
    return 10.0 * math.log10(loudest) if loudest > 0.0 else -math.inf


def _placed(rng: np.random.Generator, lengths_ms: list[float], frames: int) -> tuple[list[int], list[int]]:
    """Draw where events begin so that none overlaps another; those that no longer fit are left out."""
    lengths = [min(frames, round(ms * SAMPLE_RATE_HZ / 1_000.0)) for ms in lengths_ms]
    ends = np.cumsum(lengths)
    count = max(1, int(np.searchsorted(ends, frames, side="right")))
    lengths, before = lengths[:count], np.concatenate(([0], ends[: count - 1]))
    # Sorted points in the time that is free, and the events before each pushed in between.
    free = np.sort(rng.integers(0, frames - int(ends[count - 1]) + 1, count))
    return [int(at) for at in free + before], lengths


def _stretch(rng: np.random.Generator, source: Source) -> Clip:
    frames = min(source.frames, round(STRETCH_S * source.rate_hz))
    start = int(rng.integers(0, source.frames - frames + 1))
    channel = int(rng.integers(0, max(1, source.channels)))
    return Clip(sha256=source.sha256, start=start, frames=frames, channel=channel)


def _sounds(values: Values, clips: Sequence[Audio]) -> Iterator[NDArray[np.float32]]:
    """Make the events one after the other, of no particular level."""
    lengths = values["length_samples"]
    if values["kind"] != "recorded":
        yield from synthetic_events(values["kind"], values["sound_seed"], len(lengths))
        return
    energies = [_block_energies(clip) for clip in clips]
    for which, share, length in zip(values["recording"], values["energy_share"], lengths, strict=True):
        yield _cut_out(clips[which], energies[which], share, length)


def _block_energies(clip: Audio) -> NDArray[np.float64]:
    blocks = max(1, len(clip) // BLOCK_SAMPLES)
    padded = np.zeros(blocks * BLOCK_SAMPLES, np.float32)
    padded[: len(clip)] = clip[: len(padded)]
    energies: NDArray[np.float64] = np.square(padded.reshape(blocks, -1)).sum(axis=1, dtype=np.float64)
    return energies


def _cut_out(
    clip: Audio, energies: NDArray[np.float64], energy_share: float, length: int
) -> NDArray[np.float32]:
    """Cut `length` samples around the moment by which a share of the clip's energy has passed.

    So a bark is found with a chance that grows with its loudness, and silence never.
    """
    passed = np.cumsum(energies)
    at = min(len(energies) - 1, int(np.searchsorted(passed, energy_share * passed[-1], side="right")))
    first = max(0, at - NEARBY_BLOCKS)
    loudest = first + int(np.argmax(energies[first : at + NEARBY_BLOCKS + 1]))
    begin = min(max(0, loudest * BLOCK_SAMPLES - round(BEFORE_SHARE * length)), max(0, len(clip) - length))
    sound: NDArray[np.float32] = clip[begin : begin + length].copy()
    fade_in, fade_out = min(FADE_IN_SAMPLES, len(sound) // 4), len(sound) // 2
    sound[:fade_in] *= np.linspace(0.0, 1.0, fade_in, dtype=np.float32)
    sound[len(sound) - fade_out :] *= 0.5 + 0.5 * np.cos(np.linspace(0.0, np.pi, fade_out, dtype=np.float32))
    return sound
