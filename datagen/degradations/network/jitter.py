"""A jitter buffer that follows its network: what it plays is stretched, shortened, and sometimes said twice."""

import math
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from datagen.degradations.base import (
    Applied,
    Audio,
    CannotApply,
    Degradation,
    Drawn,
    Inputs,
    Scene,
    Tolerance,
)
from datagen.lateness import lateness, loudest
from datagen.level import peak_dbfs
from datagen.time_map import Piece, TimeMap
from manifests.ranges import Span, Within, log_uniform, one_of, uniform
from manifests.recipe import SAMPLE_RATE_HZ
from manifests.sample import Axis, Values

Kind = Literal["stretch", "skip", "stutter"]

PER_MS = SAMPLE_RATE_HZ / 1_000
FADE_SAMPLES = round(5 * PER_MS)
"""Of the crossfade at each join."""
MATCH_SAMPLES = round(10 * PER_MS)
"""How much of what would have come is compared with what comes instead."""
WINDOW_SAMPLES = round(100 * PER_MS)
"""How much of a piece is looked for to measure how late it is."""
SEARCH_MS = 5.0
"""How far from the drawn length a cut may move to find the same place in the pitch, if that is 100 Hz or above."""
SHORTEST_MS = 2.5
"""A join never moves less: the shortest pitch period, 400 Hz."""
MARGIN_MS = 20.0
"""Kept free at the ends of the clip, beside what may be moved."""
SPREAD = 0.6
"""Each event falls into the middle of a stretch of its own, this share of it, so that none touches the next."""
LARGEST_SHARE = 0.25
"""Of a short clip that may be moved, whatever the settings say."""
HEARD_BELOW_PEAK_DB = 40.0
"""An event in what is quieter is not heard."""
WORST_PER_MINUTE = 90.0
MATCHED = 0.5
"""A join at the same place in the pitch is as bad as this share of a stutter."""


class Jitter(Degradation):
    """Moves speech in time as an adaptive jitter buffer does, event by event.

    A `stretch` plays the last moments again, a `skip` leaves some out, both cut where the pitch is alike: within 5 ms
    of the drawn length, at the best correlation (as in WSOLA, Verhelst and Roelands, ICASSP 1993, and in the time
    scaling of WebRTC's NetEQ). A `stutter` repeats a packet as it is. How far the speech is from its place stays
    within a bound, and the last event brings it back as far as it can. Joined with crossfades of 5 ms; the length is
    kept. Moves the speech in time.
    """

    name: ClassVar[str] = "jitter"
    axis: ClassVar[Axis | None] = "discontinuity"
    warps_time: ClassVar[bool] = True
    promises: ClassVar[Mapping[str, Tolerance]] = {
        "event_count": Tolerance(),
        "largest_offset_ms": Tolerance(absolute=SEARCH_MS + 0.1),
    }

    events_per_minute: Annotated[Span, Within(1.0, 240.0)] = (6.0, 60.0)
    """At least one happens in every sample."""
    event_ms: Annotated[Span, Within(10.0, 250.0)] = (10.0, 120.0)
    """How much is played again or left out; drawn on a logarithmic axis."""
    kinds: tuple[Kind, ...] = Field(default=("stretch", "skip", "stutter"), min_length=1)
    """Where one of these would leave the bound, its opposite happens: a `skip`, or a `stretch`."""
    max_offset_ms: float = Field(default=150.0, ge=10.0, le=1_000.0)
    """How far the speech may be from its place, early or late."""

    def draw(self, rng: np.random.Generator, scene: Scene) -> Drawn:
        """Draw the events: when, which kind, and by how much the speech is moved (positive: later)."""
        seconds = scene.frames / SAMPLE_RATE_HZ
        bound_ms = min(self.max_offset_ms, LARGEST_SHARE * 1_000 * seconds)
        lengths_ms = (min(self.event_ms[0], bound_ms), min(self.event_ms[1], bound_ms))
        count = max(1, math.floor(uniform(rng, self.events_per_minute) * seconds / 60.0 + rng.random()))
        edge_s = (MARGIN_MS + bound_ms) / 1_000
        slot_s = max(0.0, seconds - 2.0 * edge_s) / count
        events: list[Values] = []
        offsets_ms = [0.0]
        for number in range(count):
            at_s = edge_s + slot_s * (number + 0.5 + SPREAD * (rng.random() - 0.5))
            kind = one_of(rng, self.kinds)
            moved_ms = log_uniform(rng, lengths_ms) * (-1.0 if kind == "skip" else 1.0)
            if number == count - 1 and abs(offsets_ms[-1]) >= lengths_ms[0]:
                moved_ms = -math.copysign(min(abs(offsets_ms[-1]), lengths_ms[1]), offsets_ms[-1])
            elif abs(offsets_ms[-1] + moved_ms) > bound_ms:
                moved_ms = -moved_ms
            if (kind == "skip") != (moved_ms < 0.0):
                kind = "skip" if moved_ms < 0.0 else "stretch"
            offsets_ms.append(offsets_ms[-1] + moved_ms)
            events.append({"kind": kind, "at_s": at_s, "moved_ms": moved_ms})
        largest_ms = max(map(abs, offsets_ms))
        return Drawn({"events": events, "event_count": count, "largest_offset_ms": largest_ms})

    @staticmethod
    def apply(audio: Audio, values: Values, inputs: Inputs) -> Applied:
        """Cut, move and join; measures the largest offset in the result, and how many joins are in loud places.

        Raises:
            CannotApply: when the clip is too short for an event.
        """
        pieces = _pieces(audio, values["events"])
        time_map = TimeMap(tuple(pieces), FADE_SAMPLES)
        moved = time_map.applied(audio)
        offsets = np.array([piece.at - piece.source for piece in pieces])
        loud = peak_dbfs(moved) - HEARD_BELOW_PEAK_DB
        heard = [peak_dbfs(_around(moved, piece.at)) > loud for piece in pieces[1:]]
        stuttered = [event["kind"] == "stutter" for event in values["events"]]
        minutes = len(audio) / SAMPLE_RATE_HZ / 60.0
        measured = {
            "event_count": int(np.count_nonzero(np.diff(offsets))),
            "largest_offset_ms": abs(_found_offset(audio, moved, pieces, int(np.argmax(np.abs(offsets)))))
            / PER_MS,
            "final_offset_ms": float(offsets[-1]) / PER_MS,
            "heard_events_per_minute": sum(heard) / minutes,
            "heard_stutters_per_minute": float(np.dot(heard, stuttered)) / minutes,
        }
        return Applied(moved, measured=measured, time_map=time_map)

    @staticmethod
    def severity(values: Values, measured: Values) -> float:
        """Rises with the events that fall into speech, a stutter counting twice; 1 from 90 stutters a minute on."""
        stutters = float(measured["heard_stutters_per_minute"])
        joins = float(measured["heard_events_per_minute"]) - stutters
        return math.sqrt(min(1.0, (stutters + MATCHED * joins) / WORST_PER_MINUTE))


