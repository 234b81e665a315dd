"""Every number in the drawings and tables of a run's and an evaluation's page is that of its own files."""

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

import pytest
from page_parts import drawing, number, of_class, rows, ruler, section, title, words
from tiny_runs import BEST_STEP, write_run

from manifests.corpus import Corpus
from manifests.errors import UserError
from pipelines.model_cards.card import write_card
from pipelines.models.stale_mark import write_stale
from pipelines.report.run import Sources, report_evaluation, report_run
from pipelines.report.subject import report_on

OVRL = {"name": "dnsmos_ovrl", "title": "OVRL", "higher_is_better": True, "digits": 2}
LSD = {"name": "lsd_db", "title": "LSD", "higher_is_better": False, "digits": 2}
LEVEL = {"name": "level_error_db", "title": "level error", "higher_is_better": None, "digits": 2}


# --- learning curves --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def curves(
    corpus: Corpus, make_bundle: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Element, dict[str, dict[int, float]]]:
    """The learning curves of a stage, and what `metrics.jsonl` says: by name and step."""
    folder = tmp_path_factory.mktemp("curves")
    write_run(folder, corpus, make_bundle, stages=("teacher",))
    path = folder / "teacher" / "metrics.jsonl"
    with path.open("a") as stream:
        for step, norm in ((5, 300.0), (20, 2.0), (40, 1.0)):
            stream.write(json.dumps({"step": step, "name": "train/gradient_norm", "value": norm}) + "\n")
    held: dict[str, dict[int, float]] = {}
    for line in map(json.loads, path.read_text().splitlines()):
        held.setdefault(line["name"], {})[line["step"]] = line["value"]
    return section(report_run(folder).read_bytes(), "curves"), held


@pytest.mark.parametrize(
    ("begins", "names", "scale"),
    [
        ("loss: ", {"training": "train/loss", "validation": "val/loss"}, float),
        ("SI-SNR in validation", {"validation": "val/si_snr_db"}, float),
        ("norm of the gradient", {"training": "train/gradient_norm"}, math.log10),
    ],
)
def test_curves_lead_through_what_was_measured(
    curves: Any, begins: str, names: dict[str, str], scale: Callable[[float], float]
) -> None:
    tree, held = curves
    drawn = drawing(tree, begins)
    across, up = ruler(drawn, "x", "middle"), ruler(drawn, "y", "end", scale)
    dots: dict[str, dict[int, Element]] = {}
    for dot in drawn.iter("circle"):
        told = re.fullmatch(r"(\w+), step (\d+): (\S+)", title(dot))
        assert told is not None
        dots.setdefault(told[1], {})[int(told[2])] = dot
        assert float(told[3]) == pytest.approx(held[names[told[1]]][int(told[2])], rel=1e-3)
    assert {name: set(by_step) for name, by_step in dots.items()} == {
        name: set(held[metric]) for name, metric in names.items()
    }
    lines = of_class(drawn, "polyline", "line")
    for line, (name, by_step) in zip(lines, dots.items(), strict=True):
        points = [(number(dot, "cx"), number(dot, "cy")) for _, dot in sorted(by_step.items())]
        assert [tuple(map(float, point.split(","))) for point in (line.get("points") or "").split()] == points
        for (x, y), (step, value) in zip(points, sorted(held[names[name]].items()), strict=True):
            assert x == pytest.approx(across(step), abs=0.3)
            # Numbers stand with their middle beside their line.
            assert y == pytest.approx(up(value) - 3.5, abs=0.5)
    (kept,) = of_class(drawn, "line", "kept")
    assert number(kept, "x1") == pytest.approx(across(BEST_STEP), abs=0.3)


# --- an evaluation ----------------------------------------------------------------------------------


def entry(mean: float, low: float, high: float) -> dict[str, Any]:
    return {"mean": mean, "low": low, "high": high, "mean_absolute": abs(mean), "n": 40, "failures": 0}


