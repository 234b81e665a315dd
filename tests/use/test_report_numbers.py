"""Every number on a corpus's page is that of the corpus: counted here once more, from its own files."""

import re
from collections import Counter
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from page_parts import drawing, in_proportion, number, of_class, part, rows, ruler, section, title, words

from datagen.degradations import bind
from manifests.corpus import CorpusManifest, read_manifest
from manifests.recipe import Recipe
from manifests.store import open_store
from pipelines.report.corpus_report import corpus_page
from pipelines.report.corpus_sections import at_a_glance
from pipelines.report.recipe_choices import Draws, draws_of
from pipelines.report.stage_sections import stages_together
from pipelines.report.summary import MEASURES, SEVERITIES, STAGE_COUNT, Summary, read_summary

Samples = list[dict[str, Any]]


@pytest.fixture(scope="module")
def content(hostile: Path) -> bytes:
    return corpus_page(open_store(hostile), None, 0, print)


@pytest.fixture(scope="module")
def samples(hostile: Path) -> Samples:
    found: Samples = pq.read_table(hostile / "samples.parquet").to_pylist()
    return found


@pytest.fixture(scope="module")
def manifest(hostile: Path) -> CorpusManifest:
    return read_manifest(hostile)


@pytest.fixture(scope="module")
def summary(hostile: Path) -> Summary:
    return read_summary(hostile / "samples.parquet")


def percent(share: float) -> str:
    return f"{100.0 * share:.1f} %"


def tiles(tree: Element) -> dict[str, str]:
    (held,) = of_class(tree, "dl", "tiles")
    return {words(pair[0]): words(pair[1]) for pair in held}


def test_tiles_count_what_is_there(
    content: bytes, samples: Samples, manifest: CorpusManifest, summary: Summary
) -> None:
    shown = tiles(section(content, "glance"))
    expected = {
        "samples": len(samples),
        "speakers": len({one["speaker"] for one in samples}),
        "source files used": len({sha256 for one in samples for sha256 in one["source_sha256"]}),
        "licences": len({licence for one in samples for licence in one["licences"]}),
        "stages": len({stage for one in samples for stage in one["stages"]}),
    }
    assert shown == {name: str(count) for name, count in expected.items()} | {"hours": "0.01"}
    # A few seconds in hours are rounded too much to be told from twice as many.
    seconds = sum(one["seconds"] for one in samples)
    assert f"{seconds / 3600.0:.3g} hours of degraded speech" in content.decode()
    told = words(section(content, "glance"))
    packages = ", ".join(f"{name} {version}" for name, version in manifest.environment.items())
    for row, value in (("Environment", packages), ("Code", "ssiforge"), ("Corpus id", manifest.id)):
        assert f"{row} {value}" in told or f"{row}{value}" in told
    longer = manifest.model_copy(update={"hours": 12.34})
    assert tiles(part(at_a_glance(longer, summary, (), "")))["hours"] == "12.34"


def test_stages_are_shown_as_often_as_they_were_drawn(
    content: bytes, samples: Samples, manifest: CorpusManifest
) -> None:
    label = "Asked and drawn share of each stage, and promised values checked and out"
    found = rows(section(content, "stages"), label)
    assert {words(row[0]).replace(" ", "_") for row in found} == set(manifest.stages)
    for row in found:
        name = words(row[0]).replace(" ", "_")
        share = sum(name in one["stages"] for one in samples) / len(samples)
        asked = manifest.stages[name]["asked"]
        assert [words(cell) for cell in row[2:4]] == [percent(asked), percent(share)]
        (drawn,), (mark,), (whole,) = (
            of_class(row[4], tag, style) for tag, style in (("rect", "a"), ("line", "mark"), ("rect", "rule"))
        )
        assert number(drawn, "width") == pytest.approx(share * number(whole, "width"), abs=0.1)
        assert number(mark, "x1") == pytest.approx(asked * number(whole, "width"), abs=0.1)
        counts = [held for value, held in manifest.tolerances.items() if value.rpartition(".")[0] == name]
        checked, out = (sum(one[what] for one in counts) for what in ("checked", "out"))
        assert [words(cell) for cell in row[5:]] == ([str(checked), str(out)] if checked else ["–", "–"])


def test_licences_have_the_samples_that_hold_material_under_them(content: bytes, samples: Samples) -> None:
    held = Counter(licence for one in samples for licence in set(one["licences"]))
    found = rows(section(content, "licences"), "Samples that hold material under each licence")
    assert [int(words(row[1])) for row in found] == sorted(held.values(), reverse=True)
    for row, share in zip(found, sorted(held.values(), reverse=True), strict=True):
        assert words(row[2]) == percent(share / len(samples))
        (filled,), (whole,) = of_class(row[3], "rect", "a"), of_class(row[3], "rect", "rule")
        assert number(filled, "width") == pytest.approx(
            share / len(samples) * number(whole, "width"), abs=0.1
        )


def test_splits_and_speakers_have_their_samples(content: bytes, samples: Samples) -> None:
    tree = section(content, "splits")
    by_split = Counter(one["split"] for one in samples)
    found = rows(tree, "What is in each split")
    assert {words(row[0]): int(words(row[1])) for row in found} == dict(by_split)
    spoken = Counter((one["speaker"], one["split"]) for one in samples)
    speakers = rows(tree, "Speakers with most hours")
    assert {(words(row[0]), words(row[1])): int(words(row[2])) for row in speakers} == {
        (" ".join(name.split()), split): count for (name, split), count in spoken.items()
    }
    widths = [number(of_class(row[4], "rect", "a")[0], "width") for row in speakers]
    assert in_proportion(widths, [int(words(row[2])) for row in speakers], 0.01)


