"""The shell of every page: one self-contained file that runs no script and loads nothing but its own."""

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources

from pipelines.report.markup import Html, join, tag

LANGUAGE = "en-GB"
GENERATOR = "ssiforge report"
"""By which a page is known as one of ours."""
STYLE_FILES = ("page.css", "run.css")
SCRIPT_FILE = "page.js"


@dataclass(frozen=True)
class Section:
    """A part of a page with a heading of its own."""

    id: str
    """What links name: letters and hyphens."""
    title: str
    body: Html
    lead: str = ""
    """A sentence below the heading: how to read what follows."""


def page(title: str, lead: Html | str, sections: Sequence[Section]) -> bytes:
    """Return a page as UTF-8 bytes: heading, links to its sections, sections.

    Its policy lets browsers apply one style and run one script, both by hash, and show pictures and sound that are in
    the page: even markup that escaped our escaping could do nothing.

    Args:
        title: of the page.
        lead: what it is about, below the heading.
        sections: in order.
    """
    style, script = Html("".join(map(_asset, STYLE_FILES))), Html(_asset(SCRIPT_FILE))
    policy = (
        f"default-src 'none'; style-src '{_source_hash(style)}'; script-src '{_source_hash(script)}'; "
        "img-src data:; media-src data:; base-uri 'none'; form-action 'none'"
    )
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="generator", content=GENERATOR),
        tag("meta", http_equiv="Content-Security-Policy", content=policy),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("meta", name="referrer", content="no-referrer"),
        tag("title", title),
        tag("link", rel="icon", href="data:,"),
        tag("style", style),
    )
    body = tag(
        "body",
        tag("a", "Skip to the content", class_="skip", href="#content"),
        tag("header", tag("h1", title), tag("p", lead, class_="lead")),
        tag(
            "nav",
            tag("ul", [tag("li", tag("a", part.title, href=f"#{part.id}")) for part in sections]),
            aria_label="Sections",
        ),
        tag("main", [_section(part) for part in sections], id="content"),
        tag("script", script),
    )
    return join(Html("<!doctype html>\n"), tag("html", head, Html("\n"), body, lang=LANGUAGE), "\n").encode()


def _section(part: Section) -> Html:
    return join(
        "\n",
        tag(
            "section",
            tag("h2", part.title, id=f"{part.id}-heading"),
            tag("p", part.lead, class_="lead") if part.lead else None,
            part.body,
            id=part.id,
            aria_labelledby=f"{part.id}-heading",
        ),
    )


def table(
    head: Sequence[object], rows: Sequence[Sequence[object]], numbers: Sequence[int] = (), label: str = ""
) -> Html:
    """Return a table that scrolls within itself where it is wider than the screen.

    Args:
        head: headings of the columns.
        rows: cells; the first of each names the row.
        numbers: positions of the columns that hold numbers.
        label: what the table shows, for those who cannot see it.
    """

    def cell(name: str, column: int, content: object, **attributes: object) -> Html:
        return tag(name, content, class_="number" if column in numbers else None, **attributes)

    heading = tag("tr", [cell("th", column, text, scope="col") for column, text in enumerate(head)])
    body = [
        tag(
            "tr",
            [
                cell("td", column, content) if column else cell("th", 0, content, scope="row")
                for column, content in enumerate(row)
            ],
        )
        for row in rows
    ]
    return scrolling(tag("table", tag("thead", heading), tag("tbody", body)), label)


def scrolling(content: Html, label: str) -> Html:
    """Return content in a frame that scrolls sideways, by keys as well."""
    return tag("div", content, class_="scrolling", role="region", aria_label=label, tabindex=0)


def facts(pairs: Sequence[tuple[str, object]]) -> Html:
    """Return a list of names with values."""
    return tag("dl", [tag("div", tag("dt", name), tag("dd", value)) for name, value in pairs], class_="facts")


def tiles(pairs: Sequence[tuple[str, object]]) -> Html:
    """Return few large values with small names."""
    return tag("dl", [tag("div", tag("dt", name), tag("dd", value)) for name, value in pairs], class_="tiles")


def _asset(name: str) -> str:
    return resources.files(__package__ or "pipelines.report").joinpath(name).read_text(encoding="utf-8")


def _source_hash(content: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}"
