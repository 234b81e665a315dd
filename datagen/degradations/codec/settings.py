"""What a recipe can ask of each codec for music and for calls over the internet, and how one setting is drawn."""

from abc import ABC, abstractmethod
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from manifests.ranges import Span, Whole, Within, integer, log_uniform, one_of, uniform
from manifests.sample import Values

OpusBandwidth = Literal[4_000, 6_000, 8_000, 12_000, 20_000]
OpusApplication = Literal["voip", "audio", "lowdelay"]
OpusRateMode = Literal["vbr", "constrained_vbr", "cbr"]
Mp3Rate = Literal[8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000]
AacRate = Literal[8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000]
VorbisRate = Literal[8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000]
AacCoder = Literal["fast", "twoloop"]

OPUS_BYTE_KBPS = 0.4
"""One byte in each packet of 20 ms: packets of one size have a bitrate that is a multiple of this."""
MP3_RATES_HZ: tuple[Mp3Rate, ...] = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)
MP3_BITRATES_KBPS = {
    "mpeg1": (32, 40, 48, 56, 64, 80, 96, 112, 128, 160),
    "mpeg2": (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    "mpeg2.5": (8, 16, 24, 32, 40, 48, 56, 64),
}
"""ISO/IEC 11172-3 and 13818-3, layer III: a bitrate is one of these, by the version that the rate belongs to.
MPEG-2.5 is the extension to rates below 16 kHz; LAME's table for it ends at 64 kbit/s."""
MPEG1_FROM_HZ = 32_000
MPEG2_FROM_HZ = 16_000


class CodecSettings(BaseModel, ABC):
    """Settings of one codec; `weight` is how often it is chosen among those of a recipe."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    weight: float = Field(default=1.0, ge=0.0)
    """How often it is chosen, against the weights of the others."""

    @abstractmethod
    def draw(self, rng: np.random.Generator) -> Values:
        """Draw one setting: `rate_hz`, and `bitrate_kbps` or `quality`, are among the values of every codec."""


def mp3_version(rate_hz: int) -> str:
    """Return the version of MPEG audio that a sample rate belongs to: a key of `MP3_BITRATES_KBPS`."""
    if rate_hz >= MPEG1_FROM_HZ:
        return "mpeg1"
    return "mpeg2" if rate_hz >= MPEG2_FROM_HZ else "mpeg2.5"


class OpusSettings(CodecSettings):
    """Opus (RFC 6716), with what limits its audio bandwidth (it may choose less at low bitrates)."""

    weight: float = Field(default=4.0, ge=0.0)
    bitrate_kbps: Annotated[Span, Within(6.0, 256.0)] = (6.0, 64.0)
    bandwidths_hz: tuple[OpusBandwidth, ...] = Field(default=(4_000, 8_000, 12_000, 20_000), min_length=1)
    applications: tuple[OpusApplication, ...] = Field(default=("voip", "audio", "lowdelay"), min_length=1)
    complexity: Annotated[Span, Whole(0, 10)] = (0, 6)
    """How hard the encoder tries: 0 the worst and fastest, 10 the best."""
    rate_modes: tuple[OpusRateMode, ...] = Field(default=("vbr", "constrained_vbr", "cbr"), min_length=1)
    """Whether every packet is as large as the next (`cbr`), or the bitrate is spent where the signal needs it."""

    def draw(self, rng: np.random.Generator) -> Values:
        """Draw a log-uniform bitrate and the encoder's other choices."""
        values: Values = {
            "rate_hz": 48_000,
            "bitrate_kbps": round(log_uniform(rng, self.bitrate_kbps), 1),
            "bandwidth_hz": one_of(rng, self.bandwidths_hz),
            "application": one_of(rng, self.applications),
            "complexity": integer(rng, self.complexity),
            "rate_mode": one_of(rng, self.rate_modes),
        }
        if values["rate_mode"] == "cbr":
            low_kbps, high_kbps = self.bitrate_kbps
            whole_kbps = round(round(values["bitrate_kbps"] / OPUS_BYTE_KBPS) * OPUS_BYTE_KBPS, 1)
            values["bitrate_kbps"] = (
                whole_kbps if low_kbps <= whole_kbps <= high_kbps else values["bitrate_kbps"]
            )
        return values


class Mp3Settings(CodecSettings):
    """MP3 at a constant bitrate."""

    weight: float = Field(default=0.8, ge=0.0)
    bitrate_kbps: Annotated[Span, Within(8, 160)] = (16, 128)
    """One of those of the standard is drawn that exists at the drawn rate."""
    rates_hz: tuple[Mp3Rate, ...] = Field(default=MP3_RATES_HZ, min_length=1)
    effort: Annotated[Span, Whole(0, 9)] = (7, 9)
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
            table = MP3_BITRATES_KBPS[mp3_version(rate_hz)]
            if valid := tuple(kbps for kbps in table if low <= kbps <= high):
                usable.append((int(rate_hz), valid))
        return usable

    def draw(self, rng: np.random.Generator) -> Values:
        """Draw a rate, and a bitrate that is valid there."""
        rate_hz, bitrates = one_of(rng, tuple(self._combinations()))
        return {
            "rate_hz": rate_hz,
            "bitrate_kbps": one_of(rng, bitrates),
            "effort": integer(rng, self.effort),
        }


class Mp3VbrSettings(CodecSettings):
    """MP3 at a constant quality and a bitrate that follows the signal, as most files have it."""

    weight: float = Field(default=0.4, ge=0.0)
    quality: Annotated[Span, Within(0.0, 9.9)] = (2.0, 9.9)
    """LAME's -V: 0 the best, 9.9 the worst."""
    rates_hz: tuple[Mp3Rate, ...] = Field(default=MP3_RATES_HZ, min_length=1)

    def draw(self, rng: np.random.Generator) -> Values:
        """Draw a rate and a quality."""
        return {
            "rate_hz": int(one_of(rng, self.rates_hz)),
            "quality": round(uniform(rng, self.quality), 1),
        }


class AacSettings(CodecSettings):
    """AAC-LC (ISO/IEC 14496-3) at an average bitrate."""

    weight: float = Field(default=0.6, ge=0.0)
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
            "rate_hz": one_of(rng, self.rates_hz),
            "bitrate_kbps": round(log_uniform(rng, self.bitrate_kbps), 1),
            "coder": one_of(rng, self.coders),
        }


class VorbisSettings(CodecSettings):
    """Vorbis at a constant quality; low bitrates come with low rates (48 kbit/s is the least at 48 kHz)."""

    weight: float = Field(default=0.6, ge=0.0)
    quality: Annotated[Span, Within(0.0, 10.0)] = (0.0, 5.0)
    """libvorbis's -q: 0 the worst that libsndfile lets one ask for, 10 the best."""
    rates_hz: tuple[VorbisRate, ...] = Field(
        default=(16_000, 22_050, 24_000, 32_000, 44_100, 48_000), min_length=1
    )

    def draw(self, rng: np.random.Generator) -> Values:
        """Draw a rate and a quality."""
        return {"rate_hz": one_of(rng, self.rates_hz), "quality": round(uniform(rng, self.quality), 1)}
