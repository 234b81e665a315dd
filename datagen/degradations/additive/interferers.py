"""Other people who talk: one or two who can be understood, and the babble of many.

They are talkers of the sample's own split, never the sample's talker: a corpus that adds a talker to herself would
teach that some of her voice is noise.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, ClassVar

import numpy as np
from numpy.typing import NDArray

from datagen.degradations.additive.noise_rooms import draw_place, in_room
from datagen.degradations.additive.snr import SNR_TOLERANCE_DB, added_at_snr, severity_of_snr
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
from datagen.level import SILENCE_DBFS, active_level_dbfs, scaled
from manifests.names import SomeNames
from manifests.ranges import Probability, Span, Whole, Within, integer, uniform
from manifests.recipe import SAMPLE_RATE_HZ
from manifests.sample import Axis, Clip, Values
from manifests.source import Source
from manifests.sources import Sources

FADE_SAMPLES = 240
"""Utterances are faded over 5 ms at their edges, as those of the sample's talker are."""
SHORTEST_UTTERANCE_S = 0.3
"""A remainder that is shorter stays silent."""
EVEN_LEVEL_DBFS = -26.0
"""All utterances of a talker are brought to one active level: a talker does not jump from recording to recording."""
_QUIETER_TALKER_DB = (-10.0, 0.0)


class InterferingTalker(Degradation):
    """One or two other talkers of the split, at a signal-to-interferer ratio (SIR) of ITU-T P.56 active levels.

    Each begins anywhere and talks for a share of the sample, utterance after utterance. The SIR holds while they talk.
    """

    name: ClassVar[str] = "interfering_talker"
    axis: ClassVar[Axis | None] = "noisiness"
    promises: ClassVar[Mapping[str, Tolerance]] = {"sir_db": Tolerance(absolute=SNR_TOLERANCE_DB)}

    sir_db: Annotated[Span, Within(-30.0, 60.0)] = (0.0, 30.0)
    talkers: Annotated[Span, Whole(1, 4)] = (1.0, 2.0)
    """How many; never more than the split has. The second and later ones are up to 10 dB quieter than the first."""
    share: Annotated[Span, Within(0.01, 1.0)] = (0.2, 1.0)
    """Share of the sample from where one of them begins to where the same one ends."""
    pause_s: Annotated[Span, Within(0.0, 10.0)] = (0.1, 0.6)
    """Silence between two utterances."""
    room_share: Probability = 0.0
    """How often one comes through a room impulse response, chosen as that of `noise` is."""

    def draw(self, rng: np.random.Generator, scene: Scene) -> Drawn:
        """Draw the talkers, and of each the part, the utterances, the level and the place."""
        speech = scene.pool("speech")
        others = _other_talkers(speech, scene, self.name)
        count = min(integer(rng, self.talkers), len(others))
        speakers = [others[int(i)] for i in rng.choice(len(others), count, replace=False)]
        clips: list[Clip] = []
        responses: list[Clip] = []
        begins: list[list[int]] = []
        balance: list[float] = []
        rooms: list[str | None] = []
        relations: list[str | None] = []
        for speaker in speakers:
            length = max(1, round(uniform(rng, self.share) * scene.frames))
            begin = int(rng.integers(0, scene.frames - length + 1))
            of_speaker = speech.named("speaker", speaker)
            said = _utterances(rng, of_speaker, begin, begin + length, self.pause_s)
            clips += said
            begins.append([clip.at for clip in said])
            balance.append(round(uniform(rng, _QUIETER_TALKER_DB), 3) if len(balance) else 0.0)
            place = draw_place(rng, scene) if rng.random() < self.room_share else None
            responses += [place.clip] if place else []
            rooms.append(place.source.room if place else None)
            relations.append(place.relation if place else None)
        values: Values = {
            "sir_db": uniform(rng, self.sir_db),
            "speakers": speakers,
            "relative_db": balance,
            "begin_samples": begins,
            "rooms": rooms,
            "room_relations": relations,
        }
        return Drawn(values, (*clips, *responses))

    @staticmethod
    def apply(audio: Audio, values: Values, inputs: Inputs) -> Applied:
        """Let each talk where it was drawn, balance them by active level, and add them at the SIR.

        The clips are the utterances of the first talker, of the next, and after all of them the responses.

        Raises:
            CannotApply: when there is no speech, or a drawn talker says nothing.
        """
        clips = iter(inputs.clips)
        said = [_joined(begins, clips, len(audio)) for begins in values["begin_samples"]]
        heard = [
            in_room(track, next(clips)) if relation else track
            for track, relation in zip(said, values["room_relations"], strict=True)
        ]
        voices = _balanced(zip(heard, values["relative_db"], strict=True))
        return added_at_snr(audio, voices, values["sir_db"], inputs, name="sir")

    @staticmethod
    def severity(values: Values, measured: Values) -> float:
        """1 at -5 dB SIR, 0 at 40 dB."""
        return severity_of_snr(values["sir_db"])


