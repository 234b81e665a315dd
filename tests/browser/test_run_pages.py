"""Pages of a real (tiny) run, and MLflow's, as a person sees them who typed `ssiforge ui`."""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import soundfile
from tiny_corpora import build_corpus, voice
from watched import WIDTHS, Watched, rendered_card

from pipelines.evaluation.evaluate import evaluate
from pipelines.model_cards.card import write_card
from pipelines.report.run import report_evaluation, report_run
from pipelines.tracking.link import read_link
from pipelines.trainer.train import train

HOSTILE_LICENCE = '<img src=x onerror=alert(2)> "><script>alert(3)</script>'
HOSTILE = "<img src=x onerror=alert(1)>.wav"
SMALL = (
    *(
        f"stages.teacher.{setting}"
        for setting in ("steps=4", "batch_size=1", "segment_s=0.3", "validate_every=2")
    ),
    *("validation.samples=1", "validation.segment_s=1.0", "validation.shown=1", "loader.threads=0"),
    *("records.checkpoint_every=2", "records.metrics_every=1"),
)

RELOADS = 3
RELOADED_AFTER_MS = 40_000

Visit = Callable[..., Watched]


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which someone trained, evaluated, and wrote the pages of both."""
    root = tmp_path_factory.mktemp("work")
    corpus = build_corpus(
        root / "corpus", {"train": 2, "val": 1, "test": 2}, seconds=1.2, licence=HOSTILE_LICENCE
    )
    (root / "recordings").mkdir()
    soundfile.write(root / "recordings" / HOSTILE, voice(1, 1.5), 48_000)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        train("tiny", corpus.store.root, "teacher", device="cpu", overrides=SMALL, say=lambda line: None)
        evaluate(["runs/tiny"], Path("runs/tiny/scores"), corpus.store.root, limit=2, listen=1)
        evaluate(["runs/tiny"], Path("heard"), input_dir=Path("recordings"))
        write_card("runs/tiny/teacher", [Path("runs/tiny/scores"), Path("heard")], None, root / "card.md")
        report_run(Path("runs/tiny"))
        report_evaluation(Path("heard"))
    return root


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("page", ["runs/tiny/report", "heard/report"])
def test_a_page_is_readable_and_loads_nothing(visit: Visit, work: Path, page: str, width: int) -> None:
    seen = visit((work / page / "index.html").as_uri(), width)
    seen.is_self_contained()
    seen.is_readable()
    seen.value("() => document.querySelectorAll('details').forEach(e => { e.open = true; })")
    seen.is_readable()


@pytest.mark.parametrize("page", ["runs/tiny/report", "heard/report"])
def test_a_page_can_be_printed(visit: Visit, work: Path, page: str) -> None:
    seen = visit((work / page / "index.html").as_uri())
    seen.fits_on_paper()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_its_letters_stand_out(visit: Visit, work: Path, scheme: str) -> None:
    seen = visit((work / "runs/tiny/report/index.html").as_uri(), scheme=scheme)
    seen.value("() => document.querySelectorAll('details').forEach(e => { e.open = true; })")
    seen.has_contrast()


def test_what_went_in_and_what_came_out_can_be_heard(visit: Visit, work: Path) -> None:
    seen = visit((work / "runs/tiny/report/index.html").as_uri())
    for number in range(3):
        assert seen.plays(number) == pytest.approx(1.0, abs=0.05)
    assert seen.value("() => [...document.images].every(e => e.complete && e.naturalWidth > 100)")


def test_everything_is_reached_by_keyboard(visit: Visit, work: Path) -> None:
    reached = visit((work / "runs/tiny/report/index.html").as_uri()).reached_by_tab()
    assert {"a", "audio", "div", "summary"} <= set(reached)


def test_a_recording_whose_name_is_markup_does_nothing(visit: Visit, work: Path) -> None:
    seen = visit((work / "heard/report/index.html").as_uri())
    assert HOSTILE in seen.page.inner_text("main")
    assert not seen.dialogs and seen.value("() => !document.querySelector('[onerror]')")
    seen = visit((work / "runs/tiny/report/index.html").as_uri())
    assert HOSTILE_LICENCE in seen.page.inner_text("main")  # of the data, in the model card
    assert not seen.dialogs and seen.value("() => !document.querySelector('[onerror]')")


def test_the_card_of_a_model_shows_names_and_obeys_none(visit: Visit, work: Path) -> None:
    seen = visit(rendered_card(work / "card.md", work / "card.html"))
    assert not seen.dialogs and not seen.complaints
    assert seen.value("() => !document.querySelector('img, script, [onerror]')")
    assert HOSTILE_LICENCE in seen.page.inner_text("body")


@pytest.fixture(scope="module")
def addresses(work: Path) -> Iterator[dict[str, str]]:
    """What `ssiforge ui` prints, by name, when MLflow answers."""
    environment = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    environment["PYTHONPATH"] = str(Path(__file__).resolve().parents[2])
    with subprocess.Popen(
        [sys.executable, "-m", "pipelines.cli", "ui"],
        cwd=work,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        assert server.stdout is not None
        found: dict[str, str] = {}
        for line in server.stdout:
            if match := re.match(r"(\w+): (http\S+)", line):
                found[match[1]] = match[2]
            if "MLflow" in found:
                break
        yield found
        server.terminate()


def test_the_first_page_leads_to_reports_and_to_mlflow(visit: Visit, addresses: dict[str, str]) -> None:
    for width in WIDTHS:
        visit(addresses["reports"], width).is_readable()
    seen = visit(addresses["reports"])
    links = seen.value("() => [...document.links].map(e => e.href)")
    assert addresses["MLflow"].rstrip("/") in [link.rstrip("/") for link in links]
    seen.page.click("text=Training run tiny")
    assert seen.page.inner_text("h1") == "Training run tiny"
    assert seen.plays() == pytest.approx(1.0, abs=0.05)
    assert not seen.complaints


def test_mlflow_shows_the_run_its_data_its_audio_and_its_registered_version(
    visit: Visit, addresses: dict[str, str], work: Path
) -> None:
    link = read_link(work / "runs/tiny/teacher")
    experiment, run = link["experiment_id"], link["run_id"]
    mlflow = addresses["MLflow"]
    page = visit(f"{mlflow}#/experiments/{experiment}/runs").page
    for name in ("tiny-teacher", "evaluate-teacher-test", "hand-made"):
        appears(page, name)
    page.goto(f"{mlflow}#/experiments/{experiment}/runs/{run}")
    for name in ("hand-made", "ssiforge-tiny-teacher"):
        page.get_by_text(name).first.wait_for()
    page.goto(f"{mlflow}#/experiments/{experiment}/runs/{run}/artifacts")
    for name in ("samples", "val-000000", "degraded.flac"):
        page.get_by_text(name, exact=True).first.click()
    assert page.locator("audio").first.evaluate(PLAYING) == pytest.approx(1.0, abs=0.01)
    page.goto(f"{mlflow}#/models/ssiforge-tiny-teacher")
    page.locator("a[href*='ssiforge-tiny-teacher/versions/1']").first.wait_for()


def appears(page: Any, text: str) -> None:
    """Wait for a text as people do: what MLflow's page did not get of a busy server, it does not ask for again."""
    from playwright.sync_api import TimeoutError as TooLate

    for _ in range(RELOADS):
        try:
            page.get_by_text(text).first.wait_for(timeout=RELOADED_AFTER_MS)
        except TooLate:
            page.reload()
        else:
            return
    page.get_by_text(text).first.wait_for(timeout=RELOADED_AFTER_MS)


PLAYING = """async audio => {
  audio.muted = true;
  await audio.play();
  return audio.duration;
}"""
