"""The contract of a stage: draw and apply are apart, values are recorded, delays are declared.

A degradation is one class. Its pydantic fields are the settings that a recipe may give; `draw` turns them into
plain values for one sample; `apply` turns audio and those values into audio, and looks at nothing else:

```python
class Tremolo(Degradation):
    \"\"\"Amplitude modulation by a sine.\"\"\"

    name: ClassVar[str] = "tremolo"
    axis: ClassVar[Axis | None] = "discontinuity"
    rate_hz: Annotated[Span, Within(0.1, 20.0)] = (2.0, 8.0)
    depth: Annotated[Span, Within(0.01, 1.0)] = (0.2, 0.9)

    def draw(self, rng, scene):
        return Drawn({"rate_hz": uniform(rng, self.rate_hz), "depth": uniform(rng, self.depth)})

    @staticmethod
    def apply(audio, values, inputs):
        phase = 2 * np.pi * values["rate_hz"] * np.arange(len(audio)) / SAMPLE_RATE_HZ
        return Applied(audio * (1 - values["depth"] * (0.5 + 0.5 * np.sin(phase))))
```
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from datagen.level import active_level_dbfs
from datagen.time_map import TimeMap
from manifests.errors import UserError
from manifests.recipe import TargetKind
from manifests.sample import Axis, Clip, Values
from manifests.source import Kind, Source
from manifests.sources import Sources, sources_of

Audio = NDArray[np.float32]
"""Mono audio at 48 kHz, shape (N,), full scale 1.0."""


class CannotApply(Exception):
    """A stage cannot do what was drawn on this audio; the sample is drawn again and the reason recorded."""


class NoMaterial(UserError):
    """The split holds nothing that a stage could draw from; a recipe may say `optional: true` for such stages."""


@dataclass(frozen=True)
class Tolerance:
    """How far a measured value may lie from the drawn value of the same name."""

    absolute: float = 0.0
    """In the unit of the value."""
    relative: float = 0.0
    """As a share of the drawn value."""

    def holds(self, drawn: float, measured: float) -> bool:
        """Whether `measured` is what was drawn, as far as it can be."""
        return abs(measured - drawn) <= self.absolute + self.relative * abs(drawn) + 1e-9


@dataclass(frozen=True)
class Scene:
    """What a draw may look at: facts about the sample, never its audio."""

    frames: int
    """Length of the sample at 48 kHz."""
    bandwidth_hz: float
    """Where the spectrum of the speech ends: of the clean speech, or of what the stages before have left of it."""
    sources: Callable[[Kind], Sequence[Source]]
    """Usable sources of a kind in this sample's split, in catalogue order."""
    speaker: str = ""
    """Who talks."""
    rir: Source | None = None
    """The response through which the talker was put into a room, by a stage before; None for no room."""

    def pool(self, kind: Kind) -> Sources:
        """Those sources, to choose among without looking at each."""
        return sources_of(self.sources(kind))


@dataclass(frozen=True)
class Drawn:
    """What was drawn for one sample: JSON values with units in their names, and stretches of sources."""

    values: Values
    clips: tuple[Clip, ...] = ()
    rir: Source | None = None
    """Of a stage that puts the talker into a room: the response, for the stages that come after (`Scene.rir`)."""
    bandwidth_hz: float | None = None
    """Of a stage that takes away the top of the spectrum: where what it leaves ends, so that the stages after it are
    drawn where there is something left for them (`Scene.bandwidth_hz`)."""


@dataclass(frozen=True)
class Inputs:
    """What `apply` may use besides the audio and its values."""

    clips: tuple[Audio, ...] = ()
    """One read-only array for each drawn clip at 48 kHz mono: its stretch, gain applied, unplaced."""
    reference: Audio | None = None
    """The speech component of the audio: without the additive stages that came before."""

    @cached_property
    def speech_level_dbfs(self) -> float:
        """P.56 active level of the speech component, in dBFS: what every SNR refers to."""
        if self.reference is None:
            raise CannotApply("there is no speech to refer an SNR to")
        return active_level_dbfs(self.reference)


@dataclass(frozen=True)
class Applied:
    """What a stage did."""

    audio: Audio
    """May be longer than the input by the delay; the engine removes the delay and cuts to length."""
    delay_samples: float = 0.0
    """By how much `audio` lags the input, in samples at 48 kHz."""
    measured: Mapping[str, Any] = field(default_factory=dict)
    """What was delivered, beside the drawn values; JSON types, units in the names."""
    added: Audio | None = None
    """For additive stages: exactly what was added."""
    speech: Audio | None = None
    """For additive stages that also change the speech: what became of `Inputs.reference`."""
    time_map: TimeMap | None = None
    """For stages that move parts of the signal in time: from where each part of the result was taken."""


class Degradation(BaseModel, ABC):
    """Base of every stage. Subclasses declare settings as pydantic fields and implement `draw` and `apply`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: ClassVar[str]
    """What a recipe calls it."""
    axis: ClassVar[Axis | None] = None
    """The P.804 dimension that it worsens most."""
    promises: ClassVar[Mapping[str, Tolerance]] = {}
    """What is delivered as it was drawn: names that `Drawn.values` and `Applied.measured` share. A measured value
    outside its tolerance is an error in tests, and is counted in `corpus.json`."""
    warps_time: ClassVar[bool] = False
    """Moves parts of the signal in time, and says how in `Applied.time_map`. What becomes of such samples is up to
    `target.time_warps` of the recipe."""

    @abstractmethod
    def draw(self, rng: np.random.Generator, scene: Scene) -> Drawn:
        """Draw everything that `apply` will need. The only place for randomness (noise too: draw a seed)."""

    @staticmethod
    @abstractmethod
    def apply(audio: Audio, values: Values, inputs: Inputs) -> Applied:
        """Degrade `audio`, shape (N,), read-only. A pure function: same arguments, same bytes.

        The engine hands over nothing shorter than 50 ms and nothing that is not finite.

        Raises:
            CannotApply: when the drawn values make no sense on this audio.
        """

    @staticmethod
    def severity(values: Values, measured: Values) -> float:
        """How bad it is on `axis`: 0 inaudible to 1 worst, rising with the strength of the degradation."""
        return 0.5

    @classmethod
    def broken_promises(cls, values: Values, measured: Values) -> tuple[str, ...]:
        """Name the promised values that were not delivered within their tolerances (or not measured)."""
        return tuple(
            name
            for name, tolerance in cls.promises.items()
            if values.get(name) is not None
            and (measured.get(name) is None or not tolerance.holds(values[name], measured[name]))
        )

    @staticmethod
    def on_target(target: Audio, values: Values, inputs: Inputs, kind: TargetKind, early_ms: float) -> Audio:
        """What the stage does to the target. Nothing, except for rooms when the recipe asks for reverberation."""
        return target
