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
from pipelines.example_voice import example_voice
from pipelines.figures import before_and_after_png
from pipelines.trial_material import trial_sources
from pipelines.try_stage import Trial, draw_and_apply

SECONDS = 5.4
"""Two sentences and the pause between them."""
ATTEMPTS = 8
SHOWN: dict[str, dict[str, Any]] = {
    "audiomentations": {"transform": "TanhDistortion", "min_distortion": 0.6, "max_distortion": 0.6},
    "bandpass": {"families": ["butter"], "order": 8, "low_hz": 300, "high_hz": 3400},
    "bandwidth_loss": {"rates_hz": [16000], "qualities": ["HQ"]},
    "clipping": {"kinds": ["hard"], "share": 0.1, "restore_level": 0},
    "codec": {"codecs": {"opus": {"bitrate_kbps": 8, "applications": ["voip"]}}},
    "coloured_noise": {"snr_db": 15, "exponent": 1},
    "final_level": {"active_level_dbfs": -40},
    "gain_step": {"step_db": -18, "ramp_ms": 500, "start_share": 0.4, "ends_early": 0},
    "highpass": {"families": ["butter"], "order": 6, "cutoff_hz": 300},
    "level": {"gain_db": -20},
    "lowpass": {"families": ["butter"], "order": 8, "cutoff_hz": 5000},
    "noise": {"snr_db": 5, "sources": 1},
    "packet_loss": {"loss_share": 0.2, "packet_ms": [40], "concealments": ["zero"]},
    "room": {"rt60_s": [0.5, 1.0]},
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
