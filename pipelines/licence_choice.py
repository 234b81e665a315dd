"""Which sources a user's list of licences leaves to be drawn."""

from collections import Counter
from collections.abc import Callable

from manifests.catalogue import Catalogue
from manifests.licence_names import AllowedLicences
from manifests.source import Source

MOST_SAID = 5
"""Licences that are named among those that were refused."""


def of_allowed_licences(
    catalogue: Catalogue, allowed: AllowedLicences, say: Callable[[str], None] = lambda line: None
) -> Catalogue:
    """Refuse the sources of all licences that are not allowed, and say how many that were.

    What is left decides the catalogue's digest, and with it the identity of whatever is drawn from it.
    """
    refused: Counter[str] = Counter()

    def reason(source: Source) -> str | None:
        if source.licence in allowed:
            return None
        refused[source.licence] += 1
        return f"its licence is not among the allowed ones: {source.licence}"

    left = catalogue.refusing(reason)
    if refused:
        most = ", ".join(f"{licence} {count}" for licence, count in refused.most_common(MOST_SAID))
        others = f" and {len(refused) - MOST_SAID} more" if len(refused) > MOST_SAID else ""
        say(
            f"licences: {refused.total()} of {len(catalogue.usable)} sources are not drawn, their licences are "
            f"not allowed ({most}{others})"
        )
    return left
