"""Planning: which speech, which degradations, with which values. A pure function of (catalogue, recipe, seed, index).

Every draw has its own keyed generator, named by what it is for, so adding a stage to a recipe leaves the draws of
all others as they were, unless it changes the scene that they find (the room, where the spectrum ends); and no draw
depends on how many samples came before.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial

import numpy as np

from datagen.cumulative import CumulativeSums
from datagen.degradations import BoundChoice, BoundRecipe, BoundStep, provenance
from datagen.degradations.base import Degradation, Drawn, NoMaterial, Scene
from manifests.catalogue import Catalogue
from manifests.errors import UserError
from manifests.keyed import generator
from manifests.ranges import log_uniform, uniform
from manifests.recipe import SAMPLE_RATE_HZ, SPLITS, Recipe, Split
from manifests.sample import Clip, SampleSpec, StageSpec
from manifests.source import Kind, Source
from manifests.sources import Sources

MIN_UTTERANCE_S = 0.3
"""A remainder shorter than this is left silent instead of being filled with the first syllable of an utterance."""


@dataclass(frozen=True)
class Material:
    """What may be drawn from in one split."""

    split: Split
    speech: Sources
    noise: Sources
    rir: Sources
    speakers_alike: bool = False

    @cached_property
    def _lengths_s(self) -> CumulativeSums:
        return CumulativeSums(len(self.speech), partial(self.speech.values, "seconds"))

    def an_utterance(self, rng: np.random.Generator) -> Source:
        """Draw an utterance with a probability proportional to its length, of all or of a talker drawn before."""
        if self.speakers_alike:
            said = self.of_speaker(self._speakers[int(rng.integers(len(self._speakers)))])
            ends_s = np.cumsum(said.values("seconds", 0, len(said)))
            return said[int(np.searchsorted(ends_s, rng.uniform(0.0, ends_s[-1])))]
        return self.speech[self._lengths_s.first_reaching(rng.uniform(0.0, self._lengths_s.total))]

    @cached_property
    def _speakers(self) -> Sequence[str | None]:
        """All talkers; speech without a speaker counts as that of one more."""
        names = self.speech.names("speaker")
        return [*names, None] if len(self.of_speaker(None)) else names

    def of_speaker(self, speaker: str | None) -> Sources:
        """Everything said by one talker."""
        return self.speech.named("speaker", speaker)

    def sources(self, kind: Kind) -> Sources:
        """Sources of one kind."""
        return {"speech": self.speech, "noise": self.noise, "rir": self.rir}[kind]


def material(catalogue: Catalogue, recipe: Recipe, split: Split) -> Material:
    """Select what the recipe admits of a catalogue for one split.

    Raises:
        UserError: when no speech is left.
    """
    speech = admitted(recipe, catalogue.of("speech", split))
    if not speech:
        slowest = recipe.speech.speed[0]
        played = "" if slowest == 1.0 else f" when played {slowest:g} times as fast"
        raise UserError(
            f"recipe {recipe.name}: the catalogue has no usable speech in split '{split}' with at least "
            f"{recipe.speech.min_bandwidth_hz:g} Hz of bandwidth{played}; add talkers, lower "
            f"speech.min_bandwidth_hz, or set splits.{split}=0"
        )
    by_speaker = recipe.speech.draw_by == "speaker"
    return Material(split, speech, catalogue.of("noise", split), catalogue.of("rir", split), by_speaker)


def admitted(recipe: Recipe, speech: Sources) -> Sources:
    """Return the speech that is good enough to be a target under this recipe; what was not measured counts as 0.

    It must be so at every speed: what is played slower ends lower.
    """
    slowest = recipe.speech.speed[0]
    return speech.kept(
        lambda of: (
            (slowest * np.nan_to_num(of("bandwidth_hz"), nan=0.0) >= recipe.speech.min_bandwidth_hz)
            & (np.nan_to_num(of("clipped_share"), nan=0.0) <= recipe.speech.max_clipped_share)
        )
    )


def samples_of_splits(recipe: Recipe, total: int) -> dict[Split, int]:
    """Distribute `total` samples over the splits by their shares, at least one for each share above 0."""
    shares = recipe.splits.model_dump()
    wanted: list[Split] = [split for split in SPLITS if shares[split] > 0.0]
    if total < len(wanted):
        raise UserError(f"{total} samples are too few for the splits {', '.join(wanted)}; ask for more")
    counts: dict[Split, int] = {split: max(1, round(total * shares[split])) for split in wanted}
    largest = max(wanted, key=lambda split: shares[split])
    counts[largest] += total - sum(counts.values())
    return {split: counts[split] for split in wanted}


def sample_key(split: str, index: int) -> str:
    """Key of a sample in its shard: `train-00000012`."""
    return f"{split}-{index:08d}"


def plan(pool: Material, bound: BoundRecipe, seed: int, index: int, attempt: int = 0) -> SampleSpec:
    """Draw one sample completely.

    Args:
        pool: what may be drawn from.
        bound: the recipe with its stages.
        seed: seed of the corpus.
        index: number of the sample within the split.
        attempt: 0, or how many earlier draws of this sample could not be rendered.

    Raises:
        UserError: when a stage finds no sources to draw from.
    """
    recipe = bound.recipe
    key = (seed, pool.split, index, attempt)
    speed = _draw_speed(recipe, key)
    speech = _draw_speech(pool, recipe, key, speed)
    heard = [
        source for sha256 in {c.sha256: None for c in speech} for source in pool.speech.with_sha256(sha256)
    ]
    scene = Scene(
        frames=recipe.frames,
        bandwidth_hz=played_bandwidth_hz(heard, speed),
        sources=pool.sources,
        speaker=heard[0].speaker or "",
    )
    stages = []
    for step in _steps(bound, key):
        for choice in _choices(step, key):
            if choice.stage is None or is_excluded(choice.stage, recipe):
                continue
            try:
                drawn = choice.stage.draw(generator(*key, choice.label, "values"), scene)
            except NoMaterial:
                if not choice.optional:
                    raise
                continue
            scene = _scene_after(scene, drawn)
            stages.append(_specified(choice.label, choice.stage, drawn))
    return SampleSpec(
        key=sample_key(pool.split, index),
        split=pool.split,
        index=index,
        attempt=attempt,
        seed=seed,
        frames=recipe.frames,
        bits=recipe.output.bits,
        speech=speech,
        target=recipe.target,
        stems=recipe.output.stems,
        stages=tuple(stages),
    )


_Key = tuple[int, str, int, int]


def _steps(bound: BoundRecipe, key: _Key) -> list[BoundStep]:
    """Draw whether the sample is among the recipe's undistorted ones, which have only the steps that never rest."""
    share = bound.recipe.undistorted
    if not share or generator(*key, "undistorted").random() >= share:
        return list(bound.steps)
    return [step for step in bound.steps if step.is_constant]


