"""Clipping, asked for by how much of the signal it hits: hard, soft or asymmetric."""

import math
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from datagen.degradations.base import Applied, Audio, CannotApply, Degradation, Drawn, Inputs, Scene
from datagen.level import rms_dbfs, scaled
from manifests.ranges import Probability, Span, Within, log_uniform, uniform
from manifests.sample import Axis, Values

Kind = Literal["hard", "soft", "asymmetric"]

MILDEST_SHARE = 1e-4
WORST_SHARE = 0.25
FEWEST_SAMPLES = 2
"""The loudest sample alone is its own ceiling: with two, one at least is cut."""
SOFTEST_RELIEF = 0.4
"""By how much the softest knee makes it less bad than a hard one."""


class Clipping(Degradation):
    """Limits the amplitude.

    `hard` and `soft` take a share of the samples, at both ends alike: the ceiling is the quantile of the
    magnitude that lets exactly this share reach it. `soft` bends instead of cutting: above the ceiling c it goes
    on as c + k tanh((|x| - c) / k). `asymmetric` cuts at one quantile from below and another from above.
    """

    name: ClassVar[str] = "clipping"
    axis: ClassVar[Axis | None] = "coloration"
    kinds: tuple[Kind, ...] = Field(default=("hard", "soft", "asymmetric"), min_length=1)
    share: Annotated[Span, Within(1e-5, 0.9)] = (0.001, 0.2)
    """Of `hard` and `soft`: share of the samples that reach the ceiling."""
    softness: Annotated[Span, Within(0.01, 4.0)] = (0.1, 1.0)
    """Of `soft`: k / c, how far above the ceiling the signal can still go."""
    low_quantile: Annotated[Span, Within(0.0, 0.49)] = (0.0, 0.1)
    """Of `asymmetric`: share of the samples below the lower limit."""
    high_quantile: Annotated[Span, Within(0.51, 1.0)] = (0.9, 1.0)
    """Of `asymmetric`: share of the samples below the upper limit."""
    restore_level: Probability = 0.5
    """How often the clipped signal is brought back to the level that it had."""

    def draw(self, rng: np.random.Generator, scene: Scene) -> Drawn:
        """Draw the kind, how much it hits (log-uniform share), and whether the level is restored."""
        values: Values = {"kind": self.kinds[int(rng.integers(len(self.kinds)))]}
        if values["kind"] == "asymmetric":
            values["low_quantile"] = uniform(rng, self.low_quantile)
            values["high_quantile"] = uniform(rng, self.high_quantile)
        else:
            values["share"] = log_uniform(rng, self.share)
        if values["kind"] == "soft":
            values["softness"] = log_uniform(rng, self.softness)
        values["restore_level"] = bool(rng.random() < self.restore_level)
        return Drawn(values)

    @staticmethod
    def apply(audio: Audio, values: Values, inputs: Inputs) -> Applied:
        """Clip; measures the share of samples that were hit and the gain that restored the level."""
        if values["kind"] == "asymmetric":
            clipped, hit = _between_quantiles(audio, values["low_quantile"], values["high_quantile"])
        else:
            clipped, hit = _above_share(audio, values["share"], values.get("softness"))
        gain_db = rms_dbfs(audio) - rms_dbfs(clipped) if values["restore_level"] else 0.0
        return Applied(
            scaled(clipped, gain_db) if gain_db else clipped,
            measured={"clipped_share": hit / len(audio), "restored_db": round(gain_db, 3)},
        )

    @staticmethod
    def severity(values: Values, measured: Values) -> float:
        """Delivered share on a logarithmic axis, 0.01 % to 25 %; a soft knee relieves."""
        share = max(float(measured["clipped_share"]), MILDEST_SHARE)
        hardness = 1.0 - SOFTEST_RELIEF * min(1.0, float(values.get("softness", 0.0)))
        return hardness * min(1.0, math.log(share / MILDEST_SHARE) / math.log(WORST_SHARE / MILDEST_SHARE))


def _above_share(audio: Audio, share: float, softness: float | None) -> tuple[Audio, int]:
    magnitude = np.abs(audio)
    count = min(len(audio), max(FEWEST_SAMPLES, round(share * len(audio))))
    rank = len(audio) - count
    ceiling = np.partition(magnitude, rank)[rank] if rank < len(audio) else np.float32(0.0)
    if ceiling <= 0.0 or magnitude.max() <= ceiling:
        raise CannotApply(f"no {share:.2%} of the samples stand out above the rest")
    hit = int(np.count_nonzero(magnitude >= ceiling))
    if softness is None:
        return np.clip(audio, -ceiling, ceiling), hit
    knee = np.float32(softness) * ceiling
    above = np.flatnonzero(magnitude > ceiling)
    bent = audio.copy()
    bent[above] = np.copysign(ceiling + knee * np.tanh((magnitude[above] - ceiling) / knee), audio[above])
    return bent, hit


def _between_quantiles(audio: Audio, low_quantile: float, high_quantile: float) -> tuple[Audio, int]:
    low, high = np.quantile(audio, [low_quantile, high_quantile]).astype(np.float32)
    clipped = np.clip(audio, low, high)
    hit = int(np.count_nonzero(clipped != audio))
    if hit == 0 or low >= high:
        raise CannotApply("no sample lies outside the drawn quantiles")
    return clipped, hit
