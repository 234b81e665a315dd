"""What an Opus encoder chose to do, read out of its packets (RFC 6716, section 3.1)."""

from collections.abc import Sequence

from manifests.sample import Values

_SILK_BANDWIDTHS_HZ = (4_000, 6_000, 8_000)
_HYBRID_BANDWIDTHS_HZ = (12_000, 20_000)
_CELT_BANDWIDTHS_HZ = (4_000, 8_000, 12_000, 20_000)
_SILK_CONFIGS = 12
_HYBRID_CONFIGS = 16
"""The first configurations that are not of SILK, and neither of SILK nor of both coders together."""


def opus_modes(packets: Sequence[bytes]) -> Values:
    """Return the mode (`silk`, `hybrid` or `celt`) and the audio bandwidth that most packets have."""
    configs = [packet[0] >> 3 for packet in packets if packet]
    modes = [_opus_mode(config) for config in configs]
    bandwidths_hz = [_opus_bandwidth_hz(config) for config in configs]
    return {
        "mode": max(sorted(set(modes)), key=modes.count),
        "bandwidth_hz": max(sorted(set(bandwidths_hz)), key=bandwidths_hz.count),
    }


def _opus_mode(config: int) -> str:
    return "silk" if config < _SILK_CONFIGS else "hybrid" if config < _HYBRID_CONFIGS else "celt"


def _opus_bandwidth_hz(config: int) -> int:
    if config < _SILK_CONFIGS:
        return _SILK_BANDWIDTHS_HZ[config // 4]
    if config < _HYBRID_CONFIGS:
        return _HYBRID_BANDWIDTHS_HZ[(config - _SILK_CONFIGS) // 2]
    return _CELT_BANDWIDTHS_HZ[(config - _HYBRID_CONFIGS) // 4]
