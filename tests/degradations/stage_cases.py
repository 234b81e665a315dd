"""Every stage, with the settings under which it behaves differently, something to draw from, and what makes it worse.

A new stage needs a line in `VARIANTS` only if it has such settings, and one in `HARSHER` always.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
from stage_signals import speech_like

from datagen.degradations import stage_class, stage_names
from datagen.degradations.base import Degradation, Drawn, Inputs, Scene
from datagen.degradations.codec.mix import CodecMix
from datagen.level import scaled
from manifests.keyed import generator
from manifests.sample import Values
from manifests.source import Source

RATE_HZ = 48_000

VARIANTS: dict[str, list[dict[str, Any]]] = {
    "audiomentations": [
        {"transform": "TanhDistortion"},
        {"transform": "BitCrush", "min_bit_depth": 4, "max_bit_depth": 8},
        {"transform": "AddColorNoise"},
    ],
    "bandpass": [{}, {"families": ["cheby2"]}, {"families": ["brickwall"]}],
    "bandwidth_loss": [
        {},
        *(
            {"methods": [method], "antialias": share}
            for method in ("zoh", "linear", "cubic")
            for share in (0.0, 1.0)
        ),
        {"methods": ["soxr", "zoh"], "any_rate_hz": [3_000, 32_000]},
    ],
    "bit_depth": [{"dither": 0.0}, {"dither": 1.0}],
    "clipping": [
        {"kinds": ["hard"], "by": ["share"]},
        {"kinds": ["soft"], "by": ["share"]},
        {"kinds": ["asymmetric"]},
        {"kinds": ["hard"], "by": ["sdr"]},
        {"kinds": ["soft"], "by": ["sdr"]},
        {"kinds": ["hard"], "by": ["ceiling"], "ceiling_dbfs": [-24, -18]},
        *({"kinds": [kind], "oversample": [1]} for kind in ("hard", "soft", "asymmetric")),
    ],
    "codec": [{"codecs": {name: {}}} for name in CodecMix.model_fields],
    "comfort_noise": [{"threshold_db": 18, "hangover_ms": [0, 40], "late_ms": late} for late in (0, 40)],
    "compressor": [{"restore_level": 0.0}, {"restore_level": 1.0}, {"threshold_dbfs": [-45, -30]}],
    "expander": [{"restore_level": 0.0}, {"restore_level": 1.0}, {"threshold_dbfs": [-10, 0]}],
    "gain_step": [{"ends_early": 0.0}, {"ends_early": 1.0}],
    "highpass": [{}, {"families": ["cheby2"]}, {"families": ["brickwall"]}],
    "interfering_talker": [{"talkers": 2, "room_share": 1.0}, {"talkers": 1}],
    "jitter": [{"kinds": [kind]} for kind in ("stretch", "skip", "stutter")],
    "level": [{}, {"active_level_dbfs": [-40, -15]}],
    "limiter": [{"restore_level": 0.0}, {"restore_level": 1.0}, {"ceiling_dbfs": [-36, -24]}],
    "lowpass": [{}, {"families": ["cheby2"]}, {"families": ["brickwall"]}],
    "mains_hum": [{"buzz": 0.0}, {"buzz": 1.0}],
    "microphone_eq": [{}, {"phase": ["minimum"]}],
    "noise": [{}, {"room_share": 1.0}, {"self_noise_share": 1.0}],
    "noise_suppressor": [{"smoothings": [how]} for how in ("none", "time", "frequency")],
    "notch": [{}, {"width_hz": 20}],
    "opus_packet_loss": [
        {
            "complexity": 0,
            "applications": ["voip"],
            "bitrate_kbps": [24, 32],
            "fec": 1,
            "packet_ms": [20, 60],
        },
        {"complexity": 0, "applications": ["audio", "lowdelay"], "fec": 0, "dtx": 0, "packet_ms": [10, 40]},
        {"complexity": 0, "applications": ["voip"], "dtx": 1},
    ],
    "overdrive": [{"curves": [curve]} for curve in ("tanh", "sigmoid", "diode")],
    "packet_loss": [
        *({"concealments": [how]} for how in ("zero", "hold", "repeat")),
        {"burst_lengths": "uniform", "max_burst_packets": 9, "packet_ms": [20], "concealments": ["zero"]},
    ],
    "phaser": [{}, {"rate_hz": [0.2, 3], "mix": [0.1, 0.2]}],
    "room": [
        {},
        {"resample": [0.8, 1.2], "decay_rt60_s": [0.15, 0.4], "perturb_share": 1.0},
        {"drr_db": [0, 15]},
    ],
    "short_events": [{"kinds": [kind]} for kind in ("click", "key", "thump", "recorded")],
    "spectral_holes": [{}, {"holes": 250}],
    "wind": [{"clipped": 0.0}, {"clipped": 1.0, "duck_threshold_db": -20}],
}
"""Settings with which a stage behaves differently; every other stage is taken with its defaults."""

HARSHER: dict[str, tuple[dict[str, Any], str, tuple[Any, ...]]] = {
    "agc": ({"target_dbfs": -26, "rise_db_per_s": 200, "hang_ms": 10}, "rise_db", (2, 6, 15, 30)),
    "air_absorption": ({}, "distance_m", (1, 5, 20)),
    "babble": ({}, "snr_db", (40, 20, 10, 0, -5)),
    "bandpass": ({}, "high_hz", (8_000, 5_000, 3_000)),
    "bandwidth_loss": ({}, "rates_hz", ([32_000], [24_000], [16_000], [8_000])),
    "bit_depth": ({"dither": 1.0}, "bits", (14, 11, 8, 6)),
    "clipping": ({"kinds": ["hard"], "by": ["share"]}, "share", (0.001, 0.01, 0.1, 0.2)),
    "clock_drift": ({}, "magnitude_ppm", (10, 100, 300)),
    "codec": ({}, "codecs", tuple({"opus": {"bitrate_kbps": kbps}} for kbps in (64, 32, 12, 6))),
    "coloured_noise": ({}, "snr_db", (40, 20, 10, 0, -5)),
    "comb": ({}, "echo_db", (-12, -6, -3, -1)),
    "comfort_noise": (
        {"threshold_db": 18, "hangover_ms": 0, "level_offset_db": 0},
        "late_ms",
        (0, 40, 100),
    ),
    "compressor": ({}, "reduction_db", (1, 4, 10, 18)),
    "dc_offset": ({}, "magnitude", (0.001, 0.01, 0.05, 0.2)),
    "expander": ({}, "reduction_db", (1, 4, 10, 18)),
    "final_level": ({}, "active_level_dbfs", (-26, -32, -40, -55)),
    "freeverb": ({"room_size": 0.3}, "mix", (0.05, 0.3, 0.6, 0.9)),
    "gain_step": ({}, "step_db", (3, 6, 12, 18)),
    "half_duplex": ({"attenuated_share": 0.3}, "attenuation_db", (6, 15, 25, 40)),
    "highpass": ({}, "cutoff_hz", (30, 100, 300)),
    "interfering_talker": ({}, "sir_db", (40, 20, 10, 0, -5)),
    "jitter": ({}, "events_per_minute", (15, 60, 180)),
    "level": ({}, "gain_db", (-3, -10, -20, -30)),
    "level_drift": ({}, "range_db", (2, 6, 12, 22)),
    "limiter": ({}, "peak_reduction_db", (1, 5, 10, 20)),
    "lowpass": ({}, "cutoff_hz", (16_000, 8_000, 4_000, 2_000)),
    "mains_hum": ({}, "snr_db", (40, 20, 10, 0, -5)),
    "microphone_eq": ({"peaks": 0}, "shelf_db", (2, 6, 12)),
    "noise": ({}, "snr_db", (40, 20, 10, 0, -5)),
    "noise_gate": ({"range_db": 30}, "cut_share", (0.03, 0.1, 0.2, 0.4)),
    "noise_suppressor": ({}, "speech_distortion_db", (-32, -24, -16, -8)),
    "notch": ({"notches": 2}, "width_hz", (20, 100, 500)),
    "opus_packet_loss": (
        {"complexity": 0, "fec": 0, "mean_burst_packets": 2, "packet_ms": [20]},
        "loss_share",
        (0.02, 0.1, 0.25),
    ),
    "overdrive": ({"curves": ["tanh"]}, "drive_db", (2, 8, 15, 30)),
    "packet_loss": ({"mean_burst_packets": 2, "packet_ms": [20]}, "loss_share", (0.02, 0.1, 0.25)),
    "phaser": ({}, "mix", (0.05, 0.15, 0.3, 0.5)),
    "room": ({}, "drr_db", (20, 10, 0, -5)),
    "short_events": ({"kinds": ["click"], "per_10_s": 10}, "event_snr_db", (30, 18, 6, -6)),
    "spectral_holes": ({}, "holes", (5, 50, 250)),
    "tandem": (
        {"second": {"g722": {}}},
        "first",
        tuple({"opus": {"bitrate_kbps": kbps}} for kbps in (64, 32, 12, 6)),
    ),
    "wind": ({}, "snr_db", (30, 15, 0, -10)),
}
"""For each stage: settings to hold, and the setting that makes it worse, with values in rising order of harm."""

NO_STRENGTH = {"audiomentations"}
"""Stages whose severity is not known: any transform of a library."""


@dataclass(frozen=True)
class Case:
    """A stage with settings."""

    name: str
    settings: dict[str, Any]

    @property
    def stage(self) -> Degradation:
        return stage_class(self.name)(**self.settings)

    def draws(self, audio: np.ndarray, count: int, bandwidth_hz: float = 22_000.0) -> list[Drawn]:
        scene = material_scene(len(audio), bandwidth_hz)
        return [self.stage.draw(generator(7, self.name, number), scene) for number in range(count)]


def cases() -> list[Any]:
    """Every stage with each of its variants, to parametrise a test with."""
    return [
        pytest.param(Case(name, settings), id=f"{name}-{number}" if name in VARIANTS else name)
        for name in stage_names()
        for number, settings in enumerate(VARIANTS.get(name, [{}]))
    ]


# --- something to draw from -----------------------------------------------------------------------


@lru_cache(maxsize=1)
def _material() -> tuple[tuple[Source, ...], dict[str, np.ndarray]]:
    rng = np.random.Generator(np.random.Philox(5))
    sources, audio = [], {}

    def add(kind: str, name: str, sound: np.ndarray, **facts: Any) -> None:
        sound = np.asarray(sound, np.float32)
        sound.setflags(write=False)
        audio[name] = sound
        seconds = len(sound) / RATE_HZ
        common = {"bandwidth_hz": 24_000.0, "active_level_dbfs": -26.0, "licence": "CC0-1.0"}
        sources.append(
            Source(f"/{name}.wav", kind, name, 1, 1, RATE_HZ, 1, len(sound), seconds, **(common | facts))
        )

    for number, f0_hz in enumerate((105.0, 160.0, 210.0, 240.0, 130.0)):
        add("speech", f"talker-{number}", speech_like(3.0, f0_hz, 20 + number), speaker=f"talker-{number}")
    for number in range(3):
        hiss = rng.standard_normal(4 * RATE_HZ) * (0.02 + 0.02 * np.sin(np.arange(4 * RATE_HZ) / 9_000) ** 2)
        add("noise", f"noise-{number}", hiss, recording=f"noise-{number}")
    for room in range(2):
        for place in range(2):
            decay = 10.0 ** (-3.0 * np.arange(RATE_HZ // 2) / RATE_HZ / (0.3 + 0.2 * room))
            rir = 0.08 * rng.standard_normal(RATE_HZ // 2) * decay
            rir[:96] = 0.0
            rir[96] = 1.0
            facts = {"rt60_s": 0.3 + 0.2 * room, "drr_db": 3.0, "direct_path_frame": 96}
            add("rir", f"rir-{room}-{place}", rir, room=f"room-{room}", **facts)
    return tuple(sources), audio


def material_scene(frames: int, bandwidth_hz: float = 22_000.0) -> Scene:
    """A scene with talkers, noises and two rooms of two positions to draw from."""
    sources = _material()[0]
    return Scene(
        frames, bandwidth_hz, lambda kind: tuple(s for s in sources if s.kind == kind), speaker="talker-0"
    )


def inputs_for(drawn: Drawn, reference: np.ndarray) -> Inputs:
    """What the engine would hand to `apply`: the drawn clips, and the speech that SNRs refer to."""
    audio = _material()[1]
    clips = []
    for clip in drawn.clips:
        cut = scaled(audio[clip.sha256][clip.start : clip.start + clip.frames], clip.gain_db)
        cut.setflags(write=False)
        clips.append(cut)
    return Inputs(tuple(clips), reference)


def severity_of(case: Case, audio: np.ndarray, drawn: Drawn) -> float:
    """Severity of one application, as the engine takes it: clipped to 0 to 1."""
    applied = case.stage.apply(audio, drawn.values, inputs_for(drawn, audio))
    values: Values = drawn.values
    return float(np.clip(case.stage.severity(values, dict(applied.measured)), 0.0, 1.0))
