"""A page on a training run, or on an evaluation: `report/index.html` in its folder, which stands alone.

It is made of the plain files that runs and evaluations leave; the same files give the same bytes.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from markdown_it import MarkdownIt

from manifests.errors import UserError
from pipelines.evaluation.audio import FOLDER as LISTEN_FOLDER
from pipelines.evaluation.audio import TARGET, read_kept
from pipelines.evaluation.records import EvaluationRecords, is_evaluation, read_evaluation
from pipelines.model_cards.card import card
from pipelines.model_cards.scores import scores_of
from pipelines.models.run_files import run_files
from pipelines.models.size import ModelSize, size_of
from pipelines.quality.scores import DEGRADED
from pipelines.report.conditions import condition_title
from pipelines.report.evaluation_parts import evaluation
from pipelines.report.listening import HOW_TO_READ, Listened, listening
from pipelines.report.markup import Html, join, tag
from pipelines.report.page import Section, page, scrolling
from pipelines.report.run_lineage import evaluation_lineage, run_lineage
from pipelines.report.run_parts import CURVES, curves, overview, settings
from pipelines.report.sizes import ExportRecords, is_export, read_export, sizes
from pipelines.report.writing import check_place, write_page
from pipelines.trainer.run_records import StageRecords, read_stages
from training.bundle import Bundle, load_bundle
from training.bundle_info import MODEL_FOLDER

REPORT_FOLDER = "report"
PAGE_FILE = "index.html"
HINT = "; choose another place with --out"
REPORTS_FOLDER = "reports"
"""For pages of runs whose folders are gone."""
SEARCHED_DEPTH = 3
"""Folders below a run in which evaluations and exports of its models are found by themselves."""

_T = TypeVar("_T", EvaluationRecords, ExportRecords)


@dataclass(frozen=True)
class Sources:
    """What a page is made of besides the run or evaluation itself."""

    evaluations: tuple[Path, ...] = ()
    """Folders of evaluations of the run's models, besides those in its folder."""
    exports: tuple[Path, ...] = ()
    """Folders of exports of the models, likewise."""


def report_run(folder: Path, out: Path | None = None, more: Sources = Sources()) -> Path:
    """Write the page of a run folder, or of one stage's folder; return where it is.

    Args:
        folder: what `ssiforge train` wrote to.
        out: folder of the page; `report` in the run's folder if not given.
        more: what else belongs to it.

    Raises:
        UserError: when the folder holds no run, a given evaluation or export is of other models, or a file in one is
        not what it should be, or the page cannot be written.
        JobError: when the disk is full.
    """
    stages = read_stages(folder)
    place = _place(folder, out)
    bundles = [load_bundle(stage.folder / MODEL_FOLDER) for stage in stages if stage.model is not None]
    ours = {bundle.info.id for bundle in bundles}
    evaluations = _found(folder, more.evaluations, is_evaluation, read_evaluation, _judged, ours)
    exports = _found(folder, more.exports, is_export, read_export, _exported, ours)
    lineage = run_lineage(stages, evaluations)
    sections = [
        Section("stages", "Stages", overview(stages)),
        Section("curves", "Learning curves", curves(stages), CURVES),
        *_listening(_heard(stages)),
        *_evaluations(evaluations),
        *_sizes([(bundle.info.stage, size_of(bundle)) for bundle in bundles], exports),
        *([Section("lineage", "Lineage", lineage)] if lineage is not None else []),
        Section("settings", "Settings", settings(stages)),
        *([Section("card", "Model card", _card(bundles[-1], evaluations))] if bundles else []),
    ]
    write_page(place, page(*_run_heading(stages), sections), HINT)
    return place


def report_of_id(run_id: str, out: Path | None = None, more: Sources = Sources()) -> Path:
    """Write the page of a run that is given by its id; return where it is.

    It is made of the files in the run's folder, which gets the page; where that is gone, of what MLflow keeps.

    Args:
        run_id: that of a training stage in its `run.json`, or of a stage or an evaluation in MLflow, before which
            `runs:/` may stand.
        out: folder of the page; `report` in the run's folder, or `reports/RUN_ID` where that is gone.
        more: what else belongs to it.

    Raises:
        UserError: when there is no such run of ssiforge.
    """
    name = run_id.removeprefix("runs:/")
    with run_files(name) as files:
        place = out or (Path(REPORTS_FOLDER) / name if files.lent else None)
        if files.is_evaluation:
            return report_evaluation(files.folder, place, more)
        return report_run(files.folder, place, more)


def report_evaluation(folder: Path, out: Path | None = None, more: Sources = Sources()) -> Path:
    """Write the page of an evaluation; return where it is.

    Args:
        folder: what `ssiforge evaluate` wrote to.
        out: folder of the page; `report` in the evaluation's folder if not given.
        more: exports of its models.

    Raises:
        UserError: when the folder holds no evaluation, a given export is of other models, or a file in one is not what
            it should be, or the page cannot be written.
        JobError: when the disk is full.
    """
    if more.evaluations:
        raise UserError(f"--evaluation belongs to a run, and {folder} is an evaluation")
    found = read_evaluation(folder)
    place = _place(folder, out)
    exports = _found(folder, more.exports, is_export, read_export, _exported, _judged(found))
    models = [
        [
            model.system,
            " ",
            tag("code", model.bundle_id),
            ", trained on ",
            tag("code", model.trained_on),
            "; ",
        ]
        for model in found.models
    ]
    title = f"Evaluation of {', '.join(model.system for model in found.models)}"
    sections = [
        Section("scores", "Scores", evaluation(found)),
        *_listening(_kept(folder)),
        *_sizes([(model.system, model.size) for model in found.models if model.size is not None], exports),
        Section("lineage", "Lineage", evaluation_lineage(found)),
    ]
    write_page(place, page(title, join(models, found.heard, "."), sections), HINT)
    return place


