"""What in a recipe makes stages depend on one another: alternatives of one choice, and samples left undistorted."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import yaml
from pydantic import ValidationError

from manifests.recipe import Recipe


@dataclass(frozen=True)
class Draws:
    """How the stages of a recipe are drawn, as far as they are not drawn one by one."""

    choices: tuple[frozenset[str], ...] = ()
    """Labels of the alternatives of each `one_of`."""
    undistorted: float = 0.0
    """Share of the samples that constant stages alone degrade."""


ONE_BY_ONE = Draws()
"""Nothing is known but that each stage is drawn for itself."""


def draws_of(recipe: str) -> Draws:
    """Read it out of a recipe.

    Stages need not be installed: labels are counted here as `datagen.degradations.bind` counts them.

    Args:
        recipe: as text; of what is none any more, or of none, nothing is known.
    """
    try:
        read = Recipe.model_validate(yaml.safe_load(recipe))
    except (yaml.YAMLError, ValidationError):
        return ONE_BY_ONE
    seen: Counter[str] = Counter()

    def labels(names: Iterator[str]) -> Iterator[str]:
        for name in names:
            seen[name] += 1
            yield name if seen[name] == 1 else f"{name}#{seen[name]}"

    choices = [
        (bool(entry.one_of), frozenset(labels(choice.stage for choice in entry.one_of or (entry,))))
        for entry in read.stages
    ]
    return Draws(tuple(names for is_choice, names in choices if is_choice), read.undistorted)
