"""A training run as parts of a page: how its stages stand, learning curves, settings."""

from collections.abc import Mapping, Sequence

from pipelines.report.line_chart import line_chart
from pipelines.report.markup import Html, join, tag
from pipelines.report.page import table
from pipelines.report.scales import count
from pipelines.report.standing import Standing, standing_of
from pipelines.trainer.run_records import Points, StageRecords

CHARTS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("SI-SNR in validation, dB", ("val/si_snr_db",)),
    ("error of the level, dB", ("train/level_error_db", "val/level_error_db")),
    ("learning rate", ("train/learning_rate",)),
    ("norm of the gradient", ("train/gradient_norm",)),
)
"""Beside the loss, which is the first: titles and metrics."""
SHOWN = 4
"""So many charts of a stage are open; the others are a click away."""
CURVES = "The broken line marks the step whose weights were kept. Dots tell their numbers."
_SOURCES = {"train": "training", "val": "validation"}
_COUNTERS = ("train/skipped_steps", "train/damaged_samples", "train/overflowed_steps")
_NO_PARTS = {"train/loss", "train/epoch", "train/loss_scale", "train/si_snr_db", *_COUNTERS} | {
    name for _, names in CHARTS for name in names
}
"""Of what `train/` holds; the rest are parts of the loss."""


def overview(stages: Sequence[StageRecords]) -> Html:
    """Return a row a stage: how far it came and what it made; below, what a person should know."""
    head = (
        "stage",
        "state",
        "steps",
        "trained weights",
        "best validation loss",
        "at step",
        "device",
        "model",
    )
    standings = [standing_of(stage.folder) for stage in stages]
    both = list(zip(stages, standings, strict=True))
    rows = table(head, [_overview_row(*pair) for pair in both], (2, 3, 4, 5), "How far each stage came")
    notes = [note for pair in both for note in _notes(*pair)]
    return join(rows, tag("ul", [tag("li", note) for note in notes], class_="note") if notes else None)


def _overview_row(stage: StageRecords, standing: Standing) -> list[object]:
    best = min(stage.curves.get("val/loss", ()), key=lambda point: point[1], default=None)
    done = max((points[-1][0] for points in stage.curves.values()), default=0)
    kind = {"finished": "good", "failed": "bad"}.get(stage.state)
    return [
        stage.stage,
        tag("span", stage.state, class_=kind),
        f"{count(done)} of {count(stage.steps)}",
        count(stage.trained_weights),
        f"{best[1]:.5f}" if best else "–",
        count(best[0]) if best else "–",
        stage.device if stage.ranks == 1 else f"{stage.ranks} ranks, {stage.device}",
        [tag("code", stage.model.id), tag("div", tag("small", standing.title)) if standing.title else None]
        if stage.model
        else "–",
    ]


def _notes(stage: StageRecords, standing: Standing) -> list[object]:
    notes: list[object] = [
        tag("span", f"{stage.stage}: its model is stale, {reason}", class_="bad") for reason in standing.stale
    ]
    notes += [f"{stage.stage}: {stage.state}, {stage.message}"] if stage.message else []
    if stage.starts > 1:
        notes.append(
            f"{stage.stage}: was started {stage.starts} times, and went on from a checkpoint if there was one"
        )
    for name in _COUNTERS:
        points = stage.curves.get(name, ())
        if points and points[-1][1]:
            what = name.removeprefix("train/").replace("_", " ")
            notes.append(f"{stage.stage}: {points[-1][1]:.0f} {what}")
    return notes


def curves(stages: Sequence[StageRecords]) -> Html:
    """Return learning curves, a row of charts a stage and the rest folded up."""
    begun = [stage for stage in stages if stage.curves]
    return join(map(_curves, begun)) if begun else tag("p", "Nothing was measured yet.", class_="note")


def _curves(stage: StageRecords) -> Html:
    charts = [tag("div", chart, class_="card") for chart in _charts(stage)]
    first, more = (tag("div", part, class_="grid") for part in (charts[:SHOWN], charts[SHOWN:]))
    folded = (
        tag("details", tag("summary", f"More curves of the {stage.stage}"), more) if charts[SHOWN:] else None
    )
    return join(tag("h3", stage.stage), first, folded)


def _charts(stage: StageRecords) -> list[Html]:
    kept = stage.model.steps if stage.model else None
    parts = {
        name.removeprefix("train/"): points
        for name, points in stage.curves.items()
        if name.startswith("train/") and name not in _NO_PARTS
    }
    seconds = {
        name.removeprefix("time/").removesuffix("_s"): points
        for name, points in stage.curves.items()
        if name.startswith("time/")
    }
    charts = [line_chart("loss", _lines(stage, ("train/loss", "val/loss")), kept)]
    charts += [line_chart(title, _lines(stage, names), kept) for title, names in CHARTS]
    charts += [line_chart("parts of the training loss", parts), line_chart("seconds a step", seconds)]
    return [chart for chart in charts if chart is not None]


def _lines(stage: StageRecords, names: Sequence[str]) -> Mapping[str, Points]:
    return {_SOURCES[name.partition("/")[0]]: stage.curves[name] for name in names if name in stage.curves}


def settings(stages: Sequence[StageRecords]) -> Html:
    """Return the settings, and by stage those in which a stage differs from the first."""
    first = stages[0].settings
    parts = [_settings(first, "Settings of the experiment")]
    for stage in stages[1:]:
        if other := {name: value for name, value in stage.settings.items() if first.get(name) != value}:
            parts.append(_settings(other, f"Settings of the {stage.stage} that differ"))
    return join(parts, _packages(stages))


def _packages(stages: Sequence[StageRecords]) -> list[Html]:
    """Return the versions that trained the stages, once for all stages that had the same."""
    by_versions: dict[tuple[tuple[str, str], ...], list[str]] = {}
    for stage in stages:
        if stage.run is not None:
            versions = {"ssiforge": stage.run.code_version, **stage.run.packages}
            by_versions.setdefault(tuple(versions.items()), []).append(stage.stage)
    return [
        _settings(dict(versions), f"Packages that trained {', '.join(names)}", "package", "version")
        for versions, names in by_versions.items()
    ]


def _settings(
    content: Mapping[str, object], caption: str, first: str = "setting", second: str = "value"
) -> Html:
    rows = [(tag("code", name), str(value)) for name, value in content.items()]
    return tag(
        "details", tag("summary", f"{caption}: {len(content)}"), table((first, second), rows, label=caption)
    )