def _run_heading(stages: Sequence[StageRecords]) -> tuple[str, Html]:
    first = stages[0]
    description = first.settings.get("description")
    data = list(dict.fromkeys(stage.corpus_id for stage in stages))
    lead = join(
        f"{description} " if description else None,
        f"Preset {first.settings.get('preset', '')}; trained on ",
        [[", " if place else None, tag("code", data_id)] for place, data_id in enumerate(data)],
        ".",
    )
    return f"Training run {first.experiment}", lead


def _heard(stages: Sequence[StageRecords]) -> list[Listened]:
    """Return each validation sample with what every stage made of it."""
    samples: dict[str, dict[str, Path]] = {}
    targets: dict[str, Path] = {}
    for stage in stages:
        for heard in stage.heard:
            waves = samples.setdefault(heard.key, {DEGRADED: heard.degraded})
            waves[f"{stage.stage}, step {heard.step}"] = heard.estimate
            targets.setdefault(heard.key, heard.target)
    return [Listened(key, "", waves | {TARGET: targets[key]}) for key, waves in sorted(samples.items())]


def _kept(folder: Path) -> list[Listened]:
    return [
        Listened(
            sample.key,
            ", ".join(map(condition_title, sample.conditions)),
            {name: folder / LISTEN_FOLDER / file for name, file in sample.files.items()},
        )
        for sample in read_kept(folder)
    ]


def _listening(samples: Sequence[Listened]) -> list[Section]:
    return [Section("listen", "Before and after", listening(samples), HOW_TO_READ)] if samples else []


def _sizes(models: Sequence[tuple[str, ModelSize]], exports: Mapping[Path, ExportRecords]) -> list[Section]:
    return [Section("size", "Size and speed", sizes(models, list(exports.values())))] if models else []


def _evaluations(evaluations: Mapping[Path, EvaluationRecords]) -> list[Section]:
    if not evaluations:
        none = join(
            "None lies in the run's folder: ",
            tag("code", "ssiforge evaluate"),
            " makes one, and ",
            tag("code", "ssiforge report RUN --evaluation DIR"),
            " brings one from elsewhere.",
        )
        return [Section("evaluation", "Evaluation", tag("p", none, class_="note"))]
    sections = []
    for number, (place, found) in enumerate(evaluations.items(), 1):
        kept = _kept(place)
        body = join(evaluation(found), [tag("h3", "Before and after"), listening(kept)] if kept else None)
        title = f"Evaluation {number}" if len(evaluations) > 1 else "Evaluation"
        sections.append(Section(f"evaluation-{number}", title, body))
    return sections


def _card(bundle: Bundle, evaluations: Mapping[Path, EvaluationRecords]) -> Html:
    """Return the card of a model, without its front matter."""
    scores = (scores_of(found, bundle.info.id) for found in evaluations.values())
    text = card(bundle, [found for found in scores if found is not None], None)
    body = text.partition("---\n")[2].partition("---\n")[2]
    # HTML in it stays text, and only addresses of the web become links.
    rendered = MarkdownIt("commonmark", {"html": False}).enable("table").render(body)
    for level in (2, 1):
        rendered = rendered.replace(f"<h{level}>", f"<h{level + 2}>").replace(
            f"</h{level}>", f"</h{level + 2}>"
        )
    written = Html(rendered.replace(' style="text-align:right"', ' class="number"'))
    return scrolling(tag("div", written, class_="written"), "Model card")


def _judged(found: EvaluationRecords) -> set[str]:
    return {model.bundle_id for model in found.models}


def _exported(found: ExportRecords) -> set[str]:
    return {found.model_id}


def _found(
    folder: Path,
    given: Sequence[Path],
    is_one: Callable[[Path], bool],
    read: Callable[[Path], _T],
    models_of: Callable[[_T], set[str]],
    ours: set[str],
) -> dict[Path, _T]:
    """Read what was given, which must be of our models, and what lies below the folder and is."""
    found = {}
    for place in given:
        found[place] = read(place)
        if not models_of(found[place]) & ours:
            raise UserError(f"{place}: is of other models than those of {folder}")
    known = {place.resolve() for place in given}
    for place in _folders_below(folder, SEARCHED_DEPTH):
        if is_one(place) and place.resolve() not in known and models_of(content := read(place)) & ours:
            found[place] = content
    return found


def _folders_below(folder: Path, depth: int) -> Iterator[Path]:
    for place in sorted(folder.iterdir()) if depth else ():
        if place.is_dir() and not place.is_symlink():
            yield place
            yield from _folders_below(place, depth - 1)


def _place(folder: Path, out: Path | None) -> Path:
    """Return where the page of a folder is to lie, after a look whether it can."""
    place = out or folder / REPORT_FOLDER
    check_place(place, HINT)
    return place / PAGE_FILE