def summary(ovrl: Any, lsd: Any, level: Any, small: bool = False) -> dict[str, Any]:
    head = {"samples": 4 if small else 40, "unit": "sample", "units": 40, "small": small}
    return head | {"dnsmos_ovrl": entry(*ovrl), "lsd_db": entry(*lsd), "level_error_db": entry(*level)}


BASE = summary((2.0, 1.9, 2.1), (10.0, 9.0, 11.0), (-3.0, -4.0, -2.0))
CONDITIONS = {
    "surely better": summary((2.5, 2.3, 2.7), (8.0, 7.0, 8.9), (0.1, -0.1, 0.3)),
    "perhaps better": summary((2.05, 1.95, 2.2), (9.5, 8.5, 10.5), (-2.9, -3.9, -1.9)),
    "surely worse": summary((1.5, 1.3, 1.7), (12.0, 11.5, 13.0), (9.0, 8.0, 10.0)),
    "few": summary((4.0, 3.9, 4.1), (1.0, 0.5, 1.5), (0.0, -0.1, 0.1), small=True),
}
VERDICTS = {
    "dnsmos_ovrl": (0.51, 0.4, 0.6, "better"),
    "lsd_db": (1.25, 1.0, 1.5, "worse"),
    "level_error_db": (-0.3, -0.7, 0.1, "not shown"),
}
SIGNS = {"better": ("good", "▲"), "worse": ("bad", "▼"), "not shown": (None, "")}


@pytest.fixture(scope="module")
def scores(tmp_path_factory: pytest.TempPathFactory) -> Element:
    """The scores of an evaluation of one model, `fixer`, that was made up."""
    folder = tmp_path_factory.mktemp("scores")
    compared = {
        name: {"mean": mean, "low": low, "high": high, "better": 0.7, "p": 0.01, "verdict": said, "n": 40}
        for name, (mean, low, high, said) in VERDICTS.items()
    }
    content = {
        "format": 1,
        "corpus_id": "c" * 32,
        "split": "test",
        "samples": 40,
        "unreadable": 0,
        "models": [{"system": "fixer", "stage": "joint", "bundle_id": "a" * 32, "trained_on": "d" * 32}],
        "columns": [OVRL, LSD, LEVEL],
        "summary": {"degraded": BASE, "fixer": CONDITIONS["surely better"]},
        "by_condition": {name: {"degraded": BASE, "fixer": held} for name, held in CONDITIONS.items()},
        "comparisons": [{"system": "fixer", "with": "degraded", "scores": compared}],
        "failures": {},
        "notes": [],
    }
    (folder / "evaluation.json").write_text(json.dumps(content))
    content = report_evaluation(folder).read_bytes().decode()
    told = content.partition('<section id="lineage"')[2]
    for link in (
        f"model joint aaaaaaaa {'a' * 32} ← trained on ← corpus dddddddd {'d' * 32}",
        "evaluation test, 40 samples 1 ← scored in ← model joint aaaaaaaa",
        "evaluation test, 40 samples 1 ← scored on ← corpus cccccccc",
    ):
        assert link in told
    assert told.count('<img src="data:image/svg+xml') == 1
    return section(content.encode(), "scores")


def test_dots_and_intervals_lie_where_means_and_their_ends_are(scores: Element) -> None:
    drawn = drawing(scores, "OVRL↑ by condition")
    across = ruler(drawn, "x", "middle")
    dots = {title(dot): dot for dot in drawn.iter("circle")}
    expected = {
        f"{condition}, {system}: {held['dnsmos_ovrl']['mean']:.2f}": held["dnsmos_ovrl"]
        for condition, fixed in CONDITIONS.items()
        for system, held in (("degraded", BASE), ("fixer", fixed))
    }
    assert dots.keys() == expected.keys()
    reaches = {number(line, "y1"): line for line in of_class(drawn, "line", "reach")}
    for told, held in expected.items():
        assert number(dots[told], "cx") == pytest.approx(across(held["mean"]), abs=0.3)
        reach = reaches[number(dots[told], "cy")]
        ends = [number(reach, end) for end in ("x1", "x2")]
        assert ends == pytest.approx([across(held["low"]), across(held["high"])], abs=0.3)
    tops = [number(dots[f"{name}, degraded: 2.00"], "cy") for name in CONDITIONS]
    labels = {text.text: number(text, "y") for text in drawn.iter("text") if text.text in CONDITIONS}
    assert sorted(CONDITIONS, key=lambda name: labels[name]) == list(CONDITIONS) and tops == sorted(tops)


