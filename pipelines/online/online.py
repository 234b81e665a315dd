"""`ssiforge train --online`: a recipe and a catalogue become fresh samples, and a record of what they are drawn from.

The run's folder keeps the recipe and the catalogue (`manifests.online`): processes that render read them there, and
lineage finds them when the originals have moved on.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml

from datagen.degradations import BoundRecipe, bind
from datagen.environment import code_version
from datagen.plan import is_excluded
from manifests.catalogue import Catalogue, write_catalogue
from manifests.corpus import QUARANTINE_FILE, RECIPE_FILE, SOURCES_FILE, CorpusManifest
from manifests.documents import check, load_document
from manifests.errors import UserError
from manifests.files import write_atomically
from manifests.licence_names import AllowedLicences
from manifests.online import ONLINE_FOLDER, OnlineRecord, read_online, write_online
from manifests.recipe import Recipe, Split
from manifests.store import Place
from pipelines.corpus.folder import recipe_yaml
from pipelines.differences import differences
from pipelines.generation.checks import check_files, check_material
from pipelines.generation.generate import catalogue_at
from pipelines.generation.licence_choice import of_allowed_licences
from pipelines.online.source import FreshSource, Renderers, Tally
from pipelines.online.worker import OnlineJob
from pipelines.rooms.bank import simulated_rooms, with_rooms

DEFAULT_WEIGHT = 0.5
"""Beside a corpus: every other sample is a fresh one."""
WORKERS = 2


@dataclass(frozen=True)
class OnlineRequest:
    """What a user asks of online mode."""

    recipe: str
    """A shipped recipe's name, or the path of a YAML file."""
    sources: Place
    """The catalogue written by `ssiforge scan`, a path or URI."""
    seed: int = 0
    """Of every draw."""
    weight: float | None = None
    """Share of the samples that are fresh; without, all of them, or half of them beside a corpus."""
    workers: int = WORKERS
    """Processes that render."""
    cache: Path | None = None
    """Folder for simulated rooms; the user's cache folder by default."""
    allow_licences: tuple[str, ...] = ()
    """Names and patterns of licences, separated by commas; other sources are not drawn. All are without any."""

    def weight_beside(self, corpus: CorpusManifest | None) -> float:
        """Return the share of fresh samples.

        Raises:
            UserError: when there can be no such share.
        """
        weight = self.weight
        if weight is None:
            return 1.0 if corpus is None else DEFAULT_WEIGHT
        if not 0.0 < weight <= 1.0:
            raise UserError(f"--online-weight {weight:g}: must be above 0 and at most 1")
        if corpus is None and weight != 1.0:
            raise UserError(f"--online-weight {weight:g}: the other samples need a --corpus")
        return weight


@dataclass(frozen=True)
class Online:
    """Fresh samples, as `training.source.FreshSamples`."""

    record: OnlineRecord
    place: str
    recipe: Recipe
    renderers: Renderers

    def source(self, split: Split) -> FreshSource:
        """Return the samples of one split."""
        return FreshSource(self.renderers, self.recipe, self.record, split)


@dataclass(frozen=True)
class Prepared:
    """What fresh samples are drawn from, checked, but not written down yet."""

    record: OnlineRecord
    bound: BoundRecipe
    catalogue: Catalogue

    @contextmanager
    def rendering(self, run_dir: Path, workers: int) -> Iterator[Online]:
        """Write down what is drawn from, and render while the block lasts.

        Raises:
            UserError: when the run's folder cannot be written to.
        """
        folder = run_dir.absolute() / ONLINE_FOLDER
        try:
            folder.mkdir(parents=True, exist_ok=True)
            write_atomically(folder / RECIPE_FILE, recipe_yaml(self.bound))
            write_catalogue(self.catalogue.usable, folder / SOURCES_FILE)
            write_online(folder, self.record)
        except OSError as error:
            raise UserError(f"{folder}: cannot be written to ({error.strerror})") from error
        tally = Tally(self.bound.recipe, folder / QUARANTINE_FILE)
        renderers = Renderers(OnlineJob(str(folder), self.record.seed), workers, tally.add)
        try:
            yield Online(self.record, str(folder), self.bound.recipe, renderers)
        finally:
            renderers.close()


