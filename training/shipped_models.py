"""Models that come with the package: `training/shipped/NAME`, each a bundle with its `MODEL_CARD.md`.

They are put there by hand, from a finished run; an installation may have none.
"""

from pathlib import Path

from manifests.errors import UserError
from training.bundle_info import is_bundle

SHIPPED = "shipped"
"""How models of here are called: `shipped:NAME`, or the word alone."""
FOLDER = Path(__file__).with_name("shipped")
DEFAULT = "small"
"""The one that is meant where no name is given."""


def shipped_names() -> list[str]:
    """Return the names of the models that this installation comes with."""
    return sorted(path.name for path in FOLDER.iterdir() if is_bundle(path)) if FOLDER.is_dir() else []


def shipped_bundle(name: str = DEFAULT) -> Path:
    """Return the folder of a shipped model.

    Raises:
        UserError: when there is none of this name; it lists those that there are.
    """
    names = shipped_names()
    if not names:
        raise UserError(
            f"{SHIPPED}:{name}: this installation comes with no model; give --model with one of your own, such as a "
            f"run folder"
        )
    if name not in names:
        raise UserError(f"{SHIPPED}:{name}: not one of the shipped models: {', '.join(names)}")
    return FOLDER / name
