"""What is looked at before anything is rendered: are the sources there, can every stage draw from them?"""

from collections.abc import Container
from pathlib import Path

from datagen.degradations import BoundRecipe
from datagen.degradations.base import NoMaterial, Scene
from datagen.file_identity import is_as_scanned
from datagen.plan import is_excluded, material
from manifests.catalogue import Catalogue
from manifests.errors import UserError
from manifests.keyed import generator
from manifests.recipe import Split
from manifests.store import Place
from pipelines.corpus.folder import Counts

MOST_FILES_LOOKED_FOR = 2_000


def check_files(catalogue: Catalogue, path: Place, but_for: Container[str] = ()) -> None:
    """Look whether the catalogue's files still are what was scanned: all, or an even spread of a large catalogue.

    Those that are not looked at, or change later, are noticed by whoever renders them. Files whose content hash is in
    `but_for` may be gone.
    """
    step = max(1, len(catalogue.usable) // MOST_FILES_LOOKED_FOR)
    local = [
        source
        for source in catalogue.usable[::step]
        if "://" not in source.path and source.sha256 not in but_for
    ]
    gone = [source.path for source in local if not Path(source.path).exists()]
    if gone:
        raise UserError(
            f"{path}: {gone[0]} is gone ({len(gone)} files in all); scan again, where the files are now"
        )
    changed = [source.path for source in local if not is_as_scanned(source)]
    if changed:
        raise UserError(
            f"{path}: {changed[0]} has changed since it was scanned ({len(changed)} files in all); scan again"
        )


def check_material(bound: BoundRecipe, catalogue: Catalogue, counts: Counts) -> dict[str, list[Split]]:
    """Let every stage that may fire draw once in every split, so that what is missing is said before rendering.

    Returns:
        For each optional stage that finds nothing to draw from, the splits in which it will be left out.

    Raises:
        UserError: when a stage that is not optional finds nothing.
    """
    unavailable: dict[str, list[Split]] = {}
    for split in counts:
        pool = material(catalogue, bound.recipe, split)
        widest = pool.speech.highest("bandwidth_hz")
        scene = Scene(
            bound.recipe.frames, widest.bandwidth_hz or 0.0, pool.sources, speaker=widest.speaker or ""
        )
        for step in bound.steps:
            for choice in step.choices:
                if choice.stage is None or not step.fires or choice.weight == 0.0:
                    continue
                try:
                    choice.stage.draw(generator("check", choice.label), scene)
                except NoMaterial as error:
                    if not choice.optional:
                        raise UserError(f"split '{split}', stage '{choice.label}': {error}") from error
                    unavailable.setdefault(choice.label, []).append(split)
                except UserError as error:
                    raise UserError(f"split '{split}', stage '{choice.label}': {error}") from error
    return unavailable


def asked_shares(bound: BoundRecipe, counts: Counts, unavailable: dict[str, list[Split]]) -> dict[str, float]:
    """Share of the corpus's samples to which each stage should be applied, by label."""
    total = sum(counts.values())
    of_stages = bound.shares()
    shares = {}
    for step in bound.steps:
        for choice in step.choices:
            if choice.stage is None:
                continue
            without = sum(counts[split] for split in unavailable.get(choice.label, ()))
            possible = 0.0 if is_excluded(choice.stage, bound.recipe) else 1.0 - without / total
            shares[choice.label] = of_stages[choice.label] * possible
    return shares
