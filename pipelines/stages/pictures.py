"""A picture of every stage: spectrograms of the same voice before and after it."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from datagen.degradations import stage_class
from datagen.degradations.base import Audio
from manifests.errors import JobError
from manifests.files import write_atomically
from manifests.source import Kind, Source
from pipelines.quality.figures import before_and_after_png
from pipelines.stages.example_voice import example_voice
from pipelines.stages.trial_material import trial_sources
from pipelines.stages.try_stage import Trial, draw_and_apply

SECONDS = 5.4
"""Two sentences and the pause between them."""
ATTEMPTS = 8
SHOWN: dict[str, dict[str, Any]] = {
    "agc": {"target_dbfs": -20, "rise_db": 26, "rise_db_per_s": 60, "hang_ms": 10},
    "air_absorption": {"distance_m": 50, "temperature_c": 20, "humidity_percent": 30},
    "audiomentations": {"transform": "TanhDistortion", "min_distortion": 0.6, "max_distortion": 0.6},
    "babble": {"snr_db": 8},
    "bandpass": {"families": ["butter"], "order": 8, "low_hz": 300, "high_hz": 3400},
    "bandwidth_loss": {"rates_hz": [16000], "methods": ["linear"], "antialias": 0},
    "bit_depth": {"bits": 7, "dither": 0},
    "clipping": {"kinds": ["hard"], "by": ["share"], "share": 0.1, "restore_level": 0},
    "clock_drift": {"magnitude_ppm": 1000},
    "codec": {"codecs": {"mp3": {"bitrate_kbps": 32, "rates_hz": [44100]}}},
    "coloured_noise": {"snr_db": 15, "exponent": 1},
    "comb": {"delay_ms": 0.6, "echo_db": -1},
    "comfort_noise": {"level_offset_db": 15, "threshold_db": 25, "hangover_ms": 60, "late_ms": 60},
    "compressor": {"reduction_db": 15, "ratio": 20, "attack_ms": 1, "release_ms": 50, "restore_level": 1},
    "dc_offset": {"magnitude": 0.1},
    "expander": {"reduction_db": 12, "ratio": 3, "restore_level": 1},
    "final_level": {"active_level_dbfs": -40},
    "freeverb": {"room_size": 0.3, "mix": 0.6},
    "gain_step": {"step_db": -18, "ramp_ms": 500, "start_share": 0.4, "ends_early": 0},
    "half_duplex": {"attenuation_db": 30, "attenuated_share": 0.4},
    "highpass": {"families": ["butter"], "order": 6, "cutoff_hz": 300},
    "interfering_talker": {"sir_db": 3, "talkers": 1, "share": 0.5},
    "jitter": {"kinds": ["stretch"], "events_per_minute": 60, "event_ms": 120},
    "level": {"gain_db": -20},
    "level_drift": {"range_db": 30, "knot_s": 1.5},
    "limiter": {"peak_reduction_db": 25, "release_ms": 300, "restore_level": 1},
    "lowpass": {"families": ["butter"], "order": 8, "cutoff_hz": 5000},
    "mains_hum": {"snr_db": 15, "buzz": 1},
    "noise": {"snr_db": 10, "sources": 1},
    "noise_gate": {"cut_share": 0.3, "range_db": 60},
    "noise_suppressor": {"speech_distortion_db": -8, "floor_db": 30, "smoothings": ["none"]},
    "notch": {"notches": 2, "centre_hz": [800, 6000], "width_hz": 500, "depth_db": 40},
    "opus_packet_loss": {
        "loss_share": 0.2,
        "mean_burst_packets": 4,
        "packet_ms": [20],
        "bitrate_kbps": 48,
        "applications": ["audio"],
        "bandwidths_hz": [20000],
    },
    "overdrive": {"curves": ["tanh"], "drive_db": 20},
    "packet_loss": {"loss_share": 0.2, "mean_burst_packets": 2, "packet_ms": [20], "concealments": ["zero"]},
    "phaser": {"rate_hz": 0.4, "mix": 0.5},
    "room": {"rt60_s": [0.5, 1.0]},
    "short_events": {"event_snr_db": -3, "per_10_s": 20, "kinds": ["key"]},
    "spectral_holes": {"holes": 200, "depth_db": 60},
    "tandem": {"first": {"opus": {"bitrate_kbps": 16}}, "second": {"gsm": {}}},
    "wind": {"snr_db": 0},
}
"""Settings with which a stage is easy to see; the others are shown with their defaults."""


def shown_trial(name: str, voice: Audio, sources: Callable[[Kind], tuple[Source, ...]]) -> Trial:
    """Apply one stage as it is shown.

    Args:
        name: of the stage.
        voice: what it is applied to, shape (N,).
        sources: what it may draw from.

    Raises:
        JobError: when it cannot be applied to the voice, whatever is drawn.
    """
    stage = stage_class(name)(**SHOWN.get(name, {}))
    for seed in range(ATTEMPTS - 1):
        with suppress(JobError):
            return draw_and_apply(stage, voice, sources, seed)
    return draw_and_apply(stage, voice, sources, ATTEMPTS - 1)


def write_pictures(folder: Path, names: list[str], say: Callable[[str], None]) -> None:
    """Draw stages as `folder/NAME.png`, and remove pictures of stages that are no more."""
    folder.mkdir(parents=True, exist_ok=True)
    for stale in {*folder.glob("*.png")} - {folder / f"{name}.png" for name in names}:
        stale.unlink()
    voice = example_voice(SECONDS)
    sources = trial_sources({}, 0, None, say)
    for name in names:
        trial = shown_trial(name, voice, sources)
        write_atomically(folder / f"{name}.png", before_and_after_png(trial.before, trial.after))