def _choices(step: BoundStep, key: _Key) -> list[BoundChoice]:
    """Draw how many alternatives of a step are taken, and which; in the order of the recipe."""
    at = generator(*key, step.label, "fires").random()
    count = int(np.searchsorted(np.cumsum(step.how_many[:-1]), at, side="right"))
    if not count or len(step.choices) == 1:
        return list(step.choices[:count])
    weights = np.array([choice.weight for choice in step.choices])
    rng = generator(*key, step.label, "choice")
    taken = rng.choice(len(weights), count, replace=False, p=weights / weights.sum())
    return [step.choices[int(i)] for i in sorted(taken)]


def is_excluded(stage: Degradation, recipe: Recipe) -> bool:
    """Whether a recipe keeps a stage from firing because it would move speech against its target."""
    return stage.warps_time and recipe.target.time_warps == "exclude"


def _scene_after(scene: Scene, drawn: Drawn) -> Scene:
    """What the next stage finds: the talker in a room, the top of the spectrum gone."""
    left_hz = scene.bandwidth_hz if drawn.bandwidth_hz is None else drawn.bandwidth_hz
    return replace(scene, rir=drawn.rir or scene.rir, bandwidth_hz=min(scene.bandwidth_hz, left_hz))


def _specified(label: str, stage: Degradation, drawn: Drawn) -> StageSpec:
    package, code_digest = provenance(type(stage))
    return StageSpec(
        label=label,
        stage=stage.name,
        values=drawn.values,
        clips=drawn.clips,
        package=package,
        code_digest=code_digest,
    )


def _draw_speed(recipe: Recipe, key: _Key) -> float:
    """Draw how fast the talker is played: apart from all else, so that who is heard does not depend on it."""
    slowest, fastest = recipe.speech.speed
    if slowest == fastest:
        return slowest
    return round(log_uniform(generator(*key, "speech", "speed"), (slowest, fastest)), 4)


def played_bandwidth_hz(heard: Iterable[Source], speed: float) -> float:
    """Where the spectrum of sources ends at the least, played so many times as fast, at 48 kHz."""
    return min(0.5 * SAMPLE_RATE_HZ, *(speed * (source.bandwidth_hz or 0.0) for source in heard))


def _draw_speech(pool: Material, recipe: Recipe, key: _Key, speed: float) -> tuple[Clip, ...]:
    """Fill the sample with utterances of one talker, gaps between them, each at the target's level."""
    rng = generator(*key, "speech")
    first = pool.an_utterance(rng)
    said = pool.of_speaker(first.speaker)
    queue: list[int] = []
    clips: list[Clip] = []
    at = 0
    while recipe.frames - at >= MIN_UTTERANCE_S * SAMPLE_RATE_HZ or not clips:
        if clips and not queue:
            queue = rng.permutation(len(said)).tolist()
        source = said[queue.pop(0)] if clips else first
        clip = _stretch(source, recipe, at, speed, first_of_sample=not clips, rng=rng)
        clips.append(clip)
        length = round(clip.frames * SAMPLE_RATE_HZ / (source.rate_hz * speed))
        at += max(length, 1) + round(uniform(rng, recipe.speech.gap_s) * SAMPLE_RATE_HZ)
    return tuple(clips)


def _stretch(
    source: Source, recipe: Recipe, at: int, speed: float, first_of_sample: bool, rng: np.random.Generator
) -> Clip:
    room = math.ceil((recipe.frames - at) * source.rate_hz * speed / SAMPLE_RATE_HZ)
    frames = min(source.frames, room)
    latest = source.frames - frames
    start = int(rng.integers(0, latest + 1)) if first_of_sample else 0
    gain_db = recipe.target.active_level_dbfs - (source.active_level_dbfs or recipe.target.active_level_dbfs)
    return Clip(
        sha256=source.sha256, start=start, frames=frames, at=at, gain_db=round(gain_db, 3), speed=speed
    )