def marked(cell: Element) -> tuple[str | None, str]:
    """Style and sign of the difference in a cell."""
    (told,) = (e for e in cell.iter() if re.match(r"[+-]", e.text or "") and " to " not in (e.text or ""))
    return told.get("class"), "".join(sign for sign in "▲▼" if sign in (told.text or ""))


def test_a_difference_has_the_sign_of_its_verdict(scores: Element) -> None:
    (row,) = rows(scores, "What each system does to its input")
    assert words(row[0]) == "fixer – degraded"
    for cell, (mean, low, high, verdict) in zip(row[1:], VERDICTS.values(), strict=True):
        assert words(cell).startswith(f"{mean:+.2f}") and f"{low:+.2f} to {high:+.2f}" in words(cell)
        assert marked(cell) == SIGNS[verdict]


def test_a_condition_has_a_sign_where_intervals_are_apart_alone(scores: Element) -> None:
    expected = {"surely better": "better", "perhaps better": "not shown", "surely worse": "worse"}
    found = rows(scores, "OVRL↑ by condition")
    assert [words(row[0]) for row in found] == list(CONDITIONS)
    for row in found:
        name = words(row[0])
        mean = CONDITIONS[name]["dnsmos_ovrl"]["mean"]
        assert words(row[1]) == "40"
        assert words(row[2]) == "2.00"
        assert words(row[3]).startswith(f"{mean:.2f}") and f"{mean - 2.0:+.2f}" in words(row[3])
        assert marked(row[3]) == SIGNS[expected.get(name, "not shown")]


# --- what became of a model -------------------------------------------------------------------------


def test_a_stale_model_and_its_aliases_are_told(
    corpus: Corpus, make_bundle: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    bundles = write_run(tmp_path / "run", corpus, make_bundle)
    store, stage = tmp_path / "store", tmp_path / "run" / "student"
    store.mkdir()
    link = {"tracking_uri": f"sqlite:///{store / 'mlflow.db'}", "registered": "tiny-student/2"}
    (stage / "mlflow.json").write_text(json.dumps(link))
    promoted = [
        ("champion", "2", "done"),
        ("candidate", "2", "done"),
        ("candidate", "3", "done"),
        ("best", "2", "not done"),
    ]
    lines = [
        {"model": "tiny-student", "alias": alias, "now": now, "state": state}
        for alias, now, state in promoted
    ]
    (store / "promotions.ndjson").write_text("".join(f"{json.dumps(line)}\n" for line in lines) + '{"half')
    before = report_run(tmp_path / "run").read_text()
    assert "stale" not in before.partition("<main")[2]
    assert "tiny-student/2 @champion<" in before and "@candidate" not in before and "@best" not in before
    reason = "trained on data withdrawn from corpus c: <asked> to"
    write_stale(stage / "model", bundles["student"].id, [reason])
    tree = section(report_run(tmp_path / "run").read_bytes(), "stages")
    (told,) = of_class(tree, "span", "bad")
    assert words(told) == f"student: its model is stale, {reason}"
    write_card(str(stage), [], None, tmp_path / "card.md")
    limits = (tmp_path / "card.md").read_text().partition("## Limits")[2]
    assert "It is stale and should be trained again: trained on data withdrawn from corpus c: " in limits
    assert "<asked>" not in limits


def test_what_has_no_page_is_named(make_bundle: Callable[..., Any], tmp_path: Path) -> None:
    make_bundle(tmp_path / "run" / "teacher" / "model")
    (tmp_path / "file").write_text("")
    for name, said in (
        ("file", "is a file; give the folder of a corpus"),
        ("run/teacher/model", "is a model; give"),
    ):
        with pytest.raises(UserError, match=said):
            report_on(str(tmp_path / name), None, None, 1, Sources(), print)
