"""How bad a codec sounds at a bitrate or a quality, apart from the bandwidth that it takes away."""

import math

import numpy as np

from manifests.recipe import SAMPLE_RATE_HZ
from manifests.sample import Values

TRANSPARENT_KBPS = {
    "opus": 96.0,
    "mp3": 192.0,
    "aac": 160.0,
    "g711": 128.0,
    "g722": 128.0,
    "g723_1": 30.0,
    "g726": 64.0,
    "gsm": 40.0,
    "amr_nb": 24.0,
    "adpcm": 180.0,
    "sbc": 200.0,
}
"""From about here on a codec is not heard on speech (SBC, which codes as many bands at any rate: at 48 kHz)."""
WORST_OCTAVES = 4.5
"""As many halvings of the bitrate below it are the worst."""
INAUDIBLE = 0.02
SEVERITY_OF_QUALITY = {"vorbis": ((0.0, 10.0), (0.35, INAUDIBLE)), "mp3_vbr": ((0.0, 10.0), (0.05, 0.7))}
"""For codecs that are asked for a quality: its two ends, and how bad they are; as their bitrates would be."""


def coding_severity(values: Values) -> float:
    """Severity of what a codec does within its band: 0.02 where it is hardly heard, 1 at the worst."""
    name = values["codec"]
    if name in SEVERITY_OF_QUALITY:
        return float(np.interp(values["quality"], *SEVERITY_OF_QUALITY[name]))
    transparent = TRANSPARENT_KBPS[name] * (values["rate_hz"] / SAMPLE_RATE_HZ if name == "sbc" else 1.0)
    octaves = math.log2(transparent / float(values["bitrate_kbps"]))
    return min(1.0, max(INAUDIBLE, octaves / WORST_OCTAVES))
