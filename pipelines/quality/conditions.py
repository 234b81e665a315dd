"""Which degradations a sample went through, as conditions by which results are broken down."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

SNR_EDGES_DB = (0.0, 10.0, 20.0)
RT60_EDGES_S = (0.3, 0.6)
CODEC_VALUES = ("codec", "first_codec", "second_codec")
"""Drawn values that name a codec: of the stage `codec`, and of both in a `tandem`."""
UNTOUCHED = "no degradation"


def conditions_of(sample: Mapping[str, Any]) -> list[str]:
    """Return the conditions of a sample, from its `KEY.json`.

    Each stage that fired (numbered repetitions count as the same stage), its SNR and RT60 ranges, its
    codecs, and whether parts of it were moved in time. A sample without stages has one condition: that
    nothing was done.
    """
    stages = sample["stages"]
    if not stages:
        return [UNTOUCHED]
    found = [f"stage {name}" for name in sorted({str(stage["stage"]) for stage in stages})]
    measured = sample["measured"]
    if (snr_db := measured.get("snr_db")) is not None:
        found.append(_snr(snr_db))
    if (rt60_s := measured.get("rt60_s")) is not None:
        found.append(_rt60(rt60_s))
    codecs = {str(stage["values"][key]) for stage in stages for key in CODEC_VALUES if key in stage["values"]}
    found += [f"codec {name}" for name in sorted(codecs)]
    if not sample["aligned"]:
        found.append("moved in time")
    return found


def _snr(snr_db: float) -> str:
    return f"SNR {_range(snr_db, SNR_EDGES_DB)} dB"


def _rt60(rt60_s: float) -> str:
    return f"RT60 {_range(rt60_s, RT60_EDGES_S)} s"


def _range(value: float, edges: Sequence[float]) -> str:
    if value < edges[0]:
        return f"< {edges[0]:g}"
    if value >= edges[-1]:
        return f">= {edges[-1]:g}"
    upper = next(edge for edge in edges if value < edge)
    return f"{edges[edges.index(upper) - 1]:g} to {upper:g}"


_RANGES = (*map(_snr, (-math.inf, *SNR_EDGES_DB)), *map(_rt60, (-math.inf, *RT60_EDGES_S)))
"""Those conditions that have an order of their own."""


def reading_order(condition: str) -> tuple[int, str]:
    """Return a key by which conditions are sorted: ranges from low to high, then all others by name."""
    return _RANGES.index(condition) if condition in _RANGES else len(_RANGES), condition
