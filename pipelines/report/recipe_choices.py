"""Which stages a recipe makes alternatives of one choice, so that they are not drawn independently of one another."""

from collections import Counter
from collections.abc import Iterator

import yaml
from pydantic import ValidationError

from manifests.recipe import Recipe


def alternatives(recipe: str) -> tuple[frozenset[str], ...]:
    """Return the labels of each `one_of` of a recipe.

    Stages need not be installed: labels are counted here as `datagen.degradations.bind` counts them.

    Args:
        recipe: as text; of what is none any more, or of none, there are no alternatives.
    """
    try:
        stages = Recipe.model_validate(yaml.safe_load(recipe)).stages
    except (yaml.YAMLError, ValidationError):
        return ()
    seen: Counter[str] = Counter()

    def labels(names: Iterator[str]) -> Iterator[str]:
        for name in names:
            seen[name] += 1
            yield name if seen[name] == 1 else f"{name}#{seen[name]}"

    choices = [
        (bool(entry.one_of), frozenset(labels(choice.stage for choice in entry.one_of or (entry,))))
        for entry in stages
    ]
    return tuple(names for is_choice, names in choices if is_choice)
