"""A headless Chromium of the system; tests that need it are skipped where there is none."""

import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from watched import Watched

PATIENCE_MS = 120_000
"""On a busy machine, a browser takes its time."""
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    "--autoplay-policy=no-user-gesture-required",
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A browser with a profile of its own, for one module: while it runs, its thread has an event loop."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs the package playwright")
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        pytest.skip("no browser is installed (Debian: apt-get install chromium)")
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=program, args=list(FLAGS), headless=True)
        yield started
        started.close()


@pytest.fixture
def visit(browser: Any) -> Iterator[Callable[..., Watched]]:
    """Open an address in a window of some width and watch what it does."""
    contexts = []

    def opened(address: str, width: int = 1440, scheme: str = "light") -> Watched:
        contexts.append(browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme))
        contexts[-1].set_default_timeout(PATIENCE_MS)
        return Watched(contexts[-1].new_page(), address)

    yield opened
    for context in contexts:
        context.close()
