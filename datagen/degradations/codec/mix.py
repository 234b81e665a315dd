"""Which codecs a recipe uses, and how one is drawn."""

import numpy as np
from pydantic import BaseModel, ConfigDict, model_validator

from datagen.degradations.codec.settings import (
    AacSettings,
    CodecSettings,
    Mp3Settings,
    Mp3VbrSettings,
    OpusSettings,
    VorbisSettings,
)
from datagen.degradations.codec.telephone import (
    AdpcmSettings,
    AmrSettings,
    G711Settings,
    G722Settings,
    G726Settings,
    G7231Settings,
    GsmSettings,
    SbcSettings,
)
from manifests.sample import Values


class CodecMix(BaseModel):
    """The codecs of a recipe: those that are named take part, by their weights."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    opus: OpusSettings | None = None
    mp3: Mp3Settings | None = None
    mp3_vbr: Mp3VbrSettings | None = None
    aac: AacSettings | None = None
    vorbis: VorbisSettings | None = None
    g711: G711Settings | None = None
    g722: G722Settings | None = None
    g723_1: G7231Settings | None = None
    g726: G726Settings | None = None
    gsm: GsmSettings | None = None
    amr_nb: AmrSettings | None = None
    adpcm: AdpcmSettings | None = None
    sbc: SbcSettings | None = None

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

    def draw(self, rng: np.random.Generator) -> Values:
        """Draw a codec by weight, then its settings."""
        present = self.present()
        weights = np.array([settings.weight for settings in present.values()])
        name = list(present)[int(rng.choice(len(weights), p=weights / weights.sum()))]
        return {"codec": name, **present[name].draw(rng)}


def every_codec() -> CodecMix:
    """Return all codecs with their default settings."""
    return CodecMix(
        opus=OpusSettings(),
        mp3=Mp3Settings(),
        mp3_vbr=Mp3VbrSettings(),
        aac=AacSettings(),
        vorbis=VorbisSettings(),
        g711=G711Settings(),
        g722=G722Settings(),
        g723_1=G7231Settings(),
        g726=G726Settings(),
        gsm=GsmSettings(),
        amr_nb=AmrSettings(),
        adpcm=AdpcmSettings(),
        sbc=SbcSettings(),
    )
