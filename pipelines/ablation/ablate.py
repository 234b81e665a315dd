"""`ssiforge ablate`: one thing changed, all else equal, on several seeds; is there a difference?

```
OUT/
  parents/                       what all arms build on, where it had to be trained
  runs/ARM/seed-S/               a run folder: its copy of the parent, the arm's stage, result.json (written last)
  references/                    scores of the input and of the parent
  ablation.json  ablation.md  ablation.png
```

All arms of a seed start from the same weights, see the same batches and take equally many steps: these are drawn from
the seed and the stage's name alone. Runs that have a result are kept; the same command goes on where it stopped.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from manifests.corpus import Corpus, open_corpus
from manifests.errors import UserError
from manifests.experiment import STAGES, Experiment, StageName, load_experiment
from manifests.files import write_atomically
from manifests.store import Place
from pipelines.ablation.arms import DEFAULT_KD_ARMS, Study, StudyName, arm_experiment, asa_study, kd_study
from pipelines.ablation.log import AblationLog
from pipelines.ablation.report import write_report
from pipelines.ablation.scores import (
    MEASURES,
    HeldOut,
    RunResult,
    held_out_samples,
    measured_scores,
    read_result,
)
from pipelines.ablation.statistics import mean_over, seed_means, table, usable_samples
from pipelines.models.reference import resolve_model
from pipelines.trainer.train import refuse_another_run
from training.bundle import MODEL_FILE, BundleInfo, is_bundle, load_bundle, read_info
from training.device import chosen_device
from training.enhance import enhance_array
from training.models.presets import REPAIRERS
from training.run import model_dir, train
from training.tracker import LineTracker

OUT_FOLDER = "ablations"
PARENTS_FOLDER = "parents"
RUNS_FOLDER = "runs"
REFERENCES_FOLDER = "references"
RESULT_FILE = "result.json"
DEGRADED = "degraded"
FORMAT = 1

Say = Callable[[str], None]


@dataclass(frozen=True)
class Setting:
    """All that the runs of one ablation share."""

    study: Study
    experiment: Experiment
    steps: int | None
    corpus: Corpus
    held_out: HeldOut
    parent_dir: Path
    """Bundle of the model that all arms build on."""
    out: Path
    device: str
    say: Say

    def run_dir(self, arm: str, seed: int) -> Path:
        """Return the run folder of one arm at one seed."""
        return self.out / RUNS_FOLDER / arm / f"seed-{seed}"


def ablate(
    name: StudyName,
    experiment_reference: str,
    corpus: Place,
    parent: str | None = None,
    arms: Sequence[str] = DEFAULT_KD_ARMS,
    seeds: int = 3,
    steps: int | None = None,
    out: Path | None = None,
    split: str = "test",
    samples: int | None = None,
    device: str = "auto",
    overrides: Iterable[str] = (),
    say: Say = print,
) -> dict[str, Any]:
    """Train every arm on every seed, score them on held-out samples, and write what the comparison shows.

    Args:
        name: `kd`: students of one teacher; `asa`: denoisers behind one student.
        experiment_reference: a shipped name or a YAML file.
        corpus: folder or URI of a finished corpus.
        parent: a model, as `pipelines.models.reference` finds it: the teacher or the student that all arms build
            on; trained first, with the experiment's settings, if not given.
        arms: of `kd`, the first being the baseline.
        seeds: how many, counted up from the experiment's.
        steps: of each arm; the experiment's if None.
        out: folder; `./ablations/EXPERIMENT-NAME` if None.
        split: of the corpus, from which samples are scored.
        samples: only the first so many of them.
        device: `auto`, `cpu`, `cuda`, `cuda:N`.
        overrides: `a.b=c` settings of the experiment, the same for all arms.
        say: told how it goes, in plain lines.

    Returns:
        The content of `ablation.json`.

    Raises:
        UserError: when something that was asked for does not exist, or `out` holds other work.
        JobError: when training cannot go on, or a held-out sample cannot be read.
    """
    settings = list(overrides)
    experiment = load_experiment(experiment_reference, settings)
    study = kd_study(experiment, arms) if name == "kd" else asa_study()
    if steps is not None:
        experiment = load_experiment(experiment_reference, [*settings, f"stages.{study.stage}.steps={steps}"])
    opened = open_corpus(corpus)
    held_out = held_out_samples(opened, split, samples)
    chosen_device(device)
    out = out or Path(OUT_FOLDER) / f"{experiment.name}-{name}"
    parent_dir = _parent(study, experiment, opened, parent, out, device, say)
    setting = Setting(study, experiment, steps, opened, held_out, parent_dir, out, device, say)

    runs = [(arm, experiment.seed + number) for number in range(seeds) for arm in study.arms]
    with AblationLog(out, study.name, experiment.name, opened) as log:
        results: dict[str, dict[int, RunResult]] = {arm: {} for arm in study.arms}
        for number, (arm, seed) in enumerate(runs, start=1):
            label = f"[{number}/{len(runs)}] {name}, arm {arm}, seed {seed}"
            results[arm][seed] = _run(setting, arm, seed, label)
            written = arm_experiment(experiment, study, arm, seed, steps).written()
            log.run(results[arm][seed], written, setting.run_dir(arm, seed) / study.stage)
        result = _result(setting, results, _references(setting))
        write_report(out, result)
        log.finish(result)
    return result


def _parent(
    study: Study,
    experiment: Experiment,
    corpus: Corpus,
    reference: str | None,
    out: Path,
    device: str,
    say: Say,
) -> Path:
    """Return the bundle that all arms build on, trained here if none is given."""
    if reference is None:
        needed: tuple[StageName, ...] = STAGES[: STAGES.index(study.parent) + 1]
        run_dir = out / PARENTS_FOLDER
        if not is_bundle(model_dir(run_dir, study.parent)):
            say(f"training what all arms build on: {', '.join(needed)}")
        refuse_another_run(run_dir, experiment, corpus.manifest.id, needed)
        train(experiment, corpus.url, run_dir, needed, True, device, (LineTracker(say),))
        return model_dir(run_dir, study.parent)
    found = resolve_model(reference)
    _refuse_unfit(found.info, study, experiment, corpus, reference)
    return found.bundle_dir


def _refuse_unfit(
    info: BundleInfo, study: Study, experiment: Experiment, corpus: Corpus, reference: str
) -> None:
    if info.stage != study.parent:
        raise UserError(f"{reference}: is a {info.stage}, and ablate {study.name} needs a {study.parent}")
    if info.corpus_id != corpus.manifest.id:
        raise UserError(
            f"{reference}: was trained on corpus {info.corpus_id}, and {corpus.url} is {corpus.manifest.id}"
        )
    if info.preset != experiment.preset and experiment.preset in REPAIRERS:
        raise UserError(
            f"{reference}: is of preset {info.preset}, and experiment {experiment.name} of {experiment.preset}"
        )


def _run(setting: Setting, arm: str, seed: int, label: str) -> RunResult:
    """Train and score one arm at one seed, unless that is done."""
    study, run_dir = setting.study, setting.run_dir(arm, seed)
    experiment = arm_experiment(setting.experiment, study, arm, seed, setting.steps)
    _place_parent(setting.parent_dir, run_dir, study)
    refuse_another_run(run_dir, experiment, setting.corpus.manifest.id, (study.stage,))
    found = read_result(run_dir / RESULT_FILE)
    if found and is_bundle(model_dir(run_dir, study.stage)) and found.held_out == setting.held_out:
        setting.say(f"{label}: kept")
        return found
    setting.say(f"{label}: training")
    tracker = LineTracker(lambda line: setting.say(f"{label}: {line}"))
    train(experiment, setting.corpus.url, run_dir, (study.stage,), True, setting.device, (tracker,))
    setting.say(f"{label}: scoring {setting.held_out.samples} samples")
    result = _scored(setting, arm, seed, model_dir(run_dir, study.stage))
    write_atomically(run_dir / RESULT_FILE, result.model_dump_json().encode())
    return result


def _place_parent(parent_dir: Path, run_dir: Path, study: Study) -> None:
    """Copy the parent's bundle to where a run looks for it, whole or not at all.

    Raises:
        UserError: when the run was begun on another one.
    """
    place, now = model_dir(run_dir, study.parent), read_info(parent_dir).id
    if is_bundle(place):
        if (before := read_info(place).id) != now:
            raise UserError(
                f"{run_dir}: was begun on {study.parent} {before}, and this one is {now}; choose another --out"
            )
        return
    place.mkdir(parents=True, exist_ok=True)
    # The description comes last: it is the sign of a finished model.
    for file in sorted(parent_dir.iterdir(), key=lambda path: path.name == MODEL_FILE):
        write_atomically(place / file.name, file.read_bytes())


def _scored(setting: Setting, arm: str, seed: int | None, bundle_dir: Path) -> RunResult:
    bundle = load_bundle(bundle_dir, chosen_device(setting.device))
    scores = measured_scores(setting.corpus, setting.held_out, lambda audio: enhance_array(bundle, audio))
    return RunResult(
        arm=arm,
        seed=seed,
        model_id=bundle.info.id,
        stage_digest=bundle.info.stage_digest,
        held_out=setting.held_out,
        scores=scores,
    )


def _references(setting: Setting) -> dict[str, RunResult]:
    """Score the input and the parent, unless that is done: what the arms start from, or strive for."""
    found: dict[str, RunResult] = {}
    for name, model_id in ((DEGRADED, None), (setting.study.parent, read_info(setting.parent_dir).id)):
        path = setting.out / REFERENCES_FOLDER / f"{name}.json"
        kept = read_result(path)
        if kept is None or (kept.model_id, kept.held_out) != (model_id, setting.held_out):
            setting.say(f"scoring {name}")
            kept = (
                _scored(setting, name, None, setting.parent_dir) if model_id is not None else _input(setting)
            )
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, kept.model_dump_json().encode())
        found[name] = kept
    return found


def _input(setting: Setting) -> RunResult:
    scores = measured_scores(setting.corpus, setting.held_out, lambda audio: audio)
    return RunResult(
        arm=DEGRADED, seed=None, model_id=None, stage_digest=None, held_out=setting.held_out, scores=scores
    )


def _result(
    setting: Setting, results: dict[str, dict[int, RunResult]], references: dict[str, RunResult]
) -> dict[str, Any]:
    study, experiment = setting.study, setting.experiment
    usable = {measure.name: usable_samples(results, measure.name) for measure in MEASURES}
    return {
        "format": FORMAT,
        "study": study.name,
        "question": study.question,
        "experiment": experiment.name,
        "preset": experiment.preset,
        "stage": study.stage,
        "steps": setting.steps or experiment.stages.of(study.stage).steps,
        "parent": {"stage": study.parent, "id": read_info(setting.parent_dir).id},
        **setting.held_out.model_dump(),
        "seeds": list(results[study.baseline]),
        "baseline": study.baseline,
        "arms": {
            arm: {
                "changes": {section: dict(fields) for section, fields in study.arms[arm].items()},
                "models": {str(seed): result.model_id for seed, result in by_seed.items()},
            }
            for arm, by_seed in results.items()
        },
        "references": {
            name: {measure: mean_over(result, measure, places) for measure, places in usable.items()}
            for name, result in references.items()
        },
        "seed_means": {
            measure.name: {
                arm: {str(seed): mean for seed, mean in by_seed.items()}
                for arm, by_seed in seed_means(results, measure.name).items()
            }
            for measure in MEASURES
        },
        "table": table(results, study.baseline),
        "left_out": {measure: setting.held_out.samples - len(places) for measure, places in usable.items()},
    }
