"""Licences by name: which SPDX identifier a text means, and whether a list of licences allows it.

Only what is unambiguous is mapped. "GPL" without a version, "Public Domain", or a Creative Commons licence without its
version name no single licence: they stay as they are written, and are allowed only where they are named exactly, or
where all such texts are by `unrecognised`.
"""

import csv
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from manifests.errors import UserError

UNKNOWN = "unknown"
"""As a source's licence: nothing is said of it. In a list: allows such sources, and no others."""

UNRECOGNISED = "unrecognised"
"""In a list: allows every text that says something of the licence and is none that is known here."""

SIMULATED = "CC0-1.0 (simulated)"
"""Of rooms that this program simulated: every list allows them, for they are nobody's recordings."""

_CC_TERMS = ("BY", "BY-SA", "BY-NC", "BY-NC-SA", "BY-ND", "BY-NC-ND")
_CC_VERSIONS = ("1.0", "2.0", "2.5", "3.0", "4.0")
_GNU = {"GPL": ("1.0", "2.0", "3.0"), "LGPL": ("2.0", "2.1", "3.0"), "AGPL": ("3.0",)}
_OTHERS = (
    *("0BSD", "Apache-2.0", "Artistic-2.0", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0", "CC0-1.0"),
    *(
        "CDLA-Permissive-1.0",
        "CDLA-Permissive-2.0",
        "CDLA-Sharing-1.0",
        "EUPL-1.1",
        "EUPL-1.2",
        "ISC",
        "MIT",
        "MPL-2.0",
    ),
    *("ODC-By-1.0", "ODbL-1.0", "PDDL-1.0", "Unlicense", "Zlib"),
)
KNOWN = frozenset(
    (
        *_OTHERS,
        *(f"CC-{terms}-{version}" for terms in _CC_TERMS for version in _CC_VERSIONS),
        *(
            f"{family}-{version}-{which}"
            for family, versions in _GNU.items()
            for version in versions
            for which in ("only", "or-later")
        ),
    )
)
"""Identifiers of the SPDX licence list (https://spdx.org/licenses/) that recordings and software with them carry."""

_MEANT = {
    # Deprecated identifiers, with what the SPDX licence list names in their place.
    **{
        f"{family}-{version}{old}": f"{family}-{version}-{new}"
        for family, versions in _GNU.items()
        for version in versions
        for old, new in (("", "only"), ("+", "or-later"))
    },
    # "Or any later version" as authors shorten it: the wording of https://www.gnu.org/licenses/gpl-howto.html.
    **{
        f"{family} {v}{version}+": f"{family}-{version}.0-or-later"
        for family in ("GPL", "AGPL")
        for version in ("2", "3")
        for v in ("", "v", "v ")
        if (family, version) != ("AGPL", "2")
    },
    # Names of the deeds on https://creativecommons.org/licenses/ and https://creativecommons.org/publicdomain/zero/1.0/.
    **{
        f"{prefix} {terms} {version}": f"CC-{terms}-{version}"
        for prefix in ("CC", "Creative Commons")
        for terms in _CC_TERMS
        for version in _CC_VERSIONS
    },
    "CC0": "CC0-1.0",  # there is one version only
    "CC0 1.0": "CC0-1.0",
    SIMULATED: "CC0-1.0",
    # Titles of the licences' own texts: apache.org/licenses/LICENSE-2.0, opensource.org/license/mit and so on.
    "Apache License 2.0": "Apache-2.0",
    "Apache License, Version 2.0": "Apache-2.0",
    "Apache 2.0": "Apache-2.0",
    "MIT License": "MIT",
    "BSD 2-Clause": "BSD-2-Clause",
    "BSD 3-Clause": "BSD-3-Clause",
}
_HOLDER_END = " / "
"""After the holder, as in `A. Person 2008 / GPL V3+` (the notation of many collections of samples)."""
_TERMS = re.compile(
    r"\b(?:licen[cs]e|rights|reserved|terms|permission|use|commercial|noncommercial|proprietary|public|domain|creative"
    r"|commons|cc0?|by|nc|nd|sa|[al]?gpl|gnu|bsd|mit|apache|mpl|mozilla|artistic|isc|zlib|unlicense|odbl|odc|pddl|cdla)\b"
)
"""Words by which what stands there is no mere holder: a text with two sets of terms is not one licence."""
_VERSION = r"[0-9]+(?:\.[0-9]+)*"


def _spaced(text: str) -> str:
    return " ".join(text.split())


def _plain(text: str) -> str:
    return _spaced(text).casefold()


_BY_TEXT = {_plain(text): spdx for text, spdx in _MEANT.items()} | {_plain(spdx): spdx for spdx in KNOWN}


def spdx_of(text: str) -> str:
    """Return the SPDX identifier that a text means; the text itself where it is not one licence without a doubt."""
    holder, _, licence = text.rpartition(_HOLDER_END)
    for said in (text, "" if _TERMS.search(holder.casefold()) else licence):
        if (found := _BY_TEXT.get(_plain(said))) is not None:
            return found
    return UNKNOWN if _plain(text) in ("", UNKNOWN) else text.strip()


def is_known(text: str) -> bool:
    """Whether a text means a licence, or an offer of several, that is known by an identifier."""
    return all(spdx_of(term) in KNOWN for term in re.split(r" (?:OR|AND) ", text))


def is_unrecognised(text: str) -> bool:
    """Whether a text says something, and no part of it is a licence that is known by an identifier."""
    terms = [term for term in re.split(r" (?:OR|AND) |[()]", text) if term.strip()]
    return spdx_of(text) not in KNOWN | {UNKNOWN} and not any(spdx_of(term) in KNOWN for term in terms)


@dataclass(frozen=True)
class AllowedLicences:
    """A user's list of licences: identifiers, patterns such as `CC-BY-*`, exact texts, `unknown`, `unrecognised`."""

    names: tuple[str, ...]
    """Sorted, each once."""

    @classmethod
    def parse(cls, given: Sequence[str]) -> "AllowedLicences | None":
        """Read what stands after `--allow-licences`, separated by commas; None when it was not given.

        A text with a comma in it stands between double quotes, as in CSV.

        Raises:
            UserError: when nothing is named.
        """
        if not given:
            return None
        rows = (csv.reader([_spaced(text)], skipinitialspace=True) for text in given)
        names = {spdx_of(name) for row in rows for name in next(row, ()) if name.strip()}
        if not names:
            raise UserError("--allow-licences: names no licence")
        return cls(tuple(sorted(names)))

    def __contains__(self, text: object) -> bool:
        """Whether a source of this licence may be used. Of `A OR B` one must be allowed, of `A AND B` both."""
        if not isinstance(text, str):
            return False
        if text == SIMULATED:
            return True
        if self._names(text) or (UNRECOGNISED in self.names and is_unrecognised(text)):
            return True
        if "(" in text or ")" in text:
            return False
        if " OR " in text:
            return any(offered in self for offered in text.split(" OR "))
        return " AND " in text and all(term in self for term in text.split(" AND "))

    def _names(self, text: str) -> bool:
        spdx = spdx_of(text)
        return any(name in (spdx, _spaced(text)) or _fits(spdx, name) for name in self.names)

    def refused(self, texts: Iterable[str]) -> list[str]:
        """Return those that are not allowed, sorted, each once."""
        return sorted({text for text in texts if text not in self})

    def __str__(self) -> str:
        return ", ".join(self.names)


def _fits(spdx: str, pattern: str) -> bool:
    """Compare with a pattern, in which `*` is a version number: `CC-BY-*` is no `CC-BY-NC-4.0`."""
    if "*" not in pattern or spdx not in KNOWN:
        return False
    return re.fullmatch(_VERSION.join(map(re.escape, pattern.split("*"))), spdx) is not None
