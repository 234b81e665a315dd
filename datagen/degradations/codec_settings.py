"""What a recipe can ask of each codec, and how one setting of it is drawn."""

from abc import ABC, abstractmethod
from typing import Annotated, Literal, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from manifests.ranges import Span, Within, integer, log_uniform
from manifests.sample import Values

OpusBandwidth = Literal[4_000, 6_000, 8_000, 12_000, 20_000]
OpusApplication = Literal["voip", "audio", "lowdelay"]
Mp3Rate = Literal[16_000, 22_050, 24_000, 32_000, 44_100, 48_000]
AacRate = Literal[16_000, 22_050, 24_000, 32_000, 44_100, 48_000]
AacCoder = Literal["fast", "twoloop"]
G711Law = Literal["mu", "A"]
G722Rate = Literal[48, 56, 64]

AMR_MODES_KBPS = (4.75, 5.15, 5.9, 6.7, 7.4, 7.95, 10.2, 12.2)
"""3GPP TS 26.071."""

MP3_BITRATES_KBPS = {
    "mpeg1": (32, 40, 48, 56, 64, 80, 96, 112, 128, 160),
    "mpeg2": (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
"""ISO/IEC 11172-3 and 13818-3, layer III: a bitrate is one of these, by the version that the rate belongs to."""
MPEG1_FROM_HZ = 32_000


Choice = TypeVar("Choice")


class CodecSettings(BaseModel, ABC):
    """Settings of one codec; `weight` is how often it is chosen among those of a recipe."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    weight: float = Field(default=1.0, ge=0.0)

    @abstractmethod
    def draw(self, rng: np.random.Generator) -> Values:
        """Draw one setting; `rate_hz` and `bitrate_kbps` are among the values of every codec."""


def _one_of(rng: np.random.Generator, choices: tuple[Choice, ...]) -> Choice:
    return choices[int(rng.integers(len(choices)))]


class OpusSettings(CodecSettings):
    """Opus, with what limits its audio bandwidth (it may choose less at low bitrates)."""

    weight: float = Field(default=4.0, ge=0.0)
    bitrate_kbps: Annotated[Span, Within(6.0, 256.0)] = (6.0, 64.0)
    bandwidths_hz: tuple[OpusBandwidth, ...] = Field(default=(4_000, 8_000, 12_000, 20_000), min_length=1)
    applications: tuple[OpusApplication, ...] = Field(default=("voip", "audio", "lowdelay"), min_length=1)
    complexity: Annotated[Span, Within(0, 10)] = (0, 10)

    def draw(self, rng: np.random.Generator) -> Values:
        """Draw a log-uniform bitrate and the encoder's other choices."""
        return {
            "rate_hz": 48_000,
            "bitrate_kbps": round(log_uniform(rng, self.bitrate_kbps), 1),
            "bandwidth_hz": _one_of(rng, self.bandwidths_hz),
            "application": _one_of(rng, self.applications),
            "complexity": integer(rng, self.complexity),
        }


class Mp3Settings(CodecSettings):
    """MP3 at a constant bitrate."""

    bitrate_kbps: Annotated[Span, Within(8, 160)] = (16, 128)
    rates_hz: tuple[Mp3Rate, ...] = Field(
        default=(16_000, 22_050, 24_000, 32_000, 44_100, 48_000), min_length=1
    )
    effort: Annotated[Span, Within(0, 9)] = (7, 9)
    """LAME's quality setting: 0 the best and slowest, 9 the worst and fastest."""

    @field_validator("bitrate_kbps")
    @classmethod
    def _valid_somewhere(cls, bounds: tuple[float, float]) -> tuple[float, float]:
        valid = sorted({*MP3_BITRATES_KBPS["mpeg1"], *MP3_BITRATES_KBPS["mpeg2"]})
        if not any(bounds[0] <= kbps <= bounds[1] for kbps in valid):
            raise ValueError(f"holds none of the bitrates of MP3: {', '.join(map(str, valid))}")
        return bounds

    @model_validator(mode="after")
    def _some_combination(self) -> "Mp3Settings":
        if not self._combinations():
            raise ValueError(
                "no bitrate in bitrate_kbps is valid at any of rates_hz (32 kbps is the least from 32 kHz)"
            )
        return self

    def _combinations(self) -> list[tuple[int, tuple[int, ...]]]:
        low, high = self.bitrate_kbps
        usable = []
        for rate_hz in self.rates_hz:
            table = MP3_BITRATES_KBPS["mpeg1" if rate_hz >= MPEG1_FROM_HZ else "mpeg2"]
            if valid := tuple(kbps for kbps in table if low <= kbps <= high):
                usable.append((int(rate_hz), valid))
        return usable

    def draw(self, rng: np.random.Generator) -> Values:
        """Draw a rate, and a bitrate that is valid there."""
        rate_hz, bitrates = _one_of(rng, tuple(self._combinations()))
        return {
            "rate_hz": rate_hz,
            "bitrate_kbps": _one_of(rng, bitrates),
            "effort": integer(rng, self.effort),
        }


class AacSettings(CodecSettings):
    """AAC-LC at an average bitrate."""

    bitrate_kbps: Annotated[Span, Within(8, 160)] = (16, 96)
    rates_hz: tuple[AacRate, ...] = Field(
        default=(16_000, 22_050, 24_000, 32_000, 44_100, 48_000), min_length=1
    )
    coders: tuple[AacCoder, ...] = Field(default=("fast", "twoloop"), min_length=1)
    """How the encoder of FFmpeg spends its bits: they sound different at the same bitrate."""

    @model_validator(mode="after")
    def _fits_a_frame(self) -> "AacSettings":
        lowest_hz = min(self.rates_hz)
        if self.bitrate_kbps[1] > 6 * lowest_hz / 1_000:
            raise ValueError(
                f"bitrate_kbps: AAC carries at most {6 * lowest_hz // 1_000} kbps a channel at {lowest_hz} Hz"
            )
        return self

    def draw(self, rng: np.random.Generator) -> Values:
        """Draw a log-uniform bitrate, and a rate and coder."""
        return {
            "rate_hz": _one_of(rng, self.rates_hz),
            "bitrate_kbps": round(log_uniform(rng, self.bitrate_kbps), 1),
            "coder": _one_of(rng, self.coders),
        }


class G711Settings(CodecSettings):
    """G.711, 64 kbps at 8 kHz: companding by the mu-law or the A-law."""

    laws: tuple[G711Law, ...] = Field(default=("mu", "A"), min_length=1)

    def draw(self, rng: np.random.Generator) -> Values:
        """Draw the law."""
        return {"rate_hz": 8_000, "bitrate_kbps": 64, "law": _one_of(rng, self.laws)}


class G722Settings(CodecSettings):
    """G.722 at 16 kHz; below 64 kbps the decoder drops the low bits of the lower band, as the standard says."""

    bitrates_kbps: tuple[G722Rate, ...] = Field(default=(48, 56, 64), min_length=1)

    def draw(self, rng: np.random.Generator) -> Values:
        """Draw the bitrate."""
        return {"rate_hz": 16_000, "bitrate_kbps": _one_of(rng, self.bitrates_kbps)}


class AmrSettings(CodecSettings):
    """AMR narrow-band at 8 kHz, one of its eight modes."""

    bitrates_kbps: tuple[float, ...] = Field(default=AMR_MODES_KBPS, min_length=1)

    @field_validator("bitrates_kbps")
    @classmethod
    def _are_modes(cls, bitrates_kbps: tuple[float, ...]) -> tuple[float, ...]:
        for kbps in bitrates_kbps:
            if kbps not in AMR_MODES_KBPS:
                raise ValueError(f"{kbps:g} is not a mode of AMR: {', '.join(map(str, AMR_MODES_KBPS))}")
        return bitrates_kbps

    def draw(self, rng: np.random.Generator) -> Values:
        """Draw the mode."""
        return {"rate_hz": 8_000, "bitrate_kbps": _one_of(rng, self.bitrates_kbps)}


class CodecMix(BaseModel):
    """The codecs of a recipe: those that are named take part, by their weights."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    opus: OpusSettings | None = None
    mp3: Mp3Settings | None = None
    aac: AacSettings | None = None
    g711: G711Settings | None = None
    g722: G722Settings | None = None
    amr_nb: AmrSettings | None = None

    @model_validator(mode="after")
    def _some_codec(self) -> "CodecMix":
        if sum(settings.weight for settings in self.present().values()) <= 0.0:
            raise ValueError(
                f"must name at least one of {', '.join(type(self).model_fields)} with a weight above 0"
            )
        return self

    def present(self) -> dict[str, CodecSettings]:
        """Return the codecs that take part, by name."""
        named = {name: getattr(self, name) for name in type(self).model_fields}
        return {name: settings for name, settings in named.items() if settings is not None}


def every_codec() -> CodecMix:
    """Return all codecs with their default settings."""
    return CodecMix(
        opus=OpusSettings(),
        mp3=Mp3Settings(),
        aac=AacSettings(),
        g711=G711Settings(),
        g722=G722Settings(),
        amr_nb=AmrSettings(),
    )