def values_of(samples: Samples, column: str) -> list[float]:
    if column == STAGE_COUNT.column:
        return [float(len(set(one["stages"]))) for one in samples]
    return [one[column] for one in samples if one.get(column) is not None]


@pytest.mark.parametrize("measure", (*MEASURES, *SEVERITIES), ids=lambda m: m.column)
def test_bars_are_as_high_as_many_samples_lie_there(content: bytes, samples: Samples, measure: Any) -> None:
    values = np.array(values_of(samples, measure.column), np.float64) * measure.scale
    if measure.above_zero:
        values = values[values > 0.0]
    tree = section(content, "distributions")
    if not len(values):
        (figure,) = (f for f in tree.iter("figure") if words(f[0]) == measure.title)
        assert "No sample has any." in words(figure)
        return
    drawn = drawing(tree, f"{measure.title}: ")
    of = "% of samples" if len(values) == len(samples) else "% of samples with any"
    axes = [text.text for text in drawn.iter("text")]
    assert of in axes and measure.axis in axes
    across, up = ruler(drawn, "x", "middle"), ruler(drawn, "y", "end")
    bars, (floor,) = of_class(drawn, "rect", "a"), of_class(drawn, "line", "axis")
    inside = 0
    for bar in bars:
        left, right = number(bar, "x") - 0.5, number(bar, "x") + number(bar, "width") + 0.5
        low, high = (((place - across(0.0)) / (across(1.0) - across(0.0))) for place in (left, right))
        off = 0.15 / (across(1.0) - across(0.0))
        least = ((values > low + off) & (values < high - off)).sum()
        most = ((values > low - off) & (values < high + off)).sum()
        share = number(bar, "height") / (up(0.0) - up(100.0))
        held = round(share * len(values))
        assert share * len(values) == pytest.approx(held, abs=0.1)
        assert least <= held <= most, title(bar)
        assert number(bar, "y") + number(bar, "height") == pytest.approx(number(floor, "y1"), abs=0.15)
        assert title(bar).endswith(f": {percent(held / len(values))}")
        inside += held
    assert inside == len(values)


def test_a_caption_says_how_many_have_a_value_and_where_most_lie(content: bytes, samples: Samples) -> None:
    snrs = values_of(samples, "measured.snr_db")
    told = next(words(c) for c in section(content, "distributions").iter("figcaption"))
    found = re.fullmatch(r"([\d.]+ %) of the samples; median (\S+) dB, 90 % from (\S+) to (\S+) dB", told)
    assert found is not None
    assert found[1] == percent(len(snrs) / len(samples))
    wanted = np.quantile(snrs, (0.5, 0.05, 0.95))
    assert [float(text) for text in found.groups()[1:]] == pytest.approx(wanted, rel=0.005)


def drawn_together(first: str, second: str, others: int = 300) -> Summary:
    """Samples with one of two stages and never both, and two more stages that are always together."""
    fired = np.zeros((4 * others, 4), bool)
    fired[:others, 0] = fired[others : 2 * others, 1] = True
    fired[: 2 * others : 2, 2:] = True
    return Summary((first, second, "room", "wind"), fired, {}, {}, (), 0, 0)


def test_alternatives_of_one_choice_are_no_finding_and_what_is_odd_is() -> None:
    stages = [
        {"stage": "codec", "p": 0.1},
        {"p": 0.4, "one_of": [{"stage": "codec"}, {"stage": "none"}, {"stage": "lowpass"}]},
        {"how_many": [0.5, 0.2, 0.3], "one_of": [{"stage": "wind"}, {"stage": "babble"}]},
    ]
    recipe = Recipe.model_validate({"name": "choices", "stages": stages})
    draws = draws_of(yaml.safe_dump(recipe.written()))
    bound = [{one.label for one in step.choices} for step in bind(recipe).steps if len(step.choices) > 1]
    assert [set(choice) for choice in draws.choices] == bound
    assert {"codec#2", "lowpass"} <= draws.choices[0] and "codec" not in draws.choices[0]
    told = "".join(stages_together(drawn_together("codec#2", "lowpass"), draws))
    assert "room and wind are together more often" in told and "codec 2 and lowpass are" not in told
    assert "codec 2 and lowpass are together less often" in stages_together(
        drawn_together("codec#2", "lowpass")
    )
    assert "codec and lowpass are together less often" in stages_together(
        drawn_together("codec", "lowpass"), draws
    )
    assert draws_of("") == draws_of("name: [") == draws_of("a") == Draws()


def test_stages_that_undistorted_samples_lack_are_not_odd_for_that() -> None:
    recipe = Recipe.model_validate({"name": "clean", "undistorted": 0.4, "stages": [{"stage": "room"}]})
    draws = draws_of(yaml.safe_dump(recipe.written()))
    assert draws.undistorted == 0.4
    rest = np.arange(1800)
    fired = np.ones((3000, 4), bool)
    fired[:, :3] = False
    fired[:1800, :3] = np.stack([rest % 2 == 0, rest % 3 == 0, rest % 6 == 0], axis=1)
    summary = Summary(("room", "wind", "codec", "final_level"), fired, {}, {}, (), 0, 0)
    odd = "together more often"
    assert stages_together(summary).count(odd) == 3
    told = stages_together(summary, draws)
    assert "together less often" not in told
    assert told.count(odd) == 2  # the codec is where the room is, and where the wind is
    assert "room and codec are together more often than independent draws: in 300 samples, where 150" in told
