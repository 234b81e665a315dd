"""The shell of a page that stands alone: its style, its heads, its sections. It loads nothing from anywhere."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

GENERATOR = "ssiforge report"
STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --dim: #57606a; --line: #d0d7de; --paper: #fff; --shade: #f6f8fa;
  --good: #116329; --bad: #a40e26; --link: #0b5cad; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --dim: #9aa4af; --line: #3d444d; --paper: #0d1117;
  --shade: #161b22; --good: #56d364; --bad: #ff7b72; --link: #6cb6ff; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 76rem; padding: 1rem; font: 1rem/1.5 system-ui, sans-serif; color: var(--ink);
  background: var(--paper); overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; line-height: 1.2; margin: .5rem 0; } h2 { font-size: 1.25rem; margin: 2.5rem 0 .5rem; }
h3 { font-size: 1.05rem; margin: 1.5rem 0 .5rem; }
a { color: var(--link); } nav ul { display: flex; flex-wrap: wrap; gap: .25rem 1rem; padding: 0; list-style: none; }
:focus-visible { outline: 3px solid var(--link); outline-offset: 2px; }
.note, .notes, caption, figcaption { color: var(--dim); font-size: .875rem; }
.scroll { overflow-x: auto; max-width: 100%; margin: .75rem 0; } table { border-collapse: collapse; font-size: .875rem; }
caption { text-align: left; padding: .25rem 0; }
th, td { padding: .25rem .6rem; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line);
  overflow-wrap: normal; }
thead th { background: var(--shade); white-space: nowrap; } tbody th { font-weight: 500; }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.number small { display: block; color: var(--dim); } .good { color: var(--good); } .bad { color: var(--bad); }
.missing { color: var(--bad); }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 20rem), 1fr)); gap: 1rem; }
.chart { width: 100%; height: auto; font: 11px system-ui, sans-serif; } .chart text { fill: var(--ink); }
.chart .chart-title { font-weight: 600; font-size: 12px; } .chart .chart-tick { fill: var(--dim); font-size: 10px; }
.chart-grid { stroke: var(--line); } .chart-line { fill: none; stroke-width: 1.8; stroke-linejoin: round; }
.chart-kept { stroke: var(--dim); stroke-dasharray: 3 3; }
.waves { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 16rem), 1fr)); gap: 1rem; }
figure { margin: 0; min-width: 0; } figcaption { font-weight: 600; } audio { width: 100%; height: 2.5rem; }
.spectrogram { position: relative; } .spectrogram img { display: block; width: 100%; height: 10rem; }
.khz span { position: absolute; left: 2px; transform: translateY(50%); color: #fff; font-size: .625rem;
  text-shadow: 0 0 3px #000; }
pre { overflow-x: auto; background: var(--shade); padding: .75rem; } summary { cursor: pointer; padding: .25rem 0; }
"""


@dataclass(frozen=True)
class Section:
    """A part of a page."""

    id: str
    title: str
    content: str
    """HTML."""


def page(title: str, lead: str, sections: Sequence[Section]) -> str:
    """Return a whole page.

    Args:
        title: text.
        lead: HTML that stands below the title.
        sections: those without content are left out.
    """
    shown = [section for section in sections if section.content]
    links = "".join(f'<li><a href="#{section.id}">{escape(section.title)}</a></li>' for section in shown)
    body = "\n".join(
        f'<section id="{section.id}"><h2>{escape(section.title)}</h2>\n{section.content}\n</section>'
        for section in shown
    )
    nav = f'<nav aria-label="Sections"><ul>{links}</ul></nav>' if len(shown) > 1 else ""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta name="generator" content="{GENERATOR}">\n<link rel="icon" href="data:,">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n<h1>{escape(title)}</h1>\n"
        f"{lead}\n{nav}\n{body}\n</main>\n</body>\n</html>\n"
    )
