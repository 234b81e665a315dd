"""The page of a generated corpus in a real browser: it filters, plays, fits, and obeys no stranger."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from watched import WIDTHS, Watched, rendered_card

from pipelines.executors import InProcess
from pipelines.generation.generate import generate
from pipelines.lineage.answer import lineage
from pipelines.lineage.page import write_page
from pipelines.report.corpus_report import write_report
from pipelines.scanning.scan import scan

HOSTILE_FILE = "<img src=x onerror=alert(1)>.wav"
HOSTILE_SPEAKER = '"><script>'
HOSTILE_LICENCE = "<img src=x onerror=alert(2)> [terms](javascript:alert(3))"
SAMPLES = 12

Visit = Callable[..., Watched]


@pytest.fixture(scope="module")
def corpus(material_folder: Path, small_recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus of voices of whom one, and a recording, have hostile names, and a page of it."""
    root = tmp_path_factory.mktemp("corpus")
    shutil.copytree(material_folder / "noise", root / "noise")
    for number, speaker in enumerate(sorted((material_folder / "speech").iterdir())):
        shutil.copytree(speaker, root / "speech" / (speaker.name if number else HOSTILE_SPEAKER))
    recordings = sorted((root / "speech" / HOSTILE_SPEAKER).iterdir())
    recordings[0].rename(recordings[0].with_name(HOSTILE_FILE))
    sources = root / "sources.parquet"
    folders = {"speech": [str(root / "speech")], "noise": [str(root / "noise")]}
    scan(folders, sources, workers=1, licence=HOSTILE_LICENCE)
    generate(str(small_recipe), str(sources), str(root / "corpus"), InProcess(), SAMPLES, None, 0)
    write_report(str(root / "corpus"), None, None, SAMPLES, lambda line: None)
    return root / "corpus"


@pytest.fixture(scope="module")
def page(corpus: Path) -> str:
    """Address of the page."""
    return (corpus / "report" / "index.html").as_uri()


@pytest.mark.parametrize("width", WIDTHS)
def test_it_is_readable_and_loads_nothing(visit: Visit, page: str, width: int) -> None:
    seen = visit(page, width)
    seen.is_self_contained()
    seen.is_readable()
    seen.value("() => document.querySelectorAll('details').forEach(e => { e.open = true; })")
    seen.is_readable()


def test_it_can_be_printed(visit: Visit, page: str) -> None:
    seen = visit(page)
    seen.fits_on_paper()


@pytest.fixture(scope="module")
def others(corpus: Path) -> dict[str, str]:
    """Addresses of the corpus's pages beside a corpus and beside recordings, and of its lineage."""
    from pipelines.quality.dnsmos import Dnsmos

    root = corpus.parent
    for name, against in (("corpus", corpus), ("recordings", root / "speech" / HOSTILE_SPEAKER)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("pipelines.report.recordings.dnsmos", lambda audio: Dnsmos(3.0, 3.0, 3.0, 3.0))
            write_report(str(corpus), root / name / "page", str(against), 1, lambda line: None)
    write_page(lineage(str(corpus)), root / "lineage.html")
    pages = {name: (root / name / "page" / "index.html").as_uri() for name in ("corpus", "recordings")}
    return pages | {"lineage": (root / "lineage.html").as_uri()}


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", ["corpus", "recordings", "lineage"])
def test_pages_beside_it_are_readable_and_fit_on_paper(
    visit: Visit, others: dict[str, str], name: str, width: int
) -> None:
    seen = visit(others[name], width)
    seen.is_self_contained()
    seen.is_readable()
    if width == WIDTHS[-1]:
        seen.fits_on_paper()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_its_letters_stand_out(visit: Visit, page: str, scheme: str) -> None:
    seen = visit(page, scheme=scheme)
    seen.value("() => document.querySelectorAll('details').forEach(e => { e.open = true; })")
    seen.has_contrast()


def test_spectrograms_are_sharp_and_say_what_they_show(visit: Visit, page: str) -> None:
    seen = visit(page)
    panel = seen.page.locator("article svg[role=img]").first
    words = panel.locator("text").all_text_contents()
    assert {"kHz", "0", "1", "8", "24", "0 s", "dBFS", "-100", "-20", "peak"} <= set(words)
    cells = seen.value(
        """async () => {
          const picture = document.querySelector("article image:not(.scale)");
          const loaded = new Image();
          loaded.src = picture.getAttribute("href");
          await loaded.decode();
          return [loaded.naturalWidth / picture.getBoundingClientRect().width, loaded.naturalHeight];
        }"""
    )
    assert cells[0] > 1.0 and cells[1] >= 100
    label = panel.get_attribute("aria-label") or ""
    assert "Degraded clip of " in label and "dBFS" in label and "kHz" in label


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
    seen.page.select_option("#filters [name=axis]", "noisiness")
    seen.page.locator("#filters [name=level]").fill("0.5")
    noisy = shown(seen)
    assert 0 < noisy < SAMPLES
    for sample in seen.page.locator("[data-stages]:visible").all():
        assert json.loads(sample.get_attribute("data-severity") or "")["noisiness"] >= 0.5
    seen.page.locator("#filters [name=level]").fill("1")
    assert shown(seen) < noisy
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
          first.playbackRate = second.playbackRate = 0.1;  // neither is at its end before we look
          await first.play();
          await second.play();
          return [first.paused, second.paused];
        }"""
    ) == [True, False]


def test_a_listener_goes_over_to_the_other_clip_at_the_same_moment(visit: Visit, page: str) -> None:
    seen = visit(page)
    first, second, elsewhere = seen.value(
        """async () => {
          const players = [...document.querySelectorAll("audio")];
          const reached = async (player, least) => {
            const begun = Date.now();
            while (player.currentTime < least && Date.now() - begun < 20000)
              await new Promise(done => setTimeout(done, 5));
          };
          const [first, second, elsewhere] = players;
          for (const player of [first, second, elsewhere]) player.playbackRate = 0.1;  // none comes to its end
          await first.play();
          await reached(first, 0.2);
          await second.play();
          const moments = [first.currentTime, second.currentTime];
          await elsewhere.play();
          moments.push(elsewhere.currentTime);
          elsewhere.pause();
          return moments;
        }"""
    )
    assert 0.2 <= first <= second + 0.05
    assert elsewhere < 0.2


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


def test_the_card_of_the_corpus_shows_names_and_obeys_none(visit: Visit, corpus: Path) -> None:
    """Hubs let HTML in cards through, before they clean it: here nothing is cleaned."""
    card = rendered_card(corpus / "README.md", corpus.parent / "card.html")
    seen = visit(card)
    assert not seen.dialogs and not seen.complaints
    assert seen.value("() => !document.querySelector('img, script, [onerror], a[href^=javascript]')")
    assert HOSTILE_LICENCE in seen.page.inner_text("body")
