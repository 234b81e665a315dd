"""Licences by their text: the SPDX identifier of what stands in a LICENSE file."""

import re

_NAMED = (
    ("apache license version 2.0", "Apache-2.0"),
    ("mozilla public license version 2.0", "MPL-2.0"),
    ("cc0 1.0", "CC0-1.0"),
    ("gnu affero general public license version 3", "AGPL-3.0"),
    ("gnu lesser general public license version 3", "LGPL-3.0"),
    ("gnu lesser general public license version 2.1", "LGPL-2.1"),
    ("gnu general public license version 3", "GPL-3.0"),
    ("gnu general public license version 2", "GPL-2.0"),
    ("bsd 3-clause", "BSD-3-Clause"),
    ("bsd 2-clause", "BSD-2-Clause"),
    ("mit license", "MIT"),
    ("permission is hereby granted, free of charge, to any person obtaining a copy of this software", "MIT"),
    ("open data commons attribution license", "ODC-By-1.0"),
    ("the unlicense", "Unlicense"),
)
_TITLE_CHARACTERS = 1_200
"""Licences name themselves at the top; further down they name others."""
_CREATIVE_COMMONS = re.compile(
    r"(?:attribution|\bcc[ -]by)((?:[ -](?:noncommercial|sharealike|noderivatives|noderivs|nc|sa|nd))*)[ -]v?(\d\.\d)"
)
_SHORT = {"noncommercial": "NC", "sharealike": "SA", "noderivatives": "ND", "noderivs": "ND"}
_LONGEST_NAME = 100


def recognised_licence(text: str) -> str | None:
    """Return the SPDX identifier of a licence text, else its first line; None for an empty text.

    A short text that offers two licences, as Rust projects do, gives `A OR B`.
    """
    lines = [line.strip(" #*\t") for line in text.splitlines()]
    lines = [line for line in lines if line]
    if not lines:
        return None
    if declared := re.search(r"SPDX-License-Identifier:\s*(\S[^\n]*)", text):
        return declared.group(1).strip()
    title = re.sub(r"[\s,()]+", " ", text[:_TITLE_CHARACTERS]).lower()
    if "either of" in title:
        offered = [spdx for phrase, spdx in _NAMED if phrase.replace(",", "") in title]
        if len(offered) > 1:
            return " OR ".join(sorted(set(offered)))
    if commons := _CREATIVE_COMMONS.search(title):
        parts = [_SHORT.get(part, part.upper()) for part in re.split(r"[ -]", commons.group(1)) if part]
        return "-".join(["CC-BY", *parts, commons.group(2)])
    found = [(title.find(phrase.replace(",", "")), spdx) for phrase, spdx in _NAMED]
    named = [pair for pair in found if pair[0] >= 0]
    return min(named)[1] if named else lines[0][:_LONGEST_NAME]
