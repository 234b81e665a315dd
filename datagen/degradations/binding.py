"""From a recipe as it was written to stages that can draw: settings checked, defaults filled in."""

from collections import Counter
from dataclasses import dataclass

from datagen.degradations.base import Degradation
from datagen.degradations.registry import NO_STAGE, stage_class
from manifests.canonical import digest
from manifests.documents import Document, Location, check
from manifests.errors import UserError
from manifests.recipe import Recipe, StageEntry


@dataclass(frozen=True)
class BoundChoice:
    """One alternative of a step."""

    label: str
    """The stage's name, with `#2`, `#3` where it stands more than once in the recipe."""
    weight: float
    stage: Degradation | None
    """None is the alternative that does nothing."""
    optional: bool = False
    """Left out in a split that holds nothing for it."""


@dataclass(frozen=True)
class BoundStep:
    """One step of the chain: a number of its choices is taken by weight, each at most once."""

    label: str
    """Keys the step's own draws: the stage's label, or `one_of`, `one_of#2` where there are alternatives."""
    how_many: tuple[float, ...]
    """Probabilities of taking none, one, two, ... of the choices: `(1 - p, p)` where it is all or one."""
    choices: tuple[BoundChoice, ...]

    @property
    def fires(self) -> bool:
        """Whether anything can ever be taken."""
        return self.how_many[0] < 1.0

    @property
    def is_constant(self) -> bool:
        """Whether every sample has it, the undistorted ones too."""
        return self.how_many[0] == 0.0

    def shares(self) -> dict[str, float]:
        """Probability with which each stage of this step is applied to a sample, by label."""
        taken = _inclusion(tuple(choice.weight for choice in self.choices), self.how_many)
        return {
            choice.label: share
            for choice, share in zip(self.choices, taken, strict=True)
            if choice.stage is not None
        }


def _inclusion(weights: tuple[float, ...], how_many: tuple[float, ...]) -> list[float]:
    """Probability that each of several weights is among those drawn one after the other without replacement."""
    shares = [0.0] * len(weights)

    def draw(left: frozenset[int], reached: float, count: int) -> None:
        """Follow every order of drawing; `reached` is the probability of having come here."""
        going_on = sum(how_many[count:])
        total = sum(weights[i] for i in left)
        if going_on <= 0.0 or total <= 0.0:
            return
        for i in left:
            here = reached * weights[i] / total
            shares[i] += here * going_on
            if here > 0.0:
                draw(left - {i}, here, count + 1)

    draw(frozenset(range(len(weights))), 1.0, 1)
    return shares


@dataclass(frozen=True)
class BoundRecipe:
    """A recipe with its stages."""

    recipe: Recipe
    """With the settings of every stage complete."""
    steps: tuple[BoundStep, ...]
    """In the order in which they are applied."""

    @property
    def digest(self) -> str:
        """Identity of the recipe: writing out a default changes nothing, moving it does."""
        return digest(self.recipe.written())

    def shares(self) -> dict[str, float]:
        """Probability with which each stage is applied to a sample, by label."""
        distorted = 1.0 - self.recipe.undistorted
        return {
            label: share if step.is_constant else distorted * share
            for step in self.steps
            for label, share in step.shares().items()
        }


def bind(recipe: Recipe, document: Document | None = None) -> BoundRecipe:
    """Check the settings of every stage of a recipe and fill in their defaults.

    Args:
        recipe: as it was written.
        document: where it was written, to name the line of an error.

    Raises:
        UserError: for an unknown stage or setting, or an impossible value; names the field.
    """
    document = document or Document(recipe.name, {}, {})
    labels = _Labels()
    steps, entries = [], []
    for number, entry in enumerate(recipe.stages):
        step, complete = _bind_step(entry, document, ("stages", number), labels)
        steps.append(step)
        entries.append(complete)
    return BoundRecipe(recipe.model_copy(update={"stages": tuple(entries)}), tuple(steps))


class _Labels:
    """Numbers the occurrences of a name: `codec`, `codec#2`."""

    def __init__(self) -> None:
        self._seen: Counter[str] = Counter()

    def next(self, name: str) -> str:
        self._seen[name] += 1
        return name if self._seen[name] == 1 else f"{name}#{self._seen[name]}"


def _bind_step(
    entry: StageEntry, document: Document, at: Location, labels: _Labels
) -> tuple[BoundStep, StageEntry]:
    if entry.weight != 1.0:
        raise UserError(f"{document.where((*at, 'weight'))}: belongs in an alternative of 'one_of'")
    if not entry.one_of:
        if entry.stage == NO_STAGE:
            raise UserError(
                f"{document.where((*at, 'stage'))}: '{NO_STAGE}' is an alternative of 'one_of' only"
            )
        stage, complete = _bind_stage(entry, document, at)
        label = labels.next(entry.stage)
        return BoundStep(
            label, (1.0 - entry.p, entry.p), (BoundChoice(label, 1.0, stage, entry.optional),)
        ), complete
    label = labels.next("one_of")
    choices, entries = [], []
    for number, alternative in enumerate(entry.one_of):
        place = (*at, "one_of", number)
        if alternative.one_of:
            raise UserError(f"{document.where((*place, 'one_of'))}: alternatives do not nest")
        if alternative.p != 1.0:
            raise UserError(f"{document.where((*place, 'p'))}: an alternative is chosen by its 'weight'")
        bound: Degradation | None = None
        complete = alternative
        if alternative.stage != NO_STAGE:
            bound, complete = _bind_stage(alternative, document, place)
        elif alternative.settings:
            field = sorted(alternative.settings)[0]
            raise UserError(f"{document.where((*place, field))}: '{NO_STAGE}' has no settings")
        choices.append(
            BoundChoice(
                labels.next(alternative.stage),
                alternative.weight,
                bound,
                entry.optional or alternative.optional,
            )
        )
        entries.append(complete)
    how_many = entry.how_many or (1.0 - entry.p, entry.p)
    return BoundStep(label, how_many, tuple(choices)), entry.model_copy(update={"one_of": tuple(entries)})


def _bind_stage(entry: StageEntry, document: Document, at: Location) -> tuple[Degradation, StageEntry]:
    try:
        cls = stage_class(entry.stage)
    except UserError as error:
        raise UserError(f"{document.where((*at, 'stage'))}: {error}") from error
    stage = check(cls, entry.settings, document, at)
    return stage, entry.model_copy(update={"settings": stage.model_dump(mode="json")})
