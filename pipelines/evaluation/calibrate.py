"""`ssiforge calibrate`: how much of the levelled input a finished model should leave in, by DNSMOS on held-out samples.

A model that was trained too briefly, or hears what it was never taught, takes speech away with the noise. Some of its
input left in the output bounds what it can spoil, as it bounds what it can remove (the attenuation limit of other
denoisers). The share that does best is a matter of measuring; it becomes part of a new model, whose parent is the
old one.

Noisy samples are another matter than clean ones: of what is mostly noise nothing is left in
(`training.models.finishing.NoiseGauge`), and the share is that of clean speech.

What a model takes away with the noise is also missing in its level. The mean of that, against the targets of the same
samples, is made up for by a gain.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from manifests.canonical import file_sha256
from manifests.corpus import open_corpus
from manifests.errors import JobError, UserError
from manifests.folder import Folder
from manifests.recipe import SPLITS
from manifests.store import Place
from pipelines.corpus.openlineage_jobs import CALIBRATE_JOB, telling
from pipelines.enhancement.enhance import files_below
from pipelines.evaluation.samples import Heard, HeldOut, Recordings
from pipelines.models.reference import resolve_model
from pipelines.models.stale_mark import warn_if_stale, write_stale
from pipelines.openlineage.events import corpus_dataset
from pipelines.openlineage.models import finished_model
from pipelines.progress import JobProgress
from pipelines.quality.dnsmos import dnsmos
from pipelines.quality.metrics import Audio, MeasurementError, level_error_db
from training.bundle import Bundle, BundleInfo, Network, Origin, is_bundle, repairing, save_bundle
from training.models.finishing import kept
from training.models.repair import MOST_MAKEUP_DB
from training.models.stft import analyse, synthesise

SHARES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
KEPT_SHARE = 1.0
"""Bands that a model leaves about as they are it would better leave alone (`chosen`; docs/results.md)."""
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
    """Of held-out samples, that of the input first."""
    heard: tuple[Trial, ...]
    """The same of recordings, where there were some."""
    chosen: Trial
    makeup_db: float
    """Gain of its output, so that its active level is that of the targets on average."""
    info: BundleInfo


def calibrate(
    model_reference: str,
    corpus: Place,
    out: Path,
    split: str = "val",
    limit: int = 60,
    shares: Sequence[float] = SHARES,
    recordings: Path | None = None,
    say: Callable[[str], None] = print,
) -> Calibration:
    """Try shares on held-out samples, choose one, and write the model that has it.

    Chosen is the share with the best overall score among those that make neither the signal nor the background score
    worse than the input's, of held-out samples and of recordings; if there is none, among those that do so least. Of
    shares whose overall score of held-out samples is within one standard error of the best, it is the largest (the rule
    of one standard error, Breiman et al., 1984): what they remove alike from simulated mixtures, it risks least on
    recordings. Each is scored at the level that it will have.

    Args:
        model_reference: any form of `pipelines.models.reference`.
        corpus: folder or URI; not the split that the model is evaluated on afterwards.
        out: folder of the new bundle.
        split: of the corpus.
        limit: so many samples, evenly spread. With recordings they are in memory together, 6 MB for 10 s of each.
        shares: to be tried, from 0 to below 1.
        recordings: folder of real recordings that no share should do harm to; not those on which the model is judged
            afterwards.
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
    files = [] if recordings is None else files_below(recordings)
    model = resolve_model(model_reference)
    warn_if_stale(model.stale, model.reference, say)
    bundle = model.load("cpu")
    opened = open_corpus(corpus)
    inputs = [finished_model(model.info), corpus_dataset(opened.manifest)]
    asked = [model.info.id, opened.manifest.id, split, limit, list(shares), *map(file_sha256, files)]
    with telling(Folder(out), CALIBRATE_JOB, asked, inputs) as told:
        held_out = _clips(bundle.model, HeldOut(opened, split, None, None, say), limit)
        makeups = {share: _makeup_db(held_out, share) for share in shares}
        trials = _tried(held_out, makeups, say)
        if not trials:
            raise JobError(f"{corpus}: not a single sample of its {split} split can be scored")
        heard: tuple[Trial, ...] = ()
        if recordings is not None:
            heard = _tried(_clips(bundle.model, Recordings(recordings, files, say), len(files)), makeups, say)
            if not heard:
                raise JobError(f"{recordings}: not a single recording can be scored")
        chosen = best(trials, heard)
        assert chosen.share is not None
        info = _written(bundle, chosen.share, makeups[chosen.share], out, model.stale)
        told.outputs = [finished_model(info)]
    return Calibration(trials, heard, chosen, makeups[chosen.share], info)


class _Clip(NamedTuple):
    """A sample, what the model makes of it with nothing left in, and with as much as may be; all (N,)."""

    key: str
    degraded: Audio
    target: Audio | None
    wet: Audio
    dry: Audio

    def mixed(self, share: float, makeup_db: float = 0.0) -> Audio:
        """Return what the model puts out with a share of the input left in."""
        mixed: Audio = 10.0 ** (makeup_db / 20.0) * ((1.0 - share) * self.wet + share * self.dry)
        return mixed


