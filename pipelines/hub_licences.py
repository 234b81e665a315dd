"""How dataset hubs call licences: by SPDX identifiers in small letters, as far as they know them."""

import re
from collections.abc import Iterable

OTHER = "other"
UNKNOWN = "unknown"
"""What hubs and catalogues alike write where a licence is not known."""
_SPDX = re.compile(
    r"(CC0-1\.0|CC-BY(-NC)?(-ND|-SA)?-[1-4]\.\d|Apache-2\.0|MIT|MPL-2\.0|(A|L)?GPL-[23]\.\d(-only|-or-later)?"
    r"|BSD-[23]-Clause|Unlicense|ISC|Zlib|EUPL-1\.[12]|ODC-By-1\.0|ODbL-1\.0|PDDL-1\.0|CDLA-Sharing-1\.0"
    r"|CDLA-Permissive-[12]\.0)"
)
_CALLED_OTHERWISE = {"odc-by-1.0": "odc-by", "odbl-1.0": "odbl", "pddl-1.0": "pddl"}


def is_spdx(licence: str) -> bool:
    """Whether a licence is one of the identifiers that corpora of recordings come under."""
    return _SPDX.fullmatch(licence) is not None


def spdx_url(licence: str) -> str:
    """Return the address of a licence's text; what is no identifier stays as it is."""
    return f"https://spdx.org/licenses/{licence}.html" if is_spdx(licence) else licence


def hub_licence(licence: str) -> str:
    """Return a hub's name of a licence: `other` for what it has no name for."""
    if licence == UNKNOWN:
        return UNKNOWN
    if not is_spdx(licence):
        return OTHER
    plain = licence.lower().removesuffix("-only").removesuffix("-or-later")
    return _CALLED_OTHERWISE.get(plain, plain)


def hub_licences(licences: Iterable[str]) -> list[str]:
    """Return a hub's names of several licences, each once, in order."""
    return sorted({hub_licence(licence) for licence in licences}) or [UNKNOWN]