class Babble(Degradation):
    """Three to eight voices at once, all equally loud, at an SNR of ITU-T P.56 active levels.

    They are other talkers of the split. Where it has fewer than there are voices, but two at least, some say several
    things at once.
    """

    name: ClassVar[str] = "babble"
    axis: ClassVar[Axis | None] = "noisiness"
    promises: ClassVar[Mapping[str, Tolerance]] = {"snr_db": Tolerance(absolute=SNR_TOLERANCE_DB)}

    snr_db: Annotated[Span, Within(-30.0, 60.0)] = (0.0, 25.0)
    voices: Annotated[Span, Whole(2, 32)] = (3.0, 8.0)
    """How many talk at once, all the time."""
    pause_s: Annotated[Span, Within(0.0, 10.0)] = (0.0, 0.4)
    """Silence between two utterances of a voice."""

    def draw(self, rng: np.random.Generator, scene: Scene) -> Drawn:
        """Draw the voices, what they say, and the SNR."""
        speech = scene.pool("speech")
        others = _other_talkers(speech, scene, self.name, at_least=2)
        count = integer(rng, self.voices)
        order = rng.permutation(len(others))
        speakers = [others[int(order[number % len(order)])] for number in range(count)]
        said = [
            _utterances(rng, speech.named("speaker", speaker), 0, scene.frames, self.pause_s)
            for speaker in speakers
        ]
        values: Values = {
            "snr_db": uniform(rng, self.snr_db),
            "speakers": speakers,
            "begin_samples": [[clip.at for clip in clips] for clips in said],
        }
        return Drawn(values, tuple(clip for clips in said for clip in clips))

    @staticmethod
    def apply(audio: Audio, values: Values, inputs: Inputs) -> Applied:
        """Mix the voices at one active level and add them at the SNR.

        Raises:
            CannotApply: when there is no speech, or a drawn voice says nothing.
        """
        clips = iter(inputs.clips)
        voices = _balanced((_joined(begins, clips, len(audio)), 0.0) for begins in values["begin_samples"])
        return added_at_snr(audio, voices, values["snr_db"], inputs)

    @staticmethod
    def severity(values: Values, measured: Values) -> float:
        """1 at -5 dB SNR, 0 at 40 dB."""
        return severity_of_snr(values["snr_db"])


def _other_talkers(speech: Sources, scene: Scene, stage: str, at_least: int = 1) -> SomeNames:
    """Names of talkers, sorted; that of the sample's own is left out, and those of whom nobody knows the name."""
    talkers = speech.names("speaker").without(scene.speaker)
    if len(talkers) < at_least:
        raise NoMaterial(
            f"stage {stage}: there is not another talker to draw (besides the sample's own it needs {at_least}) in a "
            "split that samples are made for; scan more speech, or remove the stage"
        )
    return talkers


def _utterances(
    rng: np.random.Generator, sources: Sequence[Source], begin: int, end: int, pause_s: Span
) -> list[Clip]:
    """Fill a part of the sample, in samples at 48 kHz, with what one talker said; the first is entered anywhere."""
    clips: list[Clip] = []
    queue: list[int] = []
    at = begin
    while end - at >= SHORTEST_UTTERANCE_S * SAMPLE_RATE_HZ or not clips:
        if not queue:
            queue = rng.permutation(len(sources)).tolist()
        source = sources[queue.pop()]
        frames = min(source.frames, -(-(end - at) * source.rate_hz // SAMPLE_RATE_HZ))
        start = 0 if clips else int(rng.integers(0, source.frames - frames + 1))
        gain_db = EVEN_LEVEL_DBFS - (
            EVEN_LEVEL_DBFS if source.active_level_dbfs is None else source.active_level_dbfs
        )
        clips.append(Clip(sha256=source.sha256, start=start, frames=frames, at=at, gain_db=round(gain_db, 3)))
        length = round(frames * SAMPLE_RATE_HZ / source.rate_hz)
        at += max(1, length) + round(uniform(rng, pause_s) * SAMPLE_RATE_HZ)
    return clips


def _joined(begins: Sequence[int], clips: Iterator[Audio], frames: int) -> NDArray[np.float32]:
    """Take as many clips as there are `begins` and put each in its place; shape (frames,)."""
    track = np.zeros(frames, np.float32)
    for begin in begins:
        utterance = next(clips)[: frames - begin].copy()
        fade = min(FADE_SAMPLES, len(utterance) // 2)
        ramp = np.linspace(0.0, 1.0, fade, dtype=np.float32)
        utterance[:fade] *= ramp
        utterance[len(utterance) - fade :] *= ramp[::-1]
        track[begin : begin + len(utterance)] += utterance
    return track


def _balanced(tracks: Iterator[tuple[NDArray[np.float32], float]]) -> NDArray[np.float32]:
    """Add up tracks, each at an active level in dB."""
    total = np.zeros(0, np.float32)
    for track, level_db in tracks:
        now_dbfs = active_level_dbfs(track)
        if now_dbfs <= SILENCE_DBFS:
            raise CannotApply("a drawn talker says nothing there")
        track = scaled(track, level_db - now_dbfs)
        total = np.add(total, track, out=total) if len(total) else track
    return total