def _clips(model: Network, heard: Heard, limit: int) -> list[_Clip]:
    """Run the model on so many samples, evenly spread."""
    step = max(1, heard.total // max(limit, 1))
    clips = []
    with JobProgress("calibrate", min(limit, heard.total), "samples") as progress:
        for number, sample in enumerate(heard):
            if number % step or number // step >= limit:
                continue
            progress.advance(1)
            wet, dry = _wet_and_dry(model, sample.degraded)
            clips.append(_Clip(sample.key, sample.degraded, sample.target, wet, dry))
    return clips


def _makeup_db(clips: Sequence[_Clip], share: float) -> float:
    """Return the gain that brings the active level to that of the targets, on average."""
    off_db = []
    for clip in clips:
        if clip.target is not None:
            with suppress(MeasurementError):  # nothing to be heard has no level
                off_db.append(level_error_db(clip.target, clip.mixed(share)))
    if not off_db:
        return 0.0
    return round(-float(np.clip(np.mean(off_db), -MOST_MAKEUP_DB, MOST_MAKEUP_DB)), 2)


def _tried(
    clips: Sequence[_Clip], makeups: Mapping[float, float], say: Callable[[str], None]
) -> tuple[Trial, ...]:
    """Return the trial of the input and that of each share; nothing where no clip can be scored."""
    scores: dict[float | None, list[tuple[float, float, float]]] = {None: [], **{s: [] for s in makeups}}
    for clip in clips:
        try:
            judged = {share: dnsmos(clip.mixed(share, makeup_db)) for share, makeup_db in makeups.items()}
            judged_input = dnsmos(clip.degraded)
        except MeasurementError as error:
            say(f"{clip.key}: {error}; left out")
            continue
        for share, score in ((None, judged_input), *judged.items()):
            scores[share].append((score.sig, score.bak, score.ovrl))
    return tuple(_trial(share, rows) for share, rows in scores.items() if rows)


def _trial(share: float | None, rows: Sequence[tuple[float, float, float]]) -> Trial:
    """Return the trial of a share, or of the input, from SIG, BAK and OVRL of each sample."""
    sigs, baks, ovrls = zip(*rows, strict=True)
    name = INPUT if share is None else f"{share:g}"
    return Trial(name, share, float(np.mean(sigs)), float(np.mean(baks)), float(np.mean(ovrls)), ovrls)


@torch.inference_mode()
def _wet_and_dry(model: Network, wave: Audio) -> tuple[Audio, Audio]:
    """Return a wave as it is with nothing left in, and with as much of the input as its noise allows: (N,) each.

    What the model leaves about as it is was put back in both, likewise.
    """
    enhanced, levelled = model.unfinished(analyse(torch.from_numpy(np.ascontiguousarray(wave)).unsqueeze(0)))
    clean = repairing(model).noise(enhanced, levelled)
    wet_spectrum = kept(enhanced, levelled, KEPT_SHARE * clean)
    spectra = (wet_spectrum, wet_spectrum + clean * (levelled - wet_spectrum))
    wet, dry = (synthesise(spectrum, len(wave))[0].numpy() for spectrum in spectra)
    return wet, dry


def best(trials: Sequence[Trial], heard: Sequence[Trial] = ()) -> Trial:
    """Return the share to use, as :func:`calibrate` says.

    Args:
        trials: of held-out samples, that of the input first.
        heard: the same of recordings, where there are some.
    """
    _, *tried = trials
    harms = {trial.name: _harm(trial, trials[0]) for trial in tried}
    for trial in heard[1:]:
        harms[trial.name] = round(harms[trial.name] + _harm(trial, heard[0]), 3)
    least = min(harms.values())
    harmless = [trial for trial in tried if harms[trial.name] == least]
    top = max(harmless, key=lambda trial: trial.ovrl)
    return max((trial for trial in harmless if _as_good(trial, top)), key=lambda trial: trial.share or 0.0)


def _harm(trial: Trial, before: Trial) -> float:
    return round(max(0.0, before.sig - trial.sig) + max(0.0, before.bak - trial.bak), 3)


def _as_good(trial: Trial, top: Trial) -> bool:
    """Whether the top's overall score is not above a trial's by more than the standard error of the difference."""
    above = np.subtract(top.ovrls, trial.ovrls)
    if trial is top or len(above) < 2:
        return trial is top
    return bool(above.mean() <= above.std(ddof=1) / np.sqrt(len(above)))


def _written(bundle: Bundle, share: float, makeup_db: float, out: Path, stale: Sequence[str]) -> BundleInfo:
    info, model = bundle.info, bundle.model
    repair = repairing(model)
    repair.config = replace(
        repair.config, kept_share=KEPT_SHARE, dry_share=share, makeup_db=makeup_db, by_noise=True
    )
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
