"""A run: stages in order, each from its parent's finished model to its own.

```
RUN_DIR/
  online/     what fresh samples are drawn from (`manifests.online`), where there are some
  teacher/    run.json (what it is made from)  experiment.json  selection.json (where samples are left out)
              checkpoints/  model/ (the bundle)  events.jsonl  metrics.jsonl  samples/
  student/  denoiser/  joint/    alike
```
"""

import json
import logging
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from manifests.corpus import Corpus, open_corpus
from manifests.corpus_summary import summary_of
from manifests.errors import JobError, UserError
from manifests.experiment import STAGES, Experiment, StageName
from manifests.files import write_atomically
from manifests.flat import flat
from manifests.interrupts import interruptible, terminable
from manifests.recipe import Split
from manifests.selection import SELECTION_FILE, Selection
from manifests.store import Place, absolute
from training.adversary import Adversary, build_adversary
from training.bundle import BundleInfo, Origin, is_bundle, load_bundle, read_info, save_bundle
from training.bundle_info import MODEL_FOLDER
from training.checkpoint import Checkpoints, DamagedCheckpointError, Identity
from training.compiling import compile_network, why_not_compiled
from training.data import Data
from training.device import chosen_device
from training.loop import Fit, fit
from training.named_parents import NO_NAMED_PARENTS, NamedParents
from training.ranks import Ranks, device_of_rank, joined
from training.source import FreshSamples
from training.stages import PARENT, WHOLE, build_task, derived_seed
from training.stream import SampleStream, fixed_batches
from training.tracker import FileTracker, Parent, Several, StageStart, Tracker

CHECKPOINT_FOLDER = "checkpoints"
EXPERIMENT_FILE = "experiment.json"
AFTER_THE_STEP = "after the step in progress, with a checkpoint"
SAME_SIGNAL_S = 2.0
"""torchrun passes on a Ctrl-C that its ranks have had from the terminal already."""

log = logging.getLogger(__name__)


def model_dir(run_dir: Path, stage: StageName) -> Path:
    """Return where a stage's bundle lies."""
    return run_dir / stage / MODEL_FOLDER


def train(
    experiment: Experiment,
    corpus_place: Place | None,
    run_dir: Path,
    stages: Sequence[StageName] = STAGES,
    resume: bool = False,
    device: str = "auto",
    trackers: Sequence[Tracker] = (),
    selection: Selection | None = None,
    parents: NamedParents = NO_NAMED_PARENTS,
    fresh: FreshSamples | None = None,
) -> dict[StageName, BundleInfo]:
    """Train stages in order; on `resume`, skip finished ones and go on with an interrupted one.

    Where the environment tells of several ranks (`training.ranks`), each of them calls this with the same arguments,
    and must see the same `run_dir`; rank 0 writes there and reports to the trackers.

    Args:
        experiment: what to train and how.
        corpus_place: folder or URI of the finished corpus to train on; None to train on fresh samples alone.
        run_dir: made if missing; holds everything that the run writes.
        stages: those to train, in order; each needs its parent's finished model in `run_dir`.
        resume: whether `run_dir` may hold earlier work.
        device: `cpu`, `cuda`, `cuda:1`, or `auto`, which is CUDA where there is one.
        trackers: told of everything besides the files in `run_dir`.
        selection: the samples of the corpus to use; all of them without.
        parents: checked models that stages build on instead of those in `run_dir`.
        fresh: samples that are made on the way, instead of or beside those of the corpus.

    Returns:
        What was trained or found finished, by stage.

    Raises:
        UserError: when the corpus, the run folder or the device is not fit for this run.
        JobError: when training itself cannot go on.
        KeyboardInterrupt: when it was asked to stop by Ctrl-C or SIGTERM.
    """
    corpus = None if corpus_place is None else open_corpus(corpus_place)
    if selection is not None and corpus is not None:
        selection.check(corpus, needed_splits(experiment))
    data = Data(corpus, selection, fresh)
    place = chosen_device(device_of_rank(device))
    if not resume:
        refuse_earlier_work(run_dir, stages)
    with terminable(), joined(place) as ranks:
        if corpus is not None:
            _refuse_changed_shards(corpus, ranks)
        tracker = Several((FileTracker(), *trackers) if ranks.first else ())
        trained: dict[StageName, BundleInfo] = {}
        for stage in stages:
            trained[stage], stops = _train_stage(
                stage, experiment, data, run_dir, parents, ranks, place, tracker
            )
            if stops and stage != stages[-1]:
                raise KeyboardInterrupt
        return trained


def needed_splits(experiment: Experiment) -> tuple[Split, ...]:
    """Return the splits that must hold samples."""
    return ("train", "val") if experiment.validation.samples else ("train",)


