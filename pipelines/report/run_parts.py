"""A training run as parts of a page: how its stages stand, learning curves, sizes, settings."""

from collections.abc import Mapping, Sequence
from html import escape

from pipelines.html_table import number_cell, table
from pipelines.line_chart import line_chart
from pipelines.run_records import Points, StageRecords

CHARTS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("SI-SNR in validation, dB", ("val/si_snr_db",)),
    ("error of the level, dB", ("train/level_error_db", "val/level_error_db")),
    ("learning rate", ("train/learning_rate",)),
    ("norm of the gradient", ("train/gradient_norm",)),
)
"""Beside the loss, which is the first: titles and metrics."""
SHOWN = 3
"""So many charts of a stage are open; the others are a click away."""
_COUNTERS = ("train/skipped_steps", "train/damaged_samples", "train/overflowed_steps")
_NO_PARTS = {"train/loss", "train/epoch", "train/loss_scale", "train/si_snr_db", *_COUNTERS} | {
    name for _, names in CHARTS for name in names
}
"""Of what `train/` holds; the rest are parts of the loss."""


def overview_section(stages: Sequence[StageRecords]) -> str:
    """Return a row a stage: how far it came and what it made."""
    heads = ("stage", "state", "steps", "trained weights", "best validation loss", "at step", "device", "model")
    notes = [note for stage in stages for note in _notes(stage)]
    said = f'<ul class="notes">{"".join(f"<li>{escape(note)}</li>" for note in notes)}</ul>' if notes else ""
    return table("How far each stage came, and what it made", heads, map(_overview_row, stages)) + said


def _overview_row(stage: StageRecords) -> str:
    best = min(stage.curves.get("val/loss", ()), key=lambda point: point[1], default=None)
    loss, step = (f"{best[1]:.5f}", str(best[0])) if best else ("-", "-")
    done = max((points[-1][0] for points in stage.curves.values()), default=0)
    place = stage.device if stage.ranks == 1 else f"{stage.ranks} ranks, {stage.device}"
    model = stage.model.id if stage.model else "-"
    return (
        f'<tr><th scope="row">{stage.stage}</th><td class="{_kind(stage)}">{stage.state}</td>'
        f"{number_cell(f'{done} of {stage.steps}')}{number_cell(f'{stage.trained_weights:,}')}"
        f"{number_cell(loss)}{number_cell(step)}<td>{escape(place)}</td>"
        f"<td><code>{escape(model)}</code></td></tr>"
    )


def _kind(stage: StageRecords) -> str:
    return {"finished": "good", "failed": "bad"}.get(stage.state, "")


def _notes(stage: StageRecords) -> list[str]:
    notes = [f"{stage.stage}: {stage.state}, {stage.message}"] if stage.message else []
    if stage.starts > 1:
        notes.append(f"{stage.stage}: was started {stage.starts} times, and went on from a checkpoint each time")
    for name in _COUNTERS:
        points = stage.curves.get(name, ())
        if points and points[-1][1]:
            what = name.removeprefix("train/").replace("_", " ")
            notes.append(f"{stage.stage}: {points[-1][1]:.0f} {what}")
    return notes


def curves_section(stages: Sequence[StageRecords]) -> str:
    """Return learning curves, a row of charts a stage."""
    return "\n".join(map(_curves, stages))


def _curves(stage: StageRecords) -> str:
    charts = _charts(stage)
    first, more = (f'<div class="charts">{"".join(part)}</div>' for part in (charts[:SHOWN], charts[SHOWN:]))
    details = f"<details><summary>More of the {stage.stage}'s curves</summary>{more}</details>"
    return f"<h3>{stage.stage}</h3>{first}{details if charts[SHOWN:] else ''}"


def _charts(stage: StageRecords) -> list[str]:
    kept = stage.model.steps if stage.model else None
    parts = {
        name.removeprefix("train/"): points
        for name, points in stage.curves.items()
        if name.startswith("train/") and name not in _NO_PARTS
    }
    charts = [line_chart("loss", _lines(stage, ("train/loss", "val/loss")), kept)]
    charts += [line_chart(title, _lines(stage, names), kept) for title, names in CHARTS]
    charts += [line_chart("parts of the training loss", parts), line_chart("seconds a step", _seconds(stage))]
    return [chart for chart in charts if chart]


def _lines(stage: StageRecords, names: Sequence[str]) -> Mapping[str, Points]:
    titles = {"train": "training", "val": "validation"}
    return {titles[name.partition("/")[0]]: stage.curves[name] for name in names if name in stage.curves}


def _seconds(stage: StageRecords) -> Mapping[str, Points]:
    return {
        name.removeprefix("time/").removesuffix("_s"): points
        for name, points in stage.curves.items()
        if name.startswith("time/")
    }


def settings_section(stages: Sequence[StageRecords]) -> str:
    """Return the settings, and by stage those in which stages differ from the first."""
    parts = [_settings(stages[0].settings, "Settings of the experiment")]
    for stage in stages[1:]:
        other = {
            name: value for name, value in stage.settings.items() if stages[0].settings.get(name) != value
        }
        if other:
            parts.append(_settings(other, f"Settings of the {stage.stage} that differ"))
    return "".join(parts)


def _settings(settings: Mapping[str, object], caption: str) -> str:
    rows = (
        f'<tr><th scope="row"><code>{escape(name)}</code></th><td>{escape(str(value))}</td></tr>'
        for name, value in settings.items()
    )
    return f"<details><summary>{caption}: {len(settings)}</summary>{table(caption, (), rows)}</details>"
