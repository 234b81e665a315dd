"""A page as a browser's parser sees it: which elements and attributes it holds, and what can be read on it."""

import base64
import hashlib
import re
from dataclasses import dataclass, field
from html.parser import HTMLParser

_HTML = """
html head meta title link style script body a header nav main section article form label select option input output
button div span p h1 h2 h3 ul ol li dl dt dd table thead tbody tr th td figure figcaption details summary pre code small
b strong em audio
"""
_SVG = "svg text line rect path circle title image"
_ATTRIBUTES = """
lang charset name content http-equiv rel href class id for type value min max step hidden role tabindex scope src
controls preload x y x1 x2 y1 y2 cx cy r rx width height d fill opacity transform text-anchor viewbox visibility
preserveaspectratio aria-label aria-labelledby aria-hidden data-from data-to data-stages data-severity data-split
"""
TAGS = frozenset((_HTML + _SVG).split())
ATTRIBUTES = frozenset(_ATTRIBUTES.split())
ADDRESS = re.compile(r"#[a-z-]+|data:,|data:(image/png|audio/webm);base64,[A-Za-z0-9+/=]+")
VOID = frozenset(("meta", "link", "input", "br", "hr", "img", "col"))


@dataclass(eq=False)
class Page(HTMLParser):
    """Collects; every element must be closed in order."""

    elements: list[tuple[str, dict[str, str | None]]] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    scripts: list[str] = field(default_factory=list)
    styles: list[str] = field(default_factory=list)
    _open: list[str] = field(default_factory=list)

    @classmethod
    def parsed(cls, content: bytes) -> "Page":
        page = cls()
        HTMLParser.__init__(page)
        page.feed(content.decode())
        page.close()
        assert page._open == [], "elements that nothing closes"
        return page

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(dict(attrs)) == len(attrs), f"an attribute twice in {tag}"
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        where = self._open[-1] if self._open else ""
        {"script": self.scripts, "style": self.styles}.get(where, self.texts).append(data)

    @property
    def text(self) -> str:
        return "\n".join(self.texts)

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def elements_with(self, name: str, *tags: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.elements if tag in tags and name in attributes]

    def check_safe(self) -> None:
        """Only what pages are made of, one script and one style that the policy names, nothing from elsewhere."""
        assert {tag for tag, _ in self.elements} <= TAGS
        assert {name for _, attributes in self.elements for name in attributes} <= ATTRIBUTES
        assert len(self.scripts) == len(self.of("script")) == len(self.styles) == len(self.of("style")) == 1
        (policy,) = (
            a["content"] for a in self.of("meta") if a.get("http-equiv") == "Content-Security-Policy"
        )
        assert policy is not None
        rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
        assert rules["default-src"] == "'none'"
        for kind, content in (("script-src", self.scripts[0]), ("style-src", self.styles[0])):
            digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
            assert rules[kind] == f"'sha256-{digest}'"
        for tag, attributes in self.elements:
            for name in ("href", "src"):
                if name in attributes:
                    assert ADDRESS.fullmatch(attributes[name] or ""), tag

    def check_usable(self) -> None:
        """What is needed to read it without seeing, without a mouse, and to jump about."""
        ids = [attributes["id"] for _, attributes in self.elements if "id" in attributes]
        assert len(ids) == len(set(ids))
        for attributes in self.of("a"):
            assert (attributes["href"] or "")[1:] in ids
        for attributes in self.of("svg"):
            assert attributes.get("aria-hidden") == "true" or (
                attributes["role"] == "img" and attributes["aria-label"]
            )
        assert all(attributes["aria-label"] and "controls" in attributes for attributes in self.of("audio"))
        for _, attributes in self.elements:
            if attributes.get("role") == "region":
                assert attributes["aria-label"] and attributes["tabindex"] == "0"
        assert (
            len(self.of("h1"))
            == len(self.of("main"))
            == len(self.of("title")) - _titles_in_drawings(self)
            == 1
        )
        assert self.of("html")[0]["lang"]


def _titles_in_drawings(page: Page) -> int:
    position = next(n for n, (tag, _) in enumerate(page.elements) if tag == "body")
    return sum(tag == "title" for tag, _ in page.elements[position:])
