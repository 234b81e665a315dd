"""A recipe: how samples are made. What a user edits to get another corpus.

The settings of each stage are declared beside the code that applies them (`datagen/degradations`, or a user's
package); here they are carried as they were written, and `datagen.degradations.bind` checks them.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from manifests.ranges import Probability, Span, Within

SAMPLE_RATE_HZ = 48_000

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")
TargetKind = Literal["dry", "early", "reverberant"]
Stem = Literal["dry", "reverberant", "noise"]
TimeWarps = Literal["mark", "exclude", "follow"]


class _Declared(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SpeechSettings(_Declared):
    """Which clean speech is used, and how utterances are joined to fill a sample."""

    min_bandwidth_hz: float = Field(default=0.0, ge=0.0, le=24_000.0)
    """Sources whose spectrum ends below this are not drawn: a full-band target needs full-band speech."""
    max_clipped_share: float = Field(default=0.001, ge=0.0, le=1.0)
    gap_s: Annotated[Span, Within(0.0, 5.0)] = (0.1, 0.5)
    """Silence between joined utterances of one talker, in seconds."""
    draw_by: Literal["length", "speaker"] = "length"
    """What makes a sample's first utterance likely: `length`, every second of speech alike, or `speaker`, every talker
    alike, however much of them there is."""
    speed: Annotated[Span, Within(0.5, 2.0)] = (1.0, 1.0)
    """How many times as fast a sample's talker is played, drawn log-uniformly: pitch and formants go with it, so few
    talkers become more (Ko et al., Interspeech 2015). `min_bandwidth_hz` holds at the slowest."""


class TargetSettings(_Declared):
    """What the network shall produce."""

    kind: TargetKind = "dry"
    active_level_dbfs: float = Field(default=-26.0, ge=-60.0, le=-10.0)
    """ITU-T P.56 active level of every target."""
    early_ms: float = Field(default=50.0, gt=0.0, le=500.0)
    """For `early` targets: how much of the RIR after its direct path belongs to the target."""
    time_warps: TimeWarps = "mark"
    """Of stages that move speech in time (clock drift, jitter buffers): `mark` the sample as not aligned, `exclude`
    these stages, or let the target `follow`, so that the pair stays aligned."""


class RoomBank(_Declared):
    """Rooms simulated with pyroomacoustics once, cached by content, and drawn by the `room` stage."""

    count: int = Field(default=64, ge=1, le=1_000_000)
    """Rooms, each of which gives `positions` responses. More of them leave the first ones as they are."""
    positions: int = Field(default=2, ge=1, le=8)
    """Places in each room from which talkers and noises are heard, by one microphone: a response each."""
    rt60_s: Annotated[Span, Within(0.05, 3.0)] = (0.1, 1.0)
    """Reverberation time T20 of a room, drawn log-uniformly; its responses come within 15 % of it."""
    length_m: Annotated[Span, Within(1.5, 30.0)] = (3.0, 10.0)
    width_m: Annotated[Span, Within(1.5, 30.0)] = (3.0, 8.0)
    height_m: Annotated[Span, Within(2.0, 10.0)] = (2.5, 4.0)
    distance_m: Annotated[Span, Within(0.1, 10.0)] = (0.2, 3.0)
    """From each position to the microphone, drawn log-uniformly."""
    seed: int = 0


class OutputSettings(_Declared):
    """How samples are written."""

    bits: Literal[16, 24] = 16
    samples_per_shard: int = Field(default=32, ge=1, le=100_000)
    stems: tuple[Stem, ...] = ()


class SplitShares(_Declared):
    """Shares of the samples in each split; they must sum to 1."""

    train: Probability = 0.9
    val: Probability = 0.05
    test: Probability = 0.05

    @model_validator(mode="after")
    def _sum_to_one(self) -> "SplitShares":
        if abs(self.train + self.val + self.test - 1.0) > 1e-6:
            raise ValueError("train, val and test must sum to 1")
        return self


class Limits(_Declared):
    """How much may go wrong before the job stops."""

    max_attempts: int = Field(default=8, ge=1, le=100)
    """Draws of one sample before it counts as lost."""
    max_failed_share: Probability = 0.1
    """Failed draws over all draws; above it the job stops with an error."""


class StageEntry(_Declared):
    """One step of the chain: a stage with its probability, or one chosen among alternatives.

    Written flat: `{stage: noise, p: 0.6, snr_db: [-5, 30]}`; everything that is not a field here is a setting
    of the stage. With `one_of`, one alternative is chosen by `weight`; `stage: none` is the empty one. With
    `how_many` beside it, several are chosen, each at most once, and applied in the order in which they are listed.
    """

    stage: str = ""
    p: Probability = 1.0
    weight: float = Field(default=1.0, ge=0.0)
    optional: bool = False
    """In a split that holds nothing for the stage to draw from, leave it out (and say so) instead of failing."""
    one_of: tuple["StageEntry", ...] = ()
    how_many: tuple[Probability, ...] = ()
    """With `one_of`: probabilities of taking none, one, two, ... different alternatives, instead of `p`."""
    settings: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _gather_settings(cls, raw: Any) -> Any:
        if not isinstance(raw, dict):
            raise ValueError("must be a mapping such as {stage: noise, p: 0.6, snr_db: [-5, 30]}")
        own = {key: value for key, value in raw.items() if key in cls.model_fields}
        settings = {key: value for key, value in raw.items() if key not in cls.model_fields}
        if settings:
            own["settings"] = {**own.get("settings", {}), **settings}
        return own

    @model_validator(mode="after")
    def _one_form(self) -> "StageEntry":
        if bool(self.stage) == bool(self.one_of):
            raise ValueError("needs either 'stage' or 'one_of'")
        if self.one_of and self.settings:
            raise ValueError(f"'{sorted(self.settings)[0]}' belongs in an alternative, not beside 'one_of'")
        if self.one_of and sum(choice.weight for choice in self.one_of) <= 0:
            raise ValueError("the weights of 'one_of' must not all be 0")
        if self.how_many:
            self._check_how_many()
        return self

    def _check_how_many(self) -> None:
        if not self.one_of or self.p != 1.0:
            raise ValueError("'how_many' belongs beside 'one_of', without 'p'")
        possible = sum(choice.weight > 0.0 for choice in self.one_of)
        if len(self.how_many) > possible + 1:
            raise ValueError(f"'how_many' has more entries than 0 to {possible} alternatives")
        if abs(sum(self.how_many) - 1.0) > 1e-6:
            raise ValueError("the probabilities of 'how_many' must sum to 1")

    def written(self) -> dict[str, Any]:
        """Return the entry in the flat form in which users write it."""
        optional = {"optional": True} if self.optional else {}
        if self.one_of:
            return {
                **({"how_many": list(self.how_many)} if self.how_many else {"p": self.p}),
                **optional,
                "one_of": [choice.written() | {"weight": choice.weight} for choice in self.one_of],
            }
        return {"stage": self.stage, "p": self.p, **optional, **self.settings}


class Recipe(_Declared):
    """A complete recipe. `digest(recipe.written())` of the bound recipe is its identity."""

    name: str = Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")
    description: str = ""
    seconds: float = Field(default=10.0, ge=0.5, le=120.0)
    """Length of every sample in seconds."""
    speech: SpeechSettings = SpeechSettings()
    target: TargetSettings = TargetSettings()
    splits: SplitShares = SplitShares()
    rooms: RoomBank | None = None
    undistorted: Probability = 0.0
    """Share of the samples that only stages which are always there (`p: 1`) degrade: from pairs that differ in nothing
    else, a network learns to leave good speech alone."""
    stages: tuple[StageEntry, ...]
    output: OutputSettings = OutputSettings()
    limits: Limits = Limits()

    @field_validator("stages")
    @classmethod
    def _some_stages(cls, stages: tuple[StageEntry, ...]) -> tuple[StageEntry, ...]:
        if not stages:
            raise ValueError("must name at least one stage")
        return stages

    @property
    def frames(self) -> int:
        """Samples per channel of every stem at 48 kHz."""
        return round(self.seconds * SAMPLE_RATE_HZ)

    def written(self) -> dict[str, Any]:
        """Return the recipe as plain JSON values, stages in the flat form, ready for YAML or a digest."""
        content = self.model_dump(mode="json")
        if not self.undistorted:
            del content["undistorted"]  # recipes and corpora from before it keep their digests
        if self.speech.draw_by == "length":
            del content["speech"]["draw_by"]  # the same
        if self.speech.speed == (1.0, 1.0):
            del content["speech"]["speed"]  # the same
        content["stages"] = [entry.written() for entry in self.stages]
        return content
