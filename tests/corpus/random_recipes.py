"""Recipes that nobody thought of: any stages, any probabilities, any ranges within the default ones."""

from typing import Any

import numpy as np

from datagen.degradations import stage_class, stage_names
from manifests.keyed import generator
from manifests.ranges import Whole, Within

GIVEN = {
    "audiomentations": {"transform": "TanhDistortion"},
    "clipping": {"by": ["share", "sdr"]},
}
"""What a stage cannot do without, or with all of its ranges at once."""
NARROWEST = 0.2
"""A range is cut to no less than this share of the default one."""


def random_recipe(number: int, most_stages: int = 8) -> dict[str, Any]:
    """Content of recipe `number`; its stages draw from speech and noise only, which every split holds."""
    rng = generator("random recipe", number)
    names = [name for name in stage_names() if name not in ("room",) and _is_ours(name)]
    chosen = [
        names[int(i)]
        for i in sorted(rng.choice(len(names), int(rng.integers(1, most_stages)), replace=False))
    ]
    entries = [_entry(name, rng) for name in chosen]
    steps = []
    while entries:
        alternatives = min(len(entries), int(rng.integers(1, 4)))
        group, entries = entries[:alternatives], entries[alternatives:]
        steps.append(_step(group, rng))
    return {
        "name": f"random-{number}",
        "seconds": 2.0,
        "target": {"time_warps": "follow" if rng.random() < 0.3 else "mark"},
        "splits": {"train": 1.0, "val": 0.0, "test": 0.0},
        "stages": steps,
    }


def declared_ranges(name: str) -> dict[str, Within]:
    """Settings of a stage that are ranges by default, with what they may hold."""
    fields = stage_class(name).model_fields
    ranges = {
        field: next((note for note in info.metadata if isinstance(note, Within)), None)
        for field, info in fields.items()
        if isinstance(info.default, tuple)
    }
    return {field: within for field, within in ranges.items() if within is not None}


def _is_ours(name: str) -> bool:
    return stage_class(name).__module__.startswith("datagen.")


def _entry(name: str, rng: np.random.Generator) -> dict[str, Any]:
    entry: dict[str, Any] = {"stage": name, "optional": True, **GIVEN.get(name, {})}
    for field, within in declared_ranges(name).items():
        if rng.random() < 0.5:
            low, high = stage_class(name).model_fields[field].default
            width = (high - low) * rng.uniform(NARROWEST, 1.0)
            start = rng.uniform(low, high - width)
            cut = (start, start + width)
            entry[field] = (
                [int(np.ceil(cut[0])), int(np.ceil(cut[1]))] if isinstance(within, Whole) else list(cut)
            )
    return entry


def _step(group: list[dict[str, Any]], rng: np.random.Generator) -> dict[str, Any]:
    if len(group) == 1:
        return group[0] | {"p": round(float(rng.uniform(0.1, 1.0)), 3)}
    weighted = [entry | {"weight": round(float(rng.uniform(0.2, 3.0)), 3)} for entry in group]
    if rng.random() < 0.5:
        return {"p": round(float(rng.uniform(0.1, 1.0)), 3), "one_of": weighted}
    shares = rng.dirichlet(np.ones(len(group) + 1))
    return {"how_many": [float(share) for share in shares], "one_of": weighted}