def prepare(
    request: OnlineRequest,
    corpus: CorpusManifest | None,
    validated: bool,
    say: Callable[[str], None],
) -> Prepared:
    """Check a recipe and a catalogue, as `generate` does before it renders.

    Args:
        request: what is asked for.
        corpus: the one beside the fresh samples.
        validated: whether the run validates; without a corpus that takes fresh samples too.
        say: receives lines for people.

    Raises:
        UserError: for a mistake in the options, the recipe or the catalogue.
    """
    weight = request.weight_beside(corpus)
    if request.workers < 1:
        raise UserError("--online-workers must be at least 1")
    document = load_document(request.recipe, "recipes")
    bound = bind(check(Recipe, document.content, document), document)
    allowed = AllowedLicences.parse(request.allow_licences)
    given = catalogue_at(request.sources)
    check_files(given, request.sources)
    rooms = simulated_rooms(bound, request.cache, say)
    catalogue = with_rooms(given, rooms)
    if allowed is not None:
        catalogue = of_allowed_licences(catalogue, allowed, say)
    counts: dict[Split, int] = {"train": 1, "val": 1} if validated and corpus is None else {"train": 1}
    for label, splits in check_material(bound, catalogue, counts).items():
        say(f"stage {label}: nothing to draw from in split {', '.join(splits)}; left out there")
    if moving := _moving_time(bound):
        say(f"samples in which {', '.join(moving)} moves speech in time are not aligned and are left out")
    record = OnlineRecord(
        recipe=bound.recipe.name,
        recipe_digest=bound.digest,
        catalogue_digest=catalogue.digest,
        seed=request.seed,
        weight=weight,
        corpus_id=corpus.id if corpus else "",
        code_version=code_version(),
        allow_licences=allowed.names if allowed else None,
    )
    return Prepared(record, bound, catalogue)


def _moving_time(bound: BoundRecipe) -> list[str]:
    """Name the stages whose samples are not aligned."""
    if bound.recipe.target.time_warps == "follow":
        return []
    return [
        choice.label
        for step in bound.steps
        for choice in step.choices
        if choice.stage is not None
        and choice.stage.warps_time
        and not is_excluded(choice.stage, bound.recipe)
    ]


def refuse_other_samples(run_dir: Path, prepared: Prepared | None) -> None:
    """Refuse to go on in a run folder, which holds work, with other fresh samples, and say what differs.

    Args:
        run_dir: the run's folder.
        prepared: what is asked for; None for no fresh samples.

    Raises:
        UserError: naming what differs.
    """
    folder = run_dir / ONLINE_FOLDER
    before, now = read_online(folder), prepared.record if prepared else None
    if before == now:
        return
    if before is None or now is None or prepared is None:
        was, is_now = (f"with --online {one.recipe}" if one else "without --online" for one in (before, now))
        raise UserError(f"{run_dir}: was trained {was}, and this run is {is_now}; choose another --out")
    differs = []
    for name in (name for name in OnlineRecord.model_fields if name != "recipe"):
        held, given = getattr(before, name), getattr(now, name)
        if held == given:
            continue
        where = _recipe_differences(folder, prepared.bound) if name == "recipe_digest" else ""
        differs.append(f"{_WORDS[name]} {where or f'(there {_short(held)}, now {_short(given)})'}")
    listed = ", ".join(differs) or f"the name of its recipe (there {before.recipe}, now {now.recipe})"
    raise UserError(
        f"{run_dir}: heard other fresh samples; it differs in {listed}; "
        "go on with what it was started with, or choose another --out"
    )


_WORDS = {
    "recipe_digest": "recipe",
    "catalogue_digest": "catalogue",
    "seed": "seed",
    "weight": "--online-weight",
    "corpus_id": "corpus",
    "code_version": "version of ssiforge",
    "allow_licences": "--allow-licences",
}


def _recipe_differences(folder: Path, bound: BoundRecipe) -> str:
    """Name the fields; empty where the recipe that was used cannot be read."""
    try:
        held = yaml.safe_load((folder / RECIPE_FILE).read_bytes())
    except (OSError, yaml.YAMLError):
        return ""
    return differences(held, bound.recipe.written())


def _short(value: object) -> str:
    text = ", ".join(value) if isinstance(value, tuple) else "" if value is None else str(value)
    return (text[:8] if len(text) == 32 else text) or "none"
