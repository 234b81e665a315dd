"""Clipping, asked for by how much of the signal it hits or by how much it distorts: hard, soft or asymmetric."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator
from scipy.optimize import brentq

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
from datagen.degradations.converter.waveshaping import Oversample, distortion_severity, sdr_db, shaped
from datagen.level import rms_dbfs, scaled
from manifests.ranges import Probability, Span, Within, log_uniform, one_of, uniform
from manifests.sample import Axis, Values

Kind = Literal["hard", "soft", "asymmetric"]
Measure = Literal["share", "sdr", "ceiling"]

ASKED_BY: dict[Measure, str] = {"share": "share", "sdr": "sdr_db", "ceiling": "ceiling_dbfs"}
FEWEST_SAMPLES = 2
"""The loudest sample alone is its own ceiling: with two, one at least is cut."""
MOST_SHARE = 0.95
"""A signal that lies beyond the ceiling nearly everywhere is turned down, not clipped."""
FAINTEST_SDR_DB = 80.0
"""A soft knee at the tip of the peaks changes nothing that could be heard or written to a file."""
MOST_TRIES = 5
"""The ceiling is computed from the samples; noise has peaks between them, which take another try or two."""


class Clipping(Degradation):
    """Limits the amplitude, as a converter or an amplifier does that is driven too hard.

    `hard` and `soft` limit both half-waves alike, at the ceiling that hits the drawn share of the signal or leaves
    the drawn signal-to-distortion ratio (10 log10 of sum x^2 / sum (x - y)^2). `soft` bends instead of cutting: above
    the ceiling c it goes on as c + k tanh((|x| - c) / k). `asymmetric` cuts at one quantile of the samples from below
    and at another from above, as in the URGENT challenges. The harmonics are band-limited, as before a converter
    (`oversample`).
    """

    name: ClassVar[str] = "clipping"
    axis: ClassVar[Axis | None] = "coloration"
    promises: ClassVar[Mapping[str, Tolerance]] = {
        "share": Tolerance(absolute=2e-5, relative=0.1),
        "sdr_db": Tolerance(absolute=0.5),
        "ceiling_dbfs": Tolerance(absolute=0.5),
        "low_quantile": Tolerance(absolute=0.01),
        "high_quantile": Tolerance(absolute=0.01),
    }

    kinds: tuple[Kind, ...] = Field(default=("hard", "soft", "asymmetric"), min_length=1)
    by: tuple[Measure, ...] = Field(default=("share", "sdr"), min_length=1)
    """How `hard` and `soft` are asked for: by `share`, by `sdr_db`, or (`hard` alone) by `ceiling_dbfs`; where only one
    of these ranges is given, by that one."""
    share: Annotated[Span, Within(1e-5, 0.9)] = (0.001, 0.2)
    """Share of the time that the waveform lies beyond the ceiling."""
    sdr_db: Annotated[Span, Within(1.0, 60.0)] = (3.0, 30.0)
    """Signal-to-distortion ratio, before the level is restored."""
    ceiling_dbfs: Annotated[Span, Within(-40.0, 0.0)] = (-12.0, -3.0)
    """What a converter can hold, whatever the level of the speech; nothing happens to speech that stays below."""
    softness: Annotated[Span, Within(0.01, 4.0)] = (0.1, 1.0)
    """Of `soft`: k / c, how far above the ceiling the signal can still go."""
    low_quantile: Annotated[Span, Within(0.0, 0.49)] = (0.0, 0.1)
    """Of `asymmetric`: share of the samples below the lower limit."""
    high_quantile: Annotated[Span, Within(0.51, 1.0)] = (0.9, 1.0)
    """Of `asymmetric`: share of the samples below the upper limit."""
    restore_level: Probability = 0.5
    """How often the clipped signal is brought back to the level that it had."""
    oversample: tuple[Oversample, ...] = Field(default=(2, 4), min_length=1)
    """At how many times 48 kHz the waveform is clipped. 1 clips the samples themselves: as software does that
    simulates clipping or clips a file, with harmonics that fold back."""

    @model_validator(mode="before")
    @classmethod
    def _ask_as_given(cls, settings: Any) -> Any:
        """Let `share: 0.1` alone mean that every draw is by share."""
        if isinstance(settings, dict) and "by" not in settings:
            given = [measure for measure, setting in ASKED_BY.items() if setting in settings]
            return {**settings, **({"by": given} if given else {})}
        return settings

    @model_validator(mode="after")
    def _one_way_to_ask(self) -> "Clipping":
        if "ceiling" in self.by and "soft" in self.kinds:
            raise ValueError("by: 'ceiling' is for hard clipping; leave 'soft' out of kinds")
        return self

    def draw(self, rng: np.random.Generator, scene: Scene) -> Drawn:
        """Draw the kind, how much it hits (log-uniform share) or distorts, and whether the level is restored."""
        values: Values = {"kind": one_of(rng, self.kinds)}
        if values["kind"] == "asymmetric":
            values["low_quantile"] = uniform(rng, self.low_quantile)
            values["high_quantile"] = uniform(rng, self.high_quantile)
        else:
            measure = one_of(rng, self.by)
            if measure == "share":
                values["share"] = log_uniform(rng, self.share)
            elif measure == "sdr":
                values["sdr_db"] = uniform(rng, self.sdr_db)
            else:
                values["ceiling_dbfs"] = uniform(rng, self.ceiling_dbfs)
        if values["kind"] == "soft":
            values["softness"] = log_uniform(rng, self.softness)
        values["restore_level"] = bool(rng.random() < self.restore_level)
        values["oversample"] = one_of(rng, self.oversample)
        return Drawn(values)

    @staticmethod
    def apply(audio: Audio, values: Values, inputs: Inputs) -> Applied:
        """Clip; measures the share that was hit, the distortion, and the gain that restored the level."""
        if values["kind"] == "asymmetric":
            clipped, measured = _between_quantiles(audio, values)
        elif "ceiling_dbfs" in values:
            clipped, measured = _below_fixed_ceiling(audio, values)
        else:
            clipped, measured = _below_ceiling(audio, values)
        if measured["clip_sdr_db"] > FAINTEST_SDR_DB:
            raise CannotApply("what was asked for bends too little to change anything")
        gain_db = rms_dbfs(audio) - rms_dbfs(clipped) if values["restore_level"] else 0.0
        measured |= {"restored_db": round(gain_db, 3)}
        return Applied(scaled(clipped, gain_db) if gain_db else clipped, measured=measured)

    @staticmethod
    def severity(values: Values, measured: Values) -> float:
        """By the delivered signal-to-distortion ratio: 0 from 40 dB up, 1 at 3 dB."""
        return distortion_severity(measured["clip_sdr_db"])


@dataclass
class _Limiter:
    """A curve between two limits that counts what it hits."""

    low: np.float32
    high: np.float32
    knee: np.float32 | None = None
    """How far the curve goes on beyond the limits; None cuts there."""
    points: int = 0
    below: int = 0
    above: int = 0

    def __call__(self, waveform: Audio) -> Audio:
        self.points += len(waveform)
        self.below += int(np.count_nonzero(waveform < self.low))
        self.above += int(np.count_nonzero(waveform > self.high))
        clipped: Audio = np.clip(waveform, self.low, self.high)
        if self.knee is None:
            return clipped
        beyond = np.maximum(np.abs(waveform) - self.high, np.float32(0.0))
        clipped += np.copysign(self.knee * np.tanh(beyond / self.knee), waveform)
        return clipped

    @property
    def share(self) -> float:
        return (self.below + self.above) / max(self.points, 1)


def _below_fixed_ceiling(audio: Audio, values: Values) -> tuple[Audio, dict[str, Any]]:
    ceiling = np.float32(10.0 ** (values["ceiling_dbfs"] / 20.0))
    limiter = _Limiter(-ceiling, ceiling)
    clipped = shaped(audio, limiter, values["oversample"])
    ratio_db = round(sdr_db(audio, clipped), 3)
    beyond = np.abs(audio) > ceiling
    if ratio_db > FAINTEST_SDR_DB or not beyond.any():
        raise CannotApply(f"no sound is louder than the ceiling of {values['ceiling_dbfs']:.1f} dBFS")
    # What lay beyond the ceiling lies on it now.
    delivered = 20.0 * math.log10(float(np.median(np.abs(clipped[beyond]))))
    return clipped, {"clipped_share": limiter.share, "clip_sdr_db": ratio_db, "ceiling_dbfs": delivered}


def _below_ceiling(audio: Audio, values: Values) -> tuple[Audio, dict[str, Any]]:
    """Clip both half-waves at the ceiling that delivers the drawn share or ratio."""
    magnitude = np.abs(audio)
    by_share = "share" in values
    goal = "share" if by_share else "sdr_db"
    asked = aim = values[goal]
    softness = values.get("softness")
    for _ in range(MOST_TRIES):
        ceiling = _ceiling_of_share(magnitude, aim) if by_share else _ceiling_of_sdr(magnitude, aim, softness)
        limiter = _Limiter(-ceiling, ceiling, np.float32(softness) * ceiling if softness else None)
        clipped = shaped(audio, limiter, values["oversample"])
        if limiter.share > MOST_SHARE:
            raise CannotApply("nothing stands out above the rest that could be clipped")
        ratio_db = round(sdr_db(audio, clipped), 3)
        delivered = limiter.share if by_share else ratio_db
        if values["oversample"] == 1 or Clipping.promises[goal].holds(asked, delivered):
            return clipped, {"clipped_share": limiter.share, "clip_sdr_db": ratio_db, goal: delivered}
        aim = aim * asked / max(delivered, 1e-6) if by_share else aim + asked - delivered
    raise CannotApply(f"no ceiling delivers a {goal} of {asked:.3g} on this signal")


def _ceiling_of_share(magnitude: Audio, share: float) -> np.float32:
    count = min(len(magnitude), max(FEWEST_SAMPLES, round(share * len(magnitude))))
    rank = len(magnitude) - count
    ceiling = np.partition(magnitude, rank)[rank] if rank < len(magnitude) else np.float32(0.0)
    if ceiling <= 0.0 or magnitude.max() <= ceiling:
        raise CannotApply(f"no {share:.2%} of the samples stand out above the rest")
    return np.float32(ceiling)


def _ceiling_of_sdr(magnitude: Audio, sdr: float, softness: float | None) -> np.float32:
    """Find the ceiling at which what the curve takes off the samples lies `sdr` dB below them."""
    power = float(np.dot(magnitude, magnitude))
    peak = float(magnitude.max(initial=0.0))
    if power <= 0.0 or not math.isfinite(power):
        raise CannotApply("there is no signal to clip")

    def excess_db(log_ceiling: float) -> float:
        ceiling = np.float32(math.exp(log_ceiling))
        taken = np.maximum(magnitude - ceiling, np.float32(0.0))
        if softness:
            knee = np.float32(softness) * ceiling
            taken -= knee * np.tanh(taken / knee)
        return 10.0 * math.log10(power / max(float(np.dot(taken, taken)), 1e-20 * power)) - sdr

    highest = math.log(peak)
    return np.float32(math.exp(brentq(excess_db, highest - 15.0, highest, xtol=1e-3)))


def _between_quantiles(audio: Audio, values: Values) -> tuple[Audio, dict[str, Any]]:
    low, high = _quantiles(audio, values["low_quantile"], values["high_quantile"])
    limiter = _Limiter(low, high)
    clipped = shaped(audio, limiter, values["oversample"])
    if limiter.share == 0.0 or low >= high:
        raise CannotApply("no sample lies outside the drawn quantiles")
    return clipped, {
        "clipped_share": limiter.share,
        "clip_sdr_db": round(sdr_db(audio, clipped), 3),
        "low_quantile": limiter.below / limiter.points,
        "high_quantile": 1.0 - limiter.above / limiter.points,
    }


def _quantiles(audio: Audio, *shares: float) -> list[np.float32]:
    """Quantiles with linear interpolation between ranks, as `numpy.quantile`, which sorts more than it needs."""
    places = [share * (len(audio) - 1) for share in shares]
    ranks = [min(int(place), len(audio) - 2) for place in places]
    ordered = np.partition(audio, [rank + step for rank in ranks for step in (0, 1)])
    found = []
    for place, rank in zip(places, ranks, strict=True):
        below, above, share = ordered[rank], ordered[rank + 1], place - rank
        step = float(above - below)
        value = float(below) + step * share if share < 0.5 else float(above) - step * (1.0 - share)
        found.append(np.float32(value))
    return found
