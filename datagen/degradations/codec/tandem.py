"""Two codecs in a row, as on a call that leaves one network for another, or a headset behind a telephone."""

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from datagen.degradations.base import Applied, Audio, Degradation, Drawn, Inputs, Scene, Tolerance
from datagen.degradations.codec.codec import (
    CONSTANT_RATE,
    broken_codec_promises,
    codec_severity,
    through_codec,
    widest_hz,
)
from datagen.degradations.codec.lag import best_match
from datagen.degradations.codec.mix import CodecMix, every_codec
from manifests.sample import Axis, Values

FIRST = "first_"
SECOND = "second_"
"""What the values and measurements of each codec begin with."""


class Tandem(Degradation):
    """Encodes and decodes twice, with codecs of two mixes, and converts the rate between; both delays are removed.

    Each codec keeps the promises that it keeps in `codec`.
    """

    name: ClassVar[str] = "tandem"
    axis: ClassVar[Axis | None] = "coloration"
    promises: ClassVar[Mapping[str, Tolerance]] = {
        f"{which}{name}": tolerance
        for which in (FIRST, SECOND)
        for name, tolerance in (("bitrate_kbps", CONSTANT_RATE), ("bandwidth_hz", Tolerance()))
    }
    first: CodecMix = every_codec()
    """Where the first codec is drawn from."""
    second: CodecMix = every_codec()
    """Where the second is drawn from; it may be the same one again."""

    def draw(self, rng: np.random.Generator, scene: Scene) -> Drawn:
        """Draw both codecs, each by its mix."""
        first, second = self.first.draw(rng), self.second.draw(rng)
        return Drawn(
            _named(FIRST, first) | _named(SECOND, second),
            bandwidth_hz=min(widest_hz(first), widest_hz(second)),
        )

    @staticmethod
    def apply(audio: Audio, values: Values, inputs: Inputs) -> Applied:
        """Send `audio` through both; measures what each of them delivered."""
        first = through_codec(audio, _of(FIRST, values))
        second = through_codec(first.audio, _of(SECOND, values))
        delay_samples = int(first.delay_samples + second.delay_samples)
        # Each was matched to what it was given; what is left of both could add up to more than half a sample.
        moved, rest = best_match(audio, second.audio, delay_samples)
        measured = _named(FIRST, dict(first.measured)) | _named(SECOND, dict(second.measured))
        measured["residual_lag_samples"] = round(rest, 3)
        return Applied(second.audio, float(delay_samples + moved), measured)

    @staticmethod
    def severity(values: Values, measured: Values) -> float:
        """Combine both as independent chances of disturbing: 1 - (1 - first) (1 - second)."""
        first = codec_severity(_of(FIRST, values), _of(FIRST, measured))
        second = codec_severity(_of(SECOND, values), _of(SECOND, measured))
        return 1.0 - (1.0 - first) * (1.0 - second)

    @classmethod
    def broken_promises(cls, values: Values, measured: Values) -> tuple[str, ...]:
        """Name what each codec did not deliver."""
        return tuple(
            which + name
            for which in (FIRST, SECOND)
            for name in broken_codec_promises(_of(which, values), _of(which, measured))
        )


def _named(which: str, values: Values) -> Values:
    return {which + name: value for name, value in values.items()}


def _of(which: str, values: Values) -> Values:
    return {name.removeprefix(which): value for name, value in values.items() if name.startswith(which)}
