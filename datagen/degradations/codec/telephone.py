"""What a recipe can ask of each codec of telephones, recorders and headsets, and how one setting is drawn."""

from typing import Annotated, Literal

import numpy as np
from pydantic import Field, field_validator

from datagen.degradations.codec.settings import CodecSettings
from manifests.ranges import Span, Whole, integer, one_of
from manifests.sample import Values

G711Law = Literal["mu", "A"]
G722Rate = Literal[48, 56, 64]
G726Rate = Literal[16, 24, 32, 40]
AdpcmKind = Literal["ima", "ms"]
AdpcmRate = Literal[8_000, 11_025, 16_000, 22_050, 44_100]
SbcRate = Literal[16_000, 32_000, 44_100, 48_000]

AMR_MODES_KBPS = (4.75, 5.15, 5.9, 6.7, 7.4, 7.95, 10.2, 12.2)
"""3GPP TS 26.071."""
G723_1_KBPS = 6.3
"""ITU-T G.723.1 has 5.3 kbit/s as well, which FFmpeg does not encode."""
GSM_KBPS = 13
"""ETSI EN 300 961: 260 bits every 20 ms."""

ADPCM_BLOCK_BYTES = 256
"""Of a block at up to 11 kHz; in proportion above, as Windows writes it."""
ADPCM_HEADER_BYTES = {"ima": 4, "ms": 7}
ADPCM_HEADER_SAMPLES = {"ima": 1, "ms": 2}
"""How many samples stand in the header of a block as they are; each other one takes half a byte."""

SBC_BLOCKS = 16
SBC_SUBBANDS = 8
SBC_PACKET_SAMPLES = SBC_BLOCKS * SBC_SUBBANDS
MSBC_KBPS = 60.8
MSBC_PACKET_SAMPLES = 120
"""Of 57 bytes: Bluetooth Hands-Free Profile 1.6, appendix A."""


class G711Settings(CodecSettings):
    """G.711, 64 kbit/s at 8 kHz: companding by the mu-law or the A-law."""

    weight: float = Field(default=0.4, ge=0.0)
    laws: tuple[G711Law, ...] = Field(default=("mu", "A"), min_length=1)

    def draw(self, rng: np.random.Generator) -> Values:
        """Draw the law."""
        return {"rate_hz": 8_000, "bitrate_kbps": 64, "law": one_of(rng, self.laws)}


class G722Settings(CodecSettings):
    """G.722 at 16 kHz; below 64 kbit/s the decoder drops the low bits of the lower band, as the standard says."""

    weight: float = Field(default=0.25, ge=0.0)
    bitrates_kbps: tuple[G722Rate, ...] = Field(default=(48, 56, 64), min_length=1)

    def draw(self, rng: np.random.Generator) -> Values:
        """Draw the bitrate."""
        return {"rate_hz": 16_000, "bitrate_kbps": one_of(rng, self.bitrates_kbps)}


class G726Settings(CodecSettings):
    """G.726, adaptive differential PCM of 2 to 5 bits a sample at 8 kHz: cordless telephones and trunk lines."""

    weight: float = Field(default=0.1, ge=0.0)
    bitrates_kbps: tuple[G726Rate, ...] = Field(default=(16, 24, 32, 40), min_length=1)

    def draw(self, rng: np.random.Generator) -> Values:
        """Draw the bitrate."""
        return {"rate_hz": 8_000, "bitrate_kbps": one_of(rng, self.bitrates_kbps)}


class G7231Settings(CodecSettings):
    """G.723.1 at 6.3 kbit/s and 8 kHz: the first video telephones."""

    weight: float = Field(default=0.05, ge=0.0)

    def draw(self, rng: np.random.Generator) -> Values:
        """Draw nothing: there is one bitrate."""
        return {"rate_hz": 8_000, "bitrate_kbps": G723_1_KBPS}


class GsmSettings(CodecSettings):
    """GSM full rate (GSM 06.10), 13 kbit/s at 8 kHz: mobile telephones of the nineties."""

    weight: float = Field(default=0.15, ge=0.0)

    def draw(self, rng: np.random.Generator) -> Values:
        """Draw nothing: there is one bitrate."""
        return {"rate_hz": 8_000, "bitrate_kbps": GSM_KBPS}


class AmrSettings(CodecSettings):
    """AMR narrow-band at 8 kHz, one of its eight modes: mobile telephones since."""

    weight: float = Field(default=0.3, ge=0.0)
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
        return {"rate_hz": 8_000, "bitrate_kbps": one_of(rng, self.bitrates_kbps)}


class AdpcmSettings(CodecSettings):
    """ADPCM of 4 bits a sample by IMA or Microsoft: dictation machines, answering machines, old games."""

    weight: float = Field(default=0.05, ge=0.0)
    kinds: tuple[AdpcmKind, ...] = Field(default=("ima", "ms"), min_length=1)
    rates_hz: tuple[AdpcmRate, ...] = Field(default=(8_000, 11_025, 16_000, 22_050, 44_100), min_length=1)

    def draw(self, rng: np.random.Generator) -> Values:
        """Draw the kind and the rate, which decide the bitrate."""
        kind, rate_hz = one_of(rng, self.kinds), one_of(rng, self.rates_hz)
        size, samples = adpcm_block(kind, rate_hz)
        return {
            "rate_hz": rate_hz,
            "bitrate_kbps": round(size * 8 * rate_hz / samples / 1_000, 2),
            "kind": kind,
        }


class SbcSettings(CodecSettings):
    """SBC of Bluetooth headsets: A2DP at 32 to 48 kHz, and mSBC of calls at 16 kHz, which has one bitrate."""

    weight: float = Field(default=0.3, ge=0.0)
    rates_hz: tuple[SbcRate, ...] = Field(default=(16_000, 44_100, 48_000), min_length=1)
    bitpool: Annotated[Span, Whole(2, 31)] = (6, 31)
    """Bits for each of the 16 blocks of a frame, of A2DP: its specification asks for 18 to 19 for middle quality,
    29 to 31 for high (A2DP 1.3, table 4.7); a link with interference falls below."""

    def draw(self, rng: np.random.Generator) -> Values:
        """Draw the rate and the bitpool, which decide the bitrate."""
        rate_hz, bitpool = one_of(rng, self.rates_hz), integer(rng, self.bitpool)
        kbps = MSBC_KBPS if rate_hz == 16_000 else round(sbc_kbps(bitpool, rate_hz), 2)
        return {"rate_hz": rate_hz, "bitrate_kbps": kbps}


def adpcm_block(kind: AdpcmKind, rate_hz: int) -> tuple[int, int]:
    """Return the bytes and the samples of a block at `rate_hz`."""
    size = ADPCM_BLOCK_BYTES * max(1, round(rate_hz / 11_025))
    return size, ADPCM_HEADER_SAMPLES[kind] + 2 * (size - ADPCM_HEADER_BYTES[kind])


def sbc_kbps(bitpool: int, rate_hz: int) -> float:
    """Bitrate of mono SBC: 4 bytes of header, 4 bits of scale a band, a bitpool a block (A2DP, appendix B)."""
    frame_bytes = 4 + SBC_SUBBANDS // 2 + -(-SBC_BLOCKS * bitpool // 8)
    return 8 * frame_bytes * rate_hz / SBC_PACKET_SAMPLES / 1_000
