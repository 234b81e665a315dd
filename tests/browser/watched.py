"""A page that is watched: what it complained of, asked and fetched; and what a page must be for anyone to use it."""

from pathlib import Path
from typing import Any

from markdown_it import MarkdownIt

WIDTHS = (360, 1440)
"""Of a telephone and of a desk, in CSS pixels."""
PAPER_PX = 718
"""Between the margins of an A4 sheet as browsers print it."""
SMALLEST_LETTERS_PX = 9.0
LARGEST_DRAWN_PX = 20.0
"""Of letters in drawings."""
LEAST_CONTRAST = 4.5
"""Of letters against what lies behind them: WCAG 2.2, level AA, 1.4.3."""
PLAYED_S = 0.05


class Watched:
    """A loaded page."""

    def __init__(self, page: Any, address: str) -> None:
        self.page = page
        self.complaints: list[str] = []
        """Errors and warnings of the console, exceptions of scripts."""
        self.dialogs: list[str] = []
        self.fetched: list[str] = []
        page.on("console", self._heard)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("dialog", self._asked)
        page.on("request", lambda request: self.fetched.append(request.url))
        page.goto(address, wait_until="load")

    def _heard(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def _asked(self, dialog: Any) -> None:
        self.dialogs.append(dialog.message)
        dialog.dismiss()

    def value(self, script: str, argument: Any = None) -> Any:
        """What a script returns in the page."""
        return self.page.evaluate(script, argument)

    def is_self_contained(self) -> None:
        """Nothing but the page itself was fetched, nothing was asked, nothing failed."""
        others = [url for url in self.fetched if not url.startswith("data:")]
        assert len(others) == 1, others
        assert not self.complaints and not self.dialogs

    def is_readable(self) -> None:
        """Nothing reaches beyond the window, letters are large enough, pictures are told in words."""
        wide, window = self.value(
            "() => [document.documentElement.scrollWidth, document.documentElement.clientWidth]"
        )
        assert wide <= window, f"{wide} px in a window of {window}"
        smallest, largest = self.value(
            """() => {
              let least = 1e9, most = 0;
              // Letters of pictures that are drawings: as large as their source says, on the scale they are shown at.
              for (const img of document.querySelectorAll("img[src^='data:image/svg+xml']")) {
                const source = atob(img.src.split(",")[1]);
                const scale = img.getBoundingClientRect().width / img.naturalWidth;
                for (const [, size] of source.matchAll(/font(?:-size)?: ?(\\d+)px/g)) {
                  least = Math.min(least, scale * size);
                  most = Math.max(most, scale * size);
                }
              }
              const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
              for (let node; (node = walker.nextNode()); ) {
                const parent = node.parentElement;
                if (!node.data.trim() || !parent.checkVisibility() || ["SCRIPT", "STYLE"].includes(parent.tagName))
                  continue;
                const svg = parent.ownerSVGElement;
                const scale = svg ? svg.getBoundingClientRect().width / svg.viewBox.baseVal.width : 1;
                const size = scale * parseFloat(getComputedStyle(parent).fontSize);
                least = Math.min(least, size);
                if (svg) most = Math.max(most, size);
              }
              return [least, most];
            }"""
        )
        assert smallest >= SMALLEST_LETTERS_PX, f"letters of {smallest} px"
        assert largest <= LARGEST_DRAWN_PX, f"letters of {largest} px in a drawing"
        silent = self.value(
            """() => [...document.querySelectorAll("img, [role=img], audio")]
              .filter(e => !(e.alt || e.getAttribute("aria-label"))).map(e => e.outerHTML)"""
        )
        assert not [element[:200] for element in silent]
        assert self.value(
            "() => document.documentElement.lang && document.querySelectorAll('h1').length === 1"
        )

    def fits_on_paper(self) -> None:
        """Printed, nothing is cut off at the edge of the sheet, and what paper cannot do is left out."""
        self.page.set_viewport_size({"width": PAPER_PX, "height": 1000})
        self.page.emulate_media(media="print")
        cut = self.value(
            """width => [...document.querySelectorAll("main *")]
              .filter(e => e.checkVisibility() && !e.closest("svg svg, .hidden"))
              .filter(e => e.getBoundingClientRect().right > width + 1 || e.scrollWidth > e.clientWidth + 1
                && ["auto", "scroll", "hidden"].includes(getComputedStyle(e).overflowX))
              .map(e => e.outerHTML.slice(0, 200))""",
            PAPER_PX,
        )
        assert not cut, cut
        shown = self.value(
            "() => [...document.querySelectorAll('audio, nav, form')].filter(e => e.checkVisibility()).length"
        )
        assert not shown, f"{shown} players, menus and forms on paper"
        folded = self.value(
            """() => [...document.querySelectorAll("details > :not(summary)")].filter(e => !e.checkVisibility()
              && !e.closest(".sample[hidden]")).map(e => e.outerHTML.slice(0, 200))"""
        )
        assert not folded, folded

    def has_contrast(self) -> None:
        """All letters stand out from what lies behind them, those in drawings too."""
        faint = self.value(
            """least => {
              const parts = colour => (colour.match(/[\\d.]+/g) ?? [0, 0, 0, 0]).map(Number);
              const light = ([r, g, b]) => [r, g, b].map(c => c / 255)
                .map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
                .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
              const behind = element => {
                for (let e = element; e; e = e.parentElement) {
                  const colour = parts(getComputedStyle(e).backgroundColor);
                  if ((colour[3] ?? 1) === 1) return colour;
                }
                return [255, 255, 255];
              };
              const found = new Map();
              const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
              for (let node; (node = walker.nextNode()); ) {
                const e = node.parentElement;
                if (!node.data.trim() || !e.checkVisibility() || /^(script|style|title)$/i.test(e.tagName)) continue;
                const style = getComputedStyle(e);
                const [a, b] = [light(parts(e.ownerSVGElement ? style.fill : style.color)), light(behind(e))];
                const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
                if (ratio < least) found.set(`${e.tagName}.${e.className.baseVal ?? e.className}`, [ratio, node.data]);
              }
              return [...found];
            }""",
            LEAST_CONTRAST,
        )
        assert not faint

    def reached_by_tab(self, most: int = 200) -> list[str]:
        """What takes the focus, one after the other, when Tab is pressed: `a`, `audio`, `input#stage` and so on."""
        reached: list[str] = []
        for _ in range(most):
            self.page.keyboard.press("Tab")
            name, seen = self.value(
                """() => {
                  const e = document.activeElement;
                  if (e === document.body) return ["", true];
                  const seen = getComputedStyle(e).outlineStyle !== "none" || e.tagName === "AUDIO";
                  return [e.tagName.toLowerCase() + (e.id ? "#" + e.id : ""), seen];
                }"""
            )
            assert seen, f"nobody sees that {name} has the focus"
            if not name:
                break
            if not reached or reached[-1] != name or name != "audio":
                reached.append(name)
        return reached

    def plays(self, number: int = 0) -> float:
        """Let a player play; return the length of what it plays, in seconds."""
        return float(
            self.value(
                """async ([number, least]) => {
                  const audio = [...document.querySelectorAll("audio")].filter(e => e.checkVisibility())[number];
                  await audio.play();
                  const begun = Date.now();
                  while (audio.currentTime < least && Date.now() - begun < 20000)
                    await new Promise(done => setTimeout(done, 10));
                  audio.pause();
                  if (audio.currentTime < least) throw new Error("it does not play");
                  return audio.duration;
                }""",
                [number, PLAYED_S],
            )
        )


def rendered_card(card: Path, out: Path) -> str:
    """Write a card as the page that a renderer makes of it which lets HTML through; return its address."""
    body = card.read_text().partition("---\n")[2].partition("---\n")[2]
    page = MarkdownIt("commonmark", {"html": True}).enable("table").render(body)
    out.write_text(f"<!doctype html><meta charset=utf-8><title>card</title><link rel=icon href=data:,>{page}")
    return out.as_uri()
