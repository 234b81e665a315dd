"""Scores of an ablation's models on the fixed held-out samples, each sample's by itself, kept in a file a run."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict, ValidationError

from manifests.canonical import rounded
from manifests.corpus import Corpus
from manifests.errors import JobError, UserError
from manifests.recipe import SPLITS
from pipelines.quality.dnsmos import dnsmos
from pipelines.quality.metrics import (
    Audio,
    MeasurementError,
    level_error_db,
    log_spectral_distance_db,
    si_sdr_db,
)
from training.losses.spectral import spectral_loss
from training.order import Pick
from training.shards import Reader
from training.source import DamagedError

Scores = dict[str, list[float | None]]
"""By measure: each held-out sample's, in order; None where it is not defined."""


@dataclass(frozen=True)
class Measure:
    """One of the numbers by which arms are compared."""

    name: str
    title: str
    higher_is_better: bool
    digits: int


MEASURES = (
    Measure("spectral_loss", "spectral loss", False, 4),
    Measure("si_sdr_db", "SI-SDR, dB", True, 2),
    Measure("lsd_db", "LSD, dB", False, 2),
    Measure("level_error_db", "level error, dB", False, 2),
    Measure("dnsmos_ovrl", "DNSMOS OVRL", True, 3),
    Measure("dnsmos_sig", "DNSMOS SIG", True, 3),
    Measure("dnsmos_bak", "DNSMOS BAK", True, 3),
)


class HeldOut(BaseModel):
    """Which samples are scored: the first `samples` of a split of a corpus."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    corpus_id: str
    split: str
    samples: int


class RunResult(BaseModel):
    """What one run came to; the content of `result.json`, which is written last."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    arm: str
    seed: int | None
    """None for what has no seed: the input, and the model that all arms build on."""
    model_id: str | None
    """Id of the bundle; None for the input."""
    stage_digest: str | None
    """Identity of the settings that the model was trained with."""
    held_out: HeldOut
    scores: Scores


def held_out_samples(corpus: Corpus, split: str, limit: int | None) -> HeldOut:
    """Say which samples are scored.

    Raises:
        UserError: when there is no such split, or it is empty.
    """
    if split not in SPLITS:
        raise UserError(f"--split {split}: no such split; there are {', '.join(SPLITS)}")
    count = sum(Reader(corpus, split).sizes)
    if not count:
        raise UserError(f"{corpus.url}: has no samples in its {split} split")
    return HeldOut(corpus_id=corpus.manifest.id, split=split, samples=min(count, limit or count))


def measured_scores(corpus: Corpus, held_out: HeldOut, enhance: Callable[[Audio], Audio]) -> Scores:
    """Enhance and measure each held-out sample.

    Raises:
        JobError: when a sample cannot be read: arms must be compared on the same ones.
    """
    reader = Reader(corpus, held_out.split)  # type: ignore[arg-type]
    picks = [Pick(number, place) for number, size in enumerate(reader.sizes) for place in range(size)]
    scores: Scores = {measure.name: [] for measure in MEASURES}
    for pick in picks[: held_out.samples]:
        try:
            degraded, target = reader.read(pick, 0, reader.frames(pick))
        except (DamagedError, OSError) as error:
            raise JobError(f"{reader.where(pick)}: {error}; run 'ssiforge verify {corpus.url}'") from error
        for name, value in _measured(target, enhance(degraded)).items():
            scores[name].append(rounded(value, 8) if value is not None else None)
    return scores


def _measured(target: Audio, estimate: Audio) -> dict[str, float | None]:
    pair = (torch.from_numpy(estimate).unsqueeze(0), torch.from_numpy(target).unsqueeze(0))
    values: dict[str, float | None] = {"spectral_loss": float(spectral_loss(*pair).total)}
    for name, measure in (
        ("si_sdr_db", si_sdr_db),
        ("lsd_db", log_spectral_distance_db),
        # Too loud and too quiet must not cancel out in a mean.
        ("level_error_db", lambda target, estimate: abs(level_error_db(target, estimate))),
    ):
        try:
            values[name] = measure(target, estimate)
        except MeasurementError:
            values[name] = None
    try:
        predicted = dnsmos(estimate)
        heard: Sequence[float | None] = (predicted.ovrl, predicted.sig, predicted.bak)
    except MeasurementError:
        heard = (None, None, None)
    return values | dict(zip(("dnsmos_ovrl", "dnsmos_sig", "dnsmos_bak"), heard, strict=True))


def read_result(path: Path) -> RunResult | None:
    """Read a run's result; None where it has none yet.

    Raises:
        UserError: when the file holds something else.
    """
    if not path.is_file():
        return None
    try:
        return RunResult.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise UserError(
            f"{path}: not the result of a run of this version; remove it to score again"
        ) from error
