"""`ssiforge degradations`: what stages there are, one in full, and what one did to a recording."""

import json
import sys
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from pipelines.stages.card import StageCard, card, cards, milliseconds, tolerance_text
from pipelines.stages.settings import plain, rounded
from pipelines.stages.try_stage import Trial

PLAIN_WIDTH = 1000
"""Lines of a file or a pipe are not broken."""
LONGEST_VALUE = 48


def print_stages(as_json: bool = False) -> None:
    """Print one line a stage, in the order of the chain; stages whose packages cannot be loaded go to stderr."""
    found, problems = cards()
    for problem in problems:
        print(problem, file=sys.stderr)
    if as_json:
        _print_json([stage.plain() for stage in found])
        return
    table = Table("stage", "axis", "what it does", "draws from", "delay", "ms per 10 s", "package")
    for stage, following in zip(found, [*found[1:], None], strict=True):
        table.add_row(
            f"[bold]{escape(stage.name)}[/bold]",
            stage.axis or "-",
            escape(stage.summary),
            escape(stage.ranges_text) or "-",
            stage.delay_text,
            stage.cost_text,
            escape(stage.package.rpartition(" ")[0]),
            end_section=following is None or following.place != stage.place,
        )
    _console().print(table)


def print_stage(name: str, as_json: bool = False) -> None:
    """Print one stage in full."""
    stage = card(name)
    if as_json:
        _print_json(stage.plain())
        return
    console = _console()
    console.print(
        f"[bold]{escape(stage.name)}[/bold]  axis: {stage.axis or 'none'}, delay: {stage.delay_text}, "
        f"ms per 10 s: {stage.cost_text}, package: {escape(stage.package)}\n\n"
        f"{escape(_unwrapped(stage.description) if console.is_terminal else stage.description)}\n",
        highlight=False,
    )
    table = Table(Column("setting", overflow="fold"), "default", "possible", "meaning")
    for setting in stage.settings:
        table.add_row(
            setting.name, escape(setting.default_text), escape(setting.possible), escape(setting.meaning)
        )
    console.print(table if stage.settings else "It has no settings.")
    _print_promises(stage, console)
    if len(stage.costs) > 1:
        costs = ", ".join(f"{cost.variant} {milliseconds(cost.ms)}" for cost in stage.costs)
        console.print(f"Cost in ms of CPU per 10 s: {costs}", highlight=False)


def print_trial(trial: Trial, out: Path, as_json: bool = False) -> None:
    """Print what was drawn and what was measured, side by side."""
    if as_json:
        _print_json(trial.plain() | {"out": str(out), "picture": str(out.with_suffix(".png"))})
        return
    record = trial.record
    table = Table("value", "drawn", "measured", "promised")
    for name in dict.fromkeys([*record.values, *record.measured]):
        promise = trial.promise(name)
        verdict = ""
        if promise is not None:
            verdict = f"{tolerance_text(name, promise[0])}: {'kept' if promise[1] else '[bold red]broken[/]'}"
        table.add_row(name, _cell(record.values, name), _cell(record.measured, name), verdict)
    console = _console()
    console.print(table)
    for source in trial.sources:
        console.print(f"drawn from {source.path}", markup=False, highlight=False, soft_wrap=True)
    if type(trial.stage).warps_time:
        delay = f"moves time in {len(record.measured['time_map'])} pieces"
    else:
        delay = (
            f"delay removed: {plain(record.delay_samples)} samples" if record.delay_samples else "no delay"
        )
    console.print(
        f"{record.axis or 'no axis'}: severity {record.severity:.2f} of 1; {delay}", highlight=False
    )
    console.print(f"{out} and {out.with_suffix('.png')}", markup=False, highlight=False, soft_wrap=True)


def _print_promises(stage: StageCard, console: Console) -> None:
    for name, tolerance in stage.promises.items():
        console.print(
            f"Promised: {name} is delivered {tolerance_text(name, tolerance)}", markup=False, highlight=False
        )


def _cell(values: dict[str, object], name: str) -> str:
    if name not in values:
        return ""
    value = values[name]
    text = plain(rounded(value))
    if len(text) > LONGEST_VALUE and isinstance(value, list | dict):
        text = f"{text[: LONGEST_VALUE - 14]}… ({len(value)} in all)"
    return escape(text)


def _unwrapped(text: str) -> str:
    """Leave the breaking of lines to the terminal, except where a paragraph is a list or a formula."""
    paragraphs = text.split("\n\n")
    return "\n\n".join(
        part
        if any(line.startswith((" ", "-", "*")) for line in part.splitlines())
        else " ".join(part.split())
        for part in paragraphs
    )


def _print_json(content: object) -> None:
    print(json.dumps(content, indent=2, ensure_ascii=False))


def _console() -> Console:
    console = Console()
    return console if console.is_terminal else Console(width=PLAIN_WIDTH)
