"""The page of all degradations: `python -m pipelines.stages.catalogue_page` writes docs/degradations.md and pictures.

Everything on it comes from the stages themselves and from `costs.json`, so it is never edited by hand.
"""

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from datagen.degradations.registry import BUILT_IN, PLACES
from manifests.files import write_atomically
from pipelines.stages.card import StageCard, card, measured_costs, milliseconds, tolerance_text
from pipelines.stages.pictures import SECONDS, SHOWN, write_pictures
from pipelines.stages.settings import Setting, plain

PAGE = "degradations.md"
PICTURES = "degradations"
INTRODUCTION = """\
# Degradations

Every degradation that ships, in the order in which sound meets them on its way from a talker to a listener. This page
is generated from the code (`make docs`); `ssiforge degradations` prints the same, and

    ssiforge degradations noise --input a.wav --out b.wav --set snr_db=5

lets you hear and see one on a recording of your own. How stages are put together is in [recipes.md](recipes.md).

Settings are ranges to draw from, `[low, high]`, or one number for a constant. *Axis* is the dimension of ITU-T P.804 on
which a stage's severity counts. *Promised* values are delivered as they were drawn, within the tolerance; each sample
records both. *Delay* is what the stage adds and the engine removes again, so that degraded and target stay aligned.
*Cost* is CPU time for 10 s at 48 kHz on one thread{machine}.

The pictures show {seconds:g} s of a synthetic voice before and after, with the settings below them; frequency is on the
mel scale, colours run from -110 dBFS (black) to -20 dBFS in every one.
"""


def page() -> str:
    """Return the text of the page."""
    machine = measured_costs()[0]
    parts = [
        INTRODUCTION.format(machine=f" ({machine})" if machine else "", seconds=SECONDS),
        _contents(),
    ]
    listed: dict[str, str] = {}
    for place, stages in shown_stages():
        parts.append(f"## {place}\n")
        parts.extend(_section(stage, listed) for stage in stages)
    return "\n".join(parts)


def shown_stages() -> list[tuple[str, list[StageCard]]]:
    """Return the shipped stages by their place in the chain."""
    shipped = [card(name) for name in BUILT_IN]
    by_place = [(place, [stage for stage in shipped if stage.place == place]) for place in PLACES.values()]
    return [(place, stages) for place, stages in by_place if stages]


def _contents() -> str:
    rows = ["| stage | axis | what it does | delay | ms |", "|---|---|---|---|---|"]
    for _, stages in shown_stages():
        rows += [
            f"| [`{stage.name}`](#{stage.name}) | {stage.axis or '-'} | {_cell(stage.summary)} | "
            f"{stage.delay_text} | {stage.cost_text} |"
            for stage in stages
        ]
    return "\n".join(rows) + "\n"


def _section(stage: StageCard, listed: dict[str, str]) -> str:
    shown = plain({"stage": stage.name, **SHOWN.get(stage.name, {})})
    lines = [
        f"### `{stage.name}`",
        "",
        stage.description,
        "",
        f"![{stage.name}, before and after]({PICTURES}/{stage.name}.png)",
        "",
        f"`{shown}`",
        "",
        _facts(stage),
        "",
    ]
    if stage.settings:
        lines += ["| setting | default | possible | meaning |", "|---|---|---|---|"]
        lines += [
            f"| `{setting.name}` | {_cell(setting.default_text)} | {_cell(setting.possible)} | "
            f"{_cell(setting.meaning)} |"
            for setting in _without_repetitions(stage, listed)
        ]
        lines.append("")
    return "\n".join(lines)


def _without_repetitions(stage: StageCard, listed: dict[str, str]) -> Iterator[Setting]:
    """Settings of a stage, but fields of a setting like one that was `listed` before only by a reference."""
    skipped = ""
    for setting in stage.settings:
        if skipped and setting.name.startswith(skipped):
            continue
        skipped = ""
        if setting.fields in listed:
            skipped = f"{setting.name}."
            setting = replace(setting, possible=f"as {listed[setting.fields]}")
        elif setting.fields:
            listed[setting.fields] = f"`{setting.name}` of `{stage.name}`"
        yield setting


def _facts(stage: StageCard) -> str:
    facts = [f"Axis: {stage.axis or 'none'}.", f"Delay: {stage.delay_text}."]
    if stage.promises:
        promised = (f"`{name}` {tolerance_text(name, limit)}" for name, limit in stage.promises.items())
        facts.append(f"Promised: {', '.join(promised)}.")
    if stage.costs:
        by_variant = ", ".join(f"{c.variant} {milliseconds(c.ms)}" for c in stage.costs if c.variant)
        facts.append(f"Cost: {stage.cost_text} ms{f' ({by_variant})' if by_variant else ''}.")
    return " ".join(facts)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def main() -> None:
    """Write the page and its pictures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("docs", nargs="?", type=Path, default=Path("docs"), help="folder to write to")
    parser.add_argument("--text", action="store_true", help="leave the pictures as they are")
    arguments = parser.parse_args()
    text = page()
    if not arguments.text:
        write_pictures(arguments.docs / PICTURES, sorted(BUILT_IN), print)
    write_atomically(arguments.docs / PAGE, text.encode())
    print(f"{arguments.docs / PAGE}: {len(BUILT_IN)} stages")


if __name__ == "__main__":
    main()
