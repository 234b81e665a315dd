"""What one sample is (its spec, before rendering) and what it became (its record, in `KEY.json`)."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer

from manifests.canonical import digest
from manifests.recipe import Split, Stem, TargetSettings

KEY_PATTERN = r"^[A-Za-z0-9_-]+$"
FORMAT = 1

Axis = Literal["noisiness", "coloration", "discontinuity", "loudness", "reverberation"]
"""Perceptual dimensions of ITU-T P.804."""
AXES: tuple[Axis, ...] = ("noisiness", "coloration", "discontinuity", "loudness", "reverberation")

Values = dict[str, Any]
"""Drawn or measured values by name, JSON types only, units in the names."""


class _Recorded(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Clip(_Recorded):
    """A stretch of one source recording, named by content, and where it stands in the sample."""

    sha256: str
    start: int = Field(ge=0)
    """First frame, at the source's own rate."""
    frames: int = Field(gt=0)
    """Length, at the source's own rate."""
    at: int = 0
    """Where it begins in the sample, in samples at 48 kHz."""
    gain_db: float = 0.0
    channel: int = Field(default=0, ge=0)
    speed: float = Field(default=1.0, gt=0.0)
    """How many times as fast it is played, its pitch going with it."""

    @model_serializer(mode="wrap")
    def _written(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        content: dict[str, Any] = write(self)
        if self.speed == 1.0:
            del content["speed"]  # specs and records from before it keep their digests
        return content


class StageSpec(_Recorded):
    """One stage that fired, fully drawn: enough to apply it again without the recipe."""

    label: str
    """The stage's name, with `#2`, `#3` where it stands more than once in the recipe."""
    stage: str
    values: Values
    clips: tuple[Clip, ...] = ()
    package: str
    """Distribution that holds the code, with its version: `ssiforge 0.1.0`."""
    code_digest: str
    """Digest of the stage's source file and those of its package that it imports."""


class SampleSpec(_Recorded):
    """Everything that decides a sample's bytes."""

    format: int = FORMAT
    key: str = Field(pattern=KEY_PATTERN)
    split: Split
    index: int = Field(ge=0)
    """Number of the sample within its split."""
    attempt: int = Field(default=0, ge=0)
    """How many earlier draws of this sample failed."""
    seed: int
    frames: int = Field(gt=0)
    bits: Literal[16, 24]
    speech: tuple[Clip, ...]
    target: TargetSettings
    stems: tuple[Stem, ...] = ()
    stages: tuple[StageSpec, ...]

    @property
    def digest(self) -> str:
        """Identity of the spec."""
        return digest(self.model_dump(mode="json"))

    @property
    def clips(self) -> tuple[Clip, ...]:
        """Every source stretch used, speech first."""
        return (*self.speech, *(clip for stage in self.stages for clip in stage.clips))


class StageRecord(StageSpec):
    """A stage with what it did."""

    measured: Values = {}
    delay_samples: float = 0.0
    """Delay that the stage added and the engine removed."""
    severity: float = 0.0
    """0 (nothing audible) to 1 (as bad as it gets) on the stage's axis."""
    axis: Axis | None = None
    out_of_tolerance: tuple[str, ...] = ()
    """Drawn values that the stage promises to deliver, and did not."""


class SourceUse(_Recorded):
    """A source as a sample used it, with the facts that lineage asks for."""

    sha256: str
    kind: str
    group: str
    """Speaker, noise recording or room."""
    licence: str


class SampleRecord(_Recorded):
    """The content of `KEY.json`: the sample's whole truth."""

    format: int = FORMAT
    spec_digest: str
    key: str
    split: Split
    index: int
    attempt: int
    seed: int
    sample_rate_hz: int
    frames: int
    bits: Literal[16, 24]
    target: TargetSettings
    stems: tuple[Stem, ...]
    speech: tuple[Clip, ...]
    stages: tuple[StageRecord, ...]
    sources: tuple[SourceUse, ...]
    licences: tuple[str, ...]
    speaker: str
    measured: Values
    severity: dict[Axis, float]
    aligned: bool
