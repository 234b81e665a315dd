"""How fast samples are rendered: times real time a core, for the shipped recipes, with the cost of each stage.

    python benchmarks/render.py [--sources sources.parquet] [--samples 60] [--recipes urgent2024,ssi48k]

Everything that `generate` does for a sample is in the figure: planning, reading and resampling sources, every
stage, every measurement, FLAC encoding and the record. One process, one thread; seconds are CPU seconds, which
other programs on the machine do not stretch. Simulated rooms are made before the clock starts (they are cached).

Without `--sources` the demo's synthetic material is used. `benchmarks/executors.py` compares workers and Ray.
"""

import argparse
import resource
import tempfile
import time
from pathlib import Path

from datagen.environment import pin_threads

pin_threads()

from demo_material import ANY_BANDWIDTH, demo_sources  # noqa: E402

from datagen.audio import flac_bytes  # noqa: E402
from datagen.chain import SampleFailed, StageClock  # noqa: E402
from datagen.degradations import BoundRecipe, bind  # noqa: E402
from datagen.plan import Material, material, plan  # noqa: E402
from datagen.render import render  # noqa: E402
from manifests.canonical import canonical_json  # noqa: E402
from manifests.catalogue import Catalogue, read_catalogue  # noqa: E402
from manifests.documents import check, load_document, with_overrides  # noqa: E402
from manifests.recipe import Recipe  # noqa: E402
from pipelines.rooms.bank import simulated_rooms  # noqa: E402

SEED = 1
WARM_UP_SAMPLES = 3


def bound_recipe(name: str, overrides: tuple[str, ...]) -> BoundRecipe:
    document = with_overrides(load_document(name, "recipes"), overrides)
    return bind(check(Recipe, document.content, document), document)


def render_some(
    bound: BoundRecipe, pool: Material, catalogue: Catalogue, first: int, count: int
) -> StageClock:
    clock = StageClock()
    for index in range(first, first + count):
        for attempt in range(bound.recipe.limits.max_attempts):
            now = time.perf_counter()
            spec = plan(pool, bound, SEED, index, attempt)
            clock.charge("plan", now)
            try:
                rendered = render(spec, catalogue.by_sha256, clock)
            except SampleFailed:
                continue
            now = time.perf_counter()
            for audio in (rendered.degraded, rendered.target, *rendered.stems.values()):
                flac_bytes(audio, spec.bits)
            canonical_json(rendered.record.model_dump(mode="json"))
            clock.charge("encode", now)
            break
    return clock


def measure(name: str, catalogue: Catalogue, samples: int, overrides: tuple[str, ...]) -> str:
    bound = bound_recipe(name, overrides)
    catalogue = catalogue.extended(simulated_rooms(bound, None, print))
    pool = material(catalogue, bound.recipe, "train")
    render_some(bound, pool, catalogue, 10_000, WARM_UP_SAMPLES)
    began = time.process_time()
    clock = render_some(bound, pool, catalogue, 0, samples)
    seconds = time.process_time() - began
    speed = samples * bound.recipe.seconds / seconds
    print(
        f"\n{name}: {samples} samples of {bound.recipe.seconds:g} s, {1000 * seconds / samples:.1f} ms a sample"
    )
    print(f"  {'part':<16}{'ms a call':>10}{'calls':>8}{'ms a sample':>13}")
    for part, spent in sorted(clock.seconds.items(), key=lambda item: -item[1]):
        calls = clock.calls[part]
        print(f"  {part:<16}{1000 * spent / calls:>10.2f}{calls:>8}{1000 * spent / samples:>13.2f}")
    return f"{name}: {speed:.1f} x real time a core"


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sources", type=Path)
    parser.add_argument("--samples", type=int, default=60)
    parser.add_argument("--recipes", default="urgent2024,ssi48k")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        sources = arguments.sources or demo_sources(Path(folder))
        overrides = () if arguments.sources else ANY_BANDWIDTH
        catalogue = read_catalogue(sources)
        names = arguments.recipes.split(",")
        lines = [measure(name, catalogue, arguments.samples, overrides) for name in names]
        print(f"\npeak memory of this process: {_peak_mb():.0f} MB")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
