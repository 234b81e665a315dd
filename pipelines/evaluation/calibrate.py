"""`ssiforge calibrate`: how much of the levelled input a finished model should leave in, by DNSMOS on held-out samples.

A model that was trained too briefly, or hears what it was never taught, takes speech away with the noise. Some of its
input left in the output bounds what it can spoil, as it bounds what it can remove (the attenuation limit of other
denoisers). The share that does best is a matter of measuring; it becomes part of a new model, whose parent is the
old one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from manifests.corpus import open_corpus
from manifests.errors import JobError, UserError
from manifests.folder import Folder
from manifests.recipe import SPLITS
from manifests.store import Place
from pipelines.corpus.openlineage_jobs import CALIBRATE_JOB, telling
from pipelines.evaluation.samples import HeldOut
from pipelines.models.reference import resolve_model
from pipelines.models.stale_mark import warn_if_stale, write_stale
from pipelines.openlineage.events import corpus_dataset
from pipelines.openlineage.models import finished_model
from pipelines.progress import JobProgress
from pipelines.quality.dnsmos import dnsmos
from pipelines.quality.metrics import Audio, MeasurementError
from training.bundle import Bundle, BundleInfo, Network, Origin, is_bundle, save_bundle
from training.models.chain import Chain
from training.models.repair import COMPRESSION_POWER, RepairNet
from training.models.stft import analyse, decompress, synthesise

SHARES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
INPUT = "input"


@dataclass(frozen=True)
class Trial:
    """Mean DNSMOS P.835 of one share, or of the input."""

    name: str
    share: float | None
    sig: float
    bak: float
    ovrl: float
    ovrls: tuple[float, ...] = ()
    """The overall score of each sample."""


@dataclass(frozen=True)
class Calibration:
    """What was tried and chosen."""

    trials: tuple[Trial, ...]
    """That of the input first."""
    samples: int
    chosen: Trial
    info: BundleInfo


def calibrate(
    model_reference: str,
    corpus: Place,
    out: Path,
    split: str = "val",
    limit: int = 60,
    shares: Sequence[float] = SHARES,
    say: Callable[[str], None] = print,
) -> Calibration:
    """Try shares on held-out samples, choose one, and write the model that has it.

    Chosen is the share with the best overall score among those that make neither the signal nor the background score
    worse than the input's; if there is none, among those that do so least. Of shares whose overall score is within one
    standard error of the best, it is the largest (the rule of one standard error, Breiman et al., 1984): what they
    remove alike from simulated mixtures, it risks least on recordings.

    Args:
        model_reference: any form of `pipelines.models.reference`.
        corpus: folder or URI; not the split that the model is evaluated on afterwards.
        out: folder of the new bundle.
        split: of the corpus.
        limit: so many samples, evenly spread.
        shares: to be tried, from 0 to below 1.
        say: told of samples that cannot be read.

    Raises:
        UserError: when something does not exist, or `out` holds a model. JobError: when nothing can be scored.
    """
    if is_bundle(out):
        raise UserError(f"{out}: holds a model already; choose another --out")
    if split not in SPLITS:
        raise UserError(f"--split {split}: no such split; there are {', '.join(SPLITS)}")
    if not shares or not all(0.0 <= share < 1.0 for share in shares):
        raise UserError("--shares must be numbers from 0 to below 1, e.g. 0,0.2,0.4")
    model = resolve_model(model_reference)
    warn_if_stale(model.stale, model.reference, say)
    bundle = model.load("cpu")
    opened = open_corpus(corpus)
    inputs = [finished_model(model.info), corpus_dataset(opened.manifest)]
    asked = [model.info.id, opened.manifest.id, split, limit, list(shares)]
    with telling(Folder(out), CALIBRATE_JOB, asked, inputs) as told:
        trials, samples = _tried(bundle, HeldOut(opened, split, None, None, say), limit, shares, say)
        if not samples:
            raise JobError(f"{corpus}: not a single sample of its {split} split can be scored")
        chosen = best(trials)
        assert chosen.share is not None
        info = _written(bundle, chosen.share, out, model.stale)
        told.outputs = [finished_model(info)]
    return Calibration(trials, samples, chosen, info)


def _tried(
    bundle: Bundle, held_out: HeldOut, limit: int, shares: Sequence[float], say: Callable[[str], None]
) -> tuple[tuple[Trial, ...], int]:
    """Return the trial of the input and that of each share, and on how many samples."""
    step = max(1, held_out.total // limit)
    scores: dict[str, list[tuple[float, float, float]]] = {}
    wanted = {f"{share:g}": share for share in shares}
    with JobProgress("calibrate", min(limit, held_out.total), "samples") as progress:
        for number, sample in enumerate(held_out):
            if number % step or number // step >= limit:
                continue
            progress.advance(1)
            wet, dry = _wet_and_dry(bundle.model, sample.degraded)
            waves = {INPUT: sample.degraded}
            waves |= {name: (1.0 - share) * wet + share * dry for name, share in wanted.items()}
            try:
                judged = {name: dnsmos(wave.astype(np.float32)) for name, wave in waves.items()}
            except MeasurementError as error:
                say(f"{sample.key}: {error}; left out")
                continue
            for name, score in judged.items():
                scores.setdefault(name, []).append((score.sig, score.bak, score.ovrl))
    trials = tuple(_trial(name, wanted.get(name), rows) for name, rows in scores.items())
    return trials, len(scores.get(INPUT, ()))


def _trial(name: str, share: float | None, rows: Sequence[tuple[float, float, float]]) -> Trial:
    """Return the trial of a share from SIG, BAK and OVRL of each sample."""
    sigs, baks, ovrls = zip(*rows, strict=True)
    return Trial(name, share, float(np.mean(sigs)), float(np.mean(baks)), float(np.mean(ovrls)), ovrls)


@torch.inference_mode()
def _wet_and_dry(model: Network, wave: Audio) -> tuple[Audio, Audio]:
    """Return what a model makes of a wave with nothing left in, and its levelled input, both (N,)."""
    repair: RepairNet = model.repair if isinstance(model, Chain) else model
    levelled = repair.levelled(analyse(torch.from_numpy(np.ascontiguousarray(wave)).unsqueeze(0)))
    enhanced, _ = repair.map_levelled(levelled)
    if isinstance(model, Chain):
        enhanced = model.denoiser(enhanced)
    spectra = (enhanced, decompress(levelled, COMPRESSION_POWER))
    wet, dry = (synthesise(spectrum, len(wave))[0].numpy() for spectrum in spectra)
    return wet, dry


def best(trials: Sequence[Trial]) -> Trial:
    """Return the share to use, as :func:`calibrate` says; `trials` begins with the input."""
    before, *tried = trials

    def harm(trial: Trial) -> float:
        return round(max(0.0, before.sig - trial.sig) + max(0.0, before.bak - trial.bak), 3)

    least = min(map(harm, tried))
    harmless = [trial for trial in tried if harm(trial) == least]
    top = max(harmless, key=lambda trial: trial.ovrl)
    return max((trial for trial in harmless if _as_good(trial, top)), key=lambda trial: trial.share or 0.0)


def _as_good(trial: Trial, top: Trial) -> bool:
    """Whether the top's overall score is not above a trial's by more than the standard error of the difference."""
    above = np.subtract(top.ovrls, trial.ovrls)
    if trial is top or len(above) < 2:
        return trial is top
    return bool(above.mean() <= above.std(ddof=1) / np.sqrt(len(above)))


def _written(bundle: Bundle, share: float, out: Path, stale: Sequence[str]) -> BundleInfo:
    info, model = bundle.info, bundle.model
    repair = model.repair if isinstance(model, Chain) else model
    repair.config = replace(repair.config, dry_share=share)
    origin = Origin(
        info.stage,
        info.preset,
        info.corpus_id,
        info.stage_digest,
        info.experiment,
        {info.stage: info.id},
        info.selection,
        info.corpus,
        info.online,
    )
    metrics = {name: value for name, value in info.metrics.items() if value is not None}
    try:
        made = save_bundle(out, model, origin, info.steps, metrics, info.stopped_after_step)
        if stale:  # it has what the model heard
            write_stale(out, made.id, stale)
        return made
    except OSError as error:
        raise UserError(f"{out}: cannot be written to ({error.strerror})") from error