def _refuse_changed_shards(corpus: Corpus, ranks: Ranks) -> None:
    """Hash every shard: a model must not name a corpus that it did not hear. Reading 100 hours takes minutes.

    The ranks of one machine share the work; other machines may have a copy of their own.
    """
    shards = [(part.corpus, shard) for part in corpus.parts for shard in part.corpus.shards]
    for held, shard in shards[ranks.local_rank :: ranks.local_count]:
        if held.sha256(shard) != shard.sha256:
            raise UserError(
                f"{held.where(shard)}: its content is not what corpus {held.manifest.id} names; "
                f"run 'ssiforge verify {held.url}'"
            )


def refuse_earlier_work(run_dir: Path, stages: Sequence[StageName]) -> None:
    """Refuse to start anew where there is work already.

    Raises:
        UserError: naming the stage.
    """
    for stage in stages:
        if is_bundle(model_dir(run_dir, stage)) or any((run_dir / stage / CHECKPOINT_FOLDER).glob("*.pt")):
            raise UserError(
                f"{run_dir / stage}: holds work on stage {stage}; give --resume to go on, or another --out"
            )


def _train_stage(
    stage: StageName,
    experiment: Experiment,
    data: Data,
    run_dir: Path,
    named: NamedParents,
    ranks: Ranks,
    device: torch.device,
    tracker: Tracker,
) -> tuple[BundleInfo, bool]:
    """Train one stage; return its model, and whether the run was asked to stop meanwhile."""
    stage_dir = run_dir / stage
    corpus, selection, fresh = data.corpus, data.selection, data.fresh
    parents = _parents(stage, data, run_dir, named)
    origin = Origin(
        stage,
        experiment.preset,
        data.id,
        experiment.stage_digest(stage),
        experiment.written(),
        {parent.role: parent.id for parent in parents},
        selection.record if selection else None,
        summary_of(corpus.manifest) if corpus else None,
        fresh.record if fresh else None,
    )
    if is_bundle(stage_dir / MODEL_FOLDER):
        return _finished(stage_dir / MODEL_FOLDER, origin), False
    models = {parent.role: load_bundle(parent.bundle_dir, device) for parent in parents}
    built_on = PARENT[stage]
    task = build_task(
        stage, experiment, models.get(built_on) if built_on else None, device, models.get(stage)
    )
    if experiment.optimisation.compile:
        compile_network(task.network)
    task.adversary = _adversary(stage, experiment, device, ranks)
    samples = selection.digest if selection else ""
    identity = Identity(stage, origin.stage_digest, origin.corpus_id, dict(origin.parents), samples)
    checkpoints = Checkpoints(
        stage_dir / CHECKPOINT_FOLDER, identity, experiment.records.keep_checkpoints, writes=ranks.first
    )
    held_out = _held_out(experiment, data, experiment.stages.of(stage).batch_size)
    with _stream(stage, experiment, data, ranks, device) as stream:
        run = Fit(task, stream, experiment, experiment.stages.of(stage), device, ranks)
        if (state := checkpoints.newest()) is not None:
            run.resume(state)
            _check_best(run, checkpoints)
        ranks.check_same(task.trained, run.progress.step)
        if task.adversary is not None:
            ranks.check_same(task.adversary.networks, run.progress.step)
        if ranks.first:
            _make_place(stage_dir, experiment, selection)
        tracker.stage_started(
            StageStart(
                experiment=experiment.name,
                stage=stage,
                stage_dir=stage_dir,
                params=flat(experiment.written()),
                stage_digest=origin.stage_digest,
                corpus_place=absolute(corpus.url) if corpus else "",
                corpus=corpus.manifest if corpus else None,
                parents=parents,
                device=str(device),
                parameters=sum(weight.numel() for weight in run.weights),
                steps=run.settings.steps,
                resumed_at_step=run.progress.step,
                selection=origin.selection,
                ranks=ranks.count,
                online=origin.online,
                online_place=fresh.place if fresh else "",
            )
        )
        try:
            say = log.warning if ranks.first else log.debug
            with interruptible(say, AFTER_THE_STEP, SAME_SIGNAL_S) as interrupts:
                run.asked_to_stop = lambda: interrupts.stopping
                kept = fit(run, held_out, checkpoints, tracker)
            if ranks.first:
                task.trained.load_state_dict(kept["weights"])
                save_bundle(
                    stage_dir / MODEL_FOLDER,
                    task.network,
                    origin,
                    kept["step"],
                    kept["metrics"],
                    run.stopped_after,
                )
            ranks.wait()
            info = read_info(stage_dir / MODEL_FOLDER)
            tracker.model_finished(stage_dir / MODEL_FOLDER, info)
        except KeyboardInterrupt:
            tracker.stage_ended("stopped", f"interrupted after step {run.progress.step}")
            raise
        except BaseException as error:
            not_compiled = why_not_compiled(error)
            if not_compiled and run.asked_to_stop():  # Ctrl-C reaches the compiler too
                tracker.stage_ended("stopped", "interrupted while compiling")
                raise KeyboardInterrupt from error
            with suppress(OSError):  # a full disk has no room for how it ended either
                tracker.stage_ended("failed", not_compiled or str(error))
            if not_compiled:
                raise JobError(not_compiled) from error
            if isinstance(error, OSError):
                where, why = error.filename or stage_dir, error.strerror or error
                raise JobError(f"{where}: {why}; --resume goes on from the last checkpoint") from error
            raise
        tracker.stage_ended("finished", run.early_end)
    return info, run.stops