def _pieces(audio: Audio, events: list[dict[str, Any]]) -> list[Piece]:
    """Cut `audio` at each event; errors of one event's search are made up for by the next."""
    pieces = [Piece(0, 0)]
    offset, wanted = 0, 0.0
    for event in events:
        at = round(event["at_s"] * SAMPLE_RATE_HZ)
        wanted += event["moved_ms"] * PER_MS
        if event["kind"] == "stutter":
            offset += round(event["moved_ms"] * PER_MS)
        else:
            offset += _move(audio, at - offset, wanted - offset)
        if not 0 <= at - offset <= len(audio) - MATCH_SAMPLES:
            raise CannotApply("the clip is too short for a drawn event")
        pieces.append(Piece(at, at - offset))
    return pieces


def _move(audio: Audio, now: int, wanted: float) -> int:
    """Return by how much to go back from `now` (forward: negative), about `wanted`, so that the sound goes on alike.

    The normalised correlation decides between what would have come and what comes instead.
    """
    span = (max(SHORTEST_MS * PER_MS, abs(wanted) - SEARCH_MS * PER_MS), abs(wanted) + SEARCH_MS * PER_MS)
    least, most = sorted(round(math.copysign(samples, wanted)) for samples in span)
    coming = audio[max(now, 0) : now + MATCH_SAMPLES]
    instead = audio[max(now - most, 0) : now - least + MATCH_SAMPLES]
    if len(coming) < MATCH_SAMPLES or len(instead) < most - least + MATCH_SAMPLES:
        raise CannotApply("the clip is too short for a drawn event")
    likeness = np.correlate(instead, coming, "valid")
    power = np.cumsum(np.concatenate(([0.0], np.square(instead, dtype=np.float64))))
    likeness = likeness / np.sqrt(power[MATCH_SAMPLES:] - power[:-MATCH_SAMPLES] + 1e-12)
    return most - int(np.argmax(likeness)) if likeness.max() > 0.0 else round(wanted)


def _around(audio: Audio, at: int) -> Audio:
    return audio[max(0, at - MATCH_SAMPLES) : at + MATCH_SAMPLES]


def _found_offset(audio: Audio, moved: Audio, pieces: list[Piece], number: int) -> float:
    """Find one piece of the result in what it was made of; return how late it is, in samples."""
    piece = pieces[number]
    offset = piece.at - piece.source
    end = pieces[number + 1].at if number + 1 < len(pieces) else len(audio)
    window = loudest(moved, min(piece.at + FADE_SAMPLES, end), min(end, len(audio) + offset), WINDOW_SAMPLES)
    if window is None:
        return offset
    return -lateness(moved, audio, *window, furthest=2 * abs(offset) + MATCH_SAMPLES)
