"""What each stage costs: CPU milliseconds for 10 s at 48 kHz on one thread, stage by stage and variant by variant.

    python benchmarks/stages.py [NAME ...] [--write]

The median of a few draws with default settings, after one that is not counted; variants are the values of a stage's
first setting that is a choice of words (kinds of clipping, codecs, concealments). Reading recordings is not in it, and
neither is what the engine measures around a stage. `--write` stores the table where `ssiforge degradations` and
docs/degradations.md find it; it names the machine, so write it on an idle one.
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from datagen.environment import pin_threads

pin_threads()

from datagen import degradations  # noqa: E402
from datagen.audio import read_stretch, resampled  # noqa: E402
from datagen.degradations import stage_class  # noqa: E402
from datagen.degradations.base import Audio, CannotApply, Degradation, Inputs  # noqa: E402
from datagen.degradations.registry import BUILT_IN  # noqa: E402
from datagen.level import scaled  # noqa: E402
from manifests.recipe import SAMPLE_RATE_HZ  # noqa: E402
from manifests.sample import Clip  # noqa: E402
from manifests.source import Kind, Source  # noqa: E402
from pipelines.stages.card import COSTS, Cost, milliseconds  # noqa: E402
from pipelines.stages.example_voice import example_voice  # noqa: E402
from pipelines.stages.settings import model_within, words_of  # noqa: E402
from pipelines.stages.trial_material import trial_sources  # noqa: E402
from pipelines.stages.try_stage import draw  # noqa: E402

SECONDS = 10.0
DRAWS = 5
MOST_DRAWS = 12
"""Of which some may not be possible on this voice."""
TRANSFORMS = ("TanhDistortion", "BitCrush", "AddColorNoise")
"""Of a library, so many examples: it has some forty."""


class Material:
    """Built-in recordings to draw from; remembers what was offered, to read it."""

    def __init__(self) -> None:
        self._sources = trial_sources({}, 0, None, print)
        self._offered: dict[str, Source] = {}

    def sources(self, kind: Kind) -> tuple[Source, ...]:
        """Rows of one kind."""
        rows = self._sources(kind)
        self._offered |= {row.sha256: row for row in rows}
        return rows

    def read(self, clip: Clip) -> Audio:
        """A drawn clip as a stage gets it."""
        source = self._offered[clip.sha256]
        audio, rate_hz = read_stretch(source.path, clip.start, clip.frames, clip.channel)
        audio = scaled(resampled(audio, rate_hz, SAMPLE_RATE_HZ), clip.gain_db)
        audio.setflags(write=False)
        return audio


def variants(cls: type[Degradation]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and settings of each variant of a stage."""
    if cls.name == "audiomentations":
        yield from ((transform, {"transform": transform}) for transform in TRANSFORMS)
        return
    for name, field in cls.model_fields.items():
        if len(words := words_of(field)) > 1:
            yield from ((word, {name: [word]}) for word in words)
            return
        if inner := model_within(field.annotation):
            yield from ((word, {name: {word: {}}}) for word in inner.model_fields)
            return
    yield "", {}


def measured(variant: str, stage: Degradation, voice: Audio, material: Material) -> Cost:
    spent_ms, delays = [], []
    for seed in range(MOST_DRAWS):
        drawn = draw(stage, voice, material.sources, seed)
        inputs = Inputs(tuple(map(material.read, drawn.clips)), voice)
        began = time.process_time()
        try:
            applied = stage.apply(voice, drawn.values, inputs)
        except CannotApply:
            continue
        spent_ms.append(1000.0 * (time.process_time() - began))
        delays.append(applied.delay_samples)
        if len(spent_ms) > DRAWS:
            break
    if len(spent_ms) < 2:
        raise SystemExit(f"{stage.name} {variant}: cannot be applied to the example voice")
    return Cost(variant, round(statistics.median(spent_ms[1:]), 1), (min(delays), max(delays)))


def machine() -> str:
    """What the processor calls itself."""
    about = Path("/proc/cpuinfo")
    lines = about.read_text().splitlines() if about.is_file() else []
    named = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return named or platform.processor() or platform.machine()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="stages; all of them by default")
    parser.add_argument("--write", action="store_true", help="store the table of all stages")
    arguments = parser.parse_args()
    if arguments.write and arguments.names:
        parser.error("--write stores the whole table, so it takes no names")
    voice, material = example_voice(SECONDS), Material()
    began = time.perf_counter()
    table: dict[str, list[Cost]] = {}
    print(f"{'stage':<20}{'variant':<18}{'ms per 10 s':>12}   delay in samples")
    for name in arguments.names or sorted(BUILT_IN):
        cls = stage_class(name)
        table[name] = [measured(word, cls(**settings), voice, material) for word, settings in variants(cls)]
        for cost in table[name]:
            low, high = cost.delay_samples
            delay = "moves time" if cls.warps_time else f"{low:g}" if low == high else f"{low:g} to {high:g}"
            print(f"{name:<20}{cost.variant:<18}{milliseconds(cost.ms):>12}   {delay}")
    if arguments.write:
        path = Path(degradations.__file__).with_name(COSTS)
        rows = {
            name: [{"variant": c.variant, "ms": c.ms, "delay_samples": list(c.delay_samples)} for c in costs]
            for name, costs in table.items()
        }
        path.write_text(f"{json.dumps({'machine': machine(), 'stages': rows}, indent=1)}\n", encoding="utf-8")
        print(f"wrote {path}; 'make docs' brings it into docs/degradations.md")
    slowest = max((cost.ms, name) for name, costs in table.items() for cost in costs)
    print(
        f"{len(table)} stages in {time.perf_counter() - began:.0f} s; slowest: {slowest[1]}, {slowest[0]:.0f} ms"
    )


if __name__ == "__main__":
    main()