def _adversary(
    stage: StageName, experiment: Experiment, device: torch.device, ranks: Ranks
) -> Adversary | None:
    """Build the adversary of a stage, if it has one, and say where its steps are too few for it."""
    adversary, settings = build_adversary(stage, experiment, device), experiment.stages.of(stage)
    if adversary is None:
        return None
    adversary.join(ranks, ranks.share(settings.batch_size))
    if adversary.first_word >= settings.steps and ranks.first:
        log.warning(
            "stage %s: its discriminators would be heard after %d steps, and it has %d; see adversarial.start_share "
            "and adversarial.lead_steps",
            *(stage, adversary.first_word, settings.steps),
        )
    return adversary


def _check_best(run: Fit, checkpoints: Checkpoints) -> None:
    """Look whether the best weights so far can still be read: else the end of the stage would have nothing to keep."""
    if run.best.value is None:
        return
    try:
        checkpoints.best()
    except DamagedCheckpointError as error:
        log.warning("%s; the best result from here on is kept in its place", error)
        run.best.forget()


def _make_place(stage_dir: Path, experiment: Experiment, selection: Selection | None) -> None:
    """Make the stage's folder, and note in it the experiment and the samples: from here on that is what is trained."""
    try:
        stage_dir.mkdir(parents=True, exist_ok=True)
        write_atomically(stage_dir / EXPERIMENT_FILE, json.dumps(experiment.written(), indent=2).encode())
        if selection is not None:
            write_atomically(stage_dir / SELECTION_FILE, selection.written())
    except OSError as error:
        raise UserError(f"{stage_dir}: cannot be written to ({error.strerror})") from error


def _parents(stage: StageName, data: Data, run_dir: Path, named: NamedParents) -> tuple[Parent, ...]:
    """Find the finished models that a stage builds on: those that were named, or its parent's in `run_dir`.

    Raises:
        UserError: when it is not there, or lies in `run_dir` and was trained on other data.
    """
    begun = (Parent(stage, read_info(named[stage]).id, named[stage]),) if stage in named else ()
    role = PARENT[stage]
    if role is None or (begun and stage in WHOLE):
        return begun
    if role in named:
        return (Parent(role, read_info(named[role]).id, named[role]), *begun)
    directory = model_dir(run_dir, role)
    if not is_bundle(directory):
        raise UserError(
            f"{run_dir}: stage {stage} needs a finished {role}, and there is none; train it with --stage {role}, "
            f"or name one with --from {role}=PLACE"
        )
    info = read_info(directory)
    if info.corpus_id != data.id:
        raise UserError(
            f"{directory}: was trained on corpus {info.corpus_id}, and {data.name} is {data.id}; "
            f"use that corpus, or another --out"
        )
    return (Parent(role, info.id, directory), *begun)


def _finished(directory: Path, origin: Origin) -> BundleInfo:
    """Return a finished stage's description, if it is what this run would train.

    Raises:
        UserError: when it was trained with other settings, data or parents.
    """
    info = read_info(directory)
    ours = (origin.stage_digest, origin.corpus_id, dict(origin.parents), origin.selection)
    if (info.stage_digest, info.corpus_id, info.parents, info.selection) != ours:
        raise UserError(
            f"{directory}: was trained with other settings, another corpus, another selection of its samples or "
            f"another parent model than this run asks for; resume with those, or choose another --out"
        )
    return info


def _stream(
    stage: StageName, experiment: Experiment, data: Data, ranks: Ranks, device: torch.device
) -> SampleStream:
    settings, loader = experiment.stages.of(stage), experiment.loader
    return SampleStream(
        data.training(),
        derived_seed(experiment.seed, stage, "order"),
        settings.batch_size,
        settings.segment_s,
        threads=loader.threads,
        prefetch_batches=loader.prefetch_batches,
        window_shards=loader.window_shards,
        max_damaged_in_row=loader.max_damaged_in_row,
        pinned=device.type == "cuda",
        rank=ranks.rank,
        ranks=ranks.count,
    )


def _held_out(experiment: Experiment, data: Data, batch_size: int) -> list[Any]:
    validation = experiment.validation
    if validation.samples == 0:
        return []
    source = data.validation()
    if source.shortest_frames == 0:
        raise UserError(
            f"{source.name}: has no samples in its val split; set validation.samples=0 to train without validation"
        )
    batches = fixed_batches(source, validation.samples, validation.segment_s, batch_size)
    if not batches:
        raise JobError(f"{source.name}: none of the chosen val samples can be read; run 'ssiforge verify'")
    return batches
