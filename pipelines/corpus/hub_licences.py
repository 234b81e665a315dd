"""How dataset hubs call licences: by SPDX identifiers in small letters, as far as they know them."""

from collections.abc import Iterable

from manifests.licence_names import KNOWN, UNKNOWN, spdx_of

OTHER = "other"
_NAMES = frozenset(
    (
        *("apache-2.0", "mit", "isc", "zlib", "unlicense", "mpl-2.0", "artistic-2.0", "bsl-1.0"),
        *("bsd-2-clause", "bsd-3-clause", "eupl-1.1", "eupl-1.2"),
        *("cc0-1.0", "cc-by-2.0", "cc-by-2.5", "cc-by-3.0", "cc-by-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0"),
        *(
            "cc-by-nc-2.0",
            "cc-by-nc-3.0",
            "cc-by-nc-4.0",
            "cc-by-nd-4.0",
            "cc-by-nc-nd-3.0",
            "cc-by-nc-nd-4.0",
        ),
        *("cc-by-nc-sa-2.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0"),
        *("cdla-sharing-1.0", "cdla-permissive-1.0", "cdla-permissive-2.0", "odc-by", "odbl", "pddl"),
        *("gpl-2.0", "gpl-3.0", "lgpl-2.1", "lgpl-3.0", "agpl-3.0"),
    )
)
"""Those that https://huggingface.co/docs/hub/repositories-licenses lists of what recordings come under."""
_CALLED_OTHERWISE = {"odc-by-1.0": "odc-by", "odbl-1.0": "odbl", "pddl-1.0": "pddl"}


def spdx_url(licence: str) -> str:
    """Return the address of a licence's text; what means no identifier stays as it is."""
    spdx = spdx_of(licence)
    return f"https://spdx.org/licenses/{spdx}.html" if spdx in KNOWN else spdx


def hub_licence(licence: str) -> str:
    """Return a hub's name of a licence: `other` for what it has no name for."""
    spdx = spdx_of(licence)
    plain = spdx.lower().removesuffix("-only").removesuffix("-or-later")
    name = _CALLED_OTHERWISE.get(plain, plain)
    return name if spdx == UNKNOWN or (spdx in KNOWN and name in _NAMES) else OTHER


def hub_licences(licences: Iterable[str]) -> list[str]:
    """Return a hub's names of several licences, each once, in order."""
    return sorted({hub_licence(licence) for licence in licences}) or [UNKNOWN]
