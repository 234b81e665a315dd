"""An ablation's result as files: `ablation.json`, `ablation.md` and `ablation.png`."""

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from manifests.files import write_atomically
from pipelines.ablation.scores import MEASURES, Measure

JSON_FILE = "ablation.json"
TABLE_FILE = "ablation.md"
PLOT_FILE = "ablation.png"

_DPI = 110
_PANEL_INCHES = (2.9, 2.6)
_PANELS_A_ROW = 4


def write_report(out: Path, result: Mapping[str, Any]) -> None:
    """Write all three files from the content of the first."""
    write_atomically(out / JSON_FILE, (json.dumps(result, indent=2, ensure_ascii=False) + "\n").encode())
    write_atomically(out / PLOT_FILE, plot_png(result))
    write_atomically(out / TABLE_FILE, markdown(result).encode())


def markdown(result: Mapping[str, Any]) -> str:
    """Return the result as a page."""
    seeds, baseline = result["seeds"], result["baseline"]
    shown = [measure for measure in MEASURES if measure.name in result["table"][baseline]]
    many = (
        f"{len(seeds)} seeds ({', '.join(map(str, seeds))})" if len(seeds) > 1 else f"one seed ({seeds[0]})"
    )
    lines = [
        f"# {result['question']}",
        "",
        f"Experiment `{result['experiment']}`, preset `{result['preset']}`, stage {result['stage']}: "
        f"{result['steps']} steps an arm, {many}, all on {result['parent']['stage']} `{result['parent']['id']}`. "
        f"Scored on {result['samples']} samples of the {result['split']} split of corpus `{result['corpus_id']}`.",
        "",
        "Mean over seeds ± half of the 95 % confidence interval (Student's t):",
        "",
        *_grid(["arm", *(_heading(measure) for measure in shown)], _mean_rows(result, shown)),
        "",
        f"Difference to `{baseline}`, paired by seed, with its 95 % confidence interval:",
        "",
        *_grid(["arm", *(_heading(measure) for measure in shown)], _difference_rows(result, shown)),
        "",
        f"![Every seed, and means with intervals]({PLOT_FILE})",
        "",
        "The intervals are about chance in initial weights and order of samples; they say nothing of other corpora or "
        "of longer training, and are not corrected for the number of comparisons.",
    ]
    lines += [
        f"\n{measure.title}: {result['left_out'][measure.name]} samples lack it in some run, and are in no mean."
        for measure in MEASURES
        if result["left_out"][measure.name]
    ]
    return "\n".join(lines) + "\n"


def _heading(measure: Measure) -> str:
    return f"{measure.title} {'↑' if measure.higher_is_better else '↓'}"


def _mean_rows(result: Mapping[str, Any], shown: Sequence[Measure]) -> list[list[str]]:
    rows = [
        [f"*{name}*", *(_number(means.get(measure.name), measure) for measure in shown)]
        for name, means in result["references"].items()
    ]
    for arm, entries in result["table"].items():
        cells = []
        for measure in shown:
            entry = entries[measure.name]
            half = "" if entry["high"] is None else f" ± {entry['high'] - entry['mean']:.{measure.digits}f}"
            cells.append(_number(entry["mean"], measure) + half)
        rows.append([arm, *cells])
    return rows


def _difference_rows(result: Mapping[str, Any], shown: Sequence[Measure]) -> list[list[str]]:
    rows = []
    for arm, entries in result["table"].items():
        if arm == result["baseline"]:
            continue
        cells = []
        for measure in shown:
            difference, digits = entries[measure.name]["difference"], measure.digits
            bounds = (
                ""
                if difference["low"] is None
                else f" [{difference['low']:+.{digits}f}, {difference['high']:+.{digits}f}]"
            )
            cells.append(f"{difference['mean']:+.{digits}f}{bounds} {entries[measure.name]['verdict']}")
        rows.append([arm, *cells])
    return rows


def _number(value: float | None, measure: Measure) -> str:
    return "-" if value is None else f"{value:.{measure.digits}f}"


def _grid(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [heading, ["---", *["---:"] * (len(heading) - 1)], *rows]
    return [f"| {' | '.join(cells)} |" for cells in lines]


def plot_png(result: Mapping[str, Any]) -> bytes:
    """Draw each measure: a dot a seed, and the mean with its interval, arm beside arm."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    arms = list(result["table"])
    shown = [measure for measure in MEASURES if measure.name in result["table"][result["baseline"]]]
    columns = min(_PANELS_A_ROW, len(shown))
    rows = -(-len(shown) // columns)
    # Figure without pyplot: no global state, no window, safe in any thread.
    size = (_PANEL_INCHES[0] * columns, _PANEL_INCHES[1] * rows)
    figure = Figure(figsize=size, dpi=_DPI, layout="constrained")
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for panel, measure in zip(panels[: len(shown)], shown, strict=True):
        for place, arm in enumerate(arms):
            entry = result["table"][arm][measure.name]
            seeds = list(result["seed_means"][measure.name][arm].values())
            panel.plot([place - 0.15] * len(seeds), seeds, "o", color="0.6", markersize=4)
            half = 0.0 if entry["high"] is None else entry["high"] - entry["mean"]
            panel.errorbar([place + 0.1], [entry["mean"]], yerr=[half], fmt="s", color="C0", capsize=4)
        panel.set_title(_heading(measure), fontsize=9)
        panel.set_xticks(range(len(arms)), arms, rotation=30, fontsize=8)
        panel.set_xlim(-0.5, len(arms) - 0.5)
        panel.tick_params(axis="y", labelsize=7)
    for panel in panels[len(shown) :]:
        panel.set_axis_off()
    picture = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(picture, format="png", metadata={"Software": None})
    return picture.getvalue()
