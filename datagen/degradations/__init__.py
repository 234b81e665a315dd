"""Everything that can happen to speech on its way to a listener, one stage a class.

`bind` turns a recipe into stages; `stage_class` finds one by name, shipped or from a user's package.
"""

from datagen.degradations.binding import BoundChoice, BoundRecipe, BoundStep, bind
from datagen.degradations.registry import provenance, stage_class, stage_names

__all__ = ["BoundChoice", "BoundRecipe", "BoundStep", "bind", "provenance", "stage_class", "stage_names"]
