"""The page of a generated corpus in a real browser: it filters, plays, fits, and obeys no stranger."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from watched import WIDTHS, Watched

from pipelines.executors import InProcess
from pipelines.generate import generate
from pipelines.report.corpus_report import write_report
from pipelines.scan import scan

HOSTILE_FILE = "<img src=x onerror=alert(1)>.wav"
HOSTILE_SPEAKER = '"><script>'
SAMPLES = 12

Visit = Callable[..., Watched]


@pytest.fixture(scope="module")
def page(material_folder: Path, small_recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Address of the page of a corpus from voices of whom one, and its recordings, have hostile names."""
    root = tmp_path_factory.mktemp("corpus")
    shutil.copytree(material_folder / "noise", root / "noise")
    for number, speaker in enumerate(sorted((material_folder / "speech").iterdir())):
        shutil.copytree(speaker, root / "speech" / (speaker.name if number else HOSTILE_SPEAKER))
    recordings = sorted((root / "speech" / HOSTILE_SPEAKER).iterdir())
    recordings[0].rename(recordings[0].with_name(HOSTILE_FILE))
    sources = root / "sources.parquet"
    scan({"speech": [str(root / "speech")], "noise": [str(root / "noise")]}, sources, workers=1)
    generate(str(small_recipe), str(sources), str(root / "corpus"), InProcess(), SAMPLES, None, 0)
    where, _ = write_report(str(root / "corpus"), None, None, SAMPLES, lambda line: None)
    return Path(where).as_uri()


@pytest.mark.parametrize("width", WIDTHS)
def test_it_is_readable_and_loads_nothing(visit: Visit, page: str, width: int) -> None:
    seen = visit(page, width)
    seen.is_self_contained()
    seen.is_readable()
    seen.value("() => document.querySelectorAll('details').forEach(e => { e.open = true; })")
    seen.is_readable()


def test_filters_leave_the_samples_that_fit(visit: Visit, page: str) -> None:
    seen = visit(page)
    assert shown(seen) == SAMPLES
    seen.page.select_option("#filters [name=stage]", "clipping")
    clipped = shown(seen)
    assert 0 < clipped < SAMPLES
    for sample in seen.page.locator("[data-stages]:visible").all():
        assert "clipping" in (sample.get_attribute("data-stages") or "").split("\n")
    seen.page.select_option("#filters [name=split]", "test")
    assert shown(seen) < clipped
    seen.page.click("#filters [type=reset]")
    seen.page.wait_for_function(
        f"() => document.getElementById('shown').textContent.startsWith('{SAMPLES} of')"
    )
    seen.page.locator("#filters [name=level]").fill("1")
    assert shown(seen) < SAMPLES
    assert not seen.complaints


def shown(seen: Watched) -> int:
    """How many samples are shown: as the page counts them, and as there are."""
    count = seen.page.locator("[data-stages]:visible").count()
    assert seen.page.inner_text("#shown").startswith(f"{count} of {SAMPLES} ")
    return int(count)


def test_a_player_plays_and_stops_when_another_begins(visit: Visit, page: str) -> None:
    seen = visit(page)
    assert seen.plays(0) == pytest.approx(1.0, abs=0.05)
    assert seen.value(
        """async () => {
          const [first, second] = document.querySelectorAll("audio");
          await first.play();
          await second.play();
          return [first.paused, second.paused];
        }"""
    ) == [True, False]


def test_filters_and_players_are_used_by_keyboard(visit: Visit, page: str) -> None:
    seen = visit(page)
    seen.page.focus("#filters [name=stage]")
    seen.page.keyboard.type("clipping")
    assert 0 < shown(seen) < SAMPLES
    reached = visit(page).reached_by_tab()
    assert {"a", "select", "input", "button", "audio", "summary"} <= {
        name.partition("#")[0] for name in reached
    }


def test_names_of_strangers_are_read_and_not_obeyed(visit: Visit, page: str) -> None:
    seen = visit(page)
    assert not seen.dialogs and not seen.complaints
    assert seen.value("() => document.querySelectorAll('script').length") == 1
    assert not seen.value("() => document.querySelector('[onerror], img[src=x]')")
    text = seen.value("() => document.documentElement.textContent")
    assert HOSTILE_SPEAKER in text and HOSTILE_FILE in text
